"""The scikit-learn estimator: scikit-learn's own rules, and the same memories for any batches."""

import pickle
import time
import warnings

import jax
import numpy as np
import pytest
import scipy.sparse
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import memjax
from memjax.networks import memory_network
from memjax.sklearn import MemoryNetworkClassifier

# An example of scikit-learn's (digits classification exercise), as it is printed but for the rival.
EXAMPLE = """
from sklearn import datasets
from sklearn.neighbors import KNeighborsClassifier

X_digits, y_digits = datasets.load_digits(return_X_y=True)
X_digits = X_digits / X_digits.max()

n_samples = len(X_digits)

X_train = X_digits[: int(0.9 * n_samples)]
y_train = y_digits[: int(0.9 * n_samples)]
X_test = X_digits[int(0.9 * n_samples) :]
y_test = y_digits[int(0.9 * n_samples) :]

knn = KNeighborsClassifier(n_neighbors=5)
score = knn.fit(X_train, y_train).score(X_test, y_test)
"""

GROUPS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


@pytest.fixture(scope="module")
def digits():
    """1,797 digits as rows of 64 features, 0 to 16, and their labels."""
    return load_digits(return_X_y=True)


def batches(X, y, sizes):
    starts = np.cumsum([0, *sizes])
    assert starts[-1] == len(y)
    for start, size in zip(starts, sizes, strict=False):
        rows = slice(start, start + size)
        yield X[rows], y[rows]


def cloned(estimator) -> MemoryNetworkClassifier:
    copy = clone(estimator)
    assert isinstance(copy, MemoryNetworkClassifier)
    return copy


def assert_same_bits(found, expected):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(a, b)


# One check gives a class the weight 0.0001.
@pytest.mark.filterwarnings("ignore:class_weight")
@pytest.mark.long
@parametrize_with_checks([MemoryNetworkClassifier()])
def test_it_keeps_every_rule_of_scikit_learn(estimator, check):
    check(estimator)


@pytest.mark.parametrize("sizes", [[1796, 1], [1, 999, 1, 255, 256, 285], [100] * 17 + [97]])
@pytest.mark.parametrize("threshold", ["auto", 300.0])
def test_partial_fit_in_any_batches_gives_what_one_fit_gives(digits, sizes, threshold):
    X, y = digits
    whole = MemoryNetworkClassifier(novelty_threshold=threshold).fit(X, y)
    parts = cloned(whole)
    for rows, labels in batches(X, y, sizes):
        parts.partial_fit(rows, labels, classes=range(10))
    assert 100 < whole.num_memories_ < 1797
    assert_same_bits((parts.params_, parts.state_), (whole.params_, whole.state_))
    assert_same_bits(parts.predict_proba(X), whole.predict_proba(X))


def test_partial_fit_gives_what_one_fit_gives_where_rounding_decides_winners():
    generator = np.random.default_rng(0)
    # On a small grid many rows lie as near to one mean as to another, up to rounding.
    X, y = generator.integers(0, 3, (1797, 10)) / 3, generator.integers(0, 2, 1797)
    whole = MemoryNetworkClassifier(novelty_threshold=0.4, supervised_growth=False).fit(X, y)
    parts = cloned(whole)
    for rows, labels in batches(X, y, [100] * 17 + [97]):
        parts.partial_fit(rows, labels, classes=range(2))
    assert_same_bits(parts.state_, whole.state_)


def test_asking_in_between_changes_nothing_of_what_is_learned(digits):
    X, y = digits
    whole = MemoryNetworkClassifier().fit(X, y)
    parts = cloned(whole)
    for rows, labels in batches(X, y, [10, 890, 200, 697]):
        answers = parts.partial_fit(rows, labels, classes=range(10)).predict(rows)
        assert np.mean(answers == labels) > 0.9
    assert_same_bits((parts.params_, parts.state_), (whole.params_, whole.state_))


