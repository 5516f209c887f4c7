"""The plan of a server: what it says, and what it refuses before anything is loaded."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import attrs
import pytest

from gpt2dsl import (
    Chain,
    Classifier,
    Generation,
    LoRA,
    Model,
    Parallel,
    Recipe,
    RunError,
    SpecError,
    Task,
    Train,
    extras,
)  # fmt: skip
from gpt2dsl.cli.serve import command
from gpt2dsl.data.tokenizer import Tokenizer
from gpt2dsl.parts import Part
from gpt2dsl.parts.task import Serve
from gpt2dsl.plan.plan import Plan
from gpt2dsl.weights.formats import huggingface
from tests.judges import TINY, random_weights


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose files say how text is generated."""
    folder = tmp_path_factory.mktemp("weights") / "m"
    tokenizer = Tokenizer.train(["the old cat " * 9], TINY.vocab)
    huggingface.write(folder, TINY, random_weights(TINY), tokenizer)
    content = {"eos_token_id": 6, "temperature": 0.5, "top_p": 0.9, "num_beams": 2}
    (folder / "generation_config.json").write_text(json.dumps(content, indent=2))
    return folder


def recipe(weights: Path, *parts: Part, **task: Any) -> Recipe:
    return Recipe(Model(weights=str(weights)), Task.serve(**task), *parts)


def fault(found: Recipe) -> str:
    """What plan, or else check and run, refuse a recipe for."""
    try:
        refusals = found.plan().refusals()
    except SpecError as error:
        refusals = error.faults
    assert {one.message for one in found.faults()} == {one.message for one in refusals}
    (only,) = refusals
    return f"{only.key}: {only.message} [{only.code}]"


def test_the_plan_says_what_is_served_where_and_what_it_takes(weights: Path) -> None:
    plan = recipe(weights, host="::1", port=9, batch=2, queue=1000, cache_mb=1).plan()
    text = 2 * TINY.layers * TINY.positions * TINY.hidden * 4
    assert (plan.memory.texts, plan.memory.prompts) == (5 * text, 1 << 20)
    assert plan.memory.total == plan.memory.weights + 5 * text + (1 << 20)
    text_of_it = " ".join(str(plan).split())
    whole, weighs = (f"{size / 1e6:.2f}" for size in (plan.memory.total, plan.memory.weights))
    memory = f"memory {whole} MB at most: weights {weighs}, keys and values of texts 0.15"
    assert memory in text_of_it
    assert f"serves {weights} on http://[::1]:9/v1: 2 texts at once, 1,000 may wait" in text_of_it
    assert "steps serve" in text_of_it
    assert "writes nothing" in text_of_it
    document = plan.to_json()
    assert document["directory"] == ""
    assert document["serves"] == {
        "name": str(weights), "address": "http://[::1]:9", "batch": 2, "queue": 1000,
    }  # fmt: skip


def test_a_free_port_and_a_name_are_said(weights: Path) -> None:
    assert "tiny on http://127.0.0.1, any free port: 1 text at once" in str(
        recipe(weights, name="tiny", port=0, batch=1).plan()
    )


def test_command_settings_and_task_have_the_same_defaults() -> None:
    task, options = Serve(), {option.name: option for option in command.params}
    keys = set(Serve.rules()) - {"name", "allowed_hosts", "cors"}
    assert {key: options[key].default for key in keys} == {key: getattr(task, key) for key in keys}
    assert {"allowed_hosts", "cors", "name"} <= set(options)


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ([Classifier(labels=2)], "classifier: a classifier generates no text [G2-107]"),
        ([Parallel(dp=2)], "parallel.dp = 2: serve runs in one process, on one device [G2-107]"),
        ([Parallel(devices=2)], "parallel.devices = 2: serve runs in one process"),
        ([LoRA(r=2)], "lora: serve trains no adapter; name a trained one by its folder"),
        (
            [Generation(suppress_tokens=[5], stop_strings=[""])],
            "generation.stop_strings = ['']: a text is empty [G2-107]",
        ),
        (
            [Generation(suppress_tokens=[5, 301])],
            "generation.suppress_tokens = [5, 301]: 301 is no id: there are 301 [G2-202]",
        ),
    ],
)
def test_parts_that_a_server_can_not_use_are_refused(
    weights: Path, parts: list[Part], words: str
) -> None:
    assert fault(recipe(weights, *parts)).startswith(words)


