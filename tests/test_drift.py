"""What changes in a stream that drifts, and what the experiment records of it."""

import json
from pathlib import Path

import numpy as np
import pytest

from experiments import drift
from memjax import datasets

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def kept(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("drift")
    drift.main(["--quick", "--out", str(folder)])
    return folder


def _read(folder, name):
    return json.loads((folder / f"digits-{name}.json").read_text())


def test_one_permutation_moves_the_pixels_of_all_images_with_their_colours():
    images = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)
    labels = np.array([0, 1])
    permuted, same = drift.change("permuted pixels", images, labels, 2)
    np.testing.assert_array_equal(same, labels)
    pixels, moved = images.reshape(2, 16, 3), permuted.reshape(2, 16, 3)
    order = (moved[0, :, 0].astype(int)) // 3
    assert sorted(order) == list(range(16)) and list(order) != list(range(16))
    np.testing.assert_array_equal(moved, pixels[:, order])


def test_swapped_labels_name_every_class_otherwise_and_twice_as_before():
    images, labels = np.zeros((10, 2, 2, 1), np.uint8), np.arange(10)
    same, swapped = drift.change("swapped labels", images, labels, 10)
    assert same is images and (swapped != labels).all()
    np.testing.assert_array_equal(drift.change("swapped labels", images, swapped, 10)[1], labels)


@pytest.mark.parametrize("world", drift.WORLDS)
def test_the_second_half_of_a_stream_is_from_the_changed_world(world):
    made = drift.stream("digits", world, "validation", seed=2)
    train = datasets.load("digits", "train_without_validation", seed=2)
    half = len(made.data.labels) // 2
    assert half % made.window == 0 and 0 <= len(train.labels) - 2 * half < 2 * made.window
    early, late = slice(half), slice(half, 2 * half)
    changed = drift.change(world, train.images[late], train.labels[late], 10)
    for rows, images, labels in (
        (early, train.images[early], train.labels[early]),
        (late, *changed),
    ):
        np.testing.assert_array_equal(made.data.images[rows], images)
        np.testing.assert_array_equal(made.data.labels[rows], labels)
    old, new = made.tests["old"], made.tests["new"]
    changed = drift.change(world, *old, 10)
    np.testing.assert_array_equal(new[0], changed[0])
    np.testing.assert_array_equal(new[1], changed[1])


def test_memories_are_measured_at_all_settings_and_shown_at_the_best(kept):
    record = _read(kept, "swapped-labels-memory-pixels-replace")
    settings = [tuple(run["settings"].values()) for run in record["runs"]]
    assert settings == [
        (threshold, floor) for threshold in ("auto", "errors only") for floor in drift.FLOORS
    ]
    change = record["change_at"] // record["window"]
    after = [np.mean(run["prequential"][change : change + 20]) for run in record["runs"]]
    (shown,) = drift.best(record)
    assert shown == record["runs"][int(np.argmax(after))]
    assert len(set(after)) > 5  # settings matter


def test_the_answers_fall_at_the_change_and_recover(kept):
    for file in kept.iterdir():
        record = json.loads(file.read_text())
        change = record["change_at"] // record["window"]
        for run in drift.best(record):
            shares = run["prequential"]
            assert len(shares) == 2 * change == 40
            assert np.mean(shares[change - 5 : change]) > 0.8
            assert shares[change] < 0.75
            assert np.mean(shares[-5:]) > shares[change] + 0.15
            assert run["accuracy"]["new"] > 0.7


def test_no_answer_is_right_in_both_worlds_of_swapped_labels(kept):
    files = list(kept.glob("digits-swapped-labels-*"))
    assert len(files) == 3
    for file in files:
        for run in json.loads(file.read_text())["runs"]:
            assert run["accuracy"]["new"] + run["accuracy"]["old"] <= 1


def test_a_learner_online_is_asked_before_it_is_told():
    made = drift.stream("digits", "permuted pixels", "validation", seed=0)
    drawn = np.random.default_rng(0).integers(0, 10, len(made.data.labels))
    told = made._replace(data=made.data._replace(labels=drawn), window=len(drawn) // 4)
    for name in ("linear, online", "MLP, online", "columnar small"):
        (follower,) = drift.CONTENDERS[name]([told])
        assert follower.was_right.mean() < 0.2  # nothing to be guessed from the past


def test_orders_learned_in_one_call_are_those_learned_alone():
    streams = [drift.stream("digits", "permuted pixels", "validation", seed) for seed in (0, 1)]
    parts = [
        one.data._replace(images=one.data.images[:200], labels=one.data.labels[:200])
        for one in streams
    ]
    streams = [one._replace(data=part) for one, part in zip(streams, parts, strict=True)]
    follow = drift.CONTENDERS["memory, pixels, adapt"]
    together = list(follow(streams))
    alone = [follower for one in streams for follower in follow([one])]
    assert [(one.seed, one.settings) for one in together] == [
        (one.seed, one.settings) for one in alone
    ]
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_array_equal(one.was_right, other.was_right)
        images = streams[0].tests["new"][0][:50]
        np.testing.assert_array_equal(one.answer(images), other.answer(images))


def test_the_tables_and_the_figure_are_made_from_the_records(kept):
    found = [json.loads(file.read_text()) for file in sorted(kept.iterdir())]
    lines = drift.table(found).splitlines()
    # Six contenders and worlds; memories in two worlds with two thresholds.
    assert len(lines) == 2 + 6 + 3 + 2 + 4
    assert len({line.count("|") for line in lines[:8]}) == 1
    assert len({line.count("|") for line in lines[11:]}) == 1
    others = [record for record in found if not record["contender"].startswith("memory")]
    assert len(drift.table(others).splitlines()) == 2 + 4
    drawn = drift.figure(found)
    assert [len(place.get_lines()) for place in drawn.axes] == [6, 6]  # a line, and the change