def test_asked_before_a_block_is_whole_it_answers_as_fitted_with_those_rows(digits):
    X, y = digits
    parts = MemoryNetworkClassifier().partial_fit(X[:300], y[:300], classes=range(10))
    parts.predict(X[:5])
    parts.partial_fit(X[300:400], y[300:400])
    whole = MemoryNetworkClassifier().fit(X[:400], y[:400])
    assert_same_bits((parts.params_, parts.state_), (whole.params_, whole.state_))


def test_images_are_learned_as_memjax_learns_them(digits):
    images = np.rint(digits[0] * 255 / 16).astype(np.uint8).reshape(-1, 8, 8, 1)
    labels = digits[1].astype(np.int32)
    network, params = memory_network((8, 8, 1), 10)
    params = memjax.calibrate(network, params, images[:1000], labels[:1000])
    state, _ = memjax.fit(network, params, network.init(jax.random.key(0)), images, labels)
    estimator = MemoryNetworkClassifier().fit(images, labels)
    assert estimator.network_ == network
    for found, expected in zip(estimator.state_[1], state[1], strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-6)
    answers = memjax.predict(network, params, state, images)
    np.testing.assert_array_equal(estimator.predict(images), answers)


def test_images_may_come_flat_or_in_their_shape_as_integers_or_scaled(digits):
    flat, y = np.rint(digits[0][:300] * 255 / 16).astype(np.uint8), digits[1][:300]
    image = flat.reshape(-1, 8, 8)
    expected = MemoryNetworkClassifier(image_shape=(8, 8, 1)).fit(flat, y)
    for X in (image, image[..., None], image.astype(np.int64), image.astype(np.float32) / 255):
        found = MemoryNetworkClassifier().fit(X, y)
        assert found.image_shape_ == (8, 8, 1)
        assert_same_bits(found.state_, expected.state_)
        assert_same_bits(found.predict_proba(flat), expected.predict_proba(X))


def test_what_is_asked_together_does_not_change_an_answer(digits):
    noise = np.random.default_rng(3).normal(size=(400, 64))
    X, y = digits[0][:400] + noise, digits[1][:400]
    estimator = MemoryNetworkClassifier().fit(X, y)
    alone = [estimator.predict_proba(row[None])[0] for row in X[:150:10]]
    np.testing.assert_array_equal(alone, estimator.predict_proba(X[:150])[::10])


def test_labels_of_any_kind_give_the_same_memories(digits):
    X, y = digits[0][:300], digits[1][:300]
    expected = MemoryNetworkClassifier().fit(X, y)
    names = np.array([f"{label} {GROUPS[label]}" for label in y])
    for labels in (names, names.astype(object), y * 3 - 8.0, list(names)):
        found = MemoryNetworkClassifier().fit(X, labels)
        assert_same_bits(found.state_, expected.state_)
        places = found.classes_.tolist()
        assert [places.index(label) for label in found.predict(X)] == expected.predict(X).tolist()


@pytest.mark.parametrize("unlabelled", ["auto", -1])
def test_rows_of_label_minus_one_are_learned_without_a_label(digits, unlabelled):
    X, y = digits[0][:600], digits[1][:600].copy()
    y[::3] = -1
    if unlabelled == "auto":
        with pytest.warns(UserWarning, match="y: -1 is taken for rows without a label"):
            MemoryNetworkClassifier().fit(X, y)
        warnings.filterwarnings("ignore", "y: -1 is taken")
    estimator = MemoryNetworkClassifier(unlabelled=unlabelled).fit(X, y)
    assert estimator.classes_.tolist() == list(range(10))
    assert estimator.state_.votes.sum() == 400
    assert estimator.state_.counts.sum() == 600
    assert np.mean(estimator.predict(X[::3]) == digits[1][:600:3]) > 0.95
    named = np.array([label if label == -1 else GROUPS[label] for label in y], object)
    assert MemoryNetworkClassifier(unlabelled=unlabelled).fit(X, named).state_.votes.sum() == 400


