"""Peers: every method learns, and its record says on what, at what cost, by what means."""

import statistics

import numpy as np
import pytest

from experiments import peers
from experiments.records import load, read
from memjax import datasets


@pytest.fixture(scope="module")
def digits():
    """The train and test rows of digits."""
    return datasets.load("digits", "train", seed=0), datasets.load("digits", "test", seed=0)


@pytest.mark.long
def test_the_peers_experiment_records_what_it_measured(tmp_path, capsys):
    peers.main(["--quick", "--out", str(tmp_path)])
    printed = capsys.readouterr().out
    measured = read(tmp_path, lambda record: list(peers.METHODS).index(record["method"]))
    assert [record["method"] for record in measured] == list(peers.QUICK)
    runs = {}
    for record in measured:
        (run,) = record["runs"]
        assert run["accuracy"] > 0.85, record["method"]
        assert run["num_train"] == 998 and run["num_test"] == 200
        assert run["fit_seconds"] > 0 and run["predict_seconds"] > 0
        runs[record["method"]] = run

    # Only the programs of JAX are compiled; those of backpropagation are new each time.
    assert runs["MLP, 10 passes"]["fit_compile_seconds"] > 0
    assert runs["1-NN"]["fit_compile_seconds"] == 0
    # What is kept: all images in float32 with labels; or weights, with the sums beside them.
    assert runs["1-NN"]["kept_bytes"] == 998 * (64 * 4 + 4)
    assert runs["columnar network, small"]["kept_bytes"] < 1e6
    assert runs["columnar network, small"]["held_bytes"] > 4 * 2000**2
    mlp = runs["MLP, 10 passes"]
    weights = 64 * 512 + 512 + 512**2 + 512 + 512 * 10 + 10
    assert mlp["num_numbers"] == weights and mlp["train_accuracy"] > 0.95
    assert mlp["held_bytes"] == 2 * 4 * weights + 998 * 64
    # An answer takes a product and a sum for each weight; a gradient about three times as much.
    assert mlp["recall_operations"] == pytest.approx(2 * weights, rel=0.01)
    assert mlp["learn_operations"] == pytest.approx(10 * 6 * weights, rel=0.1)
    # 3,000 memories of 512 features each meet the example.
    assert runs["memory network"]["recall_operations"] > 2 * 3000 * 512

    rows = peers.table(measured).splitlines()
    assert len(rows) == 2 + len(peers.QUICK) + 1 + 2 + 3
    assert all(row in printed for row in rows)
    ours, theirs = runs["memory network, 2,000 examples"], runs["river KNN graph, 2,000 examples"]
    cells = rows[-1].strip("| ").split(" | ")
    assert cells[1] == "river KNN graph, 2,000 examples"
    assert float(cells[4]) == pytest.approx(theirs["fit_seconds"] / ours["fit_seconds"], rel=0.1)

    drawn = peers.figure(measured)
    (place,) = drawn.axes
    assert {text.get_text() for text in place.texts} == set(peers.QUICK)


def test_a_part_is_the_first_examples_and_one_order_serves_what_chance_does_not_touch(monkeypatch):
    method = peers.METHODS["1-NN"]._replace(most_train=70, most_test=30)
    monkeypatch.setitem(peers.METHODS, "1-NN", method)
    (run,) = peers.measure("digits", "1-NN", "validation", seeds=3)["runs"]
    assert (run["num_train"], run["num_test"], run["num_memories"]) == (70, 30, 70)
    train, test = load("digits", "validation", seed=0)
    first = train._replace(images=train.images[:70], labels=train.labels[:70])
    answers = method.learn(first).answer(test.images[:30])
    assert run["accuracy"] == statistics.mean((answers == test.labels[:30]).tolist())


