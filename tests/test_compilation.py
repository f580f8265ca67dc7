"""What is compiled: once for all numbers and equal networks, and loops that copy no bank."""

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import memjax
from memjax.composition import Chain
from memjax.memory import MemoryLayer
from memjax.params import replace_params
from memjax.projections import Decorrelation
from memjax.readouts import RidgeReadout
from memjax.vision.columns import Columns
from memjax.vision.encoders import Pixels

KEY = jax.random.key(0)
TRACED: list[str] = []


@dataclasses.dataclass(frozen=True)
class CountingBank(MemoryLayer):
    """A bank that notes when Python runs through it, which happens once a trace."""

    def step_block(self, params, state, xs, labels, length=None):
        """Note it, and learn."""
        TRACED.append("step_block")
        return super().step_block(params, state, xs, labels, length)

    def recall_block(self, params, state, xs):
        """Note it, and recall."""
        TRACED.append("recall_block")
        return super().recall_block(params, state, xs)


def network_of(capacity):
    """Build a network anew; each test has a capacity, and so a compilation, of its own."""
    bank = CountingBank(36, num_classes=3, capacity=capacity)
    network = Chain((Pixels((6, 6, 1)), bank))
    return network, ((), bank.params(0.02))


def num_traces(call) -> int:
    TRACED.clear()
    jax.block_until_ready(call())
    return len(TRACED)


def test_fit_is_traced_once_for_all_thresholds_and_equal_networks(images, labels):
    network, params = network_of(11)
    state = network.init(KEY)
    assert num_traces(lambda: memjax.fit(network, params, state, images, labels, 16)) == 1
    learned, _ = memjax.fit(network, params, state, images, labels, 16)

    again, other = network_of(11)[0], replace_params(params, novelty_threshold=0.7)
    plain = jax.tree.map(float, params)
    for call in (
        lambda: memjax.fit(network, params, state, images, labels, 16),
        lambda: memjax.fit(network, other, state, images, labels, 16),
        lambda: memjax.fit(network, plain, state, images, labels, 16),
        lambda: memjax.fit(again, params, state, images, labels, 16),
        lambda: memjax.fit(network, params, learned, images, labels, 16),
        lambda: memjax.fit(network, params, state, images, labels.astype(np.int64), 16),
    ):
        assert num_traces(call) == 0


def test_a_stream_is_traced_once_whatever_its_batches(images, labels):
    network, params = network_of(12)

    def learn(sizes, params):
        ends = np.cumsum(sizes)
        stream = [(images[e - n : e], labels[e - n : e]) for e, n in zip(ends, sizes, strict=True)]
        return memjax.fit_stream(network, params, network.init(KEY), stream, 16)

    assert num_traces(lambda: learn((16, 16), params)) == 1
    assert num_traces(lambda: learn((16, 3, 29, 7), params)) == 0
    assert num_traces(lambda: learn((60,), jax.tree.map(float, params))) == 0


def test_answers_are_traced_once_whatever_the_params_and_the_number_of_full_batches(images):
    network, params = network_of(13)
    state = network.init(KEY)
    other = replace_params(params, novelty_threshold=0.7)
    again = network_of(13)[0]
    assert num_traces(lambda: memjax.predict(network, params, state, images[:20], 10)) == 1
    for call in (
        lambda: memjax.predict(network, params, state, images, 10),
        lambda: memjax.predict(network, params, state, images[:15], 10),
        lambda: memjax.predict(network, other, state, images, 10),
        lambda: memjax.predict(again, params, state, images, 10),
        lambda: memjax.predict_proba(network, params, state, images, 10),
    ):
        assert num_traces(call) == 0


def test_answers_to_fewer_images_than_a_batch_are_traced_once_for_each_power_of_two(images):
    network, params = network_of(16)
    state = network.init(KEY)
    traced = [
        num_traces(lambda n=n: memjax.predict(network, params, state, images[:n], 40))
        for n in range(1, 61)
    ]
    assert [n for n, times in enumerate(traced, start=1) if times] == [1, 2, 3, 5, 9, 17, 33]
    assert sum(traced) == 7