def test_minus_one_is_a_class_beside_one_alone_or_when_nothing_is_unlabelled():
    X, y = np.array([[0.0], [0.1], [3.0], [3.1]]), np.array([-1, -1, 1, 1])
    assert MemoryNetworkClassifier().fit(X, y).predict(X).tolist() == [-1, -1, 1, 1]
    assert MemoryNetworkClassifier(unlabelled=-1).fit(X, y).classes_.tolist() == [1]
    three = MemoryNetworkClassifier(unlabelled=None).fit(X, [-1, 0, 1, 1])
    assert three.classes_.tolist() == [-1, 0, 1]


def test_without_any_vote_every_class_is_as_likely():
    estimator = MemoryNetworkClassifier(unlabelled=-1)
    estimator.partial_fit([[0.0], [1.0]], [-1, -1], classes=["a", "b"])
    assert estimator.predict_proba([[0.5]]).tolist() == [[0.5, 0.5]]
    assert estimator.predict([[0.5]]).tolist() == ["a"]


def test_small_differences_between_large_numbers_count(digits):
    X, y = digits[0][:400], digits[1][:400]
    near, far = (MemoryNetworkClassifier().fit(X + shift, y) for shift in (0, 2.0**30))
    assert_same_bits(far.state_, near.state_)
    assert_same_bits(far.predict(X + 2.0**30), near.predict(X))


def test_a_clone_forgets_and_a_pickle_remembers_and_goes_on(digits):
    X, y = digits
    estimator = MemoryNetworkClassifier(plasticity_floor=0.1).fit(X[:1100], y[:1100])
    before = estimator.predict_proba(X)
    restored = pickle.loads(pickle.dumps(estimator))
    assert_same_bits(restored.predict_proba(X), before)
    for some in (estimator, restored):
        some.partial_fit(X[1100:], y[1100:])
    assert_same_bits(restored.state_, estimator.state_)
    fresh = cloned(estimator)
    assert fresh.get_params() == estimator.get_params()
    with pytest.raises(NotFittedError):
        fresh.predict(X)


def test_fit_forgets_what_was_learned_before(digits):
    X, y = digits
    used = MemoryNetworkClassifier().fit(X[:500], y[:500]).fit(X[500:800], y[500:800])
    fresh = MemoryNetworkClassifier().fit(X[500:800], y[500:800])
    assert_same_bits(used.state_, fresh.state_)


def test_the_memories_that_voted_are_told_with_their_classes(digits):
    X, y = digits[0][:500], np.array(GROUPS)[digits[1][:500]]
    estimator = MemoryNetworkClassifier().fit(X, y)
    why = estimator.explain(X[:20])
    assert why.memories.shape == (20, 1, 7)
    prototypes = np.asarray(estimator.state_.prototypes) + estimator.origin_
    between = np.square(prototypes[why.memories[:, 0]] - X[:20, None]).sum(axis=2)
    counts = np.asarray(estimator.state_.counts)[why.memories[:, 0]]
    between *= 5 * counts / (4 * counts + 1)  # the mean of many counts as farther
    np.testing.assert_allclose(why.distances[:, 0], between, rtol=1e-3, atol=0.1)
    assert (np.diff(why.distances, axis=2) >= 0).all()
    # Labelled rows grow memories of one label each, so a vote is all for it.
    for evidence, weights, labels in zip(
        estimator.predict_proba(X[:20]), why.weights[:, 0], why.labels[:, 0], strict=True
    ):
        shares = [weights[labels == name].sum() for name in estimator.classes_]
        np.testing.assert_allclose(evidence, shares / weights.sum(), atol=1e-6)


def test_what_has_no_vote_is_masked_in_an_explanation():
    estimator = MemoryNetworkClassifier(novelty_threshold=0.5, unlabelled=-1)
    estimator.partial_fit([[0.0], [9.0]], [5, -1], classes=[5, 6])
    labels = estimator.explain([[1.0]]).labels[0, 0]
    assert labels.tolist() == [5, None] + 5 * [None]