def test_weights_of_classes_new_ones_and_absent_ones_are_refused(tmp_path: Path) -> None:

    classes = attrs.evolve(TINY, labels=3)
    tokenizer = Tokenizer.train(["the old cat " * 9], TINY.vocab)
    huggingface.write(tmp_path / "c", classes, random_weights(classes), tokenizer)
    assert "a classifier generates no text" in fault(recipe(tmp_path / "c"))
    new = Model(size="nano", weights="random") | Task.serve()
    assert (
        fault(new) == "model.weights = random: new weights have nothing to say; name some [G2-107]"
    )
    assert "[G2-301]" in fault(recipe(tmp_path / "none"))
    assert "nano has no published weights" in fault(Model(size="nano") | Task.serve())


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"port": 65536}, "expected an integer from 0 to 65535, found 65536"),
        ({"port": -1}, "expected an integer from 0 to 65535"),
        ({"port": "8000"}, "expected an integer from 0 to 65535, found the string '8000'"),
        ({"host": ""}, "expected a string that is not empty"),
        ({"batch": 0}, "of at least 1"),
        ({"queue": 0}, "of at least 1"),
        ({"grace": float("inf")}, "of at least 0"),
        ({"cors": "https://a.org"}, "expected a list of strings"),
        ({"cors": ["*", "a.org"]}, "found ['*', 'a.org']; write https://a.org for a.org"),
        ({"allowed_hosts": ["https://a.org/b"]}, "; write a.org for https://a.org/b"),
        ({"api_key": "sesame"}, "specs are shared, and a key is a secret: set GPT2DSL_API_KEY"),
        ({"insecure": True}, "gpt2dsl serve --insecure"),
        ({"warmupp": True}, "did you mean warmup?"),
    ],
)
def test_values_that_can_not_be_are_refused_by_name(values: dict[str, Any], words: str) -> None:
    (key,) = values
    with pytest.raises(SpecError, match=f"task.{key}: ") as caught:
        Task.serve(**values)
    assert words in str(caught.value)
    assert "sesame" not in str(caught.value)
    base = Recipe(Task.serve())
    with pytest.raises(SpecError, match=f"task.{key}: ") as caught:
        base.set(f"task.{key}", next(iter(values.values())))
    assert words in str(caught.value)
    assert "sesame" not in str(caught.value)


def test_a_template_is_an_input_that_counts_by_its_contents(weights: Path, tmp_path: Path) -> None:
    file = tmp_path / "chat.jinja"
    served = recipe(weights, template=str(file))
    assert fault(served) == f"task.template = {file}: there is no such file [G2-301]"
    file.write_bytes(b"\xff")
    assert "not UTF-8 at byte 0 [G2-303]" in fault(served)
    file.unlink()
    file.mkdir()
    assert "[G2-304]" in fault(served)
    file.rmdir()
    file.write_text("{{ messages }}")
    before = served.plan()
    (found,) = (one for one in before.inputs if one.key == "task.template")
    assert (found.size, found.detail) == (14, "chat template")
    assert "template" in str(before)
    file.write_text("{{ messages[0] }}")
    (difference,) = served.plan().identity.differences(before.identity)
    assert str(difference) == "the contents of task.template"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.1.2.3"])  # noqa: S104
