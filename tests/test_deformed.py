"""The experiment on deformed digits: its stream can be taken up anywhere; what it records."""

import json

import jax
import numpy as np
import pytest

from experiments import deformed


def digits(number: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    images = np.zeros((number, 28, 28, 1), np.uint8)
    images[:, 10:18, 8:20] = generator.integers(1, 256, (number, 8, 12, 1))
    return images, np.arange(number, dtype=np.int32) % 10


def joined(parts) -> tuple[np.ndarray, np.ndarray]:
    images, labels = zip(*parts, strict=True)
    return np.concatenate(images), np.concatenate(labels)


def test_the_stream_is_the_same_wherever_it_is_taken_up():
    images, labels = digits(700)
    whole = joined(deformed.stream(images, labels, seed=3, number=1600))
    assert len(whole[1]) == 1600
    for start in (0, 1, 499, 500, 1250, 1599):
        rest = joined(deformed.stream(images, labels, 3, 1600, start))
        for found, expected in zip(rest, whole, strict=True):
            np.testing.assert_array_equal(found, expected[start:])
    assert not list(deformed.stream(images, labels, 3, 1600, 1600))


def test_every_turn_shows_every_image_once_and_no_image_is_shown_twice():
    images, labels = digits(700)
    shown, told = joined(deformed.stream(images, labels, seed=0, number=1400))
    for turn in (told[:700], told[700:]):
        np.testing.assert_array_equal(np.bincount(turn), np.bincount(labels))
    assert len(np.unique(shown.reshape(1400, -1), axis=0)) == 1400
    other, _ = joined(deformed.stream(images, labels, seed=1, number=1400))
    assert not np.array_equal(shown, other)


def test_without_amounts_an_image_stays_as_it_is_and_with_them_it_stays_near(monkeypatch):
    images, _ = digits(50)
    bent = np.asarray(deformed.deform(images, jax.random.key(0)), np.float32)
    assert bent.shape == images.shape
    rows = np.arange(28)[None, :, None, None]
    centres = [
        np.sum(part * rows, axis=(1, 2, 3)) / part.sum(axis=(1, 2, 3)) for part in (bent, images)
    ]
    assert 0 < np.max(np.abs(centres[0] - centres[1])) < 4
    for name in ("TURN", "SLANT", "STRETCH", "SHIFT", "BEND"):
        monkeypatch.setattr(deformed, name, 0.0)
    jax.clear_caches()
    np.testing.assert_array_equal(deformed.deform(images, jax.random.key(0)), images)
    monkeypatch.undo()
    jax.clear_caches()


@pytest.mark.long
def test_a_longer_stream_goes_on_from_a_shorter_one(tmp_path):
    arguments = ["--quick", "--folder", str(tmp_path / "kept")]
    deformed.main([*arguments, "--out", str(tmp_path / "out")])
    record = json.loads((tmp_path / "out" / "digits-small-2000.json").read_text())
    (run,) = record["runs"]
    assert run["num_seen"] == 2000 and run["accuracy"] > 0.8 and run["num_test"] == 200

    longer = deformed.measure("digits", "small", 2500, "validation", 1, tmp_path / "kept")
    alone = deformed.measure("digits", "small", 2500, "validation", 1, None)
    assert longer == alone
    assert len(deformed.table([record]).splitlines()) == 3
    assert deformed.figure([record]).axes