def test_what_lies_farther_than_all_before_scores_one(digits):
    X, y = digits
    estimator = MemoryNetworkClassifier().fit(X, y)
    scores = estimator.novelty_score(X)
    assert scores.min() >= 0
    assert np.mean(scores) < 0.5
    assert (estimator.novelty_score(100 - X[:10]) == 1).all()


def test_cross_validation_on_digits_is_above_95_percent(digits):
    assert cross_val_score(MemoryNetworkClassifier(), *digits, cv=3).min() > 0.95


@pytest.mark.filterwarnings("ignore:y. no memory votes")  # of the worse numbers
def test_a_grid_search_in_a_pipeline_finds_the_better_numbers(digits):
    X, y = digits[0][:900], digits[1][:900]
    pipeline = make_pipeline(MinMaxScaler(), MemoryNetworkClassifier())
    grid = {
        "memorynetworkclassifier__capacity": [12, 3000],
        "memorynetworkclassifier__novelty_threshold": [0.3, 50.0],
        "memorynetworkclassifier__supervised_growth": [False],
    }
    search = GridSearchCV(pipeline, grid, cv=2).fit(X, y)
    assert search.best_params_["memorynetworkclassifier__capacity"] == 3000
    assert search.best_params_["memorynetworkclassifier__novelty_threshold"] == 0.3
    assert search.best_score_ > 0.9
    assert search.score(X, y) == np.mean(search.predict(X) == y)


def test_it_takes_the_place_of_k_neighbours_in_an_example_by_one_line():
    line = "from sklearn.neighbors import KNeighborsClassifier"
    ours = "from memjax.sklearn import MemoryNetworkClassifier as KNeighborsClassifier"
    assert EXAMPLE.count(line) == 1
    scores = {}
    for program in (EXAMPLE, EXAMPLE.replace(line, ours)):
        names = {}
        exec(program, names)
        scores[type(names["knn"]).__name__] = names["score"]
    assert scores["KNeighborsClassifier"] > 0.95
    assert scores["MemoryNetworkClassifier"] > 0.95


@pytest.mark.long
def test_a_columnar_network_learns_the_same_in_any_batches(digits):
    images, y = digits[0].reshape(-1, 8, 8) / 16, digits[1]
    whole = MemoryNetworkClassifier(network="columnar", size="small").fit(images[:600], y[:600])
    parts = cloned(whole)
    for rows, labels in batches(images[:600], y[:600], [300, 1, 299]):
        parts.partial_fit(rows, labels, classes=range(10))
    assert_same_bits(parts.state_, whole.state_)
    assert whole.score(images[600:900], y[600:900]) > 0.9
    assert np.allclose(whole.predict_proba(images[:9]).sum(axis=1), 1)
    assert whole.novelty_score(images[600:900]).mean() < 0.8
    with pytest.raises(ValueError, match="expected one whose answer comes from memories"):
        whole.explain(images[:9])


EYE, LABELS = np.eye(4, 64), np.array([0, 1, 0, 1])
FLAT, IMAGES = EYE, EYE.reshape(4, 8, 8)


