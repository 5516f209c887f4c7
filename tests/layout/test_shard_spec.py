from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gpt2dsl.layout.config import GPT2Config
from gpt2dsl.layout.lora import LoRASettings, LoRASpec, lora_specs
from gpt2dsl.layout.params import WTE, param_specs
from gpt2dsl.layout.shard_spec import ShardSpec, is_column, shard_specs

TARGETS = ("c_attn|c_proj|c_fc", "[qkv]|mlp.c_proj", "v|c_fc", "attn.c_proj")


@st.composite
def layouts(draw: st.DrawFn) -> tuple[GPT2Config, list[LoRASpec], int]:
    """A network that can be cut, its adapters, and over how many ranks."""
    mp = draw(st.sampled_from([1, 2, 4]))
    heads = mp * draw(st.integers(1, 3))
    geometry = GPT2Config(
        layers=draw(st.integers(1, 2)),
        heads=heads,
        hidden=heads * draw(st.integers(1, 3)),
        positions=5,
        vocab=draw(st.integers(1, 300)),
        inner=draw(st.sampled_from([0, mp, 3 * mp])),
        labels=draw(st.sampled_from([0, 3])),
    )
    settings_ = LoRASettings(
        targets=draw(st.sampled_from(TARGETS)), r=draw(st.integers(1, 3)), alpha=1
    )
    return geometry, lora_specs(geometry, settings_), mp


def shapes(geometry: GPT2Config, added: list[LoRASpec]) -> dict[str, tuple[int, ...]]:
    """Of the whole tensors, as the network has them."""
    found: dict[str, tuple[int, ...]] = {one.name: one.shape for one in param_specs(geometry)}
    found[WTE] = (geometry.padded_vocab, geometry.hidden)
    for one in added:
        found |= one.shapes
    return found


def cuts(layout: tuple[GPT2Config, list[LoRASpec], int]) -> Iterator[tuple[str, Any, ShardSpec]]:
    """Name, an array of its shape, and the split of every tensor."""
    geometry, added, _ = layout
    found = shard_specs(geometry, added)
    for name, shape in shapes(geometry, added).items():
        yield name, numbered(shape), found[name]


def numbered(shape: tuple[int, ...]) -> Any:
    """An array in which no two elements are equal."""
    return np.arange(np.prod(shape), dtype=np.int64).reshape(shape)


@given(layouts())
def test_every_tensor_and_every_adapter_s_has_its_split(
    layout: tuple[GPT2Config, list[LoRASpec], int],
) -> None:
    geometry, added, _ = layout
    assert shard_specs(geometry, added).keys() == shapes(geometry, added).keys()


@given(layouts())
def test_the_parts_of_all_ranks_put_together_are_the_whole(
    layout: tuple[GPT2Config, list[LoRASpec], int],
) -> None:
    mp = layout[2]
    for _, whole, split in cuts(layout):
        again = np.full_like(whole, -1)
        for shard in range(mp):
            part = split.cut(whole, mp, shard)
            assert part.shape == split.shape(whole.shape, mp)
            split.put(again, part, mp, shard)
        np.testing.assert_array_equal(again, whole)


@given(layouts())
def test_ranks_have_different_elements_of_a_cut_tensor_and_equal_ones_of_a_whole_one(
    layout: tuple[GPT2Config, list[LoRASpec], int],
) -> None:
    mp = layout[2]
    for _, whole, split in cuts(layout):
        parts = [split.cut(whole, mp, shard) for shard in range(mp)]
        held = np.concatenate([part.ravel() for part in parts])
        times = mp if split.axis is None else 1
        np.testing.assert_array_equal(np.sort(held), np.repeat(whole.ravel(), times))


@given(layouts())
def test_a_rank_has_whole_heads_of_queries_keys_and_values(
    layout: tuple[GPT2Config, list[LoRASpec], int],
) -> None:
    geometry, _, mp = layout
    each = geometry.heads // mp
    for name, whole, split in cuts(layout):
        if ".c_attn.weight" not in name and ".c_attn.bias" not in name:
            continue
        by_head = whole.reshape((*whole.shape[:-1], 3, geometry.heads, geometry.head_width))
        for shard in range(mp):
            mine = by_head[..., shard * each : (shard + 1) * each, :]
            part = split.cut(whole, mp, shard)
            np.testing.assert_array_equal(part, mine.reshape(part.shape))


@given(layouts())
def test_the_product_over_cut_linears_is_that_over_whole_ones(
    layout: tuple[GPT2Config, list[LoRASpec], int],
) -> None:
    """Column linears give a part of the outputs, row linears a summand of all of them."""
    mp = layout[2]
    for name, whole, split in cuts(layout):
        if not name.endswith(("c_attn.weight", "c_fc.weight", "c_proj.weight")):
            continue
        x = numbered((2, whole.shape[0]))
        expected, out = x @ whole, np.zeros((2, whole.shape[1]), np.int64)
        outputs = ShardSpec(1, split.groups)
        for shard in range(mp):
            part = split.cut(whole, mp, shard)
            if is_column(name.removesuffix(".weight")):
                outputs.put(out, x @ part, mp, shard)
            else:
                out += ShardSpec(1).cut(x, mp, shard) @ part
        np.testing.assert_array_equal(out, expected)


@given(layouts())
def test_an_adapter_is_cut_where_its_linear_is(
    layout: tuple[GPT2Config, list[LoRASpec], int],
) -> None:
    """What a rank's part of A and B adds fits what its part of the linear gives."""
    geometry, added, mp = layout
    found = shard_specs(geometry, added)
    for one in added:
        (a, b), of_linear = one.shapes, found[f"{one.module}.weight"]
        whole_a, whole_b = numbered(one.shapes[a]), numbered(one.shapes[b])
        product = whole_a.T @ whole_b.T
        total = np.zeros_like(product)
        linear = ShardSpec(of_linear.axis, 1 if one.third else of_linear.groups)
        for shard in range(mp):
            of_a = found[a].cut(whole_a, mp, shard)
            of_b = found[b].cut(whole_b, mp, shard)
            linear.put(total, of_a.T @ of_b.T, mp, shard)
        np.testing.assert_array_equal(total, product)


@given(layouts())
def test_the_word_table_is_cut_into_runs_of_rows(
    layout: tuple[GPT2Config, list[LoRASpec], int],
) -> None:
    geometry, added, mp = layout
    table = numbered((geometry.padded_vocab, geometry.hidden))
    rows = geometry.padded_vocab // mp
    for shard in range(mp):
        part = shard_specs(geometry, added)[WTE].cut(table, mp, shard)
        np.testing.assert_array_equal(part, table[shard * rows : (shard + 1) * rows])
