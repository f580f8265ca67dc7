"""Whatever is thrown at the public entries: a result, or an error that memjax itself raises.

An error of NumPy, JAX or XLA that comes through from below fails here, and so does one of memjax
that does not begin with the name of what is wrong.
"""

import dataclasses
import re
import tempfile
import traceback
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import memjax
from memjax import checkpoint, datasets

HOME = str(Path(str(memjax.__file__)).parent)
KEY = jax.random.key(0)


def thrown(max_examples=60):
    """Settings under which a red run can be repeated."""
    return settings(
        deadline=None,
        derandomize=True,
        max_examples=max_examples,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


def answer(function, *arguments, may_be_sklearn=False, **named):
    """The result of a call, or None where it was refused in a sentence that names an argument.

    Where ``may_be_sklearn``, scikit-learn's own validation may refuse it, in its own words.
    """
    try:
        result = function(*arguments, **named)
    except (ValueError, TypeError) as error:
        frames = traceback.extract_tb(error.__traceback__)
        is_told = frames[-1].filename.startswith(HOME) or (
            may_be_sklearn and any("sklearn/utils" in frame.filename for frame in frames)
        )
        assert is_told, f"raised in {frames[-1]}: {error}"
        if frames[-1].filename.startswith(HOME):
            sentence = r"[\w.\[\]/, -]+: (expected|is still|the array|.* has) .+\."
            assert re.fullmatch(sentence, str(error)), error
        return None
    return result


def is_free_of_nan(tree) -> bool:
    return not any(np.isnan(np.asarray(leaf, np.float64)).any() for leaf in jax.tree.leaves(tree))


def module_function(learning_rate):
    return learning_rate


JUNK = (
    None,
    True,
    0,
    -1,
    3,
    2.5,
    2**40,
    -(2**70),
    10**400,
    float("nan"),
    float("inf"),
    1e300,
    -1e-45,
    1j,
    "",
    "edges",
    b"edges",
    (),
    (1, 2),
    (4, 4, 1),
    (4, -4, 1.5),
    [4, 4, 1],
    [[1.0], [2.0, 3.0]],
    {},
    {"a": 1},
    object(),
    module_function,
    memjax.MemoryLayer,
    memjax.Pixels((4, 4, 1)),
    np.float32(0.5),
    np.int64(2),
    np.array(0.5),
    np.array(["edges"]),
    np.array([0.1, np.nan]),
    np.array([1j]),
    np.array([None, 1], object),
    np.array("2020-01-01", "M8[D]"),
    np.ma.masked_array([1.0, 2.0], [True, False]),
    jnp.zeros(2, jnp.bfloat16),
    jnp.float32(-1),
    jax.random.key(0),
    jax.ShapeDtypeStruct((3, 4, 4, 1), np.uint8),
)
junk = st.sampled_from(JUNK)

DTYPES = (
    *("uint8", "uint16", "uint64", "int8", "int32", "int64", "float16", "float32", "float64"),
    *("bfloat16", "bool", "complex64", "longdouble", ">f4", ">i2", "O", "U3", "S3", "m8[s]"),
)
NUMBERS = (0, 1, -1, -2, 2, 255, 300, 2**31, 2**40, 1e-45, 1e-30, 0.5, 1e15, 1e16, 1e30, -1e30)


@st.composite
def arrays(draw, shapes, dtypes=DTYPES):
    """Arrays, or what looks like one: drawn shapes, dtypes, numbers and containers."""
    dtype = np.dtype(draw(st.sampled_from(dtypes)))
    shape = draw(st.sampled_from(shapes))
    numbers = np.array(draw(st.sampled_from((0, 1, 2, *NUMBERS))))
    with np.errstate(all="ignore"):
        try:
            array = np.full(shape, numbers.astype(dtype))
        except OverflowError:
            array = np.zeros(shape, dtype)
        if array.size > 1 and draw(st.booleans()):
            others = (0, 1, *NUMBERS) + (np.nan, np.inf, -np.inf) * (dtype.kind == "f")
            array.flat[-1] = np.array(draw(st.sampled_from(others))).astype(dtype)
    container = draw(st.sampled_from(("numpy",) * 5 + ("jax", "list", "masked", "columns")))
    if container == "jax" and dtype.isnative and dtype.kind in "biufV" and dtype.itemsize <= 8:
        return jnp.asarray(array)
    if container == "list":
        return array.tolist()
    if container == "masked" and array.dtype.kind in "biuf":
        return np.ma.masked_equal(array, 0)
    return np.asfortranarray(array) if container == "columns" else array


# Good ones are drawn more often, so that the later checks are reached too.
SHAPES = [(3, 4, 4, 1)] * 8
SHAPES += [(0, 4, 4, 1), (4, 4, 1), (3, 4, 4), (3, 4, 4, 3), (3, 5, 4, 1), (3, 4, 4, 1, 1), (3, 16)]
SHAPES += [(), (3,), (2, 4, 4, 1), (3, 0, 4, 1)]
IMAGES = arrays(SHAPES, ("uint8", "float32", *DTYPES)) | junk
LABELS = arrays([(3,)] * 6 + [(0,), (3, 1), (2,), ()], ("int32", "int64", *DTYPES)) | junk

NETWORK, PARAMS = memjax.memory_network(
    (4, 4, 1), 3, capacity=5, encoder="pixels", novelty_threshold=0.2
)
STATE = NETWORK.init(KEY)
OTHER, OTHER_PARAMS = memjax.memory_network((4, 4, 1), 3, capacity=6, encoder="pixels")
EMPTY = jax.tree.map(lambda leaf: leaf[None], STATE)
GOOD_IMAGES, GOOD_LABELS = np.eye(3, 16, dtype=np.uint8).reshape(3, 4, 4, 1), np.array([0, 1, -1])

PARTS = {
    "network": st.just(NETWORK) | st.just(OTHER) | junk,
    "params": st.just(PARAMS) | st.just(OTHER_PARAMS) | junk | junk.map(lambda leaf: ((), leaf))
    | junk.map(lambda leaf: ((), PARAMS[1]._replace(novelty_threshold=leaf))),
    "state": st.just(STATE) | st.just(OTHER.init(KEY)) | st.just(EMPTY) | junk
    | junk.map(lambda leaf: (STATE[0], STATE[1]._replace(size=leaf))),
    "images": IMAGES,
    "labels": LABELS,
    "block_size": st.sampled_from([2, 3]) | junk,
}  # fmt: skip
GOOD = {
    "network": NETWORK,
    "params": PARAMS,
    "state": STATE,
    "images": GOOD_IMAGES,
    "labels": GOOD_LABELS,
    "block_size": 3,
}


@st.composite
def spoiled(draw, good, parts):
    """Good arguments, one or two of them in place of which anything may be."""
    names = draw(st.lists(st.sampled_from(sorted(parts)), min_size=1, max_size=2, unique=True))
    return {**good, **{name: draw(parts[name]) for name in names}}


def parts_of(*names):
    return {name: GOOD[name] for name in names}, {name: PARTS[name] for name in names}


def assert_learned(found):
    if found is not None:
        state, _ = found
        assert is_free_of_nan(state)


@thrown(120)
@given(spoiled(*parts_of("network", "params", "state", "images", "labels", "block_size")))
def test_fit(arguments):
    assert_learned(answer(memjax.fit, **arguments))


@thrown(60)
@given(images=IMAGES, labels=LABELS)
def test_fit_learns_images_and_labels_of_any_kind(images, labels):
    assert_learned(answer(memjax.fit, **{**GOOD, "images": images, "labels": labels}))


STREAM_GOOD = {
    **parts_of("network", "params", "state", "block_size")[0],
    "stream": [(GOOD_IMAGES, GOOD_LABELS)],
    "consolidate_at": (),
    "callbacks": (),
    "progress": False,
    "checkpoint_dir": None,
    "checkpoint_every": 10,
    "keep": 2,
}
STREAM_PARTS = {
    **parts_of("network", "params", "state")[1],
    "stream": st.tuples(IMAGES, LABELS).map(lambda batch: [(GOOD_IMAGES, GOOD_LABELS), batch])
    | junk.filter(lambda stream: not callable(stream)) | junk.map(lambda batch: [batch]),
    # A block is filled up, and one of 2 ** 40 rows would be held whole.
    "block_size": junk.filter(lambda size: not (isinstance(size, int) and size > 3)),
    "consolidate_at": junk | junk.map(lambda number: [2, number]),
    # What a function of the user raises is the user's.
    "callbacks": junk
    | junk.filter(lambda value: value is not module_function).map(lambda value: [value]),
    "progress": junk.filter(lambda progress: progress is not True),
    "checkpoint_dir": junk.filter(lambda path: not isinstance(path, str)),
    "checkpoint_every": junk,
    "keep": junk,
}  # fmt: skip


@thrown(120)
@given(spoiled(STREAM_GOOD, STREAM_PARTS))
def test_fit_stream(arguments):
    assert_learned(answer(memjax.fit_stream, **arguments))


@thrown()
@given(spoiled(*parts_of("network", "params", "images", "labels")))
def test_calibrate(arguments):
    params = answer(memjax.calibrate, **arguments)
    assert params is None or is_free_of_nan(params)


@pytest.mark.parametrize(
    "ask", [memjax.predict, memjax.predict_proba, memjax.explain, memjax.novelty_score]
)
@thrown()
@given(
    spoiled(*parts_of("network", "params", "state", "images")),
    st.sampled_from([2, 500]) | junk,
)
def test_questions(ask, arguments, batch_size):
    arguments = {**arguments, "batch_size": batch_size}
    found = answer(ask, **arguments)
    assert found is None or (ask is memjax.novelty_score or is_free_of_nan(found))


@thrown()
@given(spoiled(*parts_of("network", "params", "state", "images", "labels")))
def test_evaluate(arguments):
    labelled = {**arguments, "labels": np.zeros(3, int)}
    found = answer(
        memjax.evaluate, **(labelled if arguments["labels"] is GOOD_LABELS else arguments)
    )
    assert found is None or found.accuracy == 0


# Layers, one of each kind, as (class, good fields).
LAYERS = {
    "memory": memjax.MemoryLayer(4, 3, 5),
    "pixels": memjax.Pixels((4, 4, 1)),
    "blur": memjax.Blur((4, 4, 1), grid=3),
    "on_off": memjax.OnOff((4, 4, 1)),
    "edges": memjax.OrientedEdges((4, 4, 1), grid=2),
    "map": memjax.FeatureMap(memjax.OrientedEdges((4, 4, 1), grid=2)),
    "grey": memjax.Grey((4, 4, 3)),
    "columns": memjax.Columns((4, 4, 1), patch=2, places=2, capacity=2, dimensions=2),
    "eye": memjax.Columns(
        (4, 4, 1), patch=2, places=2, capacity=2, fixations=2, reach=2, contrast_constant=0
    ),
    "decorrelation": memjax.Decorrelation(4, 2),
    "projection": memjax.RandomProjection(4, 2),
    "exemplars": memjax.Exemplars(4, 3),
    "vote_readout": memjax.VoteReadout(4, 3),
    "delta_readout": memjax.DeltaReadout(4, 3),
    "ridge_readout": memjax.RidgeReadout(4, 3),
    "chain": NETWORK,
    "vote": memjax.Vote((memjax.MemoryLayer(4, 3, 5),) * 2),
    "side_by_side": memjax.Concatenate((memjax.Pixels((4, 4, 1)), memjax.OnOff((4, 4, 1)))),
    "same": memjax.Reshape((4,), (2, 2)),
    "mirrored": memjax.Mirrored(NETWORK),
}


def assert_usable(layer):
    """That one can compile for it, and that it says what it takes and hands on."""
    assert hash(layer) == hash(dataclasses.replace(layer))
    assert all(isinstance(n, int | np.integer) for n in layer.input_shape + layer.output_shape)


every_layer = pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)