def test_an_address_that_others_reach_needs_a_key_before_anything_runs(
    weights: Path, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GPT2DSL_API_KEY", raising=False)
    message = f"anyone who reaches {host} could ask: set GPT2DSL_API_KEY"
    assert fault(recipe(weights, host=host)) == f"task.host = {host}: {message} [G2-202]"
    monkeypatch.setenv("GPT2DSL_API_KEY", "sesame")
    plan = recipe(weights, host=host).plan()
    assert plan.refusals() == ()
    assert "sesame" not in str(plan) + plan.to_json_text()


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
def test_an_address_of_this_machine_alone_needs_none(weights: Path, host: str) -> None:
    assert recipe(weights, host=host).plan().refusals() == ()


def test_a_missing_package_is_refused_with_its_cure(
    weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "uvicorn" else there(name)
    )
    plan = recipe(weights).plan()
    (refusal,) = plan.refusals()
    assert refusal.message == f"it needs: {extras.install('serve')}"
    assert (refusal.code, refusal.key) == ("G2-534", "task.kind = serve")
    assert "1 input is refused; a run is refused." in str(plan)


def notes(weights: Path, *parts: Part) -> tuple[str, ...]:
    return recipe(weights, *parts).plan().notes


def test_keys_of_generation_are_the_defaults_of_requests_or_noted(weights: Path) -> None:
    assert notes(weights) == ()
    assert notes(weights, Generation(temperature=0.7, top_k=5, repetition_penalty=1.2)) == ()
    assert notes(weights, Generation(beams=2)) == (
        "generation.beams changes nothing: requests say it",
    )
    assert notes(weights, Generation(max_new_tokens=9, do_sample=True, seed=3, stream=True)) == (
        "generation.max_new_tokens, generation.do_sample, generation.seed, generation.stream "
        "change nothing: requests say it",
    )


def test_keys_of_a_training_are_noted(weights: Path) -> None:
    assert notes(weights, Train(steps=3, batch_size=4)) == (
        "train.steps changes nothing: serve trains nothing",
        "train.batch_size changes nothing: serve reads no rows",
    )


def why(plan: Plan) -> dict[str, tuple[Any, str]]:
    return {key: (value, origin) for key, value, origin in plan.why()}


def test_what_the_weights_say_of_requests_is_told_with_its_line(weights: Path) -> None:
    rows = why(recipe(weights, Generation(top_p=0.4, min_new_tokens=3)).plan())
    assert rows["generation.temperature"] == (0.5, "generation_config.json:3")
    assert rows["generation.eos"] == ((6,), "generation_config.json:2")
    assert rows["generation.top_p"][0] == 0.4
    assert "test_serving.py" in rows["generation.top_p"][1]
    assert rows["generation.min_new_tokens"][0] == 3
    assert rows["generation.beams"] == (1, "default")
    assert rows["task.port"] == (8000, "default")


def test_weights_that_no_request_could_be_answered_with_are_refused(
    weights: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(weights, tmp_path / "m"))
    says = folder / "generation_config.json"
    says.write_text('{"max_time": 3.0}')
    assert "max_time is 3.0: a limit of time is not built" in fault(recipe(folder))
    says.write_text('{"temperature": 0.0}')
    assert "[G2-202]" in fault(recipe(folder))
    assert notes(folder, Generation(temperature=0.5)) != ()  # of a file that names no end
    says.write_text(json.dumps({"suppress_tokens": [9999], "eos_token_id": 6}))
    assert "there are 301 ids" in fault(recipe(folder))
    assert notes(folder, Generation(suppress_tokens=[9])) == ()


def test_a_key_of_the_recipe_goes_before_its_rival_in_the_files(
    weights: Path, tmp_path: Path
) -> None:
    copied = Path(shutil.copytree(weights, tmp_path / "m"))
    (copied / "generation_config.json").write_text('{"eos_token_id": 6, "min_length": 7}')
    rows = why(recipe(copied).plan())
    assert rows["generation.min_length"] == (7, "generation_config.json:1")
    rows = why(recipe(copied, Generation(min_new_tokens=2)).plan())
    assert (rows["generation.min_length"], rows["generation.min_new_tokens"][0]) == (
        (0, "default"),
        2,
    )


def test_how_and_where_are_no_part_of_the_digest(weights: Path) -> None:
    base, other = recipe(weights), recipe(weights, port=1, batch=1, name="x", cors=["*"])
    assert base.digest == other.digest
    assert base.plan().identity == other.plan().identity
    assert base.digest != recipe(weights, template="a").digest
    assert base.digest != recipe(weights, Generation(top_k=3)).digest


TRAINED = (
    Model(size="nano", layers=1, hidden=32)
    | Train(steps=1, seq_length=32)
    | Task.pretrain(data="sample:train")
)


@pytest.mark.usefixtures("elsewhere")
def test_a_chain_that_ends_in_a_server_is_never_done() -> None:
    plan = Chain(TRAINED, Recipe(Task.serve(port=1)), name="mine").plan()
    stage = plan.stages[1]
    assert (stage.state, stage.takes, stage.why) == ("+", 1, "it serves until it is stopped")
    assert stage.plan.directory == ""
    assert stage.plan.serves is not None
    assert stage.plan.serves.name == "mine"
    assert "mine on http://127.0.0.1:1/v1: 16 texts at once" in str(plan)
    named = Chain(TRAINED, Recipe(Task.serve(name="own"))).plan().stages[1].plan.serves
    assert named is not None
    assert named.name == "own"


@pytest.mark.usefixtures("elsewhere")
def test_a_server_is_the_last_stage_and_takes_no_classifier() -> None:
    early = TRAINED >> Task.serve() >> Task.evaluate(data="sample:valid")
    with pytest.raises(SpecError) as caught:
        early.plan()
    words = "stage.2.task.kind = serve: it serves until it is stopped: no stage can come after it"
    assert words in str(caught.value)
    assert words in "\n".join(map(str, early.faults()))
    rows = Path("rows.csv")
    rows.write_text("text,label\na,0\nb,1\n" * 9)
    classes = TRAINED | Classifier(labels=2)
    classes = classes.set("data.format", "csv").set("task.data", str(rows))
    with pytest.raises(SpecError, match="a classifier generates no text"):
        (classes >> Task.serve()).plan()


def test_a_task_written_as_toml_reads_back(weights: Path) -> None:
    served = recipe(weights, name="x", port=0, allowed_hosts=["a.org"], grace=2, warmup=False)
    assert Recipe.from_toml(served.to_toml()) == served
    assert 'kind = "serve"' in served.to_toml()
    assert "Task.serve(name='x', port=0" in repr(served)


def test_a_template_that_is_none_and_a_blank_key_are_refused_before_a_chain_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    template = tmp_path / "chat.jinja"
    template.write_text("{% for %}")
    recipe = Model(weights=str(tmp_path)) | Task.serve(template=str(template))
    messages = [fault.message for fault in recipe.plan().refusals()]
    assert any("line 1: it is no template" in message for message in messages)
    monkeypatch.setenv("GPT2DSL_API_KEY", " ")
    messages = [fault.message for fault in recipe.plan().refusals()]
    assert any("GPT2DSL_API_KEY: it is blank" in message for message in messages)


def test_a_chain_that_serves_is_refused_in_an_event_loop_before_it_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    train = Model(size="nano") | Train(seq_length=32, steps=1) | Task.pretrain(data="sample:train")

    async def run() -> None:
        (train >> Task.serve(port=0)).plan().run()

    with pytest.raises(RunError, match="an event loop is running in this thread"):
        asyncio.run(run())
    assert not list(tmp_path.iterdir())
