"""The model of time and memory: what it says, and what it is fitted to."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import memjax
from experiments import scale
from experiments.costs import products
from memjax.memory._table import TILE

NUMBERS = np.array([1e-11, 3e-6, 2e-10, 5e-10])


def record(num_memories: int, block: int = 256, num_devices: int = 1, **other: float) -> dict:
    made = {
        "num_memories": num_memories,
        "num_features": 196,
        "block_size": block,
        "num_devices": num_devices,
        "ratio": 1.2,
        "product_seconds_per_example": 1e-6,
        "allocated_bytes": 1e6,
    }
    made["seconds_per_example"] = float(NUMBERS @ scale.work(made))
    return made | other


@pytest.fixture
def made() -> list[dict]:
    several = [
        record(number, 256, devices) for number in (4096, 16_384, 65_536) for devices in (2, 4, 8)
    ]
    alone = [record(number) for number in scale.MEMORIES]
    return [*alone, record(5000, 64), record(5000, 1024), *several]


def test_the_numbers_of_a_machine_that_keeps_to_the_model_are_found(made):
    np.testing.assert_allclose(scale.fit_model(made), NUMBERS, rtol=1e-6)
    told = scale.table(made)
    assert "100 GFLOP/s, 3.0 µs per example and device" in told
    assert "0.20 ns per memory looked through, and 0.50 ns per distance received" in told
    assert "the model is 0 % off on average and 0 % at most" in told


def test_what_the_model_misses_is_said(made):
    made[1]["seconds_per_example"] *= 2  # the second smallest: the numbers are not fitted to it
    assert "50 % at most" in scale.table(made)


def test_the_operations_of_the_model_are_those_of_the_program():
    memories, block = 2048, 256
    bank = memjax.MemoryLayer(196, num_classes=10, capacity=memories)
    params, state = bank.params(novelty_threshold=0.1), jax.eval_shape(bank.init, jax.random.key(0))
    xs = jax.ShapeDtypeStruct((block, 196), jnp.float32)
    labels = jax.ShapeDtypeStruct((block,), jnp.int32)
    found = products(bank.step_block, params, state, xs, labels, turns=-(-memories // TILE))
    assert found / block == scale.work(record(memories, block))[0]


def test_devices_share_the_memories_and_each_holds_all_candidates():
    memories, block, devices = 65_536, 256, 8
    candidates = 4 * block
    one, several = record(memories, block), record(memories, block, devices)
    assert scale.work(one) == (2 * 196 * (memories + block), 1, 0, 0)
    operations = 2 * 196 * (memories + devices * block)
    assert scale.work(several) == (operations, devices, memories, devices * candidates)
    shared = memories / devices * (196 + 2 * block + block / 32)
    assert scale.needed_bytes(several) == 4 * (shared + candidates * block + 2 * block**2)
    # No more candidates than there are memories.
    assert scale.work(record(1000, block, devices))[3] == devices * 1000


@pytest.mark.long
def test_quick_points_are_measured_and_allocate_what_the_model_says(tmp_path, capsys):
    scale.main(["--quick", "--out", str(tmp_path)])
    assert len(capsys.readouterr().out.splitlines()) == 5
    found = [json.loads(file.read_text()) for file in tmp_path.glob("*.json")]
    assert len(found) == 5
    for each in found:
        assert each["seconds_per_example"] > 0
        # Small banks: counts, the examples and both forms of a distance weigh more than in it.
        assert 0.9 < each["allocated_bytes"] / scale.needed_bytes(each) < 4
    assert scale.figure(sorted(found, key=lambda each: each["num_memories"])).axes


def test_a_bank_is_asked_and_the_record_tells_seconds_and_memory(tmp_path, capsys):
    scale.main(["--queries", "600", "--memories", "100", "--out", str(tmp_path)])
    (found,) = [json.loads(file.read_text()) for file in tmp_path.glob("*.json")]
    assert found["num_answers"] == 600 and found["seconds"] > 0
    assert found["state_bytes"] == 4 * (100 * (784 + 10 + 3) + 2 + 1024)
    assert found["queries_bytes"] == 600 * 784 < found["peak_memory_bytes"]
    assert '"num_answers": 600' in capsys.readouterr().out
    told = scale.table([record(1000), found]).splitlines()
    assert told[-1].startswith("600 images of 784 pixels, asked of 100 memories: ")
    assert not scale.points([found])