@pytest.mark.parametrize(
    ("fields", "X", "y", "sentence"),
    [
        ({"network": "deep"}, FLAT, LABELS, "network: expected one of 'memory', 'columnar'"),
        ({"network": "columnar"}, FLAT, LABELS, r"image_shape: expected \(H, W, channels\)"),
        ({"image_shape": (8, 8)}, FLAT, LABELS, r"image_shape: expected \(H, W, channels\)"),
        ({"image_shape": (4, 4, 1)}, FLAT, LABELS, r"X: expected 16 numbers in each row.* got 64"),
        ({"image_shape": (4, 4, 4)}, IMAGES, LABELS, r"X: expected images \(4, 4, 4\)"),
        ({"distance": "chebyshev"}, FLAT, LABELS, "distance: expected one of"),
        ({"n_neighbors": 0}, FLAT, LABELS, "n_neighbors: expected a positive integer"),
        ({"size": "small"}, FLAT, LABELS, "size: expected its default, 'medium', since a network"),
        ({"encoder": "blur"}, FLAT, LABELS, "encoder: expected its default"),
        ({"network": "columnar", "capacity": 9}, IMAGES, LABELS, "capacity: expected its default"),
        ({"class_weight": "even"}, FLAT, LABELS, "class_weight: expected one of 'balanced'"),
        ({"class_weight": {7: 1}}, FLAT, LABELS, r"class_weight: expected labels among \[0, 1\]"),
        ({"unlabelled": 0}, FLAT, LABELS, "unlabelled: expected one of"),
        ({}, FLAT, -np.ones(4, int), "y: expected at least one class"),
        ({}, np.array([[0.0], [1e300]]), [0, 1], "X: expected finite numbers"),
    ],
)
def test_a_mistake_in_fit_is_told_in_a_sentence(fields, X, y, sentence):
    with pytest.raises(ValueError, match=sentence):
        MemoryNetworkClassifier(**fields).fit(X, y)


def test_a_mistake_in_going_on_is_told_in_a_sentence():
    with pytest.raises(ValueError, match="sample_weight: expected a positive weight"):
        MemoryNetworkClassifier().partial_fit(FLAT, LABELS, sample_weight=0)
    with pytest.raises(ValueError, match="class_weight: expected None or a dict in partial_fit"):
        MemoryNetworkClassifier(class_weight="balanced").partial_fit(FLAT, LABELS)
    with pytest.raises(TypeError, match="y: expected labels that sort with"):
        MemoryNetworkClassifier().partial_fit(EYE, LABELS).partial_fit(EYE, list("abab"))
    estimator = MemoryNetworkClassifier().partial_fit(FLAT, LABELS, classes=[0, 1, 2])
    with pytest.raises(ValueError, match=r"classes: expected those of the first call, \[0, 1, 2\]"):
        estimator.partial_fit(FLAT, LABELS, classes=[0, 1])
    with pytest.raises(ValueError, match=r"y: expected labels among .*, got 7"):
        estimator.partial_fit(FLAT, np.array([0, 1, 7, 0]))
    with pytest.raises(ValueError, match="X: expected rows as in fit, got images"):
        estimator.predict(IMAGES)
    with pytest.raises(ValueError, match=r"X: expected images \(8, 8, 1\) as in fit"):
        MemoryNetworkClassifier().fit(IMAGES, LABELS).predict(np.zeros((4, 4, 16)))
    with pytest.raises(ValueError, match="X: expected integers of at most 16, the scale"):
        MemoryNetworkClassifier().fit(IMAGES.astype(int) + 9, LABELS).predict(
            IMAGES.astype(int) + 17
        )


def test_rows_may_be_asked_and_learned_one_by_one_in_the_blink_of_an_eye(digits):
    X, y = digits[0][:1100], digits[1][:1100]
    online = MemoryNetworkClassifier().partial_fit(X[:1], y[:1], classes=range(10))
    answers = []
    began = time.process_time()
    for index in range(1, len(y)):
        row = slice(index, index + 1)
        answers.append(online.predict(X[row])[0])
        online.partial_fit(X[row], y[row])
    assert time.process_time() - began < 20  # 29 s for 60 rows, when each number compiled anew
    assert np.mean(answers == y[1:]) > 0.94
    whole = MemoryNetworkClassifier().fit(X, y)
    assert_same_bits((online.params_, online.state_), (whole.params_, whole.state_))


def test_asked_after_few_rows_more_it_answers_by_the_threshold_of_an_eighth_ago(digits):
    X, y = digits[0][:880], digits[1][:880]
    asked = MemoryNetworkClassifier().partial_fit(X[:800], y[:800], classes=range(10))
    threshold = asked.params_.novelty_threshold
    asked.partial_fit(X[800:], y[800:])
    assert asked.params_.novelty_threshold == threshold
    whole = MemoryNetworkClassifier().fit(X, y)
    assert asked.params_.novelty_threshold != whole.params_.novelty_threshold
    assert asked.state_.num_seen == 880


