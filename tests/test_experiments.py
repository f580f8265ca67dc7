"""The experiments run, and record what they measured."""

import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import memjax
from experiments import ablation, backprop, columnar, continual, paper, records, rule, speed
from memjax import checkpoint, datasets

KEY = jax.random.key(0)


def test_columns_that_share_their_memories_hold_the_same_at_every_place():
    columns = ablation.SharedColumns((8, 8, 1), patch=4, places=2, capacity=5, fixations=2, reach=2)
    images = datasets.load("digits", "train").images[:20]
    labels = np.zeros(20, np.int32)
    state, _ = memjax.fit(columns, columns.params(), columns.init(KEY), images, labels)
    assert state.size[0] > 1
    for learned in (state.size, state.prototypes, state.drive):
        np.testing.assert_array_equal(learned, jnp.broadcast_to(learned[0], learned.shape))


@pytest.mark.long
def test_an_ablation_row_records_what_it_measured(mnist):
    del mnist  # needed on disk only
    record = ablation.measure("mnist", "columns", num_train=600, num_test=400)
    assert record["neurons"] == 2500 and record["num_memories"] <= 2500
    assert record["accuracy"]["ridge"] > 0.7 and record["accuracy"]["vote"] > 0.3
    # The drives are the greatest product: 25 places, 100 memories of 81 pixels.
    assert record["operations"] > 2 * 25 * 100 * 81


def test_a_record_takes_the_place_of_one_of_its_name_and_no_other(tmp_path):
    for name in ("MNIST, errors only", "MNIST", "mnist errors_only"):
        records.keep(tmp_path / "new", name, {"name": name})
    assert [file.name for file in sorted((tmp_path / "new").iterdir())] == [
        "mnist-errors-only.json",
        "mnist.json",
    ]
    found = records.read(tmp_path / "new", lambda record: record["name"])
    assert [record["name"] for record in found] == ["MNIST", "mnist errors_only"]
    assert {"device", "versions"} <= set(found[0])


def test_the_columnar_experiment_records_what_it_measured(tmp_path):
    columnar.main(["--quick", "--out", str(tmp_path)])
    record = json.loads((tmp_path / "digits-small.json").read_text())
    (run,) = record["runs"]
    assert run["accuracy"] > 0.95 and run["num_train"] == 998 and run["num_test"] == 200
    assert "±" not in columnar.table([record]).splitlines()[-1]  # one order has no spread


def test_the_networks_of_several_orders_have_a_row_of_their_own(tmp_path):
    columnar.main(
        ["--dataset", "digits", "--size", "small", "--seeds", "2", "--out", str(tmp_path)]
    )
    record = json.loads((tmp_path / "digits-small.json").read_text())
    alone, together = columnar.table([record]).splitlines()[2:]
    assert "| small |" in alone and "±" in alone
    assert "| small, 2 together |" in together and "±" not in together
    build = partial(memjax.columnar_network, size="small")
    test = datasets.load("digits", "validation")
    evidence = 0
    for seed in range(2):
        train = datasets.load("digits", "train_without_validation", seed=seed)
        evidence = evidence + memjax.predict_proba(*records.learn(build, train), test.images)
    right = np.argmax(evidence, axis=1) == test.labels
    assert record["together"] == np.mean(right)


def test_an_order_that_was_stopped_goes_on_from_its_checkpoint(tmp_path, monkeypatch):
    build = partial(memjax.memory_network, capacity=50)
    train = datasets.load("digits", "train")
    monkeypatch.setattr(memjax, "fit_stream", partial(memjax.fit_stream, checkpoint_every=512))
    _, _, state = records.learn(build, train)
    met = []

    def batches(train, start):
        met.append(start)
        yield train.images[start:], train.labels[start:]

    monkeypatch.setattr(records, "_batches", batches)
    for _ in range(2):
        _, _, again = records.learn(build, train, tmp_path / "order")
        assert checkpoint.state_digest(again) == checkpoint.state_digest(state)
    assert met == [0, 1024]


def test_the_continual_experiment_tests_every_task_so_far(tmp_path):
    continual.main(["--quick", "--out", str(tmp_path)])
    record = json.loads((tmp_path / "digits-memory.json").read_text())
    (run,) = record["runs"]
    matrix = run["accuracy_matrix"]
    assert [len(row) for row in matrix] == [1, 2, 3, 4, 5]
    assert run["average_accuracy"] == pytest.approx(sum(matrix[-1]) / 5)
    assert run["average_accuracy"] > 0.9
    forgotten = [max(row[j] for row in matrix[j:]) - matrix[-1][j] for j in range(4)]
    assert run["forgetting"] == pytest.approx(sum(forgotten) / 4)


def test_the_paper_experiment_records_what_it_measured(tmp_path):
    paper.main(["--quick", "--out", str(tmp_path)])
    record = json.loads((tmp_path / "digits.json").read_text())
    assert min(run["accuracy"] for run in record["runs"]) > 0.95
    assert [run["seed"] for run in record["runs"]] == [0, 1]
    assert {run["num_test"] for run in record["runs"]} == {200}  # the validation split


@pytest.mark.long
def test_a_speed_row_counts_what_it_compares(mnist):
    del mnist  # needed on disk only
    row = speed.fit_exact(turns=1, num_examples=600, capacity=64)
    assert row.operations == 2 * 600 * 64 * 784
    assert row.seconds > 0 and row.reference_seconds > 0
    assert row.ratio == pytest.approx(row.seconds / row.reference_seconds)
    assert row.peak_memory_bytes > 4 * 64 * 784


