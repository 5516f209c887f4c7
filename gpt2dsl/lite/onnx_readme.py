"""README of an ONNX export, with a description and runnable examples."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from string import Template

import attrs

from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.lite import onnx_model, onnx_ports
from gpt2dsl.lite.description import Description
from gpt2dsl.lite.onnx_ports import CLASSIFIES, DynamicPort

FILE = "README.md"
NEW_TOKENS = 20
PROMPTS = ("The statement", "An increasing sequence: one,")
SHORT_PROMPTS = ("A", "I")

_TEMPLATES = Path(__file__).parent / "readme"


@attrs.frozen
class Example:
    """Inputs of the README's examples.

    Attributes:
        prompts: prompt texts; () if the folder has no tokenizer.
        rows: token ids of each prompt.
        library: whether the folder has a tokenizer.json, for the library ``tokenizers``.
        ends: end-of-text ids.
    """

    prompts: tuple[str, ...]
    rows: tuple[tuple[int, ...], ...]
    library: bool
    ends: tuple[int, ...]


def readme(described: Description, example: Example) -> str:
    """Return the README of an export's folder."""
    shapes, task = described.shapes, described.task
    geometry = shapes.geometry
    keys = {
        "layers": geometry.layers,
        "heads": geometry.heads,
        "hidden": geometry.hidden,
        "vocab": geometry.vocab,
        "task": task.removesuffix("-with-past"),
        "dtype": described.dtype,
        "opset": onnx_model.OPSET,
        "compared": _compared(described),
        "tokenizer_row": "| the others | the tokenizer |\n" if example.prompts else "",
        "limit": shapes.length,
        "last_id": geometry.vocab - 1,
        "last_position": shapes.length - 1,
        "ports": _ports(geometry, task),
        "count": max(1, min(NEW_TOKENS, shapes.length - max(map(len, example.rows)))),
        "ends": list(example.ends),
        "answer": _answer(geometry, described.classes),
        **_texts(example, task),
    }
    parts = ("head", task, "foot")
    return "".join(
        Template((_TEMPLATES / f"{part}.md").read_text("utf-8")).substitute(keys) for part in parts
    )


def _compared(described: Description) -> str:
    if described.unverified:
        return f"not, as {described.unverified}"
    differences = described.verified.items()
    return ", ".join(
        f"in {name} logits differ by up to {largest:.1e}" for name, largest in differences
    )


def _ports(geometry: GPT2Config, task: str) -> str:
    """Return the rows of the table of inputs and outputs, with caches of the first layer only."""
    sides = {"in": onnx_ports.inputs(geometry, task), "out": onnx_ports.outputs(geometry, task)}
    return "".join(
        f"| {side} | `{_name(port)}` | `[{', '.join(map(str, port.shape))}]` | {port.dtype} "
        f"| {port.words.replace('layer 0', 'layer N').replace('.0.', '.N.')} |\n"
        for side, ports in sides.items()
        for port in ports
        if "." not in port.name or ".0." in port.name
    )


def _name(port: DynamicPort) -> str:
    return port.name.replace(".0.", ".N.")


def _texts(example: Example, task: str) -> dict[str, str]:
    """Return the lines that depend on the tokenizer: that of the library, another, or none."""
    if not example.prompts:
        rows = [list(row) for row in example.rows]
        return {
            "needs": "`pip install onnxruntime`",
            "imports": "",
            "rows": f"rows = {rows}  # ids: the weights came without a tokenizer",
            "shown": "row",
            "optimum": _tensors(rows, task),
            "optimum_shown": "row.tolist()",
            "pad": "0",
        }
    listed = f"prompts = {_listed(example.prompts)}"
    side = "" if task == CLASSIFIES else ', padding_side="left"'
    optimum = (
        "from transformers import AutoTokenizer\n\n"
        f'tokenizer = AutoTokenizer.from_pretrained("."{side})\n'
        "tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token\n"
        f'{listed}\ninputs = tokenizer(prompts, padding=True, return_tensors="pt")'
    )
    if example.library:
        needs = "`pip install onnxruntime tokenizers`"
        imports = "from tokenizers import Tokenizer\n"
        tokenizer = 'tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))'
        encoded = "tokenizer.encode(prompt).ids"
    else:
        needs = "`pip install onnxruntime transformers`, of which the tokenizer is used"
        imports = "from transformers import AutoTokenizer\n"
        tokenizer = "tokenizer = AutoTokenizer.from_pretrained(folder)"
        encoded = "tokenizer.encode(prompt)"
    return {
        "needs": needs,
        "imports": imports,
        "rows": f"{tokenizer}\n{listed}\nrows = [{encoded} for prompt in prompts]",
        "shown": "tokenizer.decode(row, skip_special_tokens=True)",
        "optimum": optimum,
        "optimum_shown": "tokenizer.decode(row, skip_special_tokens=True)",
        "pad": "tokenizer.pad_token_id",
    }


def _tensors(rows: list[list[int]], task: str) -> str:
    """Return the lines that build optimum's inputs from ids."""
    longest = max(map(len, rows))

    def filled(values: list[int]) -> list[int]:
        padding = [0] * (longest - len(values))
        return values + padding if task == CLASSIFIES else padding + values

    ids, mask = ([filled(row) for row in rows], [filled([1] * len(row)) for row in rows])
    return (
        "import torch\n\n"
        f'inputs = {{"input_ids": torch.tensor({ids}), "attention_mask": torch.tensor({mask})}}'
    )


def _listed(texts: Sequence[str]) -> str:
    return "[" + ", ".join(f'"{text}"' for text in texts) + "]"


def _answer(geometry: GPT2Config, classes: Sequence[str]) -> str:
    """Return the expression for a classifier's answer."""
    if geometry.problem or geometry.labels < 2:
        return "row.tolist()"
    names = classes or [f"LABEL_{i}" for i in range(geometry.labels)]
    return f"{list(names)!r}[row.argmax()]"
