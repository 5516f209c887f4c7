"""Chains that run: what is done stays done, what has changed runs again."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from gpt2dsl import Chain, LoRA, Model, Recipe, RunError, SpecError, Task, Train
from gpt2dsl.chain import record
from gpt2dsl.chain.key import StageKey
from gpt2dsl.chain.record import Record
from gpt2dsl.files import lock
from gpt2dsl.identity.identity import Identity
from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.lite import opening
from gpt2dsl.plan import inputs
from gpt2dsl.weights import reading
from tests.commands import gpt2dsl
from tests.vocabularies import random_model, vocabulary
from tests.weights import checkpoints

SPEC = """
[[stage]]
[stage.model]
size = "nano"
layers = 1
hidden = 16
heads = 2
positions = 16
[stage.data]
tokenizer = "train"
vocab = 300
[stage.train]
seq_length = 8
batch_size = 2
steps = {steps}
save_every = 2
[stage.task]
kind = "pretrain"
data = "text.txt"

[[stage]]
[stage.train]
seq_length = 8
[stage.task]
kind = "evaluate"
data = "text.txt"

[[stage]]
[stage.task]
kind = "export"
format = "onnx"
target = "graphs"
"""
TEXT = "the old cat sat on the mat and the young dog ran to the red barn\n" * 20


@pytest.fixture
def spec(elsewhere: Path) -> Path:
    (elsewhere / "text.txt").write_text(TEXT)
    path = elsewhere / "mine.toml"
    path.write_text(SPEC.format(steps=4))
    return path


def states(*settings: str) -> list[tuple[str, str]]:
    """Of a chain's plan: what is done with each stage, and why."""
    plan = json.loads(gpt2dsl("plan", "mine.toml", "--json", *settings).stdout)
    return [(stage["state"], stage["why"]) for stage in plan["stages"]]


def ran(*settings: str) -> list[bool]:
    """Runs a chain: whether each of its stages ran."""
    found = json.loads(gpt2dsl("run", "mine.toml", "--json", *settings).stdout)
    return [stage["ran"] for stage in found["stages"]]


def set_to(key: str, value: str) -> tuple[str, str]:
    return "--set", f"{key}={value}"


@pytest.mark.usefixtures("spec")
def test_a_chain_run_twice_runs_nothing_the_second_time_and_a_change_runs_what_depends() -> None:
    never = ("+", "it has not run to its end")
    assert states() == [never] * 3
    assert ran() == [True, True, True]
    assert states() == [("=", "")] * 3
    second = gpt2dsl("run", "mine.toml")
    assert second.stdout.count("unchanged, not run again") == 3
    assert "perplexity" in second.stdout

    batch = set_to("stage.2.train.batch_size", "4")
    assert [state for state, _ in states(*batch)] == ["=", "~", "="]
    assert states(*batch)[1] == ("~", "train.batch_size 8 -> 4")

    rate = set_to("stage.1.optim.lr", "0.01")
    assert states(*rate) == [
        ("~", "optim.lr 0.0001 -> 0.01"),
        ("~", "stage 1 changed"),
        ("~", "stage 1 changed"),
    ]
    assert ran(*rate) == [True, True, True]
    assert [state for state, _ in states(*rate)] == ["=", "=", "="]

    # the first values again: their training is still there; the graphs are the other one's
    assert [state for state, _ in states()] == ["=", "=", "~"]
    assert states()[2][1] == "graphs holds what it wrote with other values"
    assert states(*batch)[1] == ("~", "train.batch_size 8 -> 4")
    assert ran() == [False, False, True]

    Path("text.txt").write_text(TEXT + "one more line\n")
    assert [why for _, why in states()] == [
        "the contents of task.data",
        "the contents of task.data, stage 1 changed",
        "stage 1 changed",
    ]
    assert ran() == [True, True, True]


@pytest.mark.usefixtures("spec")
def test_how_and_where_change_nothing() -> None:
    gpt2dsl("run", "mine.toml")
    assert states(*set_to("stage.1.parallel.micro_batches", "2"))[0] == ("=", "")