@every_layer
@thrown()
@given(data=st.data())
def test_constructors(layer, data):
    field = data.draw(st.sampled_from(dataclasses.fields(layer))).name
    found = answer(dataclasses.replace, layer, **{field: data.draw(junk)})
    if found is not None:
        assert_usable(found)


@pytest.mark.parametrize(
    ("build", "good"),
    [
        (
            memjax.memory_network,
            {
                **{"image_shape": (4, 4, 3), "num_classes": 3, "capacity": 5, "encoder": "edges"},
                **{"novelty_threshold": 0.1, "plasticity_floor": 0.0, "supervised_growth": True},
                **{"distance": memjax.cosine, "on_full": "adapt", "num_neighbours": 3},
            },
        ),
        (
            memjax.columnar_network,
            {"image_shape": (16, 16, 1), "num_classes": 3, "size": "small", "is_mirrored": False},
        ),
    ],
)
@thrown()
@given(data=st.data())
def test_ready_made_networks(build, good, data):
    name = data.draw(st.sampled_from(sorted(good)))
    found = answer(build, **{**good, name: data.draw(junk)})
    if found is not None:
        assert_usable(found[0])


@every_layer
@thrown()
@given(data=st.data())
def test_params(layer, data):
    names = getattr(layer.default_params(), "_fields", ())
    if names and hasattr(layer, "params"):
        name = data.draw(st.sampled_from(names))
        params = answer(layer.params, **{name: data.draw(junk)})
        assert params is None or getattr(params, name).dtype == jnp.float32


