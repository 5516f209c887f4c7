from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import gpt2dsl
from gpt2dsl import LoRA, Model, Optim, Parallel, Recipe, Runtime, SpecError, Task, Train
from gpt2dsl.chain import specs
from gpt2dsl.parts import TABLES
from tests.strategies import lists_of_parts, parts, recipes

NAMES = {name: getattr(gpt2dsl, name) for name in gpt2dsl.__all__ if name != "load"}


@given(lists_of_parts(), st.integers(0, 6), st.integers(0, 6))
def test_join_is_associative(found: list[Any], i: int, j: int) -> None:
    i, j = sorted((i, j))
    a, b, c = Recipe(*found[:i]), Recipe(*found[i:j]), Recipe(*found[j:])
    assert (a | b) | c == a | (b | c)


@given(lists_of_parts(), st.randoms())
def test_join_is_commutative_and_the_digest_with_it(found: list[Any], random: Any) -> None:
    shuffled = list(found)
    random.shuffle(shuffled)
    one, other = Recipe(), Recipe()
    for part in found:
        one = one | part
    for part in shuffled:
        other = part | other
    assert one == other
    assert hash(one) == hash(other)
    assert one.digest == other.digest


@given(recipes())
def test_the_empty_recipe_is_the_identity(recipe: Recipe) -> None:
    assert recipe | Recipe() == recipe == Recipe() | recipe


@given(recipes())
def test_toml_round_trip(recipe: Recipe) -> None:
    back = Recipe.from_toml(recipe.to_toml())
    assert back == recipe
    assert back.digest == recipe.digest


@given(recipes())
def test_toml_keeps_what_was_said_though_it_is_the_default(recipe: Recipe) -> None:
    back = Recipe.from_toml(recipe.to_toml())
    assert _said(back) == _said(recipe)


def _said(recipe: Recipe) -> list[tuple[str, str]]:
    return [
        (key, repr(value))
        for key, value, origin in recipe.why()
        if origin != "default" and value is not None
    ]


@given(recipes())
def test_repr_is_the_code_that_builds_it(recipe: Recipe) -> None:
    assert eval(repr(recipe), dict(NAMES)) == recipe  # noqa: S307


@given(recipes(), parts("runtime"), parts("parallel"))
def test_digest_leaves_out_how_and_where(recipe: Recipe, runtime: Any, parallel: Any) -> None:
    assert recipe.replace(runtime, parallel).digest == recipe.digest


@given(recipes())
def test_every_field_knows_where_it_came_from(recipe: Recipe) -> None:
    for key, _, origin in recipe.why():
        table, _, field = key.partition(".")
        part = recipe.parts.get(table)
        said = part is not None and field in part.given()
        assert (origin == "default") == (not said)


def test_digest_differs_where_the_result_does() -> None:
    recipe = Model(size="nano") | Task.pretrain(data="a")
    assert recipe.set("optim.lr", 3e-4).digest != recipe.digest
    assert recipe.set("train.seed", 1).digest != recipe.digest


@pytest.mark.parametrize("key", ["train.save_every", "train.keep"])
def test_what_is_kept_of_a_run_on_its_way_is_not_in_its_digest(key: str) -> None:
    recipe = Model(size="nano") | Train(seq_length=8) | Task.pretrain(data="a")
    assert recipe.set(key, 7).digest == recipe.digest
    assert recipe.set(key, 7).plan().directory == recipe.plan().directory


def test_a_run_that_never_resumes_has_the_directory_of_one_that_does() -> None:
    recipe = Model(size="nano") | Train(seq_length=8) | Task.pretrain(data="a")
    anew = recipe.set("train.resume", "never")
    assert anew.plan().directory == recipe.plan().directory
    assert recipe.set("train.resume", "c/step-3").digest != recipe.digest
    chains = [(one >> recipe.replace(Task.evaluate(data="b"))) for one in (recipe, anew)]
    assert len({chain.plan().stages[0].directory for chain in chains}) == 1


def test_a_directory_of_an_earlier_version_is_still_the_runs(elsewhere: Path) -> None:
    recipe = Model(size="nano") | Train(seq_length=8, save_every=5) | Task.pretrain(data="a")
    plan, before = recipe.plan(), recipe.completed.earlier_digest()
    assert before != recipe.digest
    (elsewhere / "runs" / f"{plan.name}-{before[:8]}").mkdir(parents=True)
    assert recipe.plan().directory.endswith(before[:8])
    Path(plan.directory).mkdir()
    assert recipe.plan().directory == plan.directory


