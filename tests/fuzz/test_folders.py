"""Folders with any valid keys: ours agree with transformers and PEFT, or are refused by name."""

from __future__ import annotations

import gc
import re
import shutil
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, seed, settings
from peft import PeftModel
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)

import gpt2dsl
from gpt2dsl import Generation, Model, Recipe, Task
from gpt2dsl.errors import Gpt2DslError
from tests.fuzz.folders import Drawn, drawn_folders, made

TEXTS = ("the cat", "<|user|>the cat<|bot|>", " café . the", "")
NEW_TOKENS = 6
LENGTHS = {"max_length", "max_new_tokens"}
BEST = 0.8
"""The share of folders that must agree; the others are refused by name."""


def judge(drawn: Drawn, folder: Path) -> Any:
    """The model as transformers and PEFT load it."""
    cls = AutoModelForSequenceClassification if drawn.classifies else AutoModelForCausalLM
    if drawn.lora is None:
        return cls.from_pretrained(folder, attn_implementation="eager").eval()
    base = cls.from_pretrained(folder.parent / "base", attn_implementation="eager")
    return PeftModel.from_pretrained(base, folder).eval()


def agrees(drawn: Drawn, folder: Path) -> str:
    """What becomes of a folder: agrees, refused, or how it differs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tokenizer = AutoTokenizer.from_pretrained(folder.parent / "base")
        try:
            model = judge(drawn, folder)
        except RuntimeError as error:  # PEFT writes some adapters that it can't read again
            return f"not read by its maker: {error!r:.80}"
    try:
        compare = classes if drawn.classifies else texts
        return compare(drawn, folder, tokenizer, model)
    except Gpt2DslError as error:
        return _refusal(str(error))


def _refusal(message: str) -> str:
    """A refusal counts where it names a key or a file, by a code."""
    if not re.search(r"\[G2-\d+\]", message):
        return f"differs: a refusal without a code: {message}"
    return f"refused: {message}"


def classes(_: Drawn, folder: Path, tokenizer: Any, model: Any) -> str:
    recipe = Recipe(Model(weights=str(folder)), Task.classify(texts=list(TEXTS[:3])))
    result = recipe.plan().run(keep=False)
    for i, text in enumerate(TEXTS[:3]):
        with torch.no_grad():
            inputs = tokenizer(text, return_tensors="pt")
            logits = model(**inputs, return_dict=True).logits[0].double()
        problem = model.config.problem_type or ("regression" if len(logits) == 1 else "")
        if problem in ("regression", "multi_label_classification"):
            expected = (logits if problem == "regression" else logits.sigmoid()).numpy()
            ours = [*result.outputs[i].values()]
        else:
            expected, ours = logits.softmax(-1).max().numpy(), [result.probabilities[i]]
        if not np.allclose(ours, expected, atol=1e-4):
            return f"differs: scores of {text!r}: {ours}, not {expected}"
    return "agrees"


def texts(drawn: Drawn, folder: Path, tokenizer: Any, model: Any) -> str:
    lm = gpt2dsl.load(str(folder))
    for text in TEXTS:
        ids, expected = lm.tokenizer.encode(text), tokenizer(text).input_ids
        if ids != expected:
            return f"differs: ids of {text!r}: {ids}, not {expected}"
    ids = tokenizer(TEXTS[0]).input_ids
    prompt = torch.tensor([ids])
    with torch.no_grad():
        logits = model(input_ids=prompt, return_dict=True).logits.numpy()
    scale = max(1.0, float(np.abs(logits).max()))
    if (far := float(np.abs(lm.logits([ids]) - logits).max() / scale)) > 1e-4:
        return f"differs: logits by {far}"
    said = {*(drawn.generation or {}), *(drawn.config if drawn.generation is None else ())}
    asked: dict[str, Any] = {"do_sample": False}
    if not LENGTHS & said:
        asked["max_new_tokens"] = NEW_TOKENS
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            mask = torch.ones_like(prompt)
            output = model.generate(input_ids=prompt, attention_mask=mask, **asked)
    except (ValueError, RuntimeError, TypeError, IndexError) as error:
        return f"refused by transformers: {error}"
    rows = output if isinstance(output, torch.Tensor) else output.sequences
    theirs = [row[len(ids) :].tolist() for row in rows]
    ours = [list(one.ids) for one in lm.continuations([TEXTS[0]], Generation(**asked))]
    if len(ours) != len(theirs) or not all(map(_same, ours, theirs)):
        return f"differs: generated {ours}, not {theirs}"
    return "agrees"


def _same(one: list[int], other: list[int]) -> bool:
    """Whether texts are equal but for padding after their end."""
    return one == other[: len(one)] and len(set(other[len(one) :])) <= 1


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("number", [1, 2, 3])
def test_folders_agree_with_transformers_or_are_refused_by_name(
    number: int, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    fates: Counter[str] = Counter()
    lines: list[str] = []

    @seed(number)
    @settings(
        max_examples=300,
        phases=[Phase.generate],
        database=None,
        suppress_health_check=list(HealthCheck),
        deadline=None,
    )
    @given(drawn_folders())
    def draw(drawn: Drawn) -> None:
        folder = tmp_path / "drawn"
        shutil.rmtree(folder, ignore_errors=True)
        try:
            weights = made(drawn, folder)
        except Exception as error:  # noqa: BLE001  # whatever transformers objects to
            fates["no such folder"] += 1
            lines.append(f"no such folder: {error!r:.160}  {drawn!r}")
            return
        try:
            fate = agrees(drawn, weights)
        except Exception as error:  # noqa: BLE001  # a traceback is what must not be
            fate = f"differs: a traceback: {error!r:.300}"
        fates[fate.partition(":")[0]] += 1
        if fate != "agrees":
            lines.append(f"{fate}  {drawn!r}")
        gc.collect()
        (pytestconfig.rootpath / f".fuzz-{number}.log").write_text("\n".join([str(fates), *lines]))

    draw()
    differing = [line for line in lines if line.startswith("differs")]
    assert not differing, "\n".join([str(fates), *differing])
    judged = fates["agrees"] + fates["refused"]
    assert fates["agrees"] >= BEST * judged, str(fates)