@thrown()
@given(
    name=st.sampled_from(["novelty_threshold", "plasticity_floor", "ridge", "vigilance"]),
    value=junk,
    params=st.just(PARAMS) | st.just({"readout": memjax.RidgeReadout(4, 3).params()}) | junk,
)
def test_replace_params(name, value, params):
    found = answer(memjax.replace_params, params, **{name: value})
    assert found is None or jax.tree.structure(found) == jax.tree.structure(params)


@every_layer
@thrown(25)
@given(data=st.data())
def test_methods_of_layers(layer, data):
    params, state = layer.default_params(), layer.init(KEY)
    name = data.draw(st.sampled_from(["step", "step_block", "recall", "recall_block"]))
    leading = [(2,), (0,), (3,), ()] if "block" in name else [(), (), (2,)]
    shapes = [(*first, *layer.input_shape) for first in leading] * 2
    shapes += [(), (1,), (4, 4, 1), (2, 4, 4, 1), (2, 1), (2, 5), (2, 2, 2)]
    labels = arrays([(2,)] * 4 + [(), (1,), (3,)] if "block" in name else [()] * 4 + [(1,), (2,)])
    x = data.draw(arrays(shapes) | junk)
    rest = (data.draw(labels | st.just(jnp.zeros(2, jnp.int32))),) if "step" in name else ()

    def call():
        # Under a trace, as in the user's own jit; whether what is no array can be traced is not
        # the question.
        return jax.eval_shape(lambda: getattr(layer, name)(params, state, x, *rest))

    found = answer(call)
    if found is not None:
        code = found[1] if rest else found
        assert code.shape[len(code.shape) - len(layer.output_shape) :] == layer.output_shape


