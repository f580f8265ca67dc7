"""fit, fit_stream and calibrate: the same whatever the batches, and what bad input is told."""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import memjax
from memjax import streams
from memjax.base import Layer
from memjax.composition import Chain, Concatenate, Reshape
from memjax.exemplars import Exemplars
from memjax.memory import MemoryLayer
from memjax.networks import memory_network
from memjax.params import replace_params
from memjax.readouts import RidgeReadout
from memjax.streams import Tally
from memjax.vision import Columns
from memjax.vision.encoders import FeatureMap, Pixels

KEY = jax.random.key(0)


def network_of(**fields):
    fields = {"capacity": 20, "encoder": "pixels", "novelty_threshold": 0.02, **fields}
    return memory_network((6, 6, 1), 3, **fields)


def columnar():
    """Columns that decorrelate, with a readout, and their params."""
    columns = Columns((6, 6, 1), 3, places=2, capacity=6, dimensions=5)
    network = Chain((columns, RidgeReadout(columns.output_shape[0], 3)))
    return network, replace_params(network.default_params(), decorrelation_period=20)


def assert_same(found, expected):
    """Assert that integers are equal and floats agree up to rounding."""
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        if jnp.issubdtype(b.dtype, jnp.floating):
            np.testing.assert_allclose(a, b, atol=1e-5)
        else:
            np.testing.assert_array_equal(a, b)


def cut(images, labels, sizes):
    start = 0
    for size in sizes:
        yield images[start : start + size], labels[start : start + size]
        start += size
    assert start == len(images)


def test_fit_learns_as_steps_do_one_by_one(images, labels):
    network, params = network_of()
    rows = jnp.asarray(images), jnp.asarray(labels)
    expected, _, infos = jax.jit(Layer.step_block, static_argnums=0)(
        network, params, network.init(KEY), *rows
    )
    state, found = memjax.fit(network, params, network.init(KEY), images, labels, 7)
    assert_same(state, expected)
    assert_same(found, infos)
    assert state[1].num_seen == 60
    assert 3 < state[1].size < 60


@pytest.mark.parametrize("block_size", [1, 60, 1000])
def test_fit_gives_the_same_for_any_block_size(images, labels, block_size):
    network, params = network_of()
    expected = memjax.fit(network, params, network.init(KEY), images, labels, 7)
    found = memjax.fit(network, params, network.init(KEY), images, labels, block_size)
    assert_same(found, expected)


def test_fit_leaves_the_state_it_was_given_as_it_was(images, labels):
    network, params = network_of()
    state = network.init(KEY)
    memjax.fit(network, params, state, images, labels)
    memjax.fit_stream(network, params, state, [(images, labels)])
    assert_same(state, network.init(KEY))


def test_learn_gives_up_no_array_of_the_layer(images, labels):
    network, params = network_of()
    kept = network.init(KEY)

    class Shared(type(network)):
        def init(self, key):
            del key
            return kept

    shared = Shared(network.layers)
    for _ in range(2):
        _, state, _ = memjax.learn(shared, params, images, labels)
        assert_same(state, memjax.fit(network, params, kept, images, labels)[0])
    assert_same(kept, network.init(KEY))


@pytest.mark.parametrize("sizes", [(60,), (1,) * 60, (7, 1, 30, 2, 20), (16, 16, 16, 12)])
def test_a_stream_of_uneven_batches_gives_what_fit_gives(images, labels, sizes):
    network, params = network_of()
    expected, expected_infos = memjax.fit(network, params, network.init(KEY), images, labels, 16)
    infos, tallies = [], []

    def note(state, info, tally):
        assert state[1].num_seen == tally.num_seen
        infos.append(info)
        tallies.append(tally)

    stream = cut(images, labels, sizes)
    state, tally = memjax.fit_stream(
        network, params, network.init(KEY), stream, 16, callbacks=[note]
    )
    assert_same(state, expected)
    assert [tally.num_seen for tally in tallies] == [16, 32, 48, 60]
    assert tallies[-1] == tally
    assert [len(info.predicted) for info in infos] == [16, 16, 16, 12]
    joined = jax.tree.map(lambda *parts: np.concatenate(parts), *infos)
    assert_same(joined, expected_infos)