@pytest.mark.parametrize("name", ["1-NN", "nearest centroid"])
def test_what_is_measured_in_one_order_does_not_depend_on_it(name, digits):
    train, test = digits
    turned = train._replace(images=train.images[::-1], labels=train.labels[::-1], seed=1)
    method = peers.METHODS[name]
    one, other = (method.learn(rows).answer(test.images) for rows in (train, turned))
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", ["random ReLU + ridge", "receptive fields + ridge"])
def test_sums_of_blocks_solve_the_ridge_regression_of_all_examples(name, digits):
    train, test = digits
    learned = peers.METHODS[name].learn(train)
    weights, biases, solved = (np.float64(part) for part in learned.kept)

    def code(images):
        units = np.maximum(images.reshape(len(images), -1) / 255 @ weights + biases, 0)
        return np.concatenate([units, np.ones((len(images), 1))], axis=1)

    codes, targets = code(train.images), np.eye(10)[train.labels]
    # The penalty as further examples, of one unit each and target 0.
    penalty = 1e-3 * np.mean(np.sum(codes**2, axis=0))
    rows = np.concatenate([codes, np.sqrt(penalty) * np.eye(codes.shape[1])])
    aims = np.concatenate([targets, np.zeros((codes.shape[1], 10))])
    expected = np.linalg.lstsq(rows, aims, rcond=None)[0]
    np.testing.assert_allclose(code(test.images) @ solved, code(test.images) @ expected, atol=1e-3)
    answers = learned.answer(test.images)
    assert np.mean(answers == np.argmax(code(test.images) @ expected, axis=1)) > 0.995


def test_a_receptive_field_is_one_rectangle_of_length_one():
    shape = (9, 7, 3)
    fields = peers.receptive_fields(np.random.default_rng(0), shape, 50, least_area=6)
    assert fields.shape == (9 * 7 * 3, 50)
    np.testing.assert_allclose(np.linalg.norm(fields, axis=0), 1)
    areas = set()
    for field in fields.T.reshape(50, *shape):
        seen = np.any(field != 0, axis=2)
        rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
        inside = field[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert np.all(inside != 0) and np.count_nonzero(field) == inside.size
        areas.add(inside.size // 3)
    assert min(areas) >= 6 and len(areas) > 10


def test_centres_of_a_class_come_from_its_own_examples(digits):
    train, _ = digits
    method = peers.METHODS["k-means per class + 1-NN"]
    others = train._replace(
        images=np.where((train.labels == 3)[:, None, None, None], train.images, 0)
    )
    centres, labels = method.learn(train).kept
    alone, _ = method.learn(others).kept
    np.testing.assert_array_equal(alone[labels == 3], centres[labels == 3])
    assert not alone[labels != 3].any() and centres[labels != 3].any(axis=1).all()


def test_energy_is_that_of_whole_packages_and_follows_a_counter_that_wraps(tmp_path):
    zones = {"intel-rapl:0": 900, "intel-rapl:1": 100, "intel-rapl:0:0": 5, "dtpm": 7}
    for zone, counter in zones.items():
        (tmp_path / zone).mkdir()
        (tmp_path / zone / "energy_uj").write_text(f"{counter}\n")
        (tmp_path / zone / "max_energy_range_uj").write_text("999\n")
    before = peers.read_energy(tmp_path)
    assert before == [(900, 999), (100, 999)]
    (tmp_path / "intel-rapl:0" / "energy_uj").write_text("50\n")
    (tmp_path / "intel-rapl:1" / "energy_uj").write_text("130\n")
    assert peers.joules(before, peers.read_energy(tmp_path)) == pytest.approx(180e-6)
    assert peers.read_energy(tmp_path / "none") == []
    assert peers.joules([], []) is None


def test_a_table_states_energy_where_it_is_known_and_operations_elsewhere():
    record = peers.measure("digits", "nearest centroid", "validation", 1)
    record["runs"][0] |= {"fit_joules": None, "predict_joules": 0.4}
    row = peers.table([record]).splitlines()[2].split(" | ")
    assert row[-3] == "0.000064 MFLOP" and row[-2] == "2 mJ"
