"""The experiment on memories and accuracy: what it compares, and its sweeps of whole learners."""

import json
import math
import statistics

import jax
import numpy as np
import pytest

import memjax
from experiments import pareto, sweeps
from memjax import datasets


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """The records of the quick run, by method."""
    folder = tmp_path_factory.mktemp("pareto")
    pareto.main(["--quick", "--split", "test", "--out", str(folder)])
    records = [json.loads(file.read_text()) for file in folder.iterdir()]
    return {record["method"]: record for record in records}


@pytest.fixture
def clouds():
    """300 points of 3 classes that overlap; the first two are the same, with different labels."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 3, 300)
    features = generator.normal(0, 1, (300, 4)) + labels[:, None]
    features[1], labels[:2] = features[0], (0, 1)
    return features.astype(np.float32), labels


def condense_one_by_one(features, labels, order):
    """Hart's rule as he wrote it."""
    store, num_passes, has_changed = [], 0, True
    while has_changed:
        has_changed = False
        num_passes += 1
        for row in order:
            if row in store:
                continue
            if store:
                distances = np.sum((features[store] - features[row]) ** 2, axis=1)
                if labels[store[np.argmin(distances)]] == labels[row]:
                    continue
            store.append(int(row))
            has_changed = True
    return store, num_passes


@pytest.mark.parametrize("block_size", [1, 7, 64, 1000])
def test_condensing_in_blocks_stores_what_single_steps_store(clouds, block_size):
    features, labels = clouds
    order = np.random.default_rng(1).permutation(300)
    expected = condense_one_by_one(features, labels, order)
    assert expected[1] > 2
    assert pareto.condense(features, labels, order, block_size) == expected


def test_what_condensing_stores_answers_right_all_that_can_be_told_apart(clouds):
    features, labels = clouds[0][1:], clouds[1][1:]
    store, _ = pareto.condense(features, labels, np.arange(299), block_size=50)
    distances = np.sum((features[:, None] - features[store]) ** 2, axis=2)
    assert len(store) < 250
    assert (labels[store][np.argmin(distances, axis=1)] == labels).all()


def test_every_class_gets_as_many_centres_and_the_first_ones_one_more():
    generator = np.random.default_rng(0)
    features, labels = generator.random((90, 5), np.float32), np.arange(90) % 3
    kept = pareto.means_by_class((features, labels), 11, seed=0)
    assert np.bincount(kept.labels).tolist() == [4, 4, 3]
    assert kept.patterns.shape == (11, 5) and kept.patterns.dtype == np.float32


@pytest.mark.long
def test_a_learner_of_a_sweep_is_a_network_that_learned_the_images_in_its_order():
    generator = np.random.default_rng(0)
    labels = np.arange(1400, dtype=np.int32) % 10
    pictures = generator.integers(0, 60, (10, 6, 6, 3))
    noise = generator.integers(0, 196, (1400, 6, 6, 3))
    images = (pictures[labels] + noise).astype(np.uint8)
    train, test = (
        datasets.Dataset(images[rows], labels[rows], ("",) * 10, "noise", "train", 0)
        for rows in (slice(1100), slice(1100, 1400))
    )
    network, params = memjax.memory_network((6, 6, 3), 10, capacity=1000, encoder="pixels")
    assert isinstance(network, memjax.Chain)
    encoder, bank = network.layers
    learned, tested = sweeps.encode(encoder, train), sweeps.encode(encoder, test)
    settings = [(1.2, 0.1), (math.inf, 0.0)]
    found = pareto.sweep(pareto.Task((bank,), params[1], learned, tested), settings, seeds=2)
    assert len(np.unique(found["accuracies"])) > 1 and len(np.unique(found["num_memories"])) > 1
    for (multiple, floor), sizes, shares in zip(
        settings, found["num_memories"], found["accuracies"][:, :, 0], strict=True
    ):
        for order, size, share in zip(sweeps.orders(1100, 2), sizes, shares, strict=True):
            stream = train.images[order], train.labels[order]
            own = memjax.calibrate(network, params, stream[0][:1000], stream[1][:1000])
            own = memjax.replace_params(own, plasticity_floor=floor)
            banks = (
                each._replace(novelty_threshold=multiple * each.novelty_threshold)
                for each in own[1]
            )
            own = ((), tuple(banks))
            state = network.init(jax.random.key(0))
            state, _ = memjax.fit(network, own, state, *stream)
            accuracy = memjax.evaluate(network, own, state, test.images, test.labels).accuracy
            assert memjax.num_memories(network, state) == size
            assert accuracy == pytest.approx(share, abs=2e-3)


def test_the_setting_is_chosen_by_its_mean_accuracy_on_the_validation_split(quick):
    record = quick[pareto.MEMORY]
    tried = record["validation"]
    assert len(tried) == len(pareto.MULTIPLES) * len(pareto.FLOORS) * len(pareto.NEIGHBOURS)
    best = max(tried, key=lambda entry: entry["accuracy"])
    assert record["chosen"] == {name: best[name] for name in pareto.Setting._fields}
    # 200 validation rows cannot give the accuracies of 599 test rows.
    right = [599 * run["accuracy"] for run in record["runs"]]
    assert right == pytest.approx([round(number) for number in right], abs=1e-3)
    assert statistics.mean(run["accuracy"] for run in record["runs"]) > 0.95
    assert record["sweep"]["num_learners"] == 24


def test_every_method_keeps_as_many_memories_as_it_was_given_room_for(quick):
    assert set(quick) == set(pareto.METHODS)
    for method in ("random subset", "k-means by class"):
        assert {run["num_memories"] for run in quick[method]["runs"]} == {100}
    assert max(run["num_memories"] for run in quick[pareto.MEMORY]["runs"]) <= 100
    assert min(run["num_passes"] for run in quick["condensed"]["runs"]) > 1
    assert min(run["accuracy"] for each in quick.values() for run in each["runs"]) > 0.85


def test_the_table_says_what_was_chosen_and_the_figure_draws_every_method(quick):
    records = [quick[method] for method in pareto.METHODS]
    printed = pareto.table(records)
    assert printed.count("| digits | edges | memory network |") == 1
    assert printed.count("none (errors only)") >= 1  # the curve of the thresholds ends with it
    (place,) = pareto.figure(records).axes
    assert place.get_legend_handles_labels()[1] == list(pareto.METHODS)
    drawn = {line.get_label(): line.get_xdata().tolist() for line in place.lines}
    assert drawn["random subset"] == [100]


@pytest.mark.long
def test_sixteen_learners_are_timed_beside_sixteen_single_calls():
    record = pareto.measure_seconds("digits", "edges", 32, num_examples=200, turns=1)
    for times in record["timed"].values():
        assert times["ratio"] == pytest.approx(times["seconds"] / times["single_calls_seconds"])
    described = pareto.table([record | {"device": "a machine"}])
    assert "16" not in described and "capacity 32" in described and "200 images" in described


def test_no_threshold_is_written_as_none():
    assert pareto.Setting(math.inf, 0.0, 7).as_json()["multiple"] is None
