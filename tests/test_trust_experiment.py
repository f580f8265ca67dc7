"""What the conditions of the trust experiment do, and what it records."""

import json

import numpy as np
import pytest

from experiments import trust


def _task(num_rows=3000):
    generator = np.random.default_rng(0)
    xs = generator.normal(size=(num_rows, 4)).astype(np.float32)
    labels = generator.choice(3, num_rows, p=[0.5, 0.3, 0.2]).astype(np.int32)
    return trust.Task(xs, labels, xs[:500] + 1, labels[:500], 3, 0)


def _changed(name, task):
    return trust.CONDITIONS[name](task, np.random.default_rng(1))


@pytest.mark.parametrize("name", trust.CONDITIONS)
def test_a_condition_changes_no_answer_and_is_the_same_at_every_call(name):
    task = _task()
    before = task.xs.copy(), task.labels.copy()
    changed, again = _changed(name, task), _changed(name, task)
    for one, other in zip(changed[:4], again[:4], strict=True):
        np.testing.assert_array_equal(one, other)
    assert changed.xs.dtype == changed.asked.dtype == np.float32
    assert changed.labels.dtype == np.int32 and len(changed.labels) == len(changed.xs)
    np.testing.assert_array_equal(changed.answers, task.answers)
    if name != "three levels":
        np.testing.assert_array_equal(changed.asked, task.asked)
    np.testing.assert_array_equal(task.xs, before[0])
    np.testing.assert_array_equal(task.labels, before[1])


@pytest.mark.parametrize("percent", [10, 20, 40])
def test_wrong_labels_are_as_many_as_it_says_and_spread_over_the_others(percent):
    task = _task()
    labels = _changed(f"{percent} % wrong labels", task).labels
    is_wrong = labels != task.labels
    assert np.mean(is_wrong) == pytest.approx(percent / 100, abs=0.03)
    steps = (labels - task.labels)[is_wrong] % 3
    assert np.mean(steps == 1) == pytest.approx(0.5, abs=0.1)


def test_three_levels_hold_a_third_of_the_learned_rows_each():
    task = _task()
    changed = _changed("three levels", task)
    for level in range(3):
        shares = np.mean(changed.xs == level, axis=0)
        np.testing.assert_allclose(shares, 1 / 3, atol=0.01)
    assert set(np.unique(changed.asked)) == {0, 1, 2}
    assert np.mean(changed.asked) > 1.5  # these rows lie higher, and keep the learned cuts


def test_outliers_are_two_percent_of_the_rows():
    task = _task()
    factors = (_changed("outliers", task).xs / task.xs).round()
    assert np.all((factors == 1).all(axis=1) | (factors == 1000).all(axis=1))
    assert np.mean(factors[:, 0] == 1000) == pytest.approx(0.02, abs=0.01)


def test_a_rare_class_keeps_one_row_for_every_hundred_that_were_learned():
    counts = np.bincount(_changed("a rare class", _task()).labels)
    before = np.bincount(_task().labels)
    assert counts.tolist() == [before[0], before[1], 30]


def test_a_sorted_stream_has_the_same_rows():
    task = _task()
    changed = _changed("sorted", task)
    assert np.all(np.diff(changed.labels) >= 0)
    assert sorted(changed.xs[:, 0]) == sorted(task.xs[:, 0])


@pytest.mark.long
def test_the_experiment_records_every_contender_in_every_condition(tmp_path):
    for package in ("river", "artlib"):
        pytest.importorskip(package)
    trust.main(["--quick", "--out", str(tmp_path)])
    found = trust.read(tmp_path, trust.place_by(contender=trust.CONTENDERS))
    assert [record["contender"] for record in found] == list(trust.CONTENDERS)
    for record in found:
        (run,) = record["runs"]
        assert list(run["accuracy"]) == list(run["memories"]) == list(trust.CONDITIONS)
        assert json.dumps(record) and run["accuracy"]["clean"] > 0.7
    ours, neighbours = (record["runs"][0]["accuracy"] for record in found[:2])
    assert ours["clean"] > 0.9
    rows, summaries, behind = trust.table(found).split("\n\n")[::2]
    assert len(rows.splitlines()) == 2 + len(found)
    assert len(summaries.splitlines()) == 2 + len(found) - 1
    for kind in trust.CONDITIONS:
        is_behind = ours[kind] < neighbours[kind] - 0.02
        assert (f"| iris | {kind} |" in behind) == is_behind
