"""Every block of docs/card.md, run as it stands, on weights and texts that fit into seconds."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import attrs
import pytest

from gpt2dsl.parts.model import SIZES
from tests import pages
from tests.cluster.rank_tables import conf
from tests.judges import hugging_face, random_weights

FITS = {"1024": "32", "parallel.dp=8": "parallel.dp=2", "/etc/hccn.conf": "hccn.conf"}
QUICK = {"gpt2-124m-": ("train.seq_length=32", "train.epochs=1")}
BLOCKS = (
    "生成RANK_TABLE_FILE", "多机RANK_TABLE_FILE合并", "模型权重下载与转换", "模型权重切分与合并",
    "基于AutoClass的使用", "基于Trainer的训练，微调，评测，推理", "基于Pipeline的推理",
    "数据集准备-预训练", "单卡训练", "多卡训练", "全参微调", "Lora微调", "文本生成", "文本分类",
    "基于pipeline的推理, 基于generate的推理", "单卡推理",
)  # fmt: skip
"""The headings of the card below which there are commands."""


@pytest.fixture
def small(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine as the card has it: texts, published weights, tables, and 124m is small."""
    tiny = attrs.evolve(SIZES["124m"], layers=1, heads=2, hidden=32, positions=64)
    monkeypatch.setitem(SIZES, "124m", tiny)
    model = hugging_face(tiny, random_weights(tiny), double=False)
    for name in ("gpt2", "openai-community/gpt2"):
        model.save_pretrained(elsewhere / name)
    model.save_pretrained("torch_weights", safe_serialization=False, max_shard_size="4MB")
    wiki = Path("wikitext-2")
    wiki.mkdir()
    article = " = A town = \n\n The old town stands on a hill by the river . \n\n"
    (wiki / "wiki.train.tokens").write_text(article * 130)
    (wiki / "wiki.valid.tokens").write_text(article * 10)
    Path("SST-2").mkdir()
    for name in ("train", "dev"):
        rows = "a film that is bad\t0\na film that is good\t1\n" * 16
        Path(f"SST-2/{name}.tsv").write_text(f"sentence\tlabel\n{rows}")
    Path("hosts").write_text("node-0 devices=16\nnode-1 devices=16\n")
    table = conf(elsewhere).read_text()
    made = "gpt2dsl ranktable generate --server-ip 10.0.0.2 --hccn-conf hccn.conf --out"
    pages.command(f"{made} server-2.json")
    Path("hccn.conf").write_text(table.replace("192.", "193."))
    return elsewhere


@pytest.mark.usefixtures("small")
def test_every_command_of_the_card_has_its_counterpart_and_it_runs(capsys: Any) -> None:
    assert pages.run("card.md", FITS, QUICK) > 20
    said = capsys.readouterr().out
    assert said.count("perplexity") > 3
    assert "accuracy" in said
    assert Path("all.json").exists()
    assert len(list(Path("strategies").iterdir())) == 32


def test_the_page_follows_the_card() -> None:
    page = (pages.DOCS / "card.md").read_text("utf-8")
    assert tuple(re.findall(r"^### (.+)$", page, re.MULTILINE)) == BLOCKS
