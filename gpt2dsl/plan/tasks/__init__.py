"""Plans of tasks: a module for each kind."""

from gpt2dsl.parts.bundle import Parts
from gpt2dsl.plan.tasks.base import TaskPlan
from gpt2dsl.plan.tasks.classify import ClassifyPlan
from gpt2dsl.plan.tasks.convert import ConvertPlan
from gpt2dsl.plan.tasks.evaluate import EvaluatePlan
from gpt2dsl.plan.tasks.export import ExportPlan
from gpt2dsl.plan.tasks.generate import GeneratePlan
from gpt2dsl.plan.tasks.reshard import ReshardPlan
from gpt2dsl.plan.tasks.serve import ServePlan
from gpt2dsl.plan.tasks.train import TrainPlan

TASK_PLANS: dict[str, type[TaskPlan]] = {
    "pretrain": TrainPlan,
    "finetune": TrainPlan,
    "evaluate": EvaluatePlan,
    "generate": GeneratePlan,
    "classify": ClassifyPlan,
    "convert": ConvertPlan,
    "reshard": ReshardPlan,
    "export": ExportPlan,
    "serve": ServePlan,
}
"""Value of ``task.kind`` → class of its plan."""


def plan_of(parts: Parts) -> TaskPlan:
    """Return the plan of a recipe's task."""
    return TASK_PLANS[parts.task.kind](parts) if parts.task else TaskPlan(parts)