@pytest.mark.usefixtures("elsewhere")
def test_a_name_is_of_runs_and_decides_nothing() -> None:
    recipe = Model(size="nano") | Train(seq_length=8) | Task.pretrain(data="a")
    wiki = recipe.named("wiki [1]")
    assert (wiki, wiki.digest) == (recipe, recipe.digest)
    changed = (wiki.set("optim.lr", 1.0), wiki.replace(Model(size="124m")), wiki | LoRA())
    assert {one.name for one in changed} == {"wiki [1]"}
    assert wiki.plan().directory == f"runs/wiki [1]-{recipe.digest[:8]}"
    chain = (wiki >> Recipe(Task.generate(prompts=["x"]))).named("both")
    assert chain.name == chain.set("stage.1.optim.lr", 1.0).name == "both"
    assert chain.plan().name == "both"


@pytest.mark.parametrize("name", ["a/b", "../a", "a\nb", "\0", "n" * 241, "名" * 81, 7, None])
def test_a_name_that_no_directory_can_have_is_refused(name: Any) -> None:
    recipe = Recipe(Model(size="nano"))
    for named in (recipe.named, (recipe >> recipe).named):
        with pytest.raises(SpecError, match="expected what a directory can be called") as caught:
            named(name)
        assert caught.value.faults[0].origin.startswith("tests/test_recipe.py:")


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        ("of_names:recipe", "of_names"),
        ("of_names:chain", "of_names"),
        ("of_names:slow", "slow"),
        ("of_names:own", "wiki"),
        ("of_names:both", "two"),
        ("own.toml", "own"),
    ],
)
def test_runs_are_called_after_the_recipe_else_after_what_holds_it(
    elsewhere: Path, spec: str, name: str
) -> None:
    (elsewhere / "of_names.py").write_text(
        "from gpt2dsl import Model, Task, Train\n"
        "recipe = Model(size='nano') | Train(seq_length=8) | Task.pretrain(data='a')\n"
        "slow = recipe.set('optim.lr', 1e-5)\n"
        "own = recipe.named('wiki')\n"
        "chain = recipe >> slow\n"
        "both = chain.named('two')\n"
    )
    (elsewhere / "own.toml").write_text('extends = "of_names:own"\n')
    assert specs.load(spec).name == name
    if isinstance(specs.load(spec), Recipe):
        assert Recipe.load(spec, ["optim.lr=1.0"]).name == name


@pytest.mark.parametrize(
    ("part", "then"),
    [
        (Train(seq_length=8, save_every=5), '"save_every":5'),
        (LoRA(alpha_pattern={"c_attn": 16.0}), '"alpha_pattern":{"c_attn":16.0}'),
        (LoRA(rank_pattern={"b": 2, "a": 1}), '"rank_pattern":{"a":1,"b":2}'),
        (Task.evaluate(data="a", metrics=["perplexity"]), '"metrics":["perplexity"]'),
    ],
)
def test_the_digest_of_an_earlier_version_is_what_it_was(part: Any, then: str) -> None:
    written: list[bytes] = []
    sha256 = hashlib.sha256

    def noting(text: bytes) -> Any:
        written.append(text)
        return sha256(text)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hashlib, "sha256", noting)
        Recipe(part).completed.earlier_digest()
    assert then in written[0].decode()


@given(recipes(), st.data())
def test_equal_recipes_have_equal_hashes_and_digests(recipe: Recipe, data: st.DataObject) -> None:
    twin = Recipe(*(_said_otherwise(part, data) for part in recipe.parts.values()))
    assert twin == recipe
    assert hash(twin) == hash(recipe)
    assert twin.digest == recipe.digest


def _said_otherwise(part: Any, data: st.DataObject) -> Any:
    """An equal part: its numbers in another type, its lists in another, its zeros with a sign."""
    given = part.given()
    for name, value in given.items():
        other = _another_type(value)
        if data.draw(st.booleans()) and type(part).rules()[name].problem(other) is None:
            given[name] = other
    return type(part)(**given)


