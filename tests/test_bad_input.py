"""Bad input is refused in one sentence: the argument, what was expected, and what came."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import memjax
from memjax import MemoryLayer

SHAPE = (4, 4, 1)
NETWORK, PARAMS = memjax.memory_network(
    SHAPE, 3, capacity=5, encoder="pixels", novelty_threshold=0.2
)
COLOUR, COLOUR_PARAMS = memjax.memory_network((4, 4, 3), 3, capacity=5, novelty_threshold=0.2)
KEY = jax.random.key(0)
STATE = NETWORK.init(KEY)
IMAGES, LABELS = np.zeros((3, *SHAPE), np.float32), np.array([0, 1, -1])
COLUMNS = memjax.Columns(SHAPE, patch=2, places=2, capacity=2)


def images_with(number, dtype: Any = np.float32):
    """Three images, of which the second holds a number."""
    images = np.zeros((3, *SHAPE), dtype)
    images[1, 2] = number
    return images


def fit(images: Any = IMAGES, labels: Any = LABELS, **named):
    arguments = {"network": NETWORK, "params": PARAMS, "state": STATE, "block_size": 2}
    return memjax.fit(**{**arguments, **named}, images=images, labels=labels)


def fit_stream(**named):
    arguments = {"network": NETWORK, "params": PARAMS, "state": STATE}
    return memjax.fit_stream(**{**arguments, "stream": [(IMAGES, LABELS)], **named})


def predict(**named):
    arguments = {"network": NETWORK, "params": PARAMS, "state": STATE, "images": IMAGES}
    return memjax.predict(**{**arguments, **named})


def with_params(**numbers):
    return (), PARAMS[1]._replace(**numbers)


def with_state(**arrays):
    return (), STATE[1]._replace(**arrays)


REFUSED = {
    # Images.
    "a rank too few": (
        lambda: fit(IMAGES[..., 0]),
        ValueError,
        "images: expected [N, 4, 4, 1], got [3, 4, 4].",
    ),
    "a rank too many": (
        lambda: fit(IMAGES[None]),
        ValueError,
        "images: expected [N, 4, 4, 1], got [1, 3, 4, 4, 1].",
    ),
    "another height": (
        lambda: fit(IMAGES[:, :3]),
        ValueError,
        "images: expected [N, 4, 4, 1], got [3, 3, 4, 1].",
    ),
    "grey for colour": (
        lambda: fit(network=COLOUR, params=COLOUR_PARAMS, state=COLOUR.init(KEY)),
        ValueError,
        "images: expected [N, 4, 4, 3], got [3, 4, 4, 1].",
    ),
    "no images": (
        lambda: fit(IMAGES[:0], LABELS[:0]),
        ValueError,
        "images: expected [N, 4, 4, 1], got [0, 4, 4, 1].",
    ),
    "a list": (
        lambda: fit(IMAGES.tolist()),
        TypeError,
        "images: expected an array, got list.",
    ),
    "nothing": (
        lambda: predict(images=None),
        TypeError,
        "images: expected an array, got NoneType.",
    ),
    "only a shape": (
        lambda: predict(images=jax.ShapeDtypeStruct(IMAGES.shape, IMAGES.dtype)),
        TypeError,
        "images: expected an array, got ShapeDtypeStruct.",
    ),
    "a mask": (
        lambda: fit(np.ma.masked_less(IMAGES, 0)),
        TypeError,
        "images: expected an array without a mask, got MaskedArray.",
    ),
    **{
        f"images of {dtype}": (
            lambda dtype=dtype: fit(IMAGES.astype(dtype)),
            TypeError,
            f"images: expected integers or real numbers, got {dtype}.",
        )
        for dtype in ("complex64", "object", ">f4", "timedelta64[s]")
    },
    "a NaN": (
        lambda: fit(images_with(np.nan)),
        ValueError,
        "images: expected finite numbers, got a NaN or an infinity in row 1.",
    ),
    "an infinity": (
        lambda: predict(images=images_with(-np.inf, jnp.bfloat16)),
        ValueError,
        "images: expected finite numbers, got a NaN or an infinity in row 1.",
    ),
    "a number whose square is infinite": (
        lambda: fit(images_with(-1e30)),
        ValueError,
        "images: expected numbers from -1e+15 to 1e+15, got -1e+30 in row 1.",
    ),
    "a number that float32 cannot hold": (
        lambda: fit(images_with(1e300, np.float64)),
        ValueError,
        "images: expected numbers from -1e+15 to 1e+15, got 1e+300 in row 1.",
    ),
    "an integer of too many bits": (
        lambda: fit(images_with(2**40, np.int64)),
        ValueError,
        "images: expected numbers from -2.14748e+09 to 2.14748e+09, got 1.09951e+12 in row 1.",
    ),
    "rows whose squares vanish": (
        lambda: fit(IMAGES + np.array([1e-20, 2e-20, 3e-20])[:, None, None, None]),
        ValueError,
        "images: expected rows that differ by at least 1e-16, whose squares float32 can hold, "
        "got ones that differ by at most 2e-20; multiply them by a large number.",
    ),
    # Labels.
    "labels of another length": (
        lambda: fit(labels=LABELS[:2]),
        ValueError,
        "labels: expected [3], got [2].",
    ),
    "labels in a column": (
        lambda: fit(labels=LABELS[:, None]),
        ValueError,
        "labels: expected [3], got [3, 1].",
    ),
    "float labels": (
        lambda: fit(labels=LABELS.astype(float)),
        TypeError,
        "labels: expected integers, got float64.",
    ),
    "a class too many": (
        lambda: fit(labels=LABELS + 2),
        ValueError,
        "labels: expected classes 0 to 2, or -1 for unlabelled, got 3.",
    ),
    "a label of 64 bits": (
        lambda: fit(labels=np.full(3, 2**40)),
        ValueError,
        "labels: expected classes 0 to 2, or -1 for unlabelled, got 1099511627776.",
    ),
    "a label of 64 bits where any class will do": (
        lambda: fit(
            labels=np.full(3, 2**40),
            network=COLUMNS,
            params=COLUMNS.params(),
            state=COLUMNS.init(KEY),
        ),
        ValueError,
        "labels: expected classes 0 to 2147483647, or -1 for unlabelled, got 1099511627776.",
    ),
    "a label under -1": (
        lambda: fit(labels=LABELS - 1),
        ValueError,
        "labels: expected classes 0 to 2, or -1 for unlabelled, got -2.",
    ),
    # Networks, params and states.
    "no network": (
        lambda: predict(network="edges"),
        TypeError,
        "network: expected a memjax layer, got str.",
    ),
    "a network without evidence": (
        lambda: predict(network=memjax.FeatureMap(memjax.Pixels(SHAPE)), params=(), state=()),
        ValueError,
        "network: expected one that ends in class evidence [C], got one that hands on [4, 4, 1].",
    ),
    "a negative threshold": (
        lambda: fit(params=with_params(novelty_threshold=-0.5)),
        ValueError,
        "params[1].novelty_threshold: expected a number from 0 to inf, got -0.5.",
    ),
    "a threshold still to be set": (
        lambda: fit(params=with_params(novelty_threshold=-1.0)),
        ValueError,
        'params[1].novelty_threshold: is still "auto"; give a number, or estimate it with '
        "memjax.calibrate(network, params, images, labels).",
    ),
    "a threshold in words": (
        lambda: predict(params=with_params(novelty_threshold="low")),
        TypeError,
        "params[1].novelty_threshold: expected a number, got 'low'.",
    ),
    "a rate over 1": (
        lambda: memjax.replace_params(PARAMS, plasticity_floor=1.5),
        ValueError,
        "plasticity_floor: expected a number from 0 to 1, got 1.5.",
    ),
    "a negative threshold in a sweep": (
        lambda: memjax.replace_params(PARAMS, novelty_threshold=np.array([0.1, -0.1])),
        ValueError,
        "novelty_threshold: expected a number from 0 to inf, got -0.1.",
    ),
    "a ridge without an end": (
        lambda: memjax.RidgeReadout(4, 3).params(ridge=np.inf),
        ValueError,
        "ridge: expected a number from 1e-12 to 1e+12, got inf.",
    ),
    "the state of a larger bank": (
        lambda: fit(state=with_state(prototypes=np.zeros((6, 16), np.float32))),
        ValueError,
        "state[1].prototypes: expected float32[5, 16], got float32[6, 16].",
    ),
    "a state of other numbers": (
        lambda: predict(state=with_state(size=np.float32(0))),
        ValueError,
        "state[1].size: expected int32[], got float32[].",
    ),
    "no state": (
        lambda: fit_stream(state=None),
        ValueError,
        f"state: expected the structure {jax.tree.structure(STATE)}, "
        f"got {jax.tree.structure(None)}.",
    ),
    # Sizes of blocks, and streams.
    "a block of none": (
        lambda: fit(block_size=0),
        ValueError,
        "block_size: expected a positive integer, got 0.",
    ),
    "a block of too many": (
        lambda: fit(block_size=2**40),
        ValueError,
        "block_size: expected less than 2147483648, got 1099511627776.",
    ),
    "no stream": (
        lambda: fit_stream(stream=3),
        TypeError,
        "stream: expected batches, or a function that returns them, got int.",
    ),
    "a stream of images alone": (
        lambda: fit_stream(stream=[IMAGES]),
        TypeError,
        "stream: expected pairs of images and labels, got ndarray.",
    ),
    "one moment to consolidate at": (
        lambda: fit_stream(consolidate_at=1000),
        TypeError,
        "consolidate_at: expected ascending numbers of examples, got int.",
    ),
    "a moment before the stream": (
        lambda: fit_stream(consolidate_at=[-1]),
        ValueError,
        "consolidate_at: expected a number from 0 to inf, got -1.",
    ),
    "a stream of a negative length": (
        lambda: fit_stream(progress=-1),
        ValueError,
        "progress: expected a number from 0 to inf, got -1.",
    ),
    "a callback that is none": (
        lambda: fit_stream(callbacks=["print"]),
        TypeError,
        "callbacks: expected functions, got str.",
    ),
    # Fields of layers.
    "no capacity": (
        lambda: MemoryLayer(4, 3, 0),
        ValueError,
        "capacity: expected a positive integer, got 0.",
    ),
    "a distance by its name": (
        lambda: MemoryLayer(4, 3, 5, distance="cosine"),  # pyright: ignore[reportArgumentType]
        TypeError,
        "distance: expected one of memjax.distances, got str.",
    ),
    "a blur of NaN": (
        lambda: memjax.Blur(SHAPE, sigma=np.nan),
        ValueError,
        "sigma: expected a number from 0 to inf, got nan.",
    ),
    "no grid": (
        lambda: memjax.OrientedEdges(SHAPE, grid=0),
        ValueError,
        "grid: expected a positive integer, got 0.",
    ),
    "cells that hold each other back without end": (
        lambda: memjax.OrientedEdges(SHAPE, normalisation=np.inf),
        ValueError,
        "normalisation: expected a number from 0 to 1e+06, got inf.",
    ),
    "an image shape that cannot be hashed": (
        lambda: memjax.Pixels([4, 4, 1]),  # pyright: ignore[reportArgumentType]
        TypeError,
        "image_shape: expected a tuple of positive integers, got list.",
    ),
    "a side for an image shape": (
        lambda: memjax.memory_network(28, 10),  # pyright: ignore[reportArgumentType]
        TypeError,
        "image_shape: expected (H, W, channels), got 28.",
    ),
    "what is no layer, in a chain": (
        lambda: memjax.Chain((memjax.Pixels(SHAPE), "edges")),  # pyright: ignore[reportArgumentType]
        TypeError,
        "layers[1]: expected a memjax layer, got str.",
    ),
    "members that hand on no evidence": (
        lambda: memjax.Vote((memjax.FeatureMap(memjax.Pixels(SHAPE)),)),
        ValueError,
        "members: expected layers that hand on evidence [C], got ones that hand on [4, 4, 1].",
    ),
    # The layers' own methods, which would broadcast or read twice.
    "one number for an input": (
        lambda: NETWORK.layers[1].recall(PARAMS[1], STATE[1], jnp.zeros(1)),
        ValueError,
        "x: expected [16], got [1].",
    ),
    "a label too few": (
        lambda: NETWORK.step_block(PARAMS, STATE, jnp.zeros((3, *SHAPE)), jnp.zeros(2, jnp.int32)),
        ValueError,
        "labels: expected [3], got [2].",
    ),
    "members that do not answer": (
        lambda: jax.eval_shape(
            memjax.Vote((memjax.Pixels(SHAPE),) * 2).step,
            *(((), ()), ((), ()), jnp.zeros((2, *SHAPE)), jnp.int32(0)),
        ),
        TypeError,
        "members[0]: expected a layer that answers, with a `predicted` in its info, got Pixels.",
    ),
}


@pytest.mark.parametrize(("call", "kind", "message"), REFUSED.values(), ids=REFUSED)
def test_bad_input_is_refused_in_a_sentence(call, kind, message):
    with pytest.raises(kind) as caught:
        call()
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("y", "classes", "message"),
    [
        ([0, 1, 2], [0, 1], r"y: expected labels among \[0, 1, -1\], got 2\."),
        ([0, 1, 1], [[0], [1, 2]], r"classes: expected labels of one kind that sorts, got list\."),
        ([0, 1, 1], [0, "a", None], r"classes: expected labels of one kind that sorts"),
    ],
)
def test_classes_that_do_not_fit_are_refused_by_partial_fit(y, classes, message):
    estimator = pytest.importorskip("memjax.sklearn").MemoryNetworkClassifier()
    with pytest.raises((ValueError, TypeError), match=message):
        estimator.partial_fit(np.eye(3), np.array(y), classes)


def test_a_mask_is_not_learned_through():
    estimator = pytest.importorskip("memjax.sklearn").MemoryNetworkClassifier()
    with pytest.raises(TypeError, match=r"X: expected an array without a mask"):
        estimator.fit(np.ma.masked_equal(np.eye(3), 0), [0, 1, 1])


def test_booleans_are_read_as_0_and_1():
    images = np.arange(48).reshape(3, *SHAPE) % 5 < 2
    learned, _ = fit(images)
    expected, _ = fit(images.astype(np.float32))
    np.testing.assert_array_equal(learned[1].prototypes, expected[1].prototypes)
    assert np.asarray(learned[1].prototypes).any()
    asked = memjax.predict_proba(NETWORK, PARAMS, learned, images)
    np.testing.assert_array_equal(
        asked, memjax.predict_proba(NETWORK, PARAMS, learned, images.astype(np.float32))
    )


@pytest.mark.parametrize("dtype", ["uint8", "int32", "int64", "float16", "float64", "bfloat16"])
def test_features_of_any_kind_of_number_are_learned_as_float32(dtype):
    layer = MemoryLayer(4, 3, 5)
    features = np.arange(12).reshape(3, 4) % 7
    params = memjax.calibrate(layer, layer.params(), features.astype(dtype), LABELS)
    learn = [
        memjax.fit(layer, params, layer.init(KEY), features.astype(kind), LABELS)
        for kind in (dtype, "float32")
    ]
    for got, expected in zip(*map(jax.tree.leaves, learn), strict=True):
        np.testing.assert_array_equal(got, expected)


def test_features_that_never_vary_around_a_large_mean_are_solved_for():
    readout, generator = memjax.RidgeReadout(4, 2), np.random.default_rng(0)
    labels = np.arange(40) % 2
    features = generator.normal(size=(40, 4)).astype(np.float32)
    features[:, 0] += 4 * labels
    features[:, 1:] = (3e4, 1e6, 7e9)
    state, _ = memjax.fit(readout, readout.params(), readout.init(KEY), features, labels)
    assert memjax.evaluate(readout, readout.params(), state, features, labels).accuracy > 0.9


def test_a_blank_image_is_seen_as_blank_without_a_contrast_constant():
    columns = memjax.Columns(SHAPE, patch=2, places=2, capacity=2, contrast_constant=0)
    state, _ = memjax.fit(columns, columns.params(), columns.init(KEY), IMAGES, LABELS)
    assert not state.drive.any() and not state.size.any()


def test_negative_activity_counts_as_none_in_a_vote_readout():
    readout = memjax.VoteReadout(2, 2)
    params = readout.params()
    features = np.array([[1, -3], [-2, 1]], np.float32)
    states = [
        memjax.fit(readout, params, readout.init(KEY), xs, np.array([0, 1]))[0]
        for xs in (features, np.maximum(features, 0))
    ]
    np.testing.assert_array_equal(states[0].activity, states[1].activity)
    assert memjax.predict(readout, params, states[0], features).tolist() == [0, 1]


def tiny(kind, factor):
    """200 rows or images of 2 classes that are easily told apart, and labels, times a factor."""
    generator = np.random.default_rng(0)
    labels = np.arange(200) % 2
    xs = generator.normal(size=(200, 16)) + 3 * labels[:, None]
    xs = xs if kind == "features" else xs.reshape(200, *SHAPE)
    with np.errstate(under="ignore"):
        return xs * factor, labels


def learner(kind):
    if kind == "features":
        layer = MemoryLayer(16, 2, 50)
        return layer, layer.params()
    return memjax.memory_network(SHAPE, 2, capacity=50, encoder="pixels")


@pytest.mark.parametrize("kind", ["features", "images"])
@pytest.mark.parametrize(
    ("factor", "dtype"),
    [(1e-18, np.float32), (1e-20, np.float64), (1e-42, np.float32), (1e-60, np.float64)],
)
def test_data_whose_squares_vanish_are_refused_wherever_they_are_learned(kind, factor, dtype):
    xs, labels = tiny(kind, factor)
    xs = xs.astype(dtype)
    network, params = learner(kind)
    set_params = memjax.replace_params(params, novelty_threshold=0.1)
    batches = [(xs[start : start + 7], labels[start : start + 7]) for start in range(0, 200, 7)]
    calls = [
        lambda: memjax.calibrate(network, params, xs, labels),
        lambda: memjax.learn(network, params, xs, labels),
        lambda: memjax.fit(network, set_params, network.init(KEY), xs, labels),
        lambda: memjax.fit_stream(network, set_params, network.init(KEY), batches),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="images: expected rows that differ by at least 1e-16"):
            call()


def test_what_vanishes_when_squared_is_refused_beside_a_constant_feature_too():
    xs, labels = tiny("features", 1e-20)
    xs = np.append(xs, np.ones((200, 1)), axis=1)
    layer = MemoryLayer(17, 2, 50)
    with pytest.raises(ValueError, match="images: expected rows that differ by at least 1e-16"):
        memjax.learn(layer, layer.params(), xs, labels)
    classifier = pytest.importorskip("memjax.sklearn").MemoryNetworkClassifier
    with pytest.raises(ValueError, match="X: expected rows that differ by at least 1e-16"):
        classifier().fit(xs, labels)


@pytest.mark.parametrize("kind", ["features", "images"])
def test_zeros_tiny_entries_and_quiet_beginnings_are_learned(kind):
    xs, labels = tiny(kind, 1)
    xs = xs.astype(np.float32)
    xs[:20] *= 1e-30
    xs[5], xs[30], xs.reshape(200, -1)[:, 3] = 0, 0, 1e-42
    network, params = learner(kind)
    params = memjax.calibrate(network, params, xs, labels)
    batches = [(xs[start : start + 5], labels[start : start + 5]) for start in range(0, 200, 5)]
    state, _ = memjax.fit(network, params, network.init(KEY), xs, labels)
    found, _ = memjax.fit_stream(network, params, network.init(KEY), batches)
    for learned in (state, found):
        assert memjax.num_memories(network, learned) > 3
        assert memjax.evaluate(network, params, learned, xs[40:], labels[40:]).accuracy > 0.95
    for same in (xs[:1] * 0 + 1e-30, np.ones_like(xs), np.zeros_like(xs)):
        memjax.fit(network, params, network.init(KEY), same, labels[: len(same)])


@pytest.mark.parametrize("factor", [1e-15, 1e14])
def test_small_and_large_features_give_the_same_answers(factor):
    answers = []
    for scale in (1, factor):
        xs, labels = tiny("features", scale)
        layer, params = learner("features")
        params, state, _ = memjax.learn(layer, params, xs.astype(np.float32), labels)
        answers.append(memjax.predict(layer, params, state, (xs[::-1] + scale).astype(np.float32)))
    assert np.mean(answers[0] == answers[1]) > 0.98


@pytest.mark.parametrize(
    ("factor", "shift"), [(1e-18, 0), (1e-18, 1e-5), (1e-30, 0), (1e-60, 0), (1e-200, 0)]
)
def test_the_estimator_refuses_what_hardly_differs(factor, shift):
    classifier = pytest.importorskip("memjax.sklearn").MemoryNetworkClassifier
    xs, labels = tiny("features", factor)
    xs = xs + shift
    with pytest.raises(ValueError, match="X: expected rows that differ by at least 1e-16"):
        classifier().fit(xs, labels)
    online = classifier()
    with (
        pytest.warns(UserWarning, match="X: expected rows that differ by at least 1e-16"),
        pytest.raises(ValueError, match="X: expected rows that differ by at least 1e-16"),
    ):
        for start in range(200):
            online.partial_fit(xs[start : start + 1], labels[start : start + 1], classes=[0, 1])
            online.predict(xs[:2])
    assert online.state_.num_seen == 63


@pytest.mark.filterwarnings("ignore:X. expected rows that differ")
def test_the_estimator_learns_from_a_stream_that_begins_quietly():
    classifier = pytest.importorskip("memjax.sklearn").MemoryNetworkClassifier
    xs, labels = tiny("features", 1)
    xs[:10] *= 1e-30
    xs[3], xs[:, 5] = 0, 1e-310
    online = classifier()
    for start in range(0, 200, 4):
        some = slice(start, start + 4)
        online.partial_fit(xs[some], labels[some], classes=[0, 1])
    assert online.score(xs[20:], labels[20:]) > 0.95
    online.partial_fit(xs[:100] * 1e-30, labels[:100])
