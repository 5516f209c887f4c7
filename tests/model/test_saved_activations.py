from __future__ import annotations

from gpt2dsl.model.saved_activations import COUNTS, SavedActivations


def test_what_is_packed_is_found_under_its_name() -> None:
    saved = SavedActivations()
    parts: dict[str, tuple[str, ...]] = {}
    for name, count in {"norm_1": 2, "attention": 5, "norm_2": 2, "mlp": 2}.items():
        parts[name] = tuple(f"{name} {i}" for i in range(count))
    packed = saved.packed(**parts, residual="residual", probabilities="probabilities")
    assert len(packed) == COUNTS["none"]
    for name, part in (
        parts | {"residual": ("residual",), "probabilities": ("probabilities",)}
    ).items():
        assert getattr(saved, name)(packed) == part
        assert getattr(saved, name)(()) == ()


def test_selective_recomputation_drops_the_probabilities_alone() -> None:
    saved = SavedActivations()
    assert saved.probabilities(tuple(range(COUNTS["none"]))[: COUNTS["selective"]]) == ()
    assert COUNTS["none"] - COUNTS["selective"] == 1
    assert COUNTS["full"] == 0
