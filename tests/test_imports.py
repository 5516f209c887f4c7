from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import gpt2dsl
from tests.commands import imported

HEAVY = {"mindspore", "torch", "transformers"}


@pytest.mark.parametrize(
    "words",
    [
        ["plan", "specs/gpt2-52b-pretrain.toml"],
        ["check", "specs/gpt2-13b-pretrain.toml"],
        ["show", "gpt2-124m-finetune"],
        ["list"],
        ["--help"],
        ["run", "--help"],
        ["plan", "specs/quickstart.toml", "--why"],
        ["plan", "specs/gpt2-124m-finetune.toml"],
        ["plan", "gpt2-124m-finetune-deploy"],
        ["plan", "gpt2-124m-finetune-serve"],
        ["fetch", "--help"],
        ["inspect", "no/where"],
    ],
)
def test_commands_that_look_never_import_mindspore_or_torch(words: list[str]) -> None:
    _, found = imported(words, HEAVY)
    assert not found


def test_a_conversion_never_imports_mindspore(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from gpt2dsl import Recipe, Task\n"
        "from tests.judges import TINY, random_weights\n"
        "from gpt2dsl.weights.formats import huggingface\n"
        "from pathlib import Path\n"
        "source = Path(sys.argv[1])\n"
        "huggingface.write(source, TINY, random_weights(TINY))\n"
        "before = 'mindspore' in sys.modules\n"
        "Recipe(Task.convert(source=str(source), target=str(source / 'a'))).plan().run()\n"
        "print(before, 'mindspore' in sys.modules)\n"
    )
    run = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(run, capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("False False"), done.stdout


def test_public_names_are_those_that_users_may_rely_on() -> None:
    assert sorted(gpt2dsl.__all__) == [
        "Callback", "Chain", "Classifier", "Data", "Fault", "FileError", "Generation",
        "Gpt2DslError", "InUseError", "InputError", "Interrupted",
        "LoRA", "Model", "Optim", "Parallel", "Part", "Plan", "Precision",
        "Recipe", "RunError", "Runtime", "Schedule", "SpecError", "Start", "Task", "Train", "load",
        "pipeline",
    ]  # fmt: skip
    for name in gpt2dsl.__all__:
        assert hasattr(gpt2dsl, name)
