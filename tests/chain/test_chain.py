from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import gpt2dsl
from gpt2dsl import Chain, Model, Optim, Recipe, SpecError, Task, Train
from gpt2dsl.chain import specs
from gpt2dsl.chain.plan import _folder, name_of
from gpt2dsl.parts.bundle import Parts
from tests.commands import gpt2dsl as command
from tests.strategies import recipes

NAMES = {name: getattr(gpt2dsl, name) for name in gpt2dsl.__all__ if name != "load"}
TRAINED = Model(size="nano") | Task.pretrain(data="sample:train")


def chains() -> st.SearchStrategy[Chain]:
    return st.lists(recipes(), min_size=1, max_size=3).map(lambda found: Chain(*found))


@given(chains(), chains(), chains())
def test_following_is_associative(a: Chain, b: Chain, c: Chain) -> None:
    assert (a >> b) >> c == a >> (b >> c) == Chain(*a.recipes, *b.recipes, *c.recipes)


@given(recipes(), recipes())
def test_recipes_follow_recipes(a: Recipe, b: Recipe) -> None:
    assert a >> b == Chain(a, b) == Chain(a) >> b == a >> Chain(b)
    assert (a >> b == b >> a) == (a == b)


@given(chains())
def test_toml_round_trip(chain: Chain) -> None:
    back = Chain.from_toml(chain.to_toml())
    assert back == chain
    assert back.digest == chain.digest


@given(chains())
def test_repr_is_the_code_that_builds_it(chain: Chain) -> None:
    assert eval(repr(chain), dict(NAMES)) == chain  # noqa: S307


def test_a_stage_of_one_part_is_that_part() -> None:
    one, two = Task.evaluate(data="a"), Task.generate(prompts=["b"])
    three = Model() | two
    assert repr(Recipe(one) >> two >> three) == f"Recipe({one}) >> {two} >> ({three})"
    assert repr(Chain(Recipe(two))) == f"Chain(Recipe({two}))"


def test_a_single_part_may_follow_and_brackets_are_asked_for_where_they_are_missing() -> None:
    chain = TRAINED >> Task.evaluate(data="sample:valid")
    assert chain.recipes == (TRAINED, Recipe(Task.evaluate(data="sample:valid")))
    with pytest.raises(TypeError, match="put each recipe in brackets"):
        Model(size="nano") | Task.pretrain(data="a") >> Task.evaluate(data="b")
    with pytest.raises(TypeError, match="put each recipe in brackets"):
        TRAINED >> Train(seq_length=8) | Task.evaluate(data="b")


@pytest.mark.parametrize("other", [3, "x", None, [TRAINED]])
def test_only_recipes_follow(other: Any) -> None:
    with pytest.raises(TypeError):
        TRAINED >> other
    with pytest.raises(TypeError):
        Chain(other)


def test_set_changes_one_value_of_one_stage_and_runtime_of_all() -> None:
    chain = TRAINED >> (TRAINED | Optim(lr=1))
    assert chain.set("stage.2.optim.lr", 0.5) == TRAINED >> (TRAINED | Optim(lr=0.5))
    moved = chain.set("runtime.output", "there")
    assert [one.completed.runtime.output for one in moved.recipes] == ["there", "there"]
    for key in ("optim.lr", "stage.3.optim.lr", "stage.0.optim.lr"):
        with pytest.raises(SpecError, match=r"expected stage\.N\.table\.key, N from 1 to 2"):
            chain.set(key, 1)


SPEC = """
[runtime]
output = "there"

[[stage]]
extends = "base.toml"
[stage.train]
steps = 2

[[stage]]
extends = "base.toml"
[stage.runtime]
output = "elsewhere"
[stage.optim]
lr = 0.5  # not 0.1
"""


@pytest.mark.usefixtures("elsewhere")
def test_a_spec_of_stages_extends_and_shares_the_runtime() -> None:
    Path("base.toml").write_text(
        '[task]\nkind = "pretrain"\ndata = "a"\n[runtime]\noutput = "base"\n[train]\nepochs = 3\n'
    )
    Path("x.toml").write_text(SPEC)
    found = specs.load("x.toml", ["stage.1.train.seed=7"])
    assert isinstance(found, Chain)
    assert found.name == "x"
    first, second = (one.completed for one in found.recipes)
    assert (first.train.steps, first.train.epochs, first.train.seed) == (2, None, 7)
    assert (first.runtime.output, second.runtime.output) == ("there", "elsewhere")
    origins = {key: origin for key, _, origin in found.why() if origin != "default"}
    assert origins["stage.1.train.steps"] == "x.toml:8"
    assert origins["stage.1.train.seed"] == "--set"
    assert origins["stage.2.optim.lr"] == "x.toml:15"
    assert origins["stage.2.task.data"] == "base.toml:3"


@pytest.mark.usefixtures("elsewhere")
def test_what_may_follow_from_a_recipe_that_is_not_found_is_not_told() -> None:
    beside = '[train]\nseq_length = 2048\nbach = 3\n[task]\neval_data = "none.txt"\n'
    Path("x.toml").write_text('extends = "quickstrt"\n' + beside)
    _, faults = specs.examine("x.toml")
    assert [(one.code, one.key) for one in faults] == [
        ("G2-004", "extends"),
        ("G2-101", "train.bach"),
    ]
    Path("bad.toml").write_text("[model\n")
    Path("x.toml").write_text('extends = "bad.toml"\n[train]\nsteps = 3\n')
    _, faults = specs.examine("x.toml")
    assert [(one.code, one.origin) for one in faults] == [("G2-001", "bad.toml:1")]
    Path("x.toml").write_text(
        '[[stage]]\nextends = "quickstrt"\n'
        '[[stage]]\n[stage.task]\nkind = "evaluate"\ndata = "none.txt"\n'
    )
    _, faults = specs.examine("x.toml")
    assert [(one.code, one.key.partition(" ")[0]) for one in faults] == [
        ("G2-004", "stage.1.extends"),
        ("G2-301", "stage.2.task.data"),
    ]


