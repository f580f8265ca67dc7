"""A layer answers for itself: its parts, memories, banks and places; so does a user's own."""

import dataclasses
import pickle
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import memjax
from memjax.base import Part, walk
from memjax.devices import memory_mesh

KEY = jax.random.key(0)
SHAPE = (6, 6, 1)


@dataclasses.dataclass(frozen=True)
class Halves(memjax.Layer):
    """A user's own layer of layers: two networks, each with half of the weight."""

    left: memjax.Layer
    right: memjax.Layer

    @property
    def input_shape(self):
        return self.left.input_shape

    @property
    def output_shape(self):
        return self.left.output_shape

    @property
    def num_classes(self):
        return self.left.output_shape[0]

    def default_params(self):
        return self.left.default_params(), self.right.default_params()

    def init(self, key):
        return self.left.init(key), self.right.init(key)

    def step(self, params, state, x, label):
        left, code, info = self.left.step(params[0], state[0], x, label)
        right, other, _ = self.right.step(params[1], state[1], x, label)
        return (left, right), (code + other) / 2, info

    def recall(self, params, state, x):
        codes = [
            part.layer.recall(part.params, part.state, x) for part in self.parts(params, state)
        ]
        return (codes[0] + codes[1]) / 2

    def parts(self, params, state):
        return Part(self.left, params[0], state[0]), Part(self.right, params[1], state[1])

    def calibrate(self, params, xs, labels, length=None):
        return (
            self.left.calibrate(params[0], xs, labels, length),
            self.right.calibrate(params[1], xs, labels, length),
        )

    def banks(self, params, state, xs=None):
        parts = self.parts(params, state)
        return sum((part.layer.banks(part.params, part.state, xs) for part in parts), ())


def grey(**options):
    return memjax.memory_network(SHAPE, 3, capacity=16, **options)


def network_of(name: str):
    network, params = grey()
    if name == "mirrored":
        return memjax.Mirrored(network), params
    if name == "concatenate":
        both = memjax.Concatenate((network, network))
        return both, (params, memjax.replace_params(params, plasticity_floor=0.5))
    if name == "chain of a chain":
        return memjax.Chain((memjax.Reshape(SHAPE), network)), ((), params)
    if name == "own":
        other, other_params = grey(encoder="pixels")
        return Halves(network, other), (params, other_params)
    if name == "mirrored own":
        other, other_params = network_of("own")
        return memjax.Mirrored(other), other_params
    return network, params


# The banks that answer, and how often each is asked about an image.
NETWORKS = {
    "plain": (1, 1),
    "mirrored": (1, 2),
    "concatenate": (2, 1),
    "chain of a chain": (1, 1),
    "own": (2, 1),
    "mirrored own": (2, 2),
}


@pytest.fixture(params=NETWORKS)
def trained(request, images, labels):
    network, params = network_of(request.param)
    params, state, infos = memjax.learn(network, params, images, labels)
    return network, params, state, infos, *NETWORKS[request.param]


def test_banks_explain_and_score_in_every_composition(trained, images):
    network, params, state, _, num_banks, times = trained
    found = memjax.explain(network, params, state, images[:5])
    assert found.memories.shape == (5, num_banks * times, 7)
    assert set(np.unique(found.labels)) <= {-1, 0, 1, 2}
    scores = memjax.novelty_score(network, params, state, images[:5])
    assert scores.shape == (5,) and np.all(scores >= 0)
    strange = memjax.novelty_score(
        network, params, state, images[:5, ::-1] // 2 + images[5:10] // 2
    )
    assert strange.mean() > scores.mean()


def test_memories_are_counted_in_every_composition(trained):
    network, params, state, infos, num_banks, _ = trained
    sizes = [bank.state.size.item() for bank in network.banks(params, state)]
    assert len(sizes) == num_banks
    assert memjax.num_memories(network, state) == sum(sizes) > 3
    if not isinstance(network, memjax.Mirrored) and not isinstance(network, Halves):
        assert memjax.evaluation.memories_added(infos).sum() == sum(sizes)


