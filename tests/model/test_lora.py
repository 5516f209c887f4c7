from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model

from gpt2dsl.layout.lora import THIRDS, LoRASettings, LoRASpec, lora_specs
from gpt2dsl.model import dropout_masks
from gpt2dsl.model.decoding import KVCacheDecoder
from gpt2dsl.model.evaluation import TokenLogits
from gpt2dsl.model.forward import MicroBatch
from gpt2dsl.model.gpt2 import GPT2
from gpt2dsl.parts import Optim
from gpt2dsl.training.step import TrainStep
from gpt2dsl.weights.files.lazy_tensor import Arrays
from gpt2dsl.weights.formats import lora
from gpt2dsl.weights.initial import initial_adapters
from tests.judges import TINY, hugging_face, random_ids, random_weights


def slots(targets: str, **more: Any) -> list[LoRASpec]:
    return lora_specs(TINY, LoRASettings(**{"targets": targets, "r": 3, "alpha": 6, **more}))


def values(found: Sequence[LoRASpec]) -> dict[str, Any]:
    """Values in which B is not zero."""
    random = np.random.default_rng(7)
    shapes = {name: shape for one in found for name, shape in one.shapes.items()}
    return {
        name: random.normal(size=shape).astype(np.float32) * 0.2 for name, shape in shapes.items()
    }


def network_with(found: Sequence[LoRASpec], **more: Any) -> GPT2:
    network = GPT2(TINY, adapters=found, **more)
    network.load(random_weights(TINY))
    network.load_adapters(values(found))
    return network


def merged(found: Sequence[LoRASpec], tensors: dict[str, Any]) -> dict[str, Any]:
    """Torch's weights with the adapters' products added, through which gradients flow."""
    arrays = {name: torch.tensor(array) for name, array in random_weights(TINY).items()}
    for one in found:
        product = tensors[f"{one.name}.lora_B"] @ tensors[f"{one.name}.lora_A"] * one.scale
        place = slice(None)
        if one.third:
            first = THIRDS.index(one.third) * one.outputs
            place = slice(first, first + one.outputs)
        weight = arrays[f"{one.module}.weight"].clone()
        weight[:, place] = weight[:, place] + product.T
        arrays[f"{one.module}.weight"] = weight
    return arrays


TARGETS = ["c_attn", "[qv]", "k", "attn.c_proj|c_fc", r"h\.1\..*c_proj", "c_attn|.*c_proj|c_fc"]


def test_patterns_name_modules_by_any_end_of_their_names() -> None:
    names = [[one.name.removeprefix("transformer.h.") for one in slots(t)] for t in TARGETS]
    assert names[0] == ["0.attn.c_attn", "1.attn.c_attn"]
    assert names[1][:2] == ["0.attn.c_attn.q", "0.attn.c_attn.v"]
    assert names[3][:2] == ["0.attn.c_proj", "0.mlp.c_fc"]
    assert names[4] == ["1.attn.c_proj", "1.mlp.c_proj"]
    assert len(names[5]) == 8
    patterns = slots(".*c_proj", ranks={"mlp.c_proj": 5}, alphas={r"h\.0\..*": 10}, rslora=True)
    assert [one.rank for one in patterns] == [3, 5, 3, 5]
    assert [one.scale for one in patterns] == [10 / n**0.5 for n in (3, 5)] + [
        6 / n**0.5 for n in (3, 5)
    ]


@pytest.mark.parametrize("targets", TARGETS)
def test_losses_and_steps_are_those_of_torch(targets: str) -> None:
    found = slots(targets)
    step = TrainStep(network_with(found), Optim(weight_decay=0.1).settings(), clip=1.0)
    tensors = {name: torch.tensor(a, requires_grad=True) for name, a in values(found).items()}
    model = hugging_face(TINY, random_weights(TINY), double=False)
    optimizer = torch.optim.AdamW(tensors.values(), betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1)
    for i in range(4):
        lr = 1e-3 / (i + 1)
        for group in optimizer.param_groups:
            group["lr"] = lr
        ids, labels = random_ids(TINY, 3, 17, seed=i), random_ids(TINY, 3, 17, seed=i + 50)
        loss, norm = step.step([MicroBatch(ids, labels)], lr)
        optimizer.zero_grad()
        state = merged(found, tensors)
        state["lm_head.weight"] = state["transformer.wte.weight"]
        call = torch.func.functional_call(model, state, (torch.tensor(ids).long(),))
        expected = torch.nn.functional.cross_entropy(
            call.logits.reshape(-1, TINY.vocab), torch.tensor(labels).long().reshape(-1)
        )
        expected.backward()
        whole = torch.nn.utils.clip_grad_norm_(tensors.values(), 1.0)
        optimizer.step()
        assert loss == pytest.approx(expected.item(), rel=1e-5)
        assert norm == pytest.approx(whole.item(), rel=2e-5)
        for name, tensor in tensors.items():
            now = step.network.of_adapters[name].asnumpy()
            np.testing.assert_allclose(now, tensor.detach().numpy(), atol=lr * 0.02, rtol=0)
    for name, array in step.network.arrays().items():
        np.testing.assert_array_equal(array, random_weights(TINY)[name])