# Networks that learn anything finite, with the shapes of their inputs; each is compiled once.
BATCH, LARGEST = 6, 999999986991104.0  # the greatest float32 up to 1e15
COLUMNS = memjax.Columns((4, 4, 1), patch=2, places=2, capacity=2, contrast_constant=0)
WHITE = dataclasses.replace(COLUMNS, dimensions=2, response="triangle", square_root=True)
EYE = dataclasses.replace(COLUMNS, fixations=2, reach=2)
LEARNERS = {
    **{
        encoder: memjax.memory_network((4, 4, 1), 3, capacity=3, encoder=encoder)
        for encoder in ("on_off", "edges")
    },
    **{
        distance.name: (layer, layer.params(0.5, 0.1))
        for distance in (memjax.squared_euclidean, memjax.cosine, memjax.manhattan)
        for layer in [memjax.MemoryLayer(4, 3, 3, distance, on_full="replace")]
    },
    **{
        f"{name}_readout": (readout, readout.default_params())
        for name, readout in [
            ("vote", memjax.VoteReadout(4, 3)),
            ("delta", memjax.DeltaReadout(4, 3)),
            ("ridge", memjax.RidgeReadout(4, 3)),
        ]
    },
    "exemplars": (
        memjax.Chain((memjax.Decorrelation(4, 2), memjax.Exemplars(2, 3))),
        (
            memjax.Decorrelation(4, 2).params(0, 2, decorrelation_floor=0),
            memjax.Exemplars(2, 3).params(),
        ),
    ),
    "columns": (
        memjax.Chain((EYE, memjax.RidgeReadout(8, 3))),
        (COLUMNS.params(blank_contrast=0), memjax.RidgeReadout(8, 3).params()),
    ),
    "white": (
        WHITE,
        WHITE.params(blank_contrast=0, decorrelation_period=2, decorrelation_floor=0),
    ),
}


@pytest.mark.parametrize(("network", "params"), LEARNERS.values(), ids=LEARNERS)
@thrown(25)
@given(data=st.data())
def test_finite_examples_leave_no_nan_behind(network, params, data):
    shape = (BATCH, *network.input_shape)
    numbers = st.floats(-LARGEST, LARGEST, width=32) | st.sampled_from(
        [0.0, 1.0, 1e4, LARGEST, 1e-45]
    )
    images = data.draw(hnp.arrays(np.float32, shape, elements=numbers))
    labels = data.draw(hnp.arrays(np.int32, BATCH, elements=st.integers(-1, 2)))
    assume(not 0 < np.abs(images - images[0]).max() < 1e-16)  # refused: it vanishes when squared
    params = memjax.calibrate(network, params, images, labels)
    assert is_free_of_nan(params)
    state, infos = memjax.fit(network, params, network.init(KEY), images, labels, 4)
    assert is_free_of_nan((state, infos))
    assert is_free_of_nan(memjax.predict_proba(network, params, state, images))


