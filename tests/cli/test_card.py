"""Every block of docs/card.md, run as it stands, on weights and texts that fit into seconds."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import attrs
import click
import pytest

from gpt2dsl.cli.main import cli
from gpt2dsl.parts.model import SIZES
from tests.cluster.rank_tables import conf
from tests.judges import hugging_face, random_weights

PAGE = Path(__file__).parents[2] / "docs" / "card.md"
SMALL = {"layers": 1, "heads": 2, "hidden": 32, "positions": 64}
FITS = {"1024": "32", "parallel.dp=8": "parallel.dp=2", "/etc/hccn.conf": "hccn.conf"}
"""What is written on the page, and what stands for it here."""
QUICK = ["train.seq_length=32", "train.epochs=1"]
"""Values of the recipes of 124m that take too long here."""
BLOCKS = (
    "生成RANK_TABLE_FILE", "多机RANK_TABLE_FILE合并", "模型权重下载与转换", "模型权重切分与合并",
    "基于AutoClass的使用", "基于Trainer的训练，微调，评测，推理", "基于Pipeline的推理",
    "数据集准备-预训练", "单卡训练", "多卡训练", "全参微调", "Lora微调", "文本生成", "文本分类",
    "基于pipeline的推理, 基于generate的推理", "单卡推理",
)  # fmt: skip
"""The headings of the card below which there are commands."""


def blocks(text: str) -> list[tuple[str, str, str]]:
    """Language, title and content of each block of code."""
    return re.findall(r'^```(\w*)(?: title="(.+?)")?\n(.*?)^```', text, re.MULTILINE | re.DOTALL)


@pytest.fixture
def small(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine as the card has it: texts, published weights, tables, and 124m is small."""
    monkeypatch.setitem(SIZES, "124m", attrs.evolve(SIZES["124m"], **SMALL))
    model = hugging_face(SIZES["124m"], random_weights(SIZES["124m"]), double=False)
    for name in ("gpt2", "openai-community/gpt2"):
        model.save_pretrained(elsewhere / name)
    model.save_pretrained("torch_weights", safe_serialization=False, max_shard_size="4MB")
    wiki = Path("wikitext-2")
    wiki.mkdir()
    article = " = A town = \n\n The old town stands on a hill by the river , few live there . \n\n"
    (wiki / "wiki.train.tokens").write_text(article * 100)
    (wiki / "wiki.valid.tokens").write_text(article * 8)
    Path("SST-2").mkdir()
    for name in ("train", "dev"):
        rows = "a film that is bad\t0\na film that is good\t1\n" * 16
        Path(f"SST-2/{name}.tsv").write_text(f"sentence\tlabel\n{rows}")
    table = conf(elsewhere).read_text()
    Path("hosts").write_text("node-0 devices=16\nnode-1 devices=16\n")
    table_of = "gpt2dsl ranktable generate --server-ip 10.0.0.2 --hccn-conf hccn.conf --out"
    run(f"{table_of} server-2.json")
    Path("hccn.conf").write_text(table.replace("192.", "193."))
    return elsewhere


def run(line: str) -> None:
    words = shlex.split(line)
    assert words[0] == "gpt2dsl"
    if words[1] in ("run", "plan") and "124m" in words[2]:
        words += [word for setting in QUICK for word in ("--set", setting)]
    try:
        code = cli.main(words[1:], standalone_mode=False)
    except click.exceptions.Exit as stop:
        code = stop.exit_code
    assert not code, line


@pytest.mark.usefixtures("small")
def test_every_command_of_the_card_has_its_counterpart_and_it_runs(capsys: Any) -> None:
    page = PAGE.read_text("utf-8")
    for written, here in FITS.items():
        page = page.replace(written, here)
    scope: dict[str, Any] = {}
    ran = 0
    for language, title, content in blocks(page):
        if language == "toml":
            Path(title).write_text(content)
        elif language == "python":
            exec(compile(content, title or "card.md", "exec"), scope)  # noqa: S102
        elif language == "sh":
            for line in content.splitlines():
                run(line)
                ran += 1
    assert ran > 20
    said = capsys.readouterr().out
    assert said.count("perplexity") > 3
    assert "accuracy" in said
    assert Path("all.json").exists()
    assert len(list(Path("strategies").iterdir())) == 32


def test_the_page_follows_the_card() -> None:
    headings = re.findall(r"^### (.+)$", PAGE.read_text("utf-8"), re.MULTILINE)
    assert tuple(headings) == BLOCKS
