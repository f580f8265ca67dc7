"""The model of time and memory: what it says, and what it is fitted to."""

import json

import numpy as np
import pytest

from experiments import scale

NUMBERS = np.array([1e-11, 3e-6])


def record(num_memories: int, block: int = 256, **other: float) -> dict:
    made = {
        "num_memories": num_memories,
        "num_features": 196,
        "block_size": block,
        "num_devices": 1,
        "ratio": 1.2,
        "product_seconds_an_example": 1e-6,
        "allocated_bytes": 1e6,
    }
    made["seconds_an_example"] = float(NUMBERS @ scale.work(made))
    return made | other


@pytest.fixture
def made() -> list[dict]:
    return [record(number) for number in scale.MEMORIES] + [record(5000, 64), record(5000, 1024)]


def test_the_numbers_of_a_machine_that_keeps_to_the_model_are_found(made):
    np.testing.assert_allclose(scale.fitted(made), NUMBERS, rtol=1e-6)
    assert "100 GFLOP/s and 3.0 µs an example" in scale.table(made)
    assert "it is 0 % away in the mean, 0 % at most" in scale.table(made)


def test_what_the_model_misses_is_said(made):
    made[1]["seconds_an_example"] *= 2  # a point that the numbers are not fitted to
    assert "50 % at most" in scale.table(made)


def test_points_of_several_devices_are_no_part_of_the_model(made):
    other = record(16_384, num_devices=2, seconds_an_example=1.0)
    assert scale.table([*made, other]).splitlines()[-1] == scale.table(made).splitlines()[-1]
    assert "| 2 | 1000000.0 |  |" in scale.table([*made, other])


def test_quick_points_are_measured_and_allocate_what_the_model_says(tmp_path, capsys):
    scale.main(["--quick", "--out", str(tmp_path)])
    assert len(capsys.readouterr().out.splitlines()) == 5
    found = [json.loads(file.read_text()) for file in tmp_path.glob("*.json")]
    assert len(found) == 5
    for each in found:
        assert each["seconds_an_example"] > 0
        # Small banks: counts and the examples themselves weigh more than in the model.
        assert 0.9 < each["allocated_bytes"] / scale.needed_bytes(each) < 3
    assert scale.figure(sorted(found, key=lambda each: each["num_memories"])).axes
