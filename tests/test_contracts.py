"""Every public layer and ready-made network, under every transformation and setting of JAX."""

import copy
import dataclasses
import functools
import inspect
import pickle
import threading
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contracts import CASES, KEY
from jax import export
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import memjax
from memjax.base import walk


def each_of(cases, quick):
    """Try a law on layers; those that are not quick are tried with the long tests."""
    marked = [
        pytest.param(case, id=name, marks=[pytest.mark.long] * (name not in quick))
        for name, case in cases.items()
    ]
    return pytest.mark.parametrize("case", marked)


# They are made of layers that have cases of their own, and compile for longest.
SLOW = {"memory network for colour", "mirrored", "columnar network", "vote", "concatenate"}
every_layer = each_of(CASES, CASES.keys() - SLOW)
# What a network is made of stands in the table by itself; what depends on the layers alone is tried
# on them, since a network takes ten times as long to compile.
MADE_OF_OTHERS = ("memory network for colour", "mirrored", "columnar network")
PLAIN = {name: case for name, case in CASES.items() if name not in MADE_OF_OTHERS}
every_plain_layer = each_of(PLAIN, PLAIN)
# Some laws compile for seconds on each layer. These layers stand for the others by default.
FEW = {"bank", "columns with an eye", "ridge readout"}
a_few_layers = each_of(CASES, FEW)
a_few_plain_layers = each_of(PLAIN, FEW)
# These compile for longest of all.
one_bank = each_of(CASES, {"bank"})
one_layer = each_of(PLAIN, {"ridge readout"})


def assert_close(one, other, atol=1e-5):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=atol), one, other)


def test_the_table_has_every_public_layer():
    public = {vars(memjax).get(name) for name in memjax.__all__}  # less what an extra loads
    layers = {kind for kind in public if inspect.isclass(kind) and issubclass(kind, memjax.Layer)}
    found = {
        type(part.layer)
        for case in CASES.values()
        for part in walk(case.layer, case.params, case.state)
    }
    assert layers - {memjax.Layer} <= found


@a_few_layers
def test_x64_changes_nothing(case):
    expected, codes = case.learn(), case.layer.recall_block(case.params, case.learn(), case.xs)
    with jax.enable_x64(True):
        learned = case.learn()
        asked = case.layer.recall_block(case.params, learned, case.xs)
    assert [leaf.dtype for leaf in jax.tree.leaves(learned)] == [
        leaf.dtype for leaf in jax.tree.leaves(expected)
    ]
    assert asked.dtype == codes.dtype == jnp.float32
    assert_close(learned, expected)
    assert_close(asked, codes)


@every_layer
def test_nothing_is_nan_on_the_way(case):
    with jax.debug_nans(True):
        params = case.layer.default_params()
        case.layer.calibrate(params, jnp.asarray(case.xs), jnp.asarray(case.labels))
        case.layer.recall_block(case.params, case.learn(), case.xs)


@one_bank
def test_inputs_may_lie_on_a_mesh_with_explicit_axes(case):
    mesh = jax.make_mesh((2,), ("d",), axis_types=(AxisType.Explicit,))
    expected_state = case.learn()
    expected = case.layer.recall_block(case.params, expected_state, case.xs)
    state = jax.device_put(case.state, NamedSharding(mesh, PartitionSpec()))
    for spec in (PartitionSpec("d"), PartitionSpec()):
        place = functools.partial(jax.device_put, device=NamedSharding(mesh, spec))
        xs, labels = place(case.xs), place(case.labels)
        learned, _ = memjax.fit(case.layer, case.params, state, xs, labels, 8)
        assert_close(learned, expected_state)
        codes = case.layer.recall_block(case.params, learned, xs)
        assert codes.sharding.spec[0] == (spec[0] if len(spec) else None)
        assert_close(codes, expected)
        if len(spec):
            ask = functools.partial(case.layer.recall, case.params, learned)
            each = jax.vmap(ask)(xs)
            assert_close(each, expected, atol=1e-4)


@one_bank
def test_the_inside_of_shard_map_needs_no_help(case):
    mesh = jax.make_mesh((2,), ("d",), axis_types=(AxisType.Auto,))
    rows, layer, params, state = PartitionSpec("d"), case.layer, case.params, case.state

    def inside(xs, labels):
        learned, _ = memjax.fit(layer, params, state, xs, labels, 4)
        new, codes, _ = layer.step_block(params, state, xs, labels)
        asked = layer.recall_block(params, learned, xs)
        return jax.tree.map(lambda leaf: leaf[None], (learned, new)), codes, asked

    run = jax.jit(jax.shard_map(inside, mesh=mesh, in_specs=(rows, rows), out_specs=rows))
    (learned, _), _, asked = run(case.xs, case.labels)
    half = len(case.xs) // 2
    for part, rows in enumerate((slice(half), slice(half, None))):
        alone, _ = memjax.fit(layer, params, state, case.xs[rows], case.labels[rows], 4)
        assert_close(jax.tree.map(lambda leaf, i=part: leaf[i], learned), alone)
        assert_close(asked[rows], layer.recall_block(params, alone, case.xs[rows]))


