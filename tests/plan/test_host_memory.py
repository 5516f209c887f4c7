from __future__ import annotations

from typing import Any

from gpt2dsl import Model, Parallel, Recipe, Runtime, Task, Train
from gpt2dsl.plan.host_memory import HostMemory
from gpt2dsl.plan.plan import Plan

LARGE = Model(size="52b") | Train(batch_size=128) | Task.pretrain(data="a")
SMALL = Model(size="124m") | Train(batch_size=4, seq_length=64)


def planned(recipe: Recipe, **layout: Any) -> Plan:
    return (recipe | Parallel(**layout)).plan()


def host(plan: Plan) -> HostMemory:
    assert plan.host
    return plan.host


def test_on_a_device_the_host_holds_a_tensor_at_the_start_and_the_ranks_part_at_a_save() -> None:
    plan = planned(LARGE | Runtime(device="ascend"), dp=8, pp=16, micro_batches=16)
    table = 4 * 50_304 * 8192
    assert host(plan).start == 2 * table
    assert host(plan).save < plan.parameters * 12 / 128 + 12 * table / 8
    assert host(plan).evaluation == 0


def test_on_cpu_the_network_counts_and_replicas_share_the_copy_of_a_save() -> None:
    one, two = (planned(SMALL | Task.pretrain(data="a", eval_data="b"), dp=dp) for dp in (1, 2))
    assert host(one).start > one.memory.weights
    held, copied = one.memory.weights + one.memory.optimizer, 12 * one.parameters
    assert abs(host(one).save - held - copied) < 1e6  # the table's padded rows
    assert abs(host(two).save - held - copied / 2) < 1e6
    assert host(one).evaluation > held
    assert "host     per rank " in str(one)


def test_only_a_training_has_peaks_of_host_memory_and_flops() -> None:
    plan = (SMALL | Task.evaluate(data="a")).plan()
    assert plan.host is None
    assert plan.flops == 0
    assert "compute" not in str(plan)


def test_hccl_has_two_buffers_for_each_communicator_of_a_rank() -> None:
    buffer = 2 * 200 * 2**20

    def buffers(device: str, **layout: int) -> int:
        return planned(LARGE | Runtime(device=device), **layout).memory.buffers

    assert buffers("ascend") == 0
    assert buffers("cpu", dp=8) == 0
    assert buffers("ascend", dp=8) == 2 * buffer  # of all ranks, of dp
    assert buffers("ascend", dp=2, mp=4, pp=4) == (3 + 1 + 1 + 1) * buffer  # of a pipeline's end