def test_one_pass_is_a_fact(images, labels):
    """A network with depth learns from a generator that hands out each image once and is gone."""
    eye = Columns((6, 6, 1), 3, places=2, capacity=6, fixations=2, reach=2, dimensions=5)
    both = Concatenate((Reshape((24,)), Exemplars(24, capacity=10)))
    network = Chain((eye, both, RidgeReadout(34, 3)))
    numbers = eye.params(novelty_threshold=0, blank_contrast=0, decorrelation_period=20)
    params = (numbers, *network.default_params()[1:])
    handed_out = []

    def stream():
        for index in range(len(images)):
            handed_out.append(index)
            lent = images[index : index + 1].copy()
            yield lent, labels[index : index + 1]
            lent[:] = 255  # whoever looks again sees nothing

    state = network.init(KEY)
    once = stream()
    state, _ = memjax.fit_stream(network, params, state, once, block_size=16)
    assert handed_out == list(range(len(images)))
    assert next(once, None) is None
    whole, _ = memjax.fit(network, params, network.init(KEY), images, labels, block_size=16)
    found, expected = (memjax.predict_proba(network, params, s, images) for s in (state, whole))
    np.testing.assert_allclose(found, expected, atol=1e-3)
    assert np.ptp(expected) > 0.1


def test_every_block_is_learned_before_more_is_read(images, labels):
    network, params = network_of()
    read, learned = [], []

    def endless():
        while True:
            read.append(10)
            yield images[:10], labels[:10]

    def note(state, infos, tally):
        learned.append(sum(read))
        if tally.num_seen == 60:
            raise KeyboardInterrupt  # the only end that an endless stream has

    with pytest.raises(KeyboardInterrupt):
        memjax.fit_stream(network, params, network.init(KEY), endless(), 20, callbacks=[note])
    assert learned == [20, 40, 60]


SCALED = Chain((FeatureMap(Pixels((6, 6, 1))), Reshape((6, 6, 1), (36,)), MemoryLayer(36, 3, 20)))
SCALED_PARAMS = ((), (), SCALED.layers[2].params(novelty_threshold=1.0, plasticity_floor=0.1))


def as_dtype(images, name):
    """Images of 0 to 255 on the scale of another dtype: integers are read as 255ths."""
    kind = jnp.dtype(name)
    return images.astype(kind) if kind.kind in "iu" else (images / 255).astype(kind)


