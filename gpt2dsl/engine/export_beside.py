"""Companion files of an exported ONNX model: Hugging Face's, the tokenizer's and a README."""

from __future__ import annotations

from pathlib import Path

import attrs

from gpt2dsl.data import tokenizer_files
from gpt2dsl.data.documents import read_json
from gpt2dsl.data.tokenizer import PUBLISHED, Tokenizer
from gpt2dsl.lite import onnx_readme
from gpt2dsl.lite.description import Description
from gpt2dsl.lite.onnx_readme import PROMPTS, SHORT_PROMPTS, Example
from gpt2dsl.parts.model import GPT2_ROWS
from gpt2dsl.schema import generation_config
from gpt2dsl.schema.folder import GENERATION
from gpt2dsl.weights import writing
from gpt2dsl.weights.formats import huggingface
from gpt2dsl.weights.network_weights import Weights

_JAVASCRIPT = {"transformers.js_config": {"use_external_data_format": {"model.onnx": 1}}}
"""config.json entry for transformers.js: the weights are in an external data file."""


def write(folder: Path, described: Description, content: Weights) -> None:
    """Write the files that optimum, transformers.js and human readers need beside the model.

    Args:
        folder: folder of the model.
        described: description of the model.
        content: weights that it was exported from.

    Raises:
        OSError: the disk is full or can't be written.
    """
    length = described.shapes.length
    geometry = attrs.evolve(content.geometry, positions=length)
    published = content.tokenizer is None and geometry.vocab in GPT2_ROWS
    tokenizer = None
    if content.tokenizer or published:
        tokenizer = Tokenizer.load(content.tokenizer or PUBLISHED)
    config = huggingface.config_of(geometry, tokenizer, described.classes, content.config)
    huggingface.write_config(folder, config | _JAVASCRIPT, content.tensors)
    writing.copy_beside(content, folder)
    if tokenizer and published:
        tokenizer.save(folder, length, pads=geometry.labels > 0)
    example = _example(folder, tokenizer, length)
    text = onnx_readme.readme(described, example)
    (folder / onnx_readme.FILE).write_text(text, "utf-8")


def _example(folder: Path, tokenizer: Tokenizer | None, length: int) -> Example:
    """Return the data of the README's examples: prompts that fit, and end-of-text ids."""
    config = read_json(folder / GENERATION)
    ends = generation_config.stated(config).get("eos", ((), ""))[0]
    if tokenizer is None:
        return Example((), ((0, 1), (1,)) if length > 1 else ((0,), (1,)), False, tuple(ends))
    rows = [tokenizer.encode(prompt) for prompt in PROMPTS]
    prompts = PROMPTS if max(map(len, rows)) < length else SHORT_PROMPTS
    encoded = tuple(tuple(tokenizer.encode(prompt)) for prompt in prompts)
    library = (folder / tokenizer_files.WHOLE).is_file()
    return Example(prompts, encoded, library, tuple(ends))