def test_a_program_that_recalls_allocates_no_more_for_more_memories():
    def allocated(capacity):
        layer = MemoryLayer(784, num_classes=10, capacity=capacity)
        state = jax.eval_shape(layer.init, KEY)
        batch = jax.ShapeDtypeStruct((500, 784), jnp.float32)
        program = jax.jit(layer.recall_block).lower(layer.params(0.5), state, batch).compile()
        sizes = program.memory_analysis()
        assert sizes is not None
        return sizes.temp_size_in_bytes

    # The distances to 200,000 memories would take 400 MB.
    assert allocated(200_000) <= 1.1 * allocated(10_000) < 20e6


def test_another_capacity_is_another_compilation(images, labels):
    (first, params), (second, _) = network_of(14), network_of(15)
    for network in (first, second):
        learn = functools.partial(memjax.fit, network, params, network.init(KEY))
        assert num_traces(functools.partial(learn, images, labels)) == 1


def computations(text: str) -> dict[str, list[str]]:
    """The lines of each computation of a compiled program, by its name."""
    found: dict[str, list[str]] = {}
    name = ""
    for line in text.splitlines():
        if header := re.match(r"^(ENTRY )?%?([\w.\-]+) .*\{$", line):
            name = "ENTRY" if header[1] else header[2]
            found[name] = []
        elif name:
            found[name].append(line)
    return found


def inside_loops(parts: dict[str, list[str]]) -> set[str]:
    """The names of the computations that are, or are called from, the body of a loop."""
    waiting = [
        m for lines in parts.values() for m in re.findall(r"body=%?([\w.\-]+)", "".join(lines))
    ]
    found: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            called = r"(?:calls|to_apply|body|condition)=%?([\w.\-]+)"
            waiting += re.findall(called, "".join(parts[name]))
    return found


def run_in_every_turn(parts: dict[str, list[str]]) -> list[str]:
    """The lines of what runs in every turn of the outermost loops, and not in loops inside them."""
    waiting = re.findall(r"body=%?([\w.\-]+)", "".join(parts["ENTRY"]))
    found: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += re.findall(r"(?:calls|to_apply)=%?([\w.\-]+)", "".join(parts[name]))
    return [line for name in found for line in parts[name]]


@pytest.mark.parametrize("num_members", [1, 5])
@pytest.mark.parametrize("on_full", ["adapt", "replace"])
def test_a_full_bank_is_searched_on_demand_in_a_sweep_too(on_full, num_members):
    """XLA once moved the search of a sweep's members out of its loop, into every example."""
    layer = MemoryLayer(24, num_classes=3, capacity=3000, on_full=on_full)
    xs, labels = jnp.zeros((16, 24)), jnp.zeros((16,), jnp.int32)

    # Several members side by side, as an accelerator takes them.
    learn_block = layer._learn_block if num_members > 1 else layer.step_block

    def learn(state):
        block = xs, labels, jnp.int32(16)
        new_state, _, infos = learn_block(layer.params(0.5), state, *block)
        return new_state, infos

    state = layer.init(KEY)
    if num_members > 1:
        learn = jax.vmap(learn)
        state = jax.tree.map(lambda leaf: jnp.stack([leaf] * num_members), state)
    parts = computations(str(jax.jit(learn).lower(state).compile().as_text()))
    by_memory = re.compile(r"= \(?(f32|s32|pred)\[(5,)?3000\]")
    # What is only handed through a loop costs nothing.
    handed = re.compile(r"\b(parameter|get-tuple-element)\(")
    done = [line for line in run_in_every_turn(parts) if not handed.search(line)]
    assert not [line for line in done if by_memory.search(line)]
    searches = [line for name in inside_loops(parts) for line in parts[name]]
    assert [line for line in searches if by_memory.search(line)]


