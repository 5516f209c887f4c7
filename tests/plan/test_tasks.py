"""Each kind of task has a plan and an engine."""

import importlib.util

from gpt2dsl.engine.run import ENGINES
from gpt2dsl.parts import TASKS
from gpt2dsl.plan.tasks import TASK_PLANS


def test_a_task_is_a_class_of_parts_a_plan_and_an_engine() -> None:
    assert TASKS.keys() == TASK_PLANS.keys() == ENGINES.keys()
    assert all(importlib.util.find_spec(module) for module in ENGINES.values())


def test_a_task_answers_in_a_module_of_its_own() -> None:
    modules = [plan.__module__ for plan in {*TASK_PLANS.values()}]
    assert len(modules) == len(set(modules))
    assert all(module.startswith("gpt2dsl.plan.tasks.") for module in modules)