@pytest.mark.parametrize("name", ["stages", "Stage", "stge"])
def test_a_misspelt_stage_is_told_alone_at_its_line(name: str) -> None:
    stage = '[stage.train]\nsteps = 1\n[stage.task]\nkind = "pretrain"\ndata = "a.txt"\n'
    told = [("G2-102", name, "unknown table; did you mean [[stage]]?")]
    for spec, line in (
        (f"[[stage]]\n{stage}[[{name}]]\n{stage}", 7),
        (f"[[{name}]]\n[[stage]]\n{stage}", 1),
        (f"[[{name}]]\n{stage}", 1),
        (f"# a chain\n  [[ {name} ]]  # [[stage]]\n" + stage.replace("stage", name), 2),
    ):
        with pytest.raises(SpecError) as refused:
            Chain.from_toml(spec, "x.toml")
        faults = refused.value.faults
        assert [(fault.code, fault.key, fault.message) for fault in faults] == told
        assert faults[0].origin == f"x.toml:{line}"


@pytest.mark.usefixtures("elsewhere")
def test_every_fault_of_a_spec_is_told_with_its_line_and_stage() -> None:
    Path("x.toml").write_text(
        '[[stage]]\n[stage.train]\nbach_size = 1\n[[stage]]\nextends = "none.toml"\n'
        "[stage.modle]\nsize = 1\n[[stage]]\n[stage.optim]\nlr = -1\n"
    )
    _, faults = specs.examine("x.toml", ["optim.lr=1", "x"])
    assert [(one.code, one.origin, one.key) for one in faults] == [
        ("G2-201", "--set", "x"),
        ("G2-102", "--set", "optim.lr"),
        ("G2-101", "x.toml:3", "stage.1.train.bach_size"),
        ("G2-004", "x.toml:5", "stage.2.extends"),
        ("G2-102", "x.toml:6", "stage.2.modle"),
        ("G2-202", "x.toml:10", "stage.3.optim.lr"),
        *(("G2-107", "", f"stage.{number}.task") for number in (1, 3)),
    ]


@pytest.mark.parametrize(
    ("text", "code", "line"),
    [
        ("stage = 3\n", "G2-201", 1),
        ("stage = []\n", "G2-201", 1),
        ("[train]\nseed = 1\n[[stage]]\n[stage.train]\nseed = 1\n", "G2-105", 1),
        ('extends = "gpt2-124m-finetune"\n[[stage]]\n', "G2-105", 1),
        ("[[stage]]\n[stage.train]\nseed = 1\nseed = 2\n", "G2-003", 4),
    ],
)
def test_what_is_no_chain_is_refused(text: str, code: str, line: int) -> None:
    with pytest.raises(SpecError) as caught:
        Chain.from_toml(text, "x.toml")
    assert (caught.value.faults[0].code, caught.value.faults[0].origin) == (code, f"x.toml:{line}")


@pytest.mark.usefixtures("elsewhere")
def test_one_recipe_is_no_chain_and_a_chain_extends_nothing() -> None:
    with pytest.raises(SpecError, match="this is one recipe"):
        Chain.from_toml("[train]\nseed = 1\n")
    Path("chain.toml").write_text("[[stage]]\n[stage.train]\nseed = 1\n")
    Path("x.toml").write_text('extends = "chain.toml"\n')
    with pytest.raises(SpecError, match=r"x\.toml:1 .* is a chain of 1 stage, where one"):
        specs.load("x.toml")
    with pytest.raises(SpecError, match="G2-108"):
        Recipe.load("chain.toml")
    with pytest.raises(SpecError, match="is one recipe, where a chain is expected"):
        Chain.load("quickstart")


@pytest.mark.usefixtures("elsewhere")
def test_a_chain_without_a_size_keeps_the_folder_that_an_earlier_version_named() -> None:
    weights = Model(weights="openai-community/gpt2")
    chain = (weights | Task.finetune(data="sample:train")) >> Task.convert(target="out")
    assert name_of(chain) == "gpt2-finetune-convert"
    assert _folder(chain, Parts()) == Path("runs/gpt2-finetune-convert")
    Path("runs/gpt2--finetune-convert").mkdir(parents=True)
    assert _folder(chain, Parts()) == Path("runs/gpt2--finetune-convert")
    assert _folder(chain.named("mine"), Parts()) == Path("runs/mine")


@pytest.mark.usefixtures("elsewhere")
def test_show_gives_toml_and_python_of_a_chain() -> None:
    chain = TRAINED >> Task.evaluate(data="sample:valid") >> Task.export(target="graphs")
    Path("x.toml").write_text(chain.to_toml())
    assert command("show", "x.toml").stdout == chain.to_toml()
    scope: dict[str, Any] = {}
    exec(command("show", "x.toml", "--as", "python").stdout, scope)  # noqa: S102
    assert scope["recipe"] == chain