@pytest.mark.parametrize("targets", ["c_attn", "[qv]", "c_fc|.*c_proj"])
def test_logits_are_those_of_peft_with_the_files_that_are_written(targets: str) -> None:
    found = slots(targets, rslora=targets == "c_attn")
    network = network_with(found)
    ids = random_ids(TINY, 2, 9)
    files = lora.to_files(found, values(found), {}, "base")
    first = next(iter(files.modules.values()))
    model = get_peft_model(
        hugging_face(TINY, random_weights(TINY), double=False),
        LoraConfig(
            r=first.rank,
            lora_alpha=first.scale * first.rank,
            target_modules=sorted({name.split(".", 3)[3] for name in files.modules}),
            fan_in_fan_out=True,
        ),
    ).eval()
    halves = dict(model.named_parameters())
    for module, part in files.modules.items():
        name = f"base_model.model.{module}"
        for half, tensor in (("A", part.a), ("B", part.b)):
            halves[f"{name}.lora_{half}.default.weight"].data = torch.tensor(tensor.load())
    with torch.no_grad():
        expected = model(torch.tensor(ids).long()).logits.numpy()
    assert np.abs(TokenLogits(network).logits(ids) - expected).max() < 1e-4
    decoder = KVCacheDecoder(network, 2)
    assert np.abs(decoder.prefill([0, 1], ids.tolist()) - expected[:, -1]).max() < 1e-4


@pytest.mark.parametrize("targets", TARGETS)
def test_files_come_back_as_the_adapters_that_they_were(targets: str) -> None:
    found = slots(targets)
    files = lora.to_files(found, values(found), {}, "base")
    for name, array in lora.from_files(found, files).items():
        np.testing.assert_array_equal(array, values(found)[name])


def test_files_of_other_adapters_are_refused() -> None:
    both = slots("[qv]")
    files = lora.to_files(both, values(both), {}, "base")
    with pytest.raises(ValueError, match="other modules"):
        lora.from_files(slots("c_fc"), files)
    with pytest.raises(ValueError, match="not one of rank 6"):
        lora.from_files(slots("[qk]"), files)
    with pytest.raises(ValueError, match="not one of rank 3"):
        lora.from_files(slots("q"), files)


def test_new_adapters_change_nothing_and_are_the_same_for_a_seed() -> None:
    found = slots("[qv]")
    first = dict(Arrays(initial_adapters(found, 5)))
    network = network_with(found)
    network.load_adapters(first)
    plain = GPT2(TINY)
    plain.load(random_weights(TINY))
    ids = random_ids(TINY, 2, 9)
    np.testing.assert_array_equal(TokenLogits(network).logits(ids), TokenLogits(plain).logits(ids))
    again = dict(Arrays(initial_adapters(found[:1], 5)))
    for name, array in again.items():
        np.testing.assert_array_equal(array, first[name])
    a = first[f"{found[0].name}.lora_A"]
    assert 0.8 / 24**0.5 < np.abs(a).max() <= 1 / 24**0.5


def test_dropout_is_on_the_adapters_inputs_alone() -> None:
    found = slots("q|c_fc")
    network = network_with(found, adapter_dropout=0.5)
    step = TrainStep(network, Optim().settings(), clip=0)
    ids = random_ids(TINY, 2, 9)
    kept = tuple(dropout_masks.masks(TINY, 0, 0, range(2), 9, adapters=found, adapter_dropout=0.5))
    assert [mask.shape for mask in kept] == [(18, 24)] * 4
    dropping = attrs.evolve(TINY, dropout=0.1)
    both = list(
        dropout_masks.masks(dropping, 0, 0, range(2), 9, adapters=found, adapter_dropout=0.5)
    )
    assert len(both) == 1 + 2 * (3 + 2)
    np.testing.assert_array_equal(both[4], kept[0])
    plain, _ = TrainStep(network_with(found), Optim().settings(), clip=0).step(
        [MicroBatch(ids, ids)], 0.0
    )
    with_masks, _ = step.step([MicroBatch(ids, ids, kept)], 0.0)
    all_kept = tuple(np.ones_like(mask) for mask in kept)
    assert with_masks != pytest.approx(plain, rel=1e-4)
    halved = network_with(found, adapter_dropout=0.5)
    halved.load_adapters({name: array / 2**0.5 for name, array in values(found).items()})
    same, _ = TrainStep(halved, Optim().settings(), clip=0).step(
        [MicroBatch(ids, ids, all_kept)], 0.0
    )
    assert same == pytest.approx(plain, rel=1e-5)