@pytest.mark.parametrize(
    "block_size",
    [10, *(pytest.param(size, marks=pytest.mark.long) for size in (1, 16, 200))],
)
@pytest.mark.parametrize(
    "names",
    [
        ("float32", "uint8", "uint8"),
        ("uint8", "float32", "uint8"),
        ("float64", "float32", "int64", "int32"),
        *(
            pytest.param(names, marks=pytest.mark.long)
            for names in (
                ("uint16", "float16", "bool", "uint8"),
                ("bool", "uint8", "int8", "bfloat16", "uint32", "uint64"),
            )
        ),
    ],
)
def test_a_stream_reads_each_batch_on_the_scale_of_its_own_dtype(images, labels, names, block_size):
    # As many as fill a block, so that nothing is left of the first batch for the second.
    sizes = [10] * 6
    stream = [
        (as_dtype(some // 2, names[index % len(names)]), of_class)
        for index, (some, of_class) in enumerate(cut(images, labels, sizes))
    ]
    expected = SCALED.init(KEY)
    for some, of_class in stream:
        expected, _, _ = SCALED.step_block(SCALED_PARAMS, expected, some, of_class)
    state, tally = memjax.fit_stream(
        SCALED, SCALED_PARAMS, SCALED.init(KEY), iter(stream), block_size
    )
    assert_same(state, expected)
    assert tally.num_seen == 60
    assert np.asarray(state[2].prototypes).max() <= 1


def test_features_of_any_dtype_fill_one_block(images, labels):
    layer = MemoryLayer(36, 3, 20)
    params = layer.params(novelty_threshold=100.0)
    rows = images.reshape(60, 36)
    names = ("float64", "uint8", "float16", "int64", "bool", "float32")
    stream = [
        (some.astype(name), of_class)
        for name, (some, of_class) in zip(names, cut(rows, labels, [10] * 6), strict=True)
    ]
    sizes = []
    state, _ = memjax.fit_stream(
        layer, params, layer.init(KEY), stream, 16, callbacks=[lambda *seen: sizes.append(seen[2])]
    )
    joined = np.concatenate([some.astype(np.float32) for some, _ in stream])
    expected, _ = memjax.fit(layer, params, layer.init(KEY), joined, labels, 16)
    assert_same(state, expected)
    assert [tally.num_seen for tally in sizes] == [16, 32, 48, 60]


def test_an_empty_stream_teaches_nothing():
    network, params = network_of()
    state, tally = memjax.fit_stream(network, params, network.init(KEY), iter(()))
    assert_same(state, network.init(KEY))
    assert tally == Tally() and tally.prequential_accuracy == 0


def test_calibrate_estimates_the_median_distance_to_the_nearest_other_example():
    layer = MemoryLayer(1, 2, 8)
    xs = np.array([[0.0], [1.0], [3.0], [900.0]], np.float32)
    params = memjax.calibrate(layer, layer.default_params(), xs, np.array([0, 1, 0, 1]))
    np.testing.assert_allclose(params.novelty_threshold, (1 + 4) / 2)


def test_calibrate_leaves_a_threshold_that_is_set():
    layer = MemoryLayer(1, 2, 8)
    xs, labels = np.array([[0.0], [1.0]], np.float32), np.array([0, 1])
    params = memjax.calibrate(layer, layer.params(0.25, 0.5), xs, labels)
    assert (params.novelty_threshold, params.plasticity_floor) == (0.25, 0.5)


def test_calibrate_on_a_single_example_gives_0():
    layer = MemoryLayer(1, 2, 8)
    params = memjax.calibrate(layer, layer.params(), np.ones((1, 1), np.float32), np.array([0]))
    assert params.novelty_threshold == 0


def test_calibrate_makes_the_default_params_of_a_network_fit_to_learn(images, labels):
    network, params = network_of(novelty_threshold="auto")
    params = memjax.calibrate(network, params, images, labels)
    assert params[1].novelty_threshold > 0
    state, _ = memjax.fit(network, params, network.init(KEY), images, labels)
    assert state[1].size > 3


@pytest.mark.parametrize("on_full", ["adapt", "replace"])
def test_a_sweep_by_vmap_is_its_members_one_by_one(images, labels, on_full):
    network, params = network_of(on_full=on_full)
    thresholds = jnp.array([0.0, 0.018, 0.021, 0.022, 0.023, 0.03, 0.2, jnp.inf])
    swept = jax.vmap(lambda t: replace_params(params, novelty_threshold=t))(thresholds)
    state = network.init(KEY)
    found = jax.vmap(memjax.fit, in_axes=(None, 0, None, None, None))(
        network, swept, state, images, labels
    )
    sizes = []
    for index, threshold in enumerate(thresholds):
        member = replace_params(params, novelty_threshold=threshold)
        expected = memjax.fit(network, member, state, images, labels)
        assert_same(jax.tree.map(lambda x, i=index: x[i], found), expected)
        sizes.append(expected[0][1].size.item())
    assert len(set(sizes)) >= 4


@pytest.mark.parametrize("network", [network_of(), columnar()], ids=["memory", "columnar"])
def test_members_with_streams_of_their_own_have_the_bits_of_single_calls(images, labels, network):
    network, params = network
    params = memjax.calibrate(network, params, images, labels)
    state = network.init(KEY)
    orders = np.stack([np.random.default_rng(seed).permutation(len(labels)) for seed in range(3)])
    streams = images[orders], labels[orders]
    found = jax.vmap(memjax.fit, in_axes=(None, None, None, 0, 0))(network, params, state, *streams)
    for index, (member_images, member_labels) in enumerate(zip(*streams, strict=True)):
        expected = memjax.fit(network, params, state, member_images, member_labels)
        member = jax.tree.map(lambda leaf, i=index: leaf[i], found)
        jax.tree.map(np.testing.assert_array_equal, member, expected)


@dataclasses.dataclass(frozen=True)
class CountedPixels(Pixels):
    """An encoder that counts the blocks it sees while the program runs."""

    def step_block(self, params, state, xs, labels, length=None):
        """Count it, and encode."""
        jax.debug.callback(lambda: SEEN.append("block"))
        return super().step_block(params, state, xs, labels, length)


SEEN: list[str] = []


@pytest.mark.parametrize("num_streams", [1, 3])
def test_an_encoder_sees_an_image_once_for_all_members_that_share_it(images, labels, num_streams):
    bank = MemoryLayer(36, 3, capacity=8)
    network = Chain((CountedPixels((6, 6, 1)), bank))
    params = jax.vmap(lambda t: ((), bank.params(t)))(jnp.array([0.01, 0.02, 0.03]))
    state, axis = network.init(KEY), None
    if num_streams > 1:
        images, labels, axis = np.stack([images] * 3), np.stack([labels] * 3), 0
    SEEN.clear()
    sweep = jax.vmap(memjax.fit, in_axes=(None, 0, None, axis, axis, None))
    jax.block_until_ready(sweep(network, params, state, images, labels, 10))
    jax.effects_barrier()
    assert len(SEEN) == num_streams * images.shape[-4] / 10


BAD_INPUT = {
    "images of the wrong shape": (
        {"images": np.zeros((60, 6, 5, 1), np.uint8)},
        ValueError,
        "images: expected [N, 6, 6, 1], got [60, 6, 5, 1].",
    ),
    "images of the wrong rank": (
        {"images": np.zeros((60, 6, 6), np.uint8)},
        ValueError,
        "images: expected [N, 6, 6, 1], got [60, 6, 6].",
    ),
    "no images": (
        {"images": np.zeros((0, 6, 6, 1), np.uint8), "labels": np.zeros(0, int)},
        ValueError,
        "images: expected [N, 6, 6, 1], got [0, 6, 6, 1].",
    ),
    "images that are no array": (
        {"images": [[0.0]]},
        TypeError,
        "images: expected an array, got list.",
    ),
    "images that are complex": (
        {"images": np.zeros((60, 6, 6, 1), np.complex64)},
        TypeError,
        "images: expected integers or real numbers, got complex64.",
    ),
    "a NaN": (
        {
            "images": np.where(
                np.arange(60)[:, None, None, None] == 41, np.nan, np.ones((60, 6, 6, 1))
            )
        },
        ValueError,
        "images: expected finite numbers, got a NaN or an infinity in row 41.",
    ),
    "labels that are floats": (
        {"labels": np.zeros(60, np.float32)},
        TypeError,
        "labels: expected integers, got float32.",
    ),
    "labels that are no array": (
        {"labels": [0] * 60},
        TypeError,
        "labels: expected an array, got list.",
    ),
    "too few labels": (
        {"labels": np.zeros(59, int)},
        ValueError,
        "labels: expected [60], got [59].",
    ),
    "labels as columns": (
        {"labels": np.zeros((60, 1), int)},
        ValueError,
        "labels: expected [60], got [60, 1].",
    ),
    "a label too high": (
        {"labels": np.full(60, 3)},
        ValueError,
        "labels: expected classes 0 to 2, or -1 for unlabelled, got 3.",
    ),
    "a label too low": (
        {"labels": np.full(60, -2)},
        ValueError,
        "labels: expected classes 0 to 2, or -1 for unlabelled, got -2.",
    ),
    "no network": (
        {"network": "edges"},
        TypeError,
        "network: expected a memjax layer, got str.",
    ),
    "a block size of 0": (
        {"block_size": 0},
        ValueError,
        "block_size: expected a positive integer, got 0.",
    ),
    "a block size that is no integer": (
        {"block_size": 2.5},
        TypeError,
        "block_size: expected a positive integer, got 2.5.",
    ),
    "a threshold still to be set": (
        {"params": network_of(novelty_threshold="auto")[1]},
        ValueError,
        'params[1].novelty_threshold: is still "auto"; give a number, or estimate it with '
        "memjax.calibrate(network, params, images, labels).",
    ),
    "a threshold for each of many": (
        {"params": replace_params(network_of()[1], novelty_threshold=np.zeros(3))},
        ValueError,
        "params[1].novelty_threshold: expected [], got [3].",
    ),
}

every_bad_input = pytest.mark.parametrize(
    ("bad", "kind", "message"), BAD_INPUT.values(), ids=BAD_INPUT
)


@every_bad_input
def test_fit_says_what_it_cannot_learn_from(images, labels, bad, kind, message):
    network, params = network_of()
    arguments = {"network": network, "params": params, "images": images, "labels": labels, **bad}
    with pytest.raises(kind) as caught:
        memjax.fit(state=network.init(KEY), **arguments)
    assert str(caught.value) == message


@every_bad_input
def test_fit_stream_says_what_it_cannot_learn_from(images, labels, bad, kind, message):
    network, params = network_of()
    arguments = {"network": network, "params": params, **bad}
    stream = [(arguments.pop("images", images), arguments.pop("labels", labels))]
    with pytest.raises(kind) as caught:
        memjax.fit_stream(state=network.init(KEY), stream=stream, **arguments)
    assert str(caught.value) == message


def test_params_of_another_network_are_an_error(images, labels):
    network, _ = network_of()
    with pytest.raises(ValueError, match="params: expected the structure PyTreeDef"):
        memjax.fit(network, (), network.init(KEY), images, labels)


def test_calibrate_says_what_it_cannot_estimate_from(images, labels):
    network, params = network_of()
    with pytest.raises(ValueError, match=r"labels: expected \[60\], got \[59\]\."):
        memjax.calibrate(network, params, images, labels[:59])


def test_a_block_is_learned_as_soon_as_it_is_full_and_ends_where_the_dtype_changes():
    pulled = []

    def stream():
        for size, dtype in ((4, np.uint8), (5, np.uint8), (6, np.float32), (1, np.float32)):
            pulled.append(size)
            yield np.zeros((size, 2), dtype), np.zeros(size, np.int32)

    blocks = streams._blocks(stream(), block_size=6)
    found = [(len(labels), xs.dtype.name, is_rest, len(pulled)) for xs, labels, is_rest in blocks]
    assert found == [
        (6, "uint8", False, 2),
        (3, "uint8", False, 3),
        (6, "float32", False, 3),
        (1, "float32", True, 4),
    ]


def test_every_block_of_a_stream_has_one_shape(images, labels, monkeypatch):
    shapes, learn_block = [], streams.learn_block

    def noting(network, params, state, images, labels, length):
        shapes.append((images.shape, labels.shape))
        return learn_block(network, params, state, images, labels, length)

    monkeypatch.setattr(streams, "learn_block", noting)
    layer = memjax.Pixels((6, 6, 1))
    batches = ((images[start : start + 7], labels[start : start + 7]) for start in range(0, 60, 7))
    memjax.fit_stream(layer, (), layer.init(jax.random.key(0)), batches, block_size=16)
    assert shapes == [((16, 6, 6, 1), (16,))] * 4


@pytest.mark.parametrize(
    "layers",
    [
        (memjax.MemoryLayer(64, 10, 500),),
        (memjax.RidgeReadout(64, 10),),
        (memjax.Exemplars(64, 300), memjax.RidgeReadout(300, 10)),
        (memjax.Decorrelation(64, 50), memjax.RidgeReadout(50, 10)),
        (
            memjax.Reshape((64,), (8, 8, 1)),
            memjax.Columns((8, 8, 1), patch=4, places=3, capacity=60, dimensions=15),
            memjax.RidgeReadout(540, 10),
        ),
    ],
    ids=["memories", "ridge", "exemplars", "decorrelation", "columns"],
)
def test_what_all_examples_share_changes_no_answer(layers):
    train, test = (memjax.datasets.load("digits", split) for split in ("train", "test"))
    network, accuracies = memjax.Chain(layers), []
    for offset in (0, 300, -10_000):  # in units of the greatest difference between two pixels
        rows, asked = (
            data.images.reshape(-1, 64).astype(np.float32) / 255 + np.float32(offset)
            for data in (train, test)
        )
        params, state, _ = memjax.learn(network, network.default_params(), rows, train.labels)
        result = memjax.evaluate(network, params, state, asked, test.labels)
        accuracies.append(result.accuracy)
    assert accuracies[0] > 0.85
    assert max(accuracies) - min(accuracies) < 0.012, accuracies


def test_rows_are_doubted_once_where_float32_cannot_tell_them_apart():
    rows, labels = np.arange(120.0)[:, None] % 7 + 1.7e9 * np.ones((1, 3)), np.arange(120) % 2
    network = memjax.MemoryLayer(3, 2, 50)
    params = network.params(novelty_threshold=0.5)
    with pytest.warns(UserWarning, match="images: rows lie 283,333,333 times as far") as said:
        memjax.fit(network, params, network.init(KEY), rows, labels)
    assert [Path(warning.filename).name for warning in said] == ["test_training.py"]
    stream = [(rows[i : i + 10], labels[i : i + 10]) for i in range(0, 120, 10)]
    with pytest.warns(UserWarning, match="subtract a typical row before") as said:
        memjax.fit_stream(network, params, network.init(KEY), stream * 12)
    assert len(said) == 1
    memjax.fit(network, params, network.init(KEY), rows - rows[0], labels)
    years = np.arange(120)[:, None] % 7 + np.full((1, 3), 2020)
    memjax.fit(network, params, network.init(KEY), years, labels)
