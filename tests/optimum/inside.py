"""What optimum makes of an export, in its own environment; prints JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from optimum.onnxruntime import ORTModelForCausalLM
from transformers import AutoTokenizer


def main(folder: str, prompts: list[str]) -> dict[str, Any]:
    """Continue prompts in one padded batch, in several ways."""
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    inputs = tokenizer(prompts, padding=True, return_tensors="pt")
    found = {}
    for name, session, keys in (
        ("greedy", {}, {}),
        ("binding", {"use_io_binding": True}, {}),
        ("beams", {}, {"num_beams": 3}),
    ):
        model = ORTModelForCausalLM.from_pretrained(folder, **session)
        given: dict[str, Any] = {"max_new_tokens": 20, "do_sample": False, **keys}
        tokens = model.generate(**inputs, **given, pad_token_id=tokenizer.pad_token_id)
        found[name] = tokenizer.batch_decode(tokens, skip_special_tokens=True)
    return found


if __name__ == "__main__":
    print(json.dumps(main(str(Path(sys.argv[1])), sys.argv[2:])))  # noqa: T201  # its answer