@pytest.mark.parametrize(
    "trained",
    # One that holds all others' kinds stands for them by default.
    [pytest.param(name, marks=[pytest.mark.long] * (name != "mirrored own")) for name in NETWORKS],
    indirect=True,
)
def test_every_composition_is_laid_over_devices(trained, images, labels):
    network, params, state, *_ = trained
    placed = memjax.shard(network, memory_mesh(jax.devices()[:2]))
    _, spread, _ = memjax.learn(placed, params, images, labels)
    banks = placed.banks(params, spread)
    assert all(len(bank.state.prototypes.sharding.device_set) == 2 for bank in banks)
    for one, other in zip(network.banks(params, state), banks, strict=True):
        np.testing.assert_allclose(other.state.prototypes, one.state.prototypes, atol=1e-6)
    asked = [
        memjax.predict_proba(layer, params, learned, images)
        for layer, learned in ((network, state), (placed, spread))
    ]
    np.testing.assert_allclose(*asked, atol=1e-5)


def test_a_walk_meets_every_layer_with_its_slices():
    network, params = memjax.memory_network((6, 6, 3), 3, capacity=4, novelty_threshold=0.5)
    params = params[0], tuple(p._replace(plasticity_floor=i / 4) for i, p in enumerate(params[1]))
    state = network.init(KEY)
    found = list(walk(memjax.Mirrored(network), params, state))
    kinds = [type(part.layer).__name__ for part in found]
    assert kinds == ["Mirrored", "Chain", "OrientedEdges", "Vote", *["MemoryLayer"] * 3]
    floors = [part.params.plasticity_floor for part in found[-3:]]
    assert floors == [0, 0.25, 0.5]
    assert found[-1].state is state[1][2]


def test_what_has_no_memories_says_so(images):
    network, params = memjax.columnar_network((8, 8, 1), 3, size="small")
    state = network.init(KEY)
    assert network.banks(params, state) == ()
    with pytest.raises(ValueError, match=r"answer comes from memories, got one .* RidgeReadout"):
        memjax.explain(network, params, state, np.zeros((1, 8, 8, 1), np.uint8))
    with pytest.raises(ValueError, match="expected one with memories to lay over devices"):
        memjax.shard(network, memory_mesh(jax.devices()[:1]))


@dataclasses.dataclass(frozen=True)
class Total(memjax.Layer):
    """A user's own layer that writes one example only, with names of its own."""

    width: int = 2

    @property
    def input_shape(self):
        return (self.width,)

    @property
    def output_shape(self):
        return (1,)

    def init(self, key):
        return jnp.zeros(())

    def step(self, params, state, pattern, target):
        return state + jnp.sum(pattern), self.recall(params, state, pattern), ()

    def recall(self, params, state, pattern):
        return jnp.sum(pattern)[None]


def test_the_inputs_of_a_users_own_layer_are_checked():
    layer = Total()
    state = layer.init(KEY)
    with pytest.raises(ValueError, match=r"pattern: expected \[2\], got \[3\]\."):
        layer.recall((), state, np.ones(3))
    with pytest.raises(ValueError, match=r"xs: expected \[B, 2\], got \[2\]\."):
        layer.recall_block((), state, np.ones(2))
    with pytest.raises(ValueError, match=r"target: expected \[\], got \[1\]\."):
        layer.step((), state, np.ones(2), np.zeros(1, int))
    with pytest.raises(TypeError, match=r"xs: expected an array, got list\."):
        layer.step_block((), state, [[1.0, 2.0]], np.zeros(1, int))
    new, _, _ = layer.step_block((), state, np.ones((3, 2)), np.zeros(3, int))
    assert new == 6


@pytest.mark.parametrize("kind", [np.uint8, np.int8, np.int64])
def test_numpy_scalars_in_fields_are_numbers_of_python(kind):
    layer = memjax.MemoryLayer(kind(4), num_classes=kind(3), capacity=kind(100))
    assert {type(value) for value in (layer.num_features, layer.num_classes, layer.capacity)} == {
        int
    }
    assert layer.init(KEY).votes.shape == (100, 3)
    blur = memjax.Blur((kind(4), kind(4), kind(1)), sigma=np.float64(0.1))
    assert {type(value) for value in (*blur.image_shape, blur.sigma)} == {int, float}


EVENTS: list[str] = []
jax.monitoring.register_event_duration_secs_listener(
    lambda event, duration_secs, **_: EVENTS.append(event)
)