def copies_in_loops(layer, function) -> list[str]:
    """The lines of loops of a compiled ``function`` of a block that copy a buffer of K rows."""
    state = jax.eval_shape(layer.init, KEY)
    block = jax.ShapeDtypeStruct((16, 24), jnp.float32), jax.ShapeDtypeStruct((16,), jnp.int32)
    program = jax.jit(function).lower(layer.params(0.5), state, *block).compile().as_text()
    parts = computations(str(program))
    lines = [line.strip() for name in inside_loops(parts) for line in parts[name]]
    # The search must see the loop that it is about: one that writes to the bank.
    assert any(
        re.search(rf"\[{layer.capacity},24\].* dynamic-update-slice", line) for line in lines
    )
    padded = -(-layer.capacity // 32) * 32
    large = rf"= \w+\[({layer.capacity}|{padded})(,\d+)*\]\S* copy\("
    return [line for line in lines if re.search(large, line)]


@pytest.mark.parametrize("capacity", [1000, 1500])
@pytest.mark.parametrize("on_full", ["adapt", "replace", "ignore"])
def test_no_loop_copies_the_bank_or_its_tables_when_a_block_is_learned(on_full, capacity):
    layer = MemoryLayer(24, num_classes=3, capacity=capacity, on_full=on_full)

    def learn(*arguments):
        state, _, infos = layer.step_block(*arguments)
        return state, infos

    assert copies_in_loops(layer, learn) == []


def learned_in_a_sweep(layer: MemoryLayer):
    """The program, not lowered yet, in which five members of a sweep learn from a block of 16."""
    state = jax.tree.map(lambda leaf: jnp.stack([leaf] * 5), layer.init(KEY))
    xs, labels = jnp.zeros((16, 24)), jnp.zeros((16,), jnp.int32)

    def learn(state):
        return layer.step_block(layer.params(0.5), state, xs, labels)

    return jax.jit(jax.vmap(learn)).trace(state)


def test_members_of_a_sweep_take_their_tiles_together_on_an_accelerator():
    """With a bound for each member, ``vmap`` would select among whole tables in every turn."""
    program = learned_in_a_sweep(MemoryLayer(24, num_classes=3, capacity=3000))
    lines = program.lower(lowering_platforms=("cuda",)).as_text().splitlines()
    selected = [line for line in lines if "stablehlo.select" in line]
    # The search must see how a tile is masked.
    assert any("tensor<5x1024x16xf32>" in line for line in selected)
    assert not any("tensor<5x3008x16xf32>" in line for line in selected)


def test_members_of_a_sweep_learn_one_after_the_other_on_a_cpu():
    """Side by side they took up to 1.8 times as long as in a loop."""
    layer = MemoryLayer(24, num_classes=3, capacity=3000)
    text = str(learned_in_a_sweep(layer).lower().compile().as_text())
    assert "f32[3008,16]" in text and "f32[5,3008,16]" not in text


@pytest.mark.xfail(
    strict=True, reason="XLA copies the table of distances once a code is read from it"
)
@pytest.mark.parametrize("output", ["evidence", "activations"])
def test_no_loop_copies_the_bank_or_its_tables_when_codes_are_handed_on(output):
    layer = MemoryLayer(24, num_classes=3, capacity=1000, output=output)
    assert copies_in_loops(layer, layer.step_block) == []


SOLVERS = {
    "a readout": RidgeReadout(36, 3),
    "a decorrelation": Decorrelation(36, 4),
    "columns": Columns((12, 12, 1), patch=4, places=3, capacity=5, dimensions=3),
}


@pytest.mark.parametrize("num_members", [1, 3])
@pytest.mark.parametrize("name", SOLVERS)
def test_every_call_of_lapack_is_given_one_matrix(name, num_members):
    """Given several, jaxlib 0.10 shares them out to its threads and may wait for these for ever."""
    layer = SOLVERS[name]
    xs, labels = jnp.zeros((16, *layer.input_shape)), jnp.zeros((16,), jnp.int32)
    params = layer.default_params()

    def learn(state):
        return layer.consolidate(params, layer.step_block(params, state, xs, labels)[0])

    state = layer.init(KEY)
    if num_members > 1:
        learn = jax.vmap(learn)
        state = jax.tree.map(lambda leaf: jnp.stack([leaf] * num_members), state)
    program = jax.jit(learn).trace(state).lower(lowering_platforms=("cpu",))
    calls = [line for line in program.as_text().splitlines() if "@lapack_" in line]
    shapes = [re.findall(r"tensor<((?:\d+x)*)f32>", call.split("->")[-1]) for call in calls]
    assert shapes
    assert all(shape.count("x") <= 2 for results in shapes for shape in results)
