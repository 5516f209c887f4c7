"""An adapter with many of PEFT's keys at once, used: judged by PEFT's own greedy texts."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gpt2dsl import Generation, Model, Parallel, Runtime, Task
from gpt2dsl.data.tokenizer import Tokenizer
from tests import adapters

PROMPT = "the cat sat"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return adapters.save_speaking_base(tmp_path_factory.mktemp("base") / "b", 32)


@pytest.mark.parametrize("mp", [1, 2])
def test_an_adapter_of_many_kinds_writes_the_texts_of_peft(
    base: Path, tmp_path: Path, mp: int
) -> None:
    theirs = adapters.save_adapter(
        base, tmp_path / "a", task_type="CAUSAL_LM", r=2, use_dora=True, use_rslora=True,
        bias="all", target_modules=["c_attn", "mlp.c_proj", "wpe"], modules_to_save=["wte", "ln_f"],
        rank_pattern={"h.1.attn.c_attn": 3}, exclude_modules=["h.0.mlp.c_proj"],
    )  # fmt: skip
    tokenizer = Tokenizer.load(base)
    ids = tokenizer.encode(PROMPT)
    with torch.no_grad():
        expected = theirs.generate(
            input_ids=torch.tensor([ids]), max_new_tokens=8, do_sample=False, pad_token_id=0
        )[0, len(ids) :].tolist()
    recipe = (
        Model(weights=str(tmp_path / "a"))
        | Generation(max_new_tokens=8)
        | Runtime(output=str(tmp_path / "runs"))
        | Parallel(mp=mp)
        | Task.generate(prompts=[PROMPT])
    )
    texts = recipe.plan().run().texts
    assert tokenizer.decode(expected).startswith(texts[0].removeprefix(PROMPT).rstrip("\ufffd"))
    assert texts[0]