def _another_type(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _another_type(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return list(value)
    if type(value) is int and int(float(value)) == value:
        return float(value)
    if type(value) is float and value == int(value):
        return int(value) if value else -0.0
    return value


def test_the_order_of_patterns_is_part_of_them_as_the_first_match_counts() -> None:
    one, other = (
        Recipe(LoRA(rank_pattern=dict(pairs)))
        for pairs in ((("a", 1), ("b", 2)), (("b", 2), ("a", 1)))
    )
    assert one != other
    assert one.digest != other.digest
    assert Recipe.from_toml(other.to_toml()) == other


def test_digest_is_the_same_for_two_ways_to_say_the_same() -> None:
    task = Task.pretrain(data="a")
    assert (Model(size="small") | task).digest == (Model(size="124m") | task).digest
    assert (task | Optim(lr=1)).digest == (task | Optim(lr=1.0)).digest
    assert (task | Train()).digest == (task | Train(epochs=1)).digest == Recipe(task).digest


def test_the_same_kind_twice_is_refused_at_the_join_naming_both_lines() -> None:
    first = LoRA(r=8)
    recipe = Model(size="nano") | first
    second = LoRA(r=4)
    with pytest.raises(SpecError) as caught:
        recipe | second
    fault = caught.value.faults[0]
    assert fault.code == "G2-106"
    assert first.origin in fault.message
    assert second.origin in fault.message
    assert first.origin != second.origin
    assert first.origin.startswith("tests/test_recipe.py:")


def test_two_tasks_are_the_same_kind() -> None:
    with pytest.raises(SpecError, match="Task twice"):
        Task.finetune(data="a") | Task.evaluate(data="a")


@pytest.mark.parametrize("other", [3, "x", None, {"r": 8}, [LoRA()]])
def test_join_takes_parts_and_recipes_only(other: Any) -> None:
    for left in (LoRA(), Recipe(LoRA())):
        with pytest.raises(TypeError):
            left | other
        with pytest.raises(TypeError):
            other | left


@pytest.mark.parametrize("name", ["plan", "to_toml", "named", "replace", "faults", "digest"])
def test_a_part_that_is_used_as_a_recipe_says_how_to_make_one(name: str) -> None:
    part = Task.export(source="base", target="out")
    said = f"'Export' object has no attribute '{name}': a part is no recipe yet; "
    with pytest.raises(AttributeError) as caught:
        getattr(part, name)
    assert str(caught.value) == f"{said}Recipe(Task.export(...)).{name} has it"
    assert not hasattr(part, name)
    name = "run"
    with pytest.raises(AttributeError, match=r"Recipe\(Model\(\.\.\.\)\)\.plan\(\)\.run has it"):
        getattr(Model(), name)
    for other in ("plann", "_repr_markdown_"):
        with pytest.raises(AttributeError, match=rf"no attribute '{other}'\Z"):
            getattr(part, other)


def test_replace_swaps_a_part_or_adds_it() -> None:
    recipe = Model(size="nano") | Parallel(dp=2)
    assert recipe.replace(Parallel(dp=4)) == Model(size="nano") | Parallel(dp=4)
    assert recipe.replace(LoRA()) == recipe | LoRA()


def test_set_changes_one_value_and_keeps_the_rest() -> None:
    recipe = Model(size="nano") | Train(epochs=3, batch_size=4)
    assert recipe.set("train.seed", 7) == Model(size="nano") | Train(epochs=3, batch_size=4, seed=7)


def test_set_of_steps_puts_them_in_the_place_of_epochs() -> None:
    recipe = Recipe(Train(epochs=3)).set("train.steps", 10)
    assert recipe == Recipe(Train(steps=10))


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("train.bach_size", 3, "did you mean batch_size"),
        ("trian.batch_size", 3, "did you mean train"),
        ("train", 3, "expected table.key"),
        ("train.batch_size", "3", "expected an integer of at least 1, found the string '3'"),
        ("train.batch_size", True, "found a boolean True"),
        ("optim.lr", float("nan"), "expected a number above 0, found nan"),
    ],
)
def test_set_refuses_what_is_wrong(key: str, value: Any, expected: str) -> None:
    with pytest.raises(SpecError, match=expected.replace(".", r"\.")):
        Recipe(Train()).set(key, value)


def test_recipes_can_not_be_changed() -> None:
    recipe = Recipe(LoRA())
    with pytest.raises(TypeError):
        recipe.parts["model"] = Model()  # type: ignore[index]
    with pytest.raises(AttributeError):
        recipe.parts["lora"].r = 3  # type: ignore[attr-defined]


def test_the_tables_are_those_of_the_contract() -> None:
    assert list(TABLES) == [
        "model", "classifier", "lora", "parallel", "data", "train", "optim", "schedule",
        "precision", "generation", "runtime", "task",
    ]  # fmt: skip


def test_python_recipes_know_their_lines() -> None:
    recipe = Model(size="nano") | Runtime(output="out")
    origins = {key: origin for key, _, origin in recipe.why()}
    assert origins["model.size"].startswith("tests/test_recipe.py:")
    assert origins["model.layers"] == "default"