@pytest.mark.usefixtures("elsewhere")
def test_a_finished_chain_that_was_copied_touched_or_moved_has_nothing_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    project = Path("project")
    checkpoints.whole(project / "m")
    stage = '[[stage]]\n[stage.task]\nkind = "convert"\nsource = "m"\ntarget = "a"\n'
    (project / "mine.toml").write_text(stage)
    with monkeypatch.context() as patch:
        patch.chdir(project)
        Chain.load("mine.toml").plan().run()
    shutil.copytree(project, "copied", copy_function=shutil.copyfile)
    project.rename("moved")
    for path in Path("moved").rglob("*"):
        os.utime(path)
    for there in ("copied", "moved"):
        with monkeypatch.context() as patch:
            patch.chdir(there)
            assert [stage.state for stage in Chain.load("mine.toml").plan().stages] == ["="]
            assert [stage.ran for stage in Chain.load("mine.toml").plan().run().stages] == [False]


@pytest.mark.usefixtures("elsewhere")
def test_a_chain_measures_again_once_a_file_beside_its_weights_has_changed() -> None:
    vocabulary(Path("m"))
    random_model(264, n_embd=8, n_positions=32).save_pretrained("m")
    Path("text.txt").write_text(TEXT)
    chain = Chain(
        Model(weights="m") | Train(seq_length=8) | Task.evaluate(data="text.txt"), name="mine"
    )
    chain.plan().run()
    assert [stage.state for stage in chain.plan().stages] == ["="]
    for file, change in {
        "config.json": lambda text: text.replace("gelu_new", "relu"),
        "merges.txt": lambda text: text[: len(text) // 2],
        "tokenizer_config.json": lambda text: text.replace("{", '{"add_prefix_space": true,', 1),
        "generation_config.json": lambda text: text.replace("{", '{"top_k": 3,', 1),
    }.items():
        path = Path("m", file)
        before = path.read_text()
        path.write_text(change(before))
        assert path.read_text() != before
        (stage,) = chain.plan().stages
        assert (stage.state, stage.why) == ("~", "the contents of model.weights"), file
        path.write_text(before)
    assert [stage.state for stage in chain.plan().stages] == ["="]


@pytest.mark.usefixtures("spec")
def test_outputs_that_are_gone_or_changed_are_made_again() -> None:
    gpt2dsl("run", "mine.toml")
    first, graphs = next(Path("runs/mine").glob("pretrain-*")), Path("graphs")
    shutil.rmtree(graphs)
    assert [state for state, _ in states()] == ["=", "=", "~"]
    assert ran() == [False, False, True]

    file = first / "checkpoints" / "step-4" / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    at = file.stat()
    file.write_bytes(content)
    os.utime(file, ns=(at.st_atime_ns, at.st_mtime_ns))
    # as good as new for a plan, which reads no weights; a run does
    assert [state for state, _ in states()] == ["=", "=", "="]
    assert ran()[0]
    assert ran() == [False, False, False]


@pytest.mark.usefixtures("spec")
def test_what_somebody_else_wrote_at_a_target_is_never_replaced() -> None:
    gpt2dsl("run", "mine.toml")
    Path("graphs/notes.txt").write_text("mine")
    rate = set_to("stage.1.optim.lr", "0.01")
    refused = gpt2dsl("run", "mine.toml", *rate, code=2)
    assert "stage.3.task.target = graphs: graphs is there already" in refused.stderr
    assert states(*rate)[0][0] == "~"  # refused before any stage ran
    assert Path("graphs/notes.txt").read_text() == "mine"
    gpt2dsl("check", "mine.toml", *rate, code=2)
    Path("graphs/notes.txt").unlink()
    gpt2dsl("check", "mine.toml", *rate)


def test_a_training_that_ran_by_itself_is_not_done_again_by_a_stage(spec: Path) -> None:
    first = spec.read_text().split("[[stage]]")[1].replace("stage.", "")
    Path("alone.toml").write_text(first)
    run = Path(json.loads(gpt2dsl("run", "alone.toml", "--json").stdout)["directory"])
    result = (run / "result.json").rename(run / "result.away")
    assert states()[0][0] == "+"
    result.rename(run / "result.json")
    done = ("=", f"done already: {run}")
    assert states()[0] == done
    assert states(*set_to("stage.1.optim.lr", "0.01"))[0][0] == "+"
    assert f"= 1 pretrain                      {done[1]}" in gpt2dsl("plan", spec).stdout
    assert ran() == [False, True, True]
    assert states() == [done, ("=", ""), ("=", "")]
    weights = run / "checkpoints" / "step-4" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    assert states()[0][0] == "+"


def test_a_chain_that_is_killed_goes_on_where_it_was(spec: Path) -> None:
    spec.write_text(SPEC.format(steps=100_000))
    command = [sys.executable, "-m", "gpt2dsl", "run", "mine.toml"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    while not list(Path("runs").glob("mine/pretrain-*/checkpoints/step-*")):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert states()[0] == ("+", "it has not run to its end, goes on from its newest checkpoint")

    again = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert again.stderr
    assert next(line for line in iter(again.stderr.readline, "") if "resumed from" in line)
    again.send_signal(signal.SIGINT)
    _, rest = again.communicate(timeout=60)
    assert f"go on with: {sys.executable} -m gpt2dsl run mine.toml" in rest
    assert again.returncode == 1


@pytest.mark.usefixtures("spec")
def test_a_stage_that_fails_is_named_and_those_before_it_stay_done(elsewhere: Path) -> None:
    chain = Chain.load("mine.toml")
    plan = chain.plan()
    (elsewhere / "runs" / "mine").mkdir(parents=True)
    (elsewhere / "runs" / "mine" / plan.stages[1].directory.name).write_text("in the way")
    with pytest.raises(RunError, match=r"stage 2 of 3: .*evaluate-\w+: it can't be written"):
        plan.run()
    assert [stage.state for stage in chain.plan().stages] == ["=", "+", "+"]


@pytest.mark.usefixtures("spec")
def test_a_format_that_cannot_be_written_here_is_refused_before_anything_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chain = Chain.load("mine.toml")
    monkeypatch.setattr(opening, "unwritable", lambda form: f"no {form} here")
    with pytest.raises(SpecError, match=r"stage\.3\.task\.format = onnx.*no onnx here \[G2-531\]"):
        chain.plan().run()
    assert not Path("runs").exists()
    assert [fault.code for fault in chain.faults()] == ["G2-531"]


@pytest.mark.usefixtures("spec")
def test_the_folder_of_a_chain_or_of_graphs_says_what_it_is() -> None:
    gpt2dsl("run", "mine.toml")
    with pytest.raises(
        SpecError, match="it is the folder of a chain; name a stage of it: pretrain-"
    ):
        reading.read_info("runs/mine")
    with pytest.raises(SpecError, match=r"it is a folder of runs; name one of them: mine \["):
        reading.read_info("runs")
    (judged,) = Path("runs/mine").glob("evaluate-*")
    with pytest.raises(SpecError, match=r"a run of evaluate, which leaves no weights; those that"):
        reading.read_info(str(judged))
    with pytest.raises(SpecError, match="graphs for deployment, no weights: gpt2dsl lite run"):
        reading.read_info("graphs")


@pytest.mark.usefixtures("spec")
def test_adapters_name_the_checkpoint_of_a_run_as_their_base() -> None:
    gpt2dsl("run", "mine.toml")
    run = next(Path("runs/mine").glob("pretrain-*"))
    recipe = Model(weights=str(run)) | LoRA(r=2) | Task.finetune(data="text.txt")
    assert inputs.base_name(recipe.completed) == str(run.absolute() / "checkpoints" / "step-4")


@pytest.mark.usefixtures("spec")
def test_adapters_go_through_a_chain_and_are_merged_at_its_end() -> None:
    loaded = Chain.load("mine.toml")
    chain = (
        loaded.recipes[0]
        >> (LoRA(r=2) | Train(seq_length=8, batch_size=2, steps=2) | Task.finetune(data="text.txt"))
        >> Task.generate(prompts=["the old"])
        >> Task.convert(target="whole", merge=True)
        >> Task.convert(target="others", to="mindformers")
        >> Task.generate(prompts=["the old"])
    )
    plan = chain.plan()
    assert [stage.takes for stage in plan.stages] == [None, 1, 2, 2, 4, 5]
    result = plan.run()
    said = [stage.values["texts"] for stage in result.stages if stage.task == "generate"]
    assert said[0] == said[1]
    assert reading.read_info("whole").geometry.hidden == 16
    assert all(stage.state == "=" for stage in chain.plan().stages)
    next(Path("others").glob("*.yaml")).unlink()
    assert [stage.state for stage in chain.plan().stages] == ["=", "=", "=", "=", "~", "~"]


def evaluated(**more: Any) -> Recipe:
    return Train(**{"seq_length": 8, **more}) | Task.evaluate(data="text.txt")


@pytest.mark.usefixtures("spec")
def test_faults_of_later_stages_are_found_before_the_first_one_runs() -> None:
    loaded = Chain.load("mine.toml")
    first = loaded.recipes[0]
    chain = first >> evaluated(seq_length=32) >> Task.export(target="x", seq_length=99)
    with pytest.raises(SpecError) as caught:
        chain.plan()
    keys = [(fault.code, fault.key) for fault in caught.value.faults]
    assert keys == [
        ("G2-204", "stage.2.train.seq_length = 32"),
        ("G2-204", "stage.3.task.seq_length = 99"),
    ]
    other = first >> (Model(size="nano", layers=2) | evaluated())
    with pytest.raises(SpecError, match=r"stage\.2\.model\.layers = 2.*2 here, 1 in stage 1"):
        other.plan()
    alone = first >> Task.convert(target="x.ckpt", to="mindformers") >> evaluated()
    with pytest.raises(SpecError, match="the tokenizer has 50257 entries, the model's word table"):
        alone.plan()
    absent = first >> evaluated() >> Task.generate(prompts="none.txt")
    assert [fault.key.partition(" ")[0] for fault in absent.faults()] == ["stage.3.task.prompts"]
    assert [fault.key for fault in (Recipe(Task.export(target="x"))).faults()] == ["task.source"]


TARGETED = """
[[stage]]
[stage.task]
kind = "convert"
source = "{source}"
target = "{target}"
"""
IN_PYTHON = """
from gpt2dsl import Chain, Recipe, Task

chain = Chain(Recipe(Task.convert(source={source!r}, target={target!r})))

if __name__ == "__main__":
    chain.plan().run()
"""


@pytest.fixture
def sources(elsewhere: Path) -> Path:
    """Two folders of weights, m1 and m2, where m2 is larger."""
    for name, layers in (("m1", 1), ("m2", 2)):
        geometry = GPT2Config(layers=layers, heads=2, hidden=16, positions=16, vocab=300)
        checkpoints.whole(elsewhere / name, geometry)
    return elsewhere


def layers(target: str) -> int:
    found: int = json.loads(Path(target, "config.json").read_text())["n_layer"]
    return found


def test_a_chain_of_the_same_name_in_another_file_replaces_nothing(sources: Path) -> None:
    for team, source in (("a", "m1"), ("b", "m2")):
        Path(team).mkdir()
        Path(team, "release.toml").write_text(TARGETED.format(source=source, target="out"))
    gpt2dsl("run", "a/release.toml")
    refused = gpt2dsl("run", "b/release.toml", code=2)
    assert "stage.1.task.target = out: out is there already" in refused.stderr
    gpt2dsl("check", "b/release.toml", code=2)
    assert layers("out") == 1

    # its own is replaced, however its file is named, and where the project has moved
    changed = set_to("stage.1.task.dtype", "float16")
    gpt2dsl("run", str(sources / "a" / "release.toml"), *changed)
    shutil.copytree(sources, moved := sources.parent / f"{sources.name}-moved")
    gpt2dsl("check", "a/release.toml")
    assert (moved / "out").is_dir()


@pytest.mark.usefixtures("sources")
def test_a_chain_of_the_same_name_in_another_module_replaces_nothing() -> None:
    for team, source in (("a", "m1"), ("b", "m2")):
        Path(f"{team}.py").write_text(IN_PYTHON.format(source=source, target="out"))
    gpt2dsl("run", "a:chain")
    assert "out is there already" in gpt2dsl("run", "b:chain", code=2).stderr
    assert layers("out") == 1
    gpt2dsl("run", "a:chain", *set_to("stage.1.task.dtype", "float16"))


@pytest.mark.usefixtures("sources")
def test_a_chain_of_another_script_replaces_nothing() -> None:
    for team, source in (("a", "m1"), ("b", "m2")):
        Path(f"{team}.py").write_text(IN_PYTHON.format(source=source, target="out"))
    subprocess.run([sys.executable, "a.py"], check=True)
    done = subprocess.run([sys.executable, "b.py"], capture_output=True, text=True, check=False)
    assert "out is there already" in done.stderr
    assert layers("out") == 1
    subprocess.run([sys.executable, "a.py"], check=True)


KILLED = """
import os, signal, sys
from gpt2dsl import Chain
from gpt2dsl.chain.record import Record

Record.write = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
Chain.load(sys.argv[1]).plan().run()
"""


@pytest.mark.usefixtures("elsewhere")
def test_a_conversion_that_is_killed_before_its_record_needs_no_deletion_by_hand() -> None:
    checkpoints.whole(Path("m"))
    stages = [
        f'[[stage]]\n[stage.task]\nkind = "convert"\nsource = "m"\ntarget = "{i}"\n' for i in "ab"
    ]
    Path("mine.toml").write_text("\n".join(stages))
    killed = subprocess.run([sys.executable, "-c", KILLED, "mine.toml"], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert Path("a", "model.safetensors").exists()
    assert ran() == [True, True]
    assert ran() == [False, False]
    shutil.rmtree("runs")
    # Without a word of the chain's own, what lies at a target is somebody else's.
    assert "a is there already" in gpt2dsl("run", "mine.toml", code=2).stderr


@pytest.mark.usefixtures("elsewhere")
def test_what_a_killed_conversion_had_begun_is_forgotten_once_its_target_is_written() -> None:
    checkpoints.whole(Path("m"))
    stage = '[[stage]]\n[stage.task]\nkind = "convert"\nsource = "m"\ntarget = "a"\n'
    Path("mine.toml").write_text(stage)
    subprocess.run([sys.executable, "-c", KILLED, "mine.toml"], check=False)
    assert list(Path("runs").glob("mine/*/begun.json"))
    # It is another stage now, with a directory of its own, that writes there.
    assert ran(*set_to("stage.1.task.dtype", "float16")) == [True]
    shutil.rmtree("a")
    Path("a").mkdir()
    Path("a", "notes.txt").write_text("mine")
    assert "a is there already" in gpt2dsl("run", "mine.toml", code=2).stderr
    assert Path("a", "notes.txt").read_text() == "mine"


def test_a_record_of_numbers_that_are_none_is_json(tmp_path: Path) -> None:
    key = StageKey(identity=Identity(values={}, contents={}), taken="")
    scores = {"f1": math.nan, "matthews": 0.5}
    entry = Record(
        number=1, task="evaluate", key=key, taken="", files={}, weights="", text="",
        result={"loss": 900.0, "perplexity": math.inf, "scores": scores},
    )  # fmt: skip
    entry.write(tmp_path)
    text = (tmp_path / record.FILE).read_text()
    assert not {"Infinity", "NaN"} & set(re.findall(r"\w+", text))
    again = record.read(tmp_path)
    assert again
    found = {"loss": 900.0, "perplexity": None, "scores": {"f1": None, "matthews": 0.5}}
    assert again.result == found


@pytest.mark.usefixtures("elsewhere")
def test_two_processes_do_not_carry_out_one_chain_at_once() -> None:
    checkpoints.whole(Path("m"))
    stage = '[[stage]]\n[stage.task]\nkind = "convert"\nsource = "m"\ntarget = "a"\n'
    Path("mine.toml").write_text(stage)
    Path("runs", "mine").mkdir(parents=True)
    with lock.alone(Path("runs", "mine")):
        assert f"process {os.getpid()} on " in gpt2dsl("run", "mine.toml", code=3).stderr
    assert not Path("a").exists()
    assert ran() == [True]