@pytest.mark.long
@pytest.mark.parametrize("has_own_streams", [False, True])
def test_a_speed_row_of_a_sweep_counts_the_work_of_all_its_members(mnist, has_own_streams):
    del mnist
    build = partial(memjax.memory_network, capacity=50)
    rows = [
        speed.sweep(1, "sweep", build, members, has_own_streams, num_examples=300)
        for members in (1, 3)
    ]
    assert rows[1].operations == 3 * rows[0].operations > 300 * 2 * 50 * 512
    assert rows[1].bytes == 3 * rows[0].bytes > 4 * 50 * 512
    assert min(row.seconds for row in rows) > 0 and rows[1].reference == "3 single fits"


@pytest.mark.parametrize(("peer", "package"), [("faiss", "faiss"), ("sklearn", "sklearn")])
def test_a_speed_row_of_answers_searches_the_same_memories_as_its_peer(peer, package):
    pytest.importorskip(package)
    row = speed.predict(1, peer, "digits", num_queries=50, capacity=200)
    assert row.name == f"predict_{peer}" and "50 images, 200 memories" in row.detail
    assert row.operations == 2 * 50 * 200 * 64
    assert row.bytes == 4 * (50 * 64 + 50 * 200) and row.peak_memory_bytes > 4 * 50 * 10
    assert row.ratio == pytest.approx(row.seconds / row.reference_seconds)


@pytest.mark.parametrize(
    ("peer", "package", "method"),
    [
        ("artmap", "artlib", "FuzzyARTMAP, 2,000 examples"),
        ("river", "river", "river KNN graph, 2,000 examples"),
    ],
)
def test_a_speed_row_of_a_stream_learns_the_same_examples_as_its_peer(peer, package, method):
    pytest.importorskip(package)
    row = speed.online(1, peer, method, "digits", num_examples=120)
    assert row.name == f"online_{peer}" and row.reference == method.split(",")[0]
    assert row.detail.startswith("120 images, ") and row.operations == 2 * 120 * 3000 * 64
    assert row.ratio == pytest.approx(row.seconds / row.reference_seconds)
    assert row.peak_memory_bytes > 4 * 3000 * 64  # the memories that come out


@pytest.mark.parametrize(
    ("peer", "package", "is_estimator"),
    [("faiss", "faiss", False), ("river", "river", False), ("river", "river", True)],
)
def test_a_speed_row_of_serving_states_half_and_nearly_all_of_the_times(
    peer, package, is_estimator, monkeypatch
):
    pytest.importorskip(package)
    monkeypatch.setattr(speed, "_SERVED", 20)
    row = speed.one_by_one(1, peer, is_estimator, "digits", num_before=300, capacity=50)
    assert row.seconds > 0 and row.reference_seconds > 0
    assert row.ratio == row.seconds / row.reference_seconds
    assert row.bytes == 4 * 50 * 64 and row.peak_memory_bytes > 0
    assert row.detail.startswith(
        f"50 memories; half of the images took {1000 * row.seconds:.2f} ms"
    )


def test_the_speed_experiment_draws_and_keeps_the_rows_that_it_measured(tmp_path, monkeypatch):
    small = partial(speed.predict, peer="sklearn", dataset="digits", num_queries=9, capacity=40)
    monkeypatch.setattr(speed, "ROWS", {"predict_sklearn": small})
    plot = tmp_path / "speed.svg"
    speed.main(["--turns", "1", "--out", str(tmp_path), "--plot", str(plot)])
    record = json.loads((tmp_path / "predict-sklearn.json").read_text())
    assert record["command"] == "python -m experiments.speed --only predict_sklearn --turns 1"
    assert "<svg" in plot.read_text()


@pytest.mark.long
def test_the_rule_of_the_experiment_is_that_of_the_library():
    generator = np.random.default_rng(0)
    centres = generator.normal(size=(12, 4))
    kinds = generator.integers(0, 12, 400)
    xs = (centres[kinds] + generator.normal(0, 0.2, (400, 4))).astype(np.float32)
    labels = np.where(generator.random(400) < 0.2, generator.integers(0, 3, 400), kinds % 3)
    for capacity in (20, 400):
        layer = memjax.MemoryLayer(4, 3, capacity)
        state, _ = memjax.fit(layer, layer.params(0.05), layer.init(KEY), xs, labels)
        found = rule.learn(rule.RULES["the whole rule"], 3, capacity, 0.05, xs, labels)
        for name in ("counts", "averaged", "votes", "stored_at", "size", "num_seen"):
            np.testing.assert_array_equal(getattr(found, name), getattr(state, name))


@pytest.mark.long
@pytest.mark.parametrize("kind", backprop.KINDS)
def test_the_networks_trained_by_backpropagation_learn(kind):
    train, test = datasets.load("digits", "train", seed=0), datasets.load("digits", "test", seed=0)
    once = backprop.train(kind, train, epochs=1)
    often = backprop.train(kind, train, epochs=20)
    answers = backprop.predict(often, test.images)
    assert once.train_accuracy < often.train_accuracy > 0.95
    assert (answers == test.labels).mean() > 0.9