ROWS, CLASSES = np.eye(6, 3), np.arange(6) % 2
TABLES = arrays(
    [(6, 3)] * 6 + [(0, 3), (6,), (6, 0), (5, 3), (6, 2, 2), (6, 2, 2, 1), ()],
    ("float64", "float64", *DTYPES),
)
TARGETS = arrays([(6,)] * 6 + [(5,), (0,), (6, 2), ()], ("int64", "int64", *DTYPES))


# scikit-learn casts labels of 1e30 to integers to see whether they are.
@pytest.mark.filterwarnings("ignore:invalid value encountered in cast")
@pytest.mark.filterwarnings("ignore:.*:UserWarning")
@thrown(50)
@given(data=st.data())
def test_the_estimator(data):
    classifier = pytest.importorskip("memjax.sklearn").MemoryNetworkClassifier
    good = {"X": ROWS, "y": CLASSES}
    # scikit-learn makes an OverflowError of this one.
    some = junk.filter(lambda value: not (isinstance(value, int) and value == 10**400))
    spoilt = data.draw(spoiled(good, {"X": TABLES | some, "y": TARGETS | some}))
    field = data.draw(st.none() | st.sampled_from(sorted(classifier().get_params())))
    # Either the rows are bad or a setting is.
    estimator = classifier() if field is None else classifier(**{field: data.draw(junk)})
    asked = spoilt if field is None else good
    if data.draw(st.booleans()):
        learned = answer(estimator.fit, **asked, may_be_sklearn=True)
    else:
        classes = data.draw(st.sampled_from([[0, 1], [0, 1, 2]]) | junk)
        learned = answer(estimator.partial_fit, **asked, classes=classes, may_be_sklearn=True)
    if learned is not None:
        assert is_free_of_nan(learned.state_)
        shares = answer(learned.predict_proba, spoilt["X"], may_be_sklearn=True)
        assert shares is None or np.allclose(shares.sum(axis=1), 1)


@thrown()
@given(data=st.data())
def test_datasets(data):
    arguments = {"name": "digits", "split": "test", "seed": 0, "data_dir": None, "cache_dir": None}
    name = data.draw(st.sampled_from(sorted(arguments)))
    found = answer(datasets.load, **{**arguments, name: data.draw(junk)})
    assert found is None or found.images.shape == (599, 8, 8, 1)


@thrown()
@given(spoiled(*parts_of("network", "params", "state")))
def test_saving(arguments):
    with tempfile.TemporaryDirectory() as folder:
        path = answer(checkpoint.save, Path(folder) / "saved", **arguments)
        # What may be saved can be restored, and nothing else is left on the disk.
        assert sorted(Path(folder).iterdir()) == ([] if path is None else [path])


@thrown()
@given(path=junk.filter(lambda path: not isinstance(path, str)), network=junk)
def test_paths_of_checkpoints(path, network):
    assert answer(checkpoint.save, path, **parts_of("network", "params", "state")[0]) is None
    assert answer(checkpoint.restore, path, network) is None


def test_figures_refuse_what_they_cannot_draw():
    pytest.importorskip("matplotlib")
    from memjax import plotting

    state, infos = memjax.fit(NETWORK, PARAMS, STATE, GOOD_IMAGES, GOOD_LABELS)
    eye = LAYERS["eye"]
    names, why = ("ant", "bee", "cat"), memjax.explain(NETWORK, PARAMS, state, GOOD_IMAGES[:1])
    found = memjax.evaluate(NETWORK, PARAMS, state, GOOD_IMAGES[:2], GOOD_LABELS[:2])
    figures = {
        plotting.memories: {"network": NETWORK, "state": state, "class_names": names}
        | {"num_columns": 3},
        plotting.columns: {"network": eye, "state": eye.init(KEY), "num_memories": 2},
        plotting.growth: {"infos": infos, "labels": GOOD_LABELS, "window": 2},
        plotting.confusion: {"evaluation": found, "class_names": names},
        plotting.why: {"network": NETWORK, "state": state, "image": GOOD_IMAGES[0]}
        | {"explanation": why, "class_names": names},
    }
    for draw, good in figures.items():
        assert answer(draw, **good) is not None
        for name in good:
            for bad in JUNK:
                answer(draw, **{**good, name: bad})
