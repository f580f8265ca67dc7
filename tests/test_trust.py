"""What a stranger may trust: equal rows, wrong labels, outliers, and classes that come late."""

import jax
import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier

import memjax
from memjax.sklearn import MemoryNetworkClassifier

SEEDS = range(3)


def digits(seed):
    """Rows to learn and their labels, rows held out and theirs."""
    X, y = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(y))
    learned, held_out = np.split(order, [int(0.7 * len(y))])
    return X[learned], y[learned], X[held_out], y[held_out]


def with_wrong_labels(y, share, num_classes, generator):
    """Labels of which a share is another one, drawn at random."""
    other = (y + generator.integers(1, num_classes, len(y))) % num_classes
    return np.where(generator.random(len(y)) < share, other, y)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_binary_feature_with_wrong_labels_is_answered_by_the_majority(seed):
    generator = np.random.default_rng(seed)
    x = generator.integers(0, 2, 600)
    y = with_wrong_labels(x, 0.1, 2, generator)
    estimator = MemoryNetworkClassifier().fit(x[:, None], y)
    assert estimator.score(x[:, None], x) == 1
    assert estimator.num_memories_ == 2
    shares = [np.mean(y[x == 0] == label) for label in (0, 1)]
    np.testing.assert_allclose(estimator.predict_proba([[0]]), [shares], atol=1e-6)
    np.testing.assert_allclose(shares, [0.9, 0.1], atol=0.06)


@pytest.mark.parametrize("seed", SEEDS)
def test_one_image_with_two_labels_has_the_shares_of_its_labels(seed):
    generator = np.random.default_rng(seed)
    image = generator.integers(0, 256, (1, 8, 8, 1), np.uint8)
    labels = generator.permutation(np.repeat(np.array([0, 1], np.int32), [33, 7]))
    network, params = memjax.memory_network((8, 8, 1), 2)
    params, state, _ = memjax.learn(
        network, params, np.repeat(image, 40, axis=0), labels, jax.random.key(0)
    )
    evidence = memjax.predict_proba(network, params, state, image)
    np.testing.assert_allclose(evidence, [[33 / 40, 7 / 40]], atol=1e-6)


@pytest.mark.parametrize("share", [0.2, 0.4])
def test_wrong_labels_cost_no_more_than_they_cost_nearest_neighbours(share):
    behind = []
    for seed in range(12):  # one standard error of their mean is 0.4 points
        X, y, held_out, truth = digits(seed)
        y = with_wrong_labels(y, share, 10, np.random.default_rng(seed))
        neighbours = KNeighborsClassifier(7).fit(X, y).score(held_out, truth)
        behind.append(neighbours - MemoryNetworkClassifier().fit(X, y).score(held_out, truth))
    assert np.mean(behind) <= 0.02


@pytest.mark.parametrize("seed", SEEDS)
def test_a_compact_class_inside_a_wide_one_is_recalled(seed):
    generator = np.random.default_rng(seed)
    y = generator.permutation(np.repeat(["ball", "ring"], 300))
    directions = generator.normal(size=(600, 2))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    share = generator.random(600)
    radii = np.where(y == "ball", 0.02 * np.sqrt(share), 0.3 + 2.7 * share)
    X = directions * radii[:, None]
    estimator = MemoryNetworkClassifier().fit(X, y)
    assert estimator.score(X[y == "ball"], y[y == "ball"]) >= 0.98
    assert estimator.score(X[y == "ring"], y[y == "ring"]) >= 0.98


def test_a_row_that_lies_far_off_does_not_answer_for_the_others():
    estimator = MemoryNetworkClassifier().fit([[0, 0], [1, 1], [100, 100]], [0, 1, 0])
    assert estimator.predict_proba([[1, 1]])[0, 1] > 0.9


@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize("place", [1, 50, 100])
def test_one_outlier_leaves_clean_clusters_as_they_are(place, label):
    generator = np.random.default_rng(0)
    y = np.repeat([0, 1], 50)
    order = generator.permutation(100)
    X = generator.normal(5 * y[:, None], 0.5, (100, 2))[order]
    estimator = MemoryNetworkClassifier()
    estimator.fit(np.insert(X, place, 1e4, axis=0), np.insert(y[order], place, label))
    assert estimator.score(X, y[order]) == 1


@pytest.mark.parametrize("place", [1, 50, 100])
def test_one_outlier_leaves_the_automatic_threshold_near_what_it_was(place):
    generator = np.random.default_rng(0)
    X, y = generator.normal(size=(100, 3)), generator.integers(0, 2, 100)
    clean = MemoryNetworkClassifier().fit(X, y).params_
    outlying = MemoryNetworkClassifier()
    outlying.fit(np.insert(X, place, 1000, axis=0), np.insert(y, place, 0))
    found = float(outlying.params_.novelty_threshold)
    assert found == pytest.approx(float(clean.novelty_threshold), rel=0.1)


def test_a_class_that_comes_when_the_bank_is_full_is_learned():
    recalls = []
    for seed in SEEDS:
        X, y, held_out, truth = digits(seed)
        order = np.argsort(y == 9, kind="stable")
        estimator = MemoryNetworkClassifier(capacity=100).fit(X[order], y[order])
        assert estimator.num_memories_ == 100
        answers = estimator.predict(held_out)
        assert np.mean(answers == truth) >= 0.9
        recalls.append(np.mean(answers[truth == 9] == 9))
    assert np.mean(recalls) >= 0.9


@pytest.mark.filterwarnings("ignore:y. the bank is full:UserWarning")
@pytest.mark.parametrize("seed", SEEDS)
def test_classes_that_come_one_after_another_are_all_learned(seed):
    X, y, held_out, truth = digits(seed)
    order = np.argsort(y, kind="stable")
    estimator = MemoryNetworkClassifier(capacity=100).fit(X[order], y[order])
    answers = estimator.predict(held_out)
    assert np.mean(answers == truth) >= 0.9
    assert min(np.mean(answers[truth == label] == label) for label in range(10)) >= 0.7


@pytest.mark.parametrize("seed", SEEDS)
def test_rows_like_those_learned_are_not_novel_and_noise_is(seed):
    X, y, held_out, _ = digits(seed)

    def images(rows):
        return np.round(rows * 255 / 16).astype(np.uint8).reshape(-1, 8, 8, 1)

    network, params = memjax.memory_network((8, 8, 1), 10)
    params, state, _ = memjax.learn(
        network, params, images(X), y.astype(np.int32), jax.random.key(0)
    )
    known = memjax.novelty_score(network, params, state, images(held_out))
    assert np.mean(known > 0.95) <= 0.1
    noise = np.random.default_rng(seed).integers(0, 256, (200, 8, 8, 1), np.uint8)
    assert np.all(memjax.novelty_score(network, params, state, noise) > 0.99)