@a_few_layers
def test_gradients_are_finite_where_there_is_nothing_to_see(case):
    learned = case.learn()

    def total(x):
        return jnp.sum(case.layer.recall(case.params, learned, x))

    slope = jax.jit(jax.grad(total))
    wrapped = jax.jit(jax.grad(jax.checkpoint(total)))
    flat_patch = case.xs[0].copy()
    flat_patch[: len(flat_patch) // 2] = 0
    for x in (case.xs[0], flat_patch, 0 * case.xs[0], 0 * case.xs[0] + 1e8):
        assert np.isfinite(slope(x)).all()
    assert_close(wrapped(case.xs[1]), slope(case.xs[1]))


@every_plain_layer
def test_the_gradient_of_learning_is_zero(case):
    def total(x):
        _, code, _ = case.layer.step(case.params, case.state, x, 0)
        return jnp.sum(code)

    assert not np.any(jax.jit(jax.grad(total))(case.xs[0]))


@one_layer
def test_without_jit_and_with_leaks_checked_the_same_is_learned(case):
    xs, labels = jnp.asarray(case.xs[:2]), jnp.asarray(case.labels[:2])
    with jax.checking_leaks():
        expected, _, _ = case.layer.step_block(case.params, case.state, xs, labels)
    if not case.layer.parts(case.params, case.state):  # without jit every operation is a program
        with jax.disable_jit():
            learned, _, _ = case.layer.step_block(case.params, case.state, xs, labels)
        assert_close(learned, expected, atol=1e-4)


@a_few_plain_layers
def test_inputs_may_be_any_kind_of_number(case):
    learned = case.learn()
    for dtype in ("bfloat16", "float16", "float64", "uint8", "int32", "bool"):
        x = ((200 if dtype in ("uint8", "int32") else 1) * case.xs[0]).astype(dtype)
        code = case.layer.recall(case.params, learned, x)
        assert code.shape == case.layer.output_shape
        assert np.isfinite(np.asarray(code, np.float32)).all(), dtype


@a_few_plain_layers
def test_a_state_is_begun_by_any_key_and_may_be_donated(case):
    shapes = jax.eval_shape(case.layer.init, KEY)
    for key in (KEY, jax.random.PRNGKey(0)):
        state = case.layer.init(key)
        assert jax.tree.map(jnp.shape, state) == jax.tree.map(jnp.shape, shapes)
    learn = jax.jit(case.layer.step_block, donate_argnums=1)
    learned, _, _ = learn(case.params, case.state, jnp.asarray(case.xs), jnp.asarray(case.labels))
    expected, _, _ = case.layer.step_block(case.params, case.state, case.xs, case.labels)
    assert_close(learned, expected)


@pytest.mark.parametrize("name", ["memory network", "memory network for colour"])
def test_params_and_state_share_no_buffer(name):
    case = CASES[name]
    learn = jax.jit(memjax.fit, static_argnums=0, donate_argnums=(1, 2))
    warnings.filterwarnings("ignore", message="Some donated buffers were not usable")
    network, params = memjax.memory_network(case.layer.input_shape, 3, capacity=8)  # type: ignore
    params = memjax.calibrate(network, params, case.xs, case.labels)
    learn(network, params, network.init(KEY), case.xs, case.labels)


@every_plain_layer
def test_a_state_of_numpy_arrays_may_be_closed_over(case):
    state = jax.tree.map(np.asarray, case.learn())
    asked = jax.jit(lambda xs: case.layer.recall_block(case.params, state, xs))(case.xs)
    assert_close(asked, case.layer.recall_block(case.params, case.learn(), case.xs))


@every_plain_layer
def test_layers_are_values(case):
    for other in (copy.deepcopy(case.layer), pickle.loads(pickle.dumps(case.layer))):
        assert other == case.layer and hash(other) == hash(case.layer)
    ask = jax.jit(lambda layer, x: layer.recall(case.params, case.state, x), static_argnums=0)
    ask(case.layer, case.xs[0])
    ask(dataclasses.replace(case.layer), case.xs[0])  # type: ignore[type-var]
    assert ask._cache_size() == 1  # type: ignore[attr-defined]


@a_few_layers
def test_functions_of_a_layer_can_be_exported(case):
    shapes = jax.eval_shape(case.layer.init, KEY)
    xs = jax.ShapeDtypeStruct(case.xs.shape, case.xs.dtype)
    labels = jax.ShapeDtypeStruct(case.labels.shape, case.labels.dtype)

    def step(state, xs, labels):
        return case.layer.step_block(case.params, state, xs, labels)[:2]

    ask = jax.jit(lambda state, xs: case.layer.recall_block(case.params, state, xs))
    if "delta" not in str(type(case.layer)).lower():  # its state holds what optax registers
        learned = export.export(jax.jit(step), platforms=("cpu", "cuda", "tpu"))(shapes, xs, labels)
        again = export.deserialize(bytearray(learned.serialize()))
        new, _ = again.call(case.state, case.xs, case.labels)
        assert_close(new, case.layer.step_block(case.params, case.state, case.xs, case.labels)[0])
    batch = export.symbolic_shape("b, " + ", ".join(map(str, case.layer.input_shape)))
    asked = export.export(jax.jit(functools.partial(ask, case.learn())))(
        jax.ShapeDtypeStruct(batch, jnp.float32)
    )
    found = export.deserialize(bytearray(asked.serialize())).call(case.xs[:5])
    assert_close(found, case.layer.recall_block(case.params, case.learn(), case.xs[:5]))


@pytest.mark.parametrize("name", ["bank", "bank, replace", "columns with an eye", "ridge readout"])
def test_a_sweep_of_sweeps_is_a_loop(name):
    case = CASES[name]
    field = type(case.params)._fields[0]
    values = jnp.array([[0.01, 0.1], [0.5, 1.0]])
    sweep = jax.vmap(jax.vmap(lambda v: case.params._replace(**{field: v})))(values)
    learn = functools.partial(memjax.fit, case.layer)
    both = jax.vmap(jax.vmap(learn, (0, None, None, None)), (0, None, None, None))
    learned, _ = both(sweep, case.state, case.xs, case.labels)
    for place in ((0, 0), (0, 1), (1, 0), (1, 1)):
        params, found = jax.tree.map(lambda leaf, at=place: leaf[at], (sweep, learned))
        alone, _ = learn(params, case.state, case.xs, case.labels)
        assert_close(found, alone, atol=1e-4)


def test_threads_ask_while_one_learns():
    case = CASES["memory network"]
    learned, failed = case.learn(), []
    expected = memjax.predict_proba(case.layer, case.params, learned, case.xs)

    def ask():
        for _ in range(20):
            found = memjax.predict_proba(case.layer, case.params, learned, case.xs)
            if not np.array_equal(found, expected):
                failed.append(found)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    state = learned
    for _ in range(20):
        state, _ = memjax.fit(case.layer, case.params, state, case.xs, case.labels)
    for thread in threads:
        thread.join()
    assert not failed


def test_a_memory_lives_in_a_scan_with_resets():
    case = CASES["bank"]
    xs, labels = jnp.asarray(case.xs), jnp.asarray(case.labels)
    resets = jnp.arange(len(xs)) % 8 == 0

    def turn(state, row):
        x, label, is_reset = row
        state = jax.tree.map(lambda new, old: jnp.where(is_reset, new, old), case.state, state)
        state, _, info = case.layer.step(case.params, state, x, label)
        return state, info.predicted

    state, predicted = jax.jit(lambda: jax.lax.scan(turn, case.state, (xs, labels, resets)))()
    alone, infos = memjax.fit(case.layer, case.params, case.state, xs[-8:], labels[-8:])
    assert_close(state, alone)
    np.testing.assert_array_equal(predicted[-8:], infos.predicted)


def test_a_memory_lives_in_a_module_of_equinox():
    eqx: Any = pytest.importorskip("equinox")
    case = CASES["bank"]

    class Model(eqx.Module):
        linear: Any
        memory: memjax.Layer = eqx.field(static=True)
        state: tuple

        def __call__(self, x):
            return self.memory.recall(case.params, self.state, self.linear(x))

    model = Model(eqx.nn.Linear(5, 5, key=KEY), case.layer, case.learn())
    slope = eqx.filter_jit(eqx.filter_grad(lambda model, x: jnp.sum(model(x))))(model, case.xs[0])
    assert np.isfinite(slope.linear.weight).all()


def test_a_memory_lives_in_modules_of_flax():
    pytest.importorskip("flax")
    from flax import linen, nnx

    case = CASES["bank"]

    class Linen(linen.Module):
        memory: memjax.Layer

        @linen.compact
        def __call__(self, x, label):
            state = self.variable("memory", "state", self.memory.init, KEY)
            new, code, _ = self.memory.step(case.params, state.value, x, label)
            if not self.is_initializing():
                state.value = new
            return code

    module, label = Linen(case.layer), jnp.int32(0)
    variables = module.init(KEY, case.xs[0], label)
    _, variables = module.apply(variables, case.xs[0], label, mutable=["memory"])
    assert dict(variables)["memory"]["state"].size == 1

    class Memory(nnx.Variable):
        pass

    class Nnx(nnx.Module):
        def __init__(self):
            self.state = Memory(case.state)

        def __call__(self, x, label):
            new, code, _ = case.layer.step(case.params, self.state.get_value(), x, label)
            self.state.set_value(new)
            return code

    model = Nnx()
    nnx.jit(lambda model, x: model(x, jnp.int32(0)))(model, jnp.asarray(case.xs[0]))
    assert model.state.get_value().size == 1


def test_devices_are_not_pickled():
    from memjax.devices import memory_mesh

    placed = memjax.shard(CASES["bank"].layer, memory_mesh(jax.devices()[:2]))
    assert copy.deepcopy(placed) == placed
    with pytest.raises(TypeError, match=r"mesh: devices cannot be pickled; .* memjax\.shard"):
        pickle.dumps(placed)