def test_steps_outside_of_jit_are_compiled_once(images, labels):
    network, params = grey(novelty_threshold=0.1)
    state = network.init(KEY)
    state, _, _ = network.step(params, state, images[0], labels[0])
    EVENTS.clear()
    for image, label in zip(images[1:30], labels[1:30], strict=True):
        state, _, _ = network.step(params, state, image, label)
        # Rebuilt with equal fields, it is the same layer.
        network = grey(novelty_threshold=0.1)[0]
    assert "/jax/core/compile/backend_compile_duration" not in EVENTS
    expected, _ = memjax.fit(network, params, network.init(KEY), images[:30], labels[:30])
    assert memjax.num_memories(network, state) == memjax.num_memories(network, expected)


@pytest.mark.long
def test_questions_are_pure_functions_under_vmap_and_jit(images, labels):
    network, params = grey(novelty_threshold=0.1)
    sweep = jax.vmap(lambda t: memjax.replace_params(params, novelty_threshold=t))(
        jnp.array([0.0, 0.05, 0.3])
    )
    learn = jax.vmap(memjax.fit, in_axes=(None, 0, None, None, None))
    states, _ = learn(network, sweep, network.init(KEY), images, labels)
    accuracies = jax.vmap(
        lambda params, state: memjax.evaluate(network, params, state, images, labels).accuracy
    )(sweep, states)
    sizes = jax.vmap(partial(memjax.num_memories, network))(states)
    for index in range(3):
        one_params, one_state = jax.tree.map(lambda leaf, i=index: leaf[i], (sweep, states))
        alone = memjax.evaluate(network, one_params, one_state, images, labels)
        assert alone.accuracy == pytest.approx(accuracies[index].item(), abs=1e-6)
        assert memjax.num_memories(network, one_state) == sizes[index]
        for ask in (memjax.predict, memjax.predict_proba, memjax.novelty_score, memjax.explain):
            found = jax.jit(ask, static_argnums=0)(network, one_params, one_state, images)
            expected = ask(network, one_params, one_state, images)
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), found, expected)
        traced = jax.jit(memjax.evaluate, static_argnums=0)(
            network, one_params, one_state, images, labels
        )
        np.testing.assert_array_equal(traced.confusion, alone.confusion)


def test_learning_in_one_call_is_its_three_steps(images, labels):
    network, params = grey()
    learned, state, infos = memjax.learn(network, params, images, labels, jax.random.key(3))
    expected = memjax.calibrate(network, params, images, labels)
    assert learned == expected
    again, _ = memjax.fit(network, expected, network.init(jax.random.key(3)), images, labels)
    jax.tree.map(np.testing.assert_array_equal, state, again)
    assert infos.predicted.shape == (60,)
    inside = jax.jit(lambda images: memjax.learn(network, params, images, labels)[1])(images)
    _, outside, _ = memjax.learn(network, params, images, labels)
    np.testing.assert_allclose(inside[1].prototypes, outside[1].prototypes, atol=1e-6)


def test_numbers_are_found_and_replaced_by_name():
    network, params = memjax.memory_network((6, 6, 3), 3)
    assert len(memjax.find_params(params, "novelty_threshold")) == 3
    changed = memjax.replace_params(params, plasticity_floor=0.5)
    assert memjax.find_params(changed, "plasticity_floor") == (0.5, 0.5, 0.5)
    with pytest.raises(ValueError, match=r"name: expected that of a number in params, got 'theta'"):
        memjax.find_params(params, "theta")
    set_once = memjax.replace_params(params, novelty_threshold=0.5)
    again = memjax.replace_params(set_once, novelty_threshold="auto")
    with pytest.raises(ValueError, match='novelty_threshold: is still "auto"'):
        memjax.fit(network, again, network.init(KEY), np.zeros((1, 6, 6, 3)), np.zeros(1, int))
    with pytest.raises(TypeError, match="theta: expected one of novelty_threshold, plast"):
        memjax.MemoryLayer(2, 2, 2).params(theta=1)
    with pytest.raises(TypeError, match="plasticity_floor: given twice"):
        memjax.MemoryLayer(2, 2, 2).params(0.1, 0.2, plasticity_floor=0.3)
    with pytest.raises(TypeError, match="params: Pixels has no numbers to set"):
        memjax.Pixels(SHAPE).params(0.1)


def test_a_layer_over_devices_is_not_pickled_silently_wrong():
    layer = memjax.MemoryLayer(2, 2, 4)
    assert pickle.loads(pickle.dumps(layer)) == layer