@pytest.mark.parametrize("size", [1, 50])
def test_a_sentinel_in_the_first_row_spoils_nothing(size):
    generator = np.random.default_rng(0)
    y = generator.integers(0, 3, 400)
    X = 5 + 0.1 * np.eye(3)[y] + 0.01 * generator.normal(size=(400, 3))
    estimator = MemoryNetworkClassifier(n_neighbors=5)
    estimator.partial_fit(np.full((1, 3), -999.0), [0], classes=range(3))
    for rows, labels in batches(X[:200], y[:200], [size] * (200 // size)):
        estimator.partial_fit(rows, labels)
        estimator.predict(rows)
    rival = KNeighborsClassifier(5).fit(X[:200], y[:200])
    np.testing.assert_array_equal(estimator.predict(X[200:]), rival.predict(X[200:]))
    assert np.abs(estimator.origin_ - 5).max() < 0.1


@pytest.mark.parametrize("sizes", [[1797], [3, 996, 1, 797], [100] * 17 + [97]])
def test_classes_may_grow_as_labels_appear(digits, sizes):
    X, y = digits[0], np.array(GROUPS)[digits[1]]
    whole = MemoryNetworkClassifier().fit(X, y)
    growing = MemoryNetworkClassifier()
    for rows, labels in batches(X, y, sizes):
        growing.partial_fit(rows, labels)
    assert growing.classes_.tolist() == whole.classes_.tolist()
    np.testing.assert_array_equal(growing.state_.counts, whole.state_.counts)
    np.testing.assert_allclose(growing.predict_proba(X), whole.predict_proba(X), atol=1e-6)
    growing.partial_fit(X[:3] + 50, ["a new one"] * 3)
    assert growing.classes_.tolist() == sorted([*GROUPS, "a new one"])
    assert growing.predict(X[:3] + 50).tolist() == ["a new one"] * 3
    assert growing.explain(X[:1] + 50).labels[0, 0, 0] == "a new one"
    assert np.mean(growing.predict(X) == y) > 0.95


def test_late_classes_give_the_same_memories_in_any_batches(digits):
    order = np.argsort(digits[1], kind="stable")
    X, y = digits[0][order], digits[1][order]
    states = []
    for sizes in ([1797], [1, 999, 40, 757]):
        estimator = MemoryNetworkClassifier()
        for rows, labels in batches(X, y, sizes):
            estimator.partial_fit(rows, labels)
        states.append(estimator.state_)
    assert_same_bits(*states)
    assert np.mean(estimator.predict(X) == y) > 0.95


def test_a_columnar_network_learns_classes_that_come_later(digits):
    images, y = digits[0].reshape(-1, 8, 8).astype(int), digits[1]
    growing = MemoryNetworkClassifier(network="columnar", size="small")
    told = cloned(growing)
    for rows in (np.flatnonzero(y < 5)[:300], np.flatnonzero(y >= 5)[:300]):
        growing.partial_fit(images[rows], y[rows])
        told.partial_fit(images[rows], y[rows], classes=range(10))
    assert growing.classes_.tolist() == list(range(10))
    asked = images[600:900]
    np.testing.assert_allclose(growing.predict_proba(asked), told.predict_proba(asked), atol=1e-3)


def test_a_row_of_weight_w_is_learned_w_times_in_a_row(digits):
    X, y = digits[0][:300], digits[1][:300]
    weights = np.arange(300) % 4
    weighted = MemoryNetworkClassifier().fit(X, y, sample_weight=weights)
    repeated = MemoryNetworkClassifier().fit(X.repeat(weights, 0), y.repeat(weights))
    parts = MemoryNetworkClassifier()
    for rows in (slice(0, 100), slice(100, 300)):
        parts.partial_fit(X[rows], y[rows], range(10), sample_weight=weights[rows])
    for found in (weighted, parts):
        assert_same_bits(found.state_, repeated.state_)
    for bad in (0.5, -1, np.inf):
        with pytest.raises(ValueError, match="sample_weight: expected whole numbers of at least 0"):
            MemoryNetworkClassifier().fit(X, y, sample_weight=np.full(300, bad))


@pytest.mark.parametrize("n_neighbors", [1, 7])
def test_a_row_of_more_weight_lies_no_farther_away(n_neighbors):
    rows, labels = [[0.0, 0.0], [10.0, 0.0]], ["heavy", "light"]
    estimator = MemoryNetworkClassifier(n_neighbors, novelty_threshold=0.0)
    estimator.fit(rows, labels, sample_weight=[10, 1])
    assert estimator.predict([[4.8, 0.0]]) == ["heavy"]


@pytest.mark.parametrize("n_neighbors", [3, 7])
def test_balanced_weights_help_to_find_a_rare_class(n_neighbors):
    generator = np.random.default_rng(0)

    def draw(*numbers):
        y = np.repeat([0, 1], numbers)
        return generator.normal(size=(len(y), 8)) + 2 * y[:, None] * (np.arange(8) == 0), y

    (X, y), (asked, answers) = draw(900, 100), draw(0, 900)
    order = generator.permutation(len(y))
    found = [
        MemoryNetworkClassifier(n_neighbors, class_weight=weight)
        .fit(X[order], y[order])
        .score(asked, answers)
        for weight in (None, "balanced")
    ]
    assert found[1] > found[0] + 0.1, found


def test_class_weights_repeat_the_rows_of_a_class(digits):
    X, y = digits[0][:300], digits[1][:300]
    weighted = MemoryNetworkClassifier(class_weight={3: 2, 4: 0}).fit(X, y)
    repeats = np.where(y == 3, 2, np.where(y == 4, 0, 1))
    repeated = MemoryNetworkClassifier().fit(X, y, sample_weight=repeats)
    assert_same_bits(weighted.state_, repeated.state_)
    few = np.concatenate([np.flatnonzero(y == 0), np.flatnonzero(y == 1)[:7]])
    balanced = MemoryNetworkClassifier(class_weight="balanced").fit(X[few], y[few])
    votes = np.asarray(balanced.state_.votes).sum(axis=0)
    assert votes.tolist() == [(y == 0).sum(), 7 * round((y == 0).sum() / 7)]
    with pytest.warns(UserWarning, match="class_weight: 0.2 is rounded to 0, so 3 is left out"):
        MemoryNetworkClassifier(class_weight={3: 0.2}).fit(X, y)


def test_the_nearest_memories_are_told_as_scikit_learn_tells_neighbours(digits):
    X, y = digits[0][:200], digits[1][:200]
    estimator = MemoryNetworkClassifier(novelty_threshold=0.0).fit(X, y)
    assert estimator.num_memories_ == 200
    rival = KNeighborsClassifier(metric="sqeuclidean").fit(X, y)
    asked = digits[0][200:260]
    distances, indices = estimator.kneighbors(asked, 3)
    far, places = rival.kneighbors(asked, 3)
    np.testing.assert_array_equal(distances, far)
    assert np.mean(indices == places) > 0.98  # ties
    np.testing.assert_array_equal(
        estimator.kneighbors(asked, return_distance=False)[:, :3], indices
    )
    with pytest.raises(ValueError, match="n_neighbors: expected at most the 200 memories, got 201"):
        estimator.kneighbors(asked, 201)
    colour = np.random.default_rng(0).random((9, 8, 8, 3))
    with pytest.raises(ValueError, match="network: expected one with one bank of memories"):
        MemoryNetworkClassifier().fit(colour, np.arange(9) % 2).kneighbors(colour, 1)


def test_another_number_of_neighbours_counts_from_the_next_answer_on(digits):
    X, y = digits[0][:400], digits[1][:400]
    asked = digits[0][400:800]
    estimator = MemoryNetworkClassifier().fit(X, y).set_params(n_neighbors=1)
    expected = MemoryNetworkClassifier(n_neighbors=1).fit(X, y)
    assert_same_bits(estimator.predict_proba(asked), expected.predict_proba(asked))
    for some in (estimator, expected):
        some.partial_fit(asked, digits[1][400:800])
    assert estimator.explain(asked).weights.shape == (400, 1, 1)
    assert_same_bits(estimator.network_, expected.network_)


@pytest.mark.parametrize("kind", [scipy.sparse.csr_matrix, scipy.sparse.coo_array])
def test_sparse_rows_are_learned_and_asked_like_dense_ones(digits, kind):
    X, y = digits[0][:300], digits[1][:300]
    dense, sparse = (MemoryNetworkClassifier().fit(some, y) for some in (X, kind(X)))
    assert_same_bits(sparse.state_, dense.state_)
    assert_same_bits(sparse.predict_proba(kind(X)), dense.predict_proba(X))


@pytest.mark.parametrize("greatest", [1, 16, 255, 65535])
def test_integer_images_are_read_on_the_scale_that_they_reach(digits, greatest):
    images = np.rint(digits[0] * greatest / 16).astype(int).reshape(-1, 8, 8)
    y = digits[1]
    estimator = MemoryNetworkClassifier(network="columnar", size="small")
    estimator.fit(images[:600], y[:600])
    assert estimator.score(images[600:900], y[600:900]) > 0.85
    floats = cloned(estimator).fit(images[:600] / np.float32(greatest), y[:600])
    assert_same_bits(floats.state_, estimator.state_)


@pytest.mark.parametrize(
    ("fields", "change", "sentence"),
    [
        ({}, lambda X, y: (np.ones_like(X), y), "X: all rows are the same"),
        ({}, lambda X, y: (X * np.where(np.arange(64) == 20, 1e9, 1), y), "X: feature 20 varies"),
        ({"capacity": 10, "on_full": "ignore"}, lambda X, y: (X, y), "y: no memory votes for"),
        (
            {"capacity": 12, "on_full": "ignore", "novelty_threshold": 0.0},
            lambda X, y: (X[:14], [0] * 11 + [1] * 3),
            "y: the",
        ),
    ],
)
@pytest.mark.parametrize("is_stream", [False, True])
def test_a_person_is_warned_once_of_what_cannot_be_learned(
    digits, fields, change, sentence, is_stream
):
    order = np.argsort(digits[1], kind="stable")
    X, y = change(digits[0][order], digits[1][order])
    estimator = MemoryNetworkClassifier(**fields)
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        if is_stream:
            for _ in range(90):
                estimator.partial_fit(X, y, classes=np.unique(y))
                if estimator.state_.num_seen > 2000:
                    break
        else:
            estimator.fit(X, y)
    assert sum(str(warning.message).startswith(sentence) for warning in found) == 1


def test_a_person_is_warned_once_of_rows_too_far_away_for_float32(digits):
    X, y = digits
    estimator = MemoryNetworkClassifier().fit(X, y)
    with pytest.warns(UserWarning, match="X: rows lie so far from origin_") as found:
        estimator.partial_fit(X + 1e6, y).partial_fit(X + 1e6, y)
    assert len(found) == 1


@pytest.mark.parametrize("mistake", [{"X": np.diag([0, 1e300, 0, 0])}, {"y": [0, 1, 7, 0]}])
def test_a_mistake_in_the_first_call_leaves_the_estimator_as_it_was(mistake):
    estimator = MemoryNetworkClassifier()
    with pytest.raises(ValueError):
        estimator.partial_fit(**{"X": np.eye(4), "y": LABELS, **mistake}, classes=[0, 1])
    with pytest.raises(NotFittedError):
        estimator.predict(FLAT)
    assert estimator.partial_fit(FLAT, LABELS, classes=[0, 1]).num_memories_ >= 1
