"""The memory layer against the oracle, blocks against single steps, and the laws of both."""

import dataclasses
import functools
import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import ROUNDING, ReferenceMemory

import memjax
from memjax._novelty import NUM_BINS
from memjax.base import Layer
from memjax.composition import Chain
from memjax.distances import DISTANCES
from memjax.memory import MemoryLayer, MemoryState
from memjax.memory._recall import vote_weights
from memjax.vision.encoders import ENCODERS

POLICIES = ("adapt", "replace", "ignore")
# A threshold for each distance that some, and not most, of the clustered examples pass.
THRESHOLDS = {"squared_euclidean": 0.3, "cosine": 0.02, "manhattan": 1.5}
KEY = jax.random.key(0)

Learn = Callable[..., tuple[Any, Any, Any]]


@functools.partial(jax.jit, static_argnums=0)
def learn_steps(layer, params, state, xs, labels, length):
    """The definition: `step`, one example after the other."""
    return Layer.step_block(layer, params, state, xs, labels, length)


@functools.partial(jax.jit, static_argnums=0)
def learn_block(layer, params, state, xs, labels, length):
    return layer.step_block(params, state, xs, labels, length)


@functools.partial(jax.jit, static_argnums=0)
def recall_all(layer, params, state, xs):
    return layer.recall_block(params, state, xs)


@functools.partial(jax.jit, static_argnums=0)
def recall_each(layer, params, state, xs):
    return jax.vmap(layer.recall, in_axes=(None, None, 0))(params, state, xs)


def learn_all(layer, params, state, xs, labels, block_size=33, learn: Learn = learn_block):
    """Learn any number of examples, the last block padded with garbage that must not count."""
    results = []
    for start in range(0, len(xs), block_size):
        rows = xs[start : start + block_size]
        missing = block_size - len(rows)
        padded = np.concatenate([rows, np.full((missing, *xs.shape[1:]), 7, xs.dtype)])
        padded_labels = np.concatenate([labels[start : start + block_size], np.zeros(missing, int)])
        state, codes, infos = learn(
            layer, params, state, padded, padded_labels.astype(np.int32), np.int32(len(rows))
        )
        results.append(jax.tree.map(np.asarray, (codes, infos)))
    codes, infos = jax.tree.map(lambda *parts: np.concatenate(parts)[: len(xs)], *results)
    return state, codes, infos


def state_of(oracle: ReferenceMemory) -> MemoryState:
    return MemoryState(
        prototypes=jnp.asarray(oracle.prototypes, jnp.float32),
        counts=jnp.asarray(oracle.counts, jnp.int32),
        averaged=jnp.asarray(oracle.averaged, jnp.int32),
        votes=jnp.asarray(oracle.votes, jnp.int32),
        stored_at=jnp.asarray(oracle.stored_at, jnp.int32),
        size=jnp.int32(oracle.size),
        num_seen=jnp.int32(oracle.num_seen),
        distance_counts=jnp.zeros((NUM_BINS,), jnp.int32),  # the oracle counts none
    )


def compare_with_oracle(layer, params, xs, labels, block_size: int, learn: Learn) -> int:
    """Assert that a layer does as the oracle does; return how many near-ties rounding decided.

    Where the two part, the oracle's choice must have been within float32 rounding of another; then
    both go on from the oracle's state.
    """
    oracle = ReferenceMemory(layer, params.novelty_threshold, params.plasticity_floor)
    state, start, near_ties = layer.init(KEY), 0, 0
    size = 2 * max(1.0, np.abs(xs).sum(axis=1).max(), np.square(xs).sum(axis=1).max())
    while start < len(xs):
        rows = xs[start : start + block_size], labels[start : start + block_size]
        before, first_code = oracle.copy(), oracle.recall(rows[0][0])
        outcomes = [oracle.learn(x, int(y)) for x, y in zip(*rows, strict=True)]
        learn_first = functools.partial(_learn_first, layer, params, state, rows, block_size, learn)
        new_state, codes, infos = learn_first(len(outcomes))
        different = _first_difference(infos, outcomes)
        if different is None and not _same_counts(new_state, oracle):
            # The winners agree and the rows written do not: find the first example that did it.
            oracle = before.copy()
            for different, (x, y) in enumerate(zip(*rows, strict=True)):
                oracle.learn(x, int(y))
                if not _same_counts(learn_first(different + 1)[0], oracle):
                    break
        if different is None:
            expected = [outcome.distance for outcome in outcomes]
            np.testing.assert_allclose(new_state.prototypes, oracle.prototypes, atol=1e-5)
            np.testing.assert_allclose(infos.distance, expected, rtol=1e-5, atol=ROUNDING * size)
            np.testing.assert_allclose(codes[0], first_code, rtol=1e-4, atol=2e-4)
            state, start = new_state, start + len(outcomes)
        else:
            assert outcomes[different].margin < ROUNDING, (start + different, outcomes[different])
            near_ties += 1
            oracle = before
            for x, y in zip(rows[0][: different + 1], rows[1], strict=False):
                oracle.learn(x, int(y))
            state, start = state_of(oracle), start + different + 1
    print(f"near-ties that rounding decided: {near_ties} of {len(xs)}")
    return near_ties


def _learn_first(layer, params, state, rows, block_size, learn, length):
    xs, labels = rows
    return learn_all(layer, params, state, xs[:length], labels[:length], block_size, learn)


def _first_difference(infos, outcomes) -> int | None:
    for index, outcome in enumerate(outcomes):
        for name in ("winner", "is_novel", "is_saturated", "predicted"):
            if getattr(infos, name)[index] != getattr(outcome, name):
                return index
    return None


def _same_counts(state: MemoryState, oracle: ReferenceMemory) -> bool:
    pairs = zip(state[1:7], state_of(oracle)[1:7], strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


@functools.cache
def clustered(count=300, num_features=12, seed=0) -> tuple[Any, Any]:
    """Examples around 60 centres, every tenth label wrong and every tenth unknown."""
    generator = np.random.default_rng(seed)
    centres = generator.normal(size=(60, num_features))
    cluster = generator.integers(0, 60, count)
    xs = centres[cluster] + 0.12 * generator.normal(size=(count, num_features))
    labels = cluster % 4
    noise = generator.random(count)
    labels = np.where(noise < 0.1, generator.integers(0, 4, count), labels)
    labels = np.where(noise > 0.9, -1, labels)
    return xs.astype(np.float32), labels.astype(np.int32)


def bank(policy="adapt", distance="squared_euclidean", supervised_growth=True, **fields):
    fields = {
        "num_features": 12,
        "num_classes": 4,
        "capacity": 36,  # more than one group of the block's table of minima
        "num_neighbours": 5,
        **fields,
    }
    layer = MemoryLayer(
        **fields,
        distance=DISTANCES[distance],
        on_full=policy,
        supervised_growth=supervised_growth,
    )
    return layer, layer.params(THRESHOLDS[distance], plasticity_floor=0.05)


every_bank = pytest.mark.parametrize(
    ("policy", "distance", "supervised_growth"),
    list(itertools.product(POLICIES, DISTANCES, (True, False))),
)


every_learn = pytest.mark.parametrize("learn", [learn_steps, learn_block], ids=["step", "block"])
every_distance = pytest.mark.parametrize("distance", DISTANCES)


def assert_same(state, expected, atol=1e-5):
    """Assert that two states have equal counts and memories that agree up to rounding."""
    for found, wanted in zip(jax.tree.leaves(state), jax.tree.leaves(expected), strict=True):
        if jnp.issubdtype(wanted.dtype, jnp.integer):
            np.testing.assert_array_equal(found, wanted)
        else:
            np.testing.assert_allclose(found, wanted, atol=atol)


@pytest.mark.long
@every_bank
def test_the_clustered_examples_hit_and_saturate_every_bank(policy, distance, supervised_growth):
    layer, params = bank(policy, distance, supervised_growth)
    _, _, infos = learn_all(layer, params, layer.init(KEY), *clustered(), 33)
    assert np.sum(~infos.is_novel) > 30
    assert np.sum(infos.is_saturated) > 30


@every_learn
@every_bank
def test_single_steps_and_blocks_do_as_the_oracle_does(policy, distance, supervised_growth, learn):
    layer, params = bank(policy, distance, supervised_growth)
    near_ties = compare_with_oracle(layer, params, *clustered(), 33, learn)
    assert near_ties <= 1


@pytest.mark.parametrize(
    ("policy", "distance", "block_size"),
    # Each size with every policy and every distance, in a Latin square.
    [
        (policy, list(DISTANCES)[(i + j) % 3], size)
        for i, policy in enumerate(POLICIES)
        for j, size in enumerate((1, 7, 512))
    ],
)
def test_the_size_of_a_block_changes_nothing(policy, distance, block_size):
    layer, params = bank(policy, distance)
    near_ties = compare_with_oracle(layer, params, *clustered(), block_size, learn_block)
    assert near_ties <= 1


@every_bank
def test_a_block_writes_what_steps_write_to_the_last_bit(policy, distance, supervised_growth):
    layer, params = bank(policy, distance, supervised_growth)
    stepped = learn_all(layer, params, layer.init(KEY), *clustered(), 33, learn_steps)[0]
    blocked = learn_all(layer, params, layer.init(KEY), *clustered(), 33, learn_block)[0]
    jax.tree.map(np.testing.assert_array_equal, blocked, stepped)


@every_learn
@pytest.mark.parametrize(
    ("encoder", "policy"),
    [
        ("edges", "adapt"),
        pytest.param("pixels", "adapt", marks=pytest.mark.long),
        pytest.param("pixels", "replace", marks=pytest.mark.long),
        pytest.param("edges", "ignore", marks=pytest.mark.long),
    ],
)
def test_mnist_is_learned_as_the_oracle_learns_it(mnist, encoder, policy, learn):
    senses = ENCODERS[encoder]((28, 28, 1))
    xs: Any = np.asarray(jax.jit(senses.recall_block)((), (), mnist.images[:1500]))
    layer = MemoryLayer(senses.output_shape[0], 10, capacity=200, on_full=policy)
    params = layer.calibrate(layer.params(plasticity_floor=0.02), xs[:300], mnist.labels[:300])
    near_ties = compare_with_oracle(layer, params, xs, mnist.labels[:1500], 128, learn)
    assert near_ties <= 3


@pytest.mark.parametrize("policy", POLICIES)
def test_size_grows_by_one_at_most_and_never_past_capacity(policy):
    layer, params = bank(policy)

    def learn(state, row):
        state, _, info = layer.step(params, state, *row)
        return state, (state.size, info.is_novel & ~info.is_saturated)

    sizes, is_stored = jax.jit(lambda rows: jax.lax.scan(learn, layer.init(KEY), rows))(
        tuple(map(jnp.asarray, clustered()))
    )[1]
    np.testing.assert_array_equal(sizes, np.cumsum(is_stored))
    assert sizes[-1] == layer.capacity


@every_learn
@every_distance
def test_at_threshold_0_every_distinct_example_is_stored_until_full(distance, learn):
    layer, _ = bank("ignore", distance)
    xs = clustered()[0][:50]
    state, _, infos = learn_all(
        layer, layer.params(0.0), layer.init(KEY), xs, np.zeros(50, int), 33, learn
    )
    np.testing.assert_array_equal(state.prototypes, xs[:36])
    np.testing.assert_array_equal(infos.is_saturated, np.arange(50) >= 36)


@every_learn
@every_distance
def test_what_was_just_stored_is_its_own_winner_at_distance_0(distance, learn):
    layer, _ = bank(distance=distance)
    xs = np.repeat(clustered()[0][:16], 2, axis=0)
    infos = learn_all(layer, layer.params(0.0), layer.init(KEY), xs, np.zeros(32, int), 33, learn)[
        2
    ]
    np.testing.assert_array_equal(infos.winner[1::2], np.arange(16))
    np.testing.assert_array_equal(infos.distance[1::2], 0)


@every_learn
@every_distance
def test_an_example_seen_many_times_is_stored_once_even_at_threshold_0(distance, learn):
    layer, _ = bank(distance=distance)
    xs = np.tile(clustered()[0][:8], (12, 1))
    labels = np.zeros(len(xs), int)
    state, _, _ = learn_all(layer, layer.params(0.0), layer.init(KEY), xs, labels, 33, learn)
    np.testing.assert_array_equal(state.counts[:9], [12] * 8 + [0])


def test_learning_in_two_parts_is_learning_in_one():
    layer, params = bank()
    xs, labels = clustered()
    whole, infos = memjax.fit(layer, params, layer.init(KEY), xs, labels, 64)
    state, first = memjax.fit(layer, params, layer.init(KEY), xs[:150], labels[:150], 64)
    state, second = memjax.fit(layer, params, state, xs[150:], labels[150:], 64)
    assert_same(state, whole)
    np.testing.assert_array_equal(np.append(first.winner, second.winner), infos.winner)


def test_other_names_for_the_classes_give_the_same_answers_by_other_names():
    # Room for all, so that every memory has votes for one class and there are no ties.
    layer, params = bank(capacity=300)
    xs, labels = clustered()
    names = np.array([2, 0, 3, 1, -1])  # the last is the name of an unknown label
    results = {}
    for key, given in (("old", labels), ("new", names[labels])):
        state, _, _ = learn_all(layer, params, layer.init(KEY), xs[:200], given[:200])
        results[key] = np.asarray(recall_all(layer, params, state, xs[200:]))
    np.testing.assert_allclose(results["new"][:, names[:4]], results["old"], atol=1e-6)
    assert len(np.unique(results["old"].argmax(axis=1))) == 4


@every_learn
def test_unknown_labels_count_no_votes_and_are_learned_all_the_same(learn):
    layer, params = bank()
    xs, labels = clustered()
    state, codes, infos = learn_all(
        layer, params, layer.init(KEY), xs, np.full_like(labels, -1), 33, learn
    )
    assert np.sum(state.votes) == 0
    assert np.sum(state.counts) == 300
    assert np.all(infos.predicted == -1)
    assert np.all(codes == 0)


@pytest.mark.parametrize(("first", "second"), [(0, -1), (-1, 0)])
def test_an_unknown_label_contradicts_none_and_none_contradicts_it(first, second):
    layer, params = bank()
    xs = np.zeros((2, 12), np.float32)
    state, _, infos = learn_all(layer, params, layer.init(KEY), xs, np.array([first, second]))
    np.testing.assert_array_equal(infos.is_novel, [True, False])
    assert state.size == 1


def line(*places: float) -> np.ndarray:
    """Return examples [N, 1] at places on a line."""
    return np.array(places, np.float32)[:, None]


@every_learn
def test_a_mistake_is_counted_once_and_stored_when_it_comes_again(learn):
    xs, labels = line(0, 1, 0.1, 0.15), np.array([0, 1, 1, 1])
    for supervised_growth in (True, False):
        layer, _ = bank(num_features=1, num_classes=2, supervised_growth=supervised_growth)
        state, _, infos = learn_all(layer, layer.params(0.5), layer.init(KEY), xs, labels, 2, learn)
        # After the third the winner's votes are 1:1, which contradicts neither label.
        assert infos.is_novel.tolist() == [True, True, False, False]
        assert state.votes[:2].tolist() == [[1, 2], [0, 1]]
        again = learn_all(layer, layer.params(0.5), state, line(0), np.array([0]), 1, learn)[2]
        assert again.is_novel.tolist() == [supervised_growth]


@every_learn
def test_a_rare_label_is_stored_at_its_first_mistake(learn):
    layer, _ = bank(num_features=1, num_classes=2)
    xs, labels = line(0, 2, 4, 6, 0.1, 2.1, 2.2), np.array([0, 0, 0, 0, 1, 1, 1])
    state, _, infos = learn_all(layer, layer.params(1.0), layer.init(KEY), xs, labels, 3, learn)
    # Half of its share of four memories of two classes is one memory; of six it is 1.5.
    assert infos.is_novel.tolist() == [True] * 5 + [True, False]
    assert state.votes[:6].tolist() == [[1, 0]] * 4 + [[0, 1], [0, 2]]


@every_learn
def test_an_example_that_is_its_winner_is_never_stored_again(learn):
    layer, _ = bank(num_features=1, num_classes=2)
    labels = np.arange(40) % 5 // 4  # one in five has another label
    state, _, infos = learn_all(
        layer,
        layer.params(0.0),
        layer.init(KEY),
        np.full((40, 1), 3.0, np.float32),
        labels,
        8,
        learn,
    )
    assert infos.is_novel.tolist() == [True] + [False] * 39
    assert state.votes[0].tolist() == [32, 8]
    np.testing.assert_allclose(
        recall_all(layer, layer.params(0.0), state, line(3)), [[0.8, 0.2]], atol=1e-6
    )


@pytest.mark.parametrize("on_full", ["adapt", "replace", "ignore"])
@every_learn
def test_a_full_bank_gives_a_class_that_comes_late_its_share(learn, on_full):
    layer, _ = bank(on_full, num_features=1, num_classes=2, capacity=8)
    early = np.repeat(np.arange(8.0), [4, 4, 4, 1, 4, 1, 4, 4])
    late = np.tile([3.2, 5.2], 4)
    xs = line(*early, *late)
    labels = np.repeat([0, 1], [len(early), len(late)])
    state, _, infos = learn_all(layer, layer.params(0.5), layer.init(KEY), xs, labels, 8, learn)
    assert infos.is_saturated.sum() > 0
    votes = np.asarray(state.votes)
    assert (votes[:, 1] > votes[:, 0]).sum() >= (0 if on_full == "ignore" else 2)
    if on_full == "adapt":
        # The two that had won least made room.
        assert sorted(state.prototypes[[3, 5], 0].tolist()) == pytest.approx([3.2, 5.2], abs=0.01)


def test_the_first_example_is_stored_whatever_the_threshold():
    layer, _ = bank()
    xs, labels = clustered()
    labels = np.zeros_like(labels)
    state, _, infos = learn_all(layer, layer.params(np.inf), layer.init(KEY), xs, labels)
    np.testing.assert_array_equal(np.flatnonzero(infos.is_novel), [0])
    assert state.counts[0] == 300


def test_without_a_floor_a_memory_is_the_mean_of_its_examples():
    layer, _ = bank()
    xs, labels = clustered()
    params = layer.params(np.inf, plasticity_floor=0.0)
    state, _, _ = learn_all(layer, params, layer.init(KEY), xs, np.zeros_like(labels))
    np.testing.assert_allclose(state.prototypes[0], xs.mean(axis=0), atol=1e-5)


def test_at_a_floor_of_1_a_memory_is_its_last_example():
    layer, _ = bank()
    xs, labels = clustered()
    params = layer.params(np.inf, plasticity_floor=1.0)
    state, _, _ = learn_all(layer, params, layer.init(KEY), xs, np.zeros_like(labels))
    np.testing.assert_array_equal(state.prototypes[0], xs[-1])


@every_learn
def test_a_bank_of_several_tiles_does_as_the_oracle_does(learn):
    layer, _ = bank("replace", num_features=3, num_classes=2, capacity=1100)
    generator = np.random.default_rng(3)
    xs = generator.normal(size=(1400, 3)).astype(np.float32)
    labels = generator.integers(-1, 2, 1400)
    near_ties = compare_with_oracle(layer, layer.params(0.002), xs, labels, 128, learn)
    assert near_ties <= 3


@pytest.mark.parametrize("distance", DISTANCES.values(), ids=DISTANCES)
@every_learn
def test_the_mean_of_many_counts_as_farther_than_a_single_example(distance, learn):
    layer = MemoryLayer(2, 1, capacity=3, distance=distance)
    single, x = np.array([[0, 3], [1.6, 1.5]], np.float32)
    noisy = np.array([[3, noise / 100] for noise in (0, 1, -1, 2, -2, 3, -3, 4, -4)], np.float32)
    xs, params = np.stack([single, *noisy, x]), layer.params(0.1)
    state, _, infos = learn_all(
        layer, params, layer.init(KEY), xs, np.zeros(11, int), block_size=11, learn=learn
    )
    assert state.counts.tolist() == state.averaged.tolist() == [1, 9, 1]
    far, near = distance.to_memories(x, state.prototypes[:2])
    assert near < far < near * 45 / 37
    assert infos.winner[-1] == 0
    np.testing.assert_allclose(infos.distance[-1], far, rtol=1e-6)
    distances, memories = layer.nearest(state, x[None], 3)
    assert memories[0].tolist() == [2, 0, 1]
    np.testing.assert_allclose(distances[0], [0, far, near * 45 / 37], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("distance", DISTANCES.values(), ids=DISTANCES)
@every_learn
def test_equal_examples_average_nothing_so_their_memory_is_as_near_as_one(distance, learn):
    layer = MemoryLayer(2, 2, capacity=3, distance=distance, num_neighbours=1)
    one, often, x = np.array([[0, 3], [3, 0], [1.6, 1.5]], np.float32)
    xs, labels = np.stack([one, *[often] * 9]), np.array([0, *[1] * 9])
    state, _, _ = learn_all(
        layer, layer.params(0.0), layer.init(KEY), xs, labels, block_size=10, learn=learn
    )
    assert (state.counts.tolist(), state.averaged.tolist()) == ([1, 9, 0], [1, 1, 0])
    assert state.votes[1].tolist() == [0, 9]
    np.testing.assert_array_equal(state.prototypes[1], often)
    distances, memories = layer.nearest(state, x[None], 2)
    assert memories[0].tolist() == [1, 0]
    near = distance.to_memories(x, np.stack([often, one]))
    np.testing.assert_allclose(distances[0], near, rtol=1e-6)


def test_what_is_no_number_costs_no_counts():
    # `fit` refuses it, but a step of one's own program may meet it.
    layer = MemoryLayer(1, 2, capacity=2)
    step = jax.jit(functools.partial(layer.step, layer.params(np.inf)))
    state = layer.init(KEY)
    for value in (0.0, np.nan, 1.0):
        state, _, _ = step(state, jnp.array([value]), jnp.int32(1))
    assert np.all(state.counts[: int(state.size)] >= 1) and np.sum(state.counts) == 3


@pytest.mark.parametrize("voters", [[31], [32], [500], [640], [1055], [], [1040, 35], [9, 900]])
@every_learn
def test_a_full_bank_finds_the_nearest_voter_wherever_it_lies(learn, voters):
    """Of 1,056 memories, 33 groups of a table, at growing distances from the example."""
    # So many classes that the label of one memory is not rare.
    layer, _ = bank(num_features=1, num_classes=1056, capacity=1056)
    labels = np.isin(np.arange(1056), voters).astype(int)
    state = layer.init(KEY)._replace(
        prototypes=jnp.linspace(1, 2, 1056)[:, None],
        counts=jnp.ones((1056,), jnp.int32),
        votes=jnp.asarray(np.eye(1056, dtype=np.int32)[labels]),
        size=jnp.int32(1056),
        num_seen=jnp.int32(1056),
    )
    x, labels = np.zeros((1, 1), np.float32), np.ones(1, int)
    after, _, infos = learn_all(layer, layer.params(0.0), state, x, labels, 1, learn)
    assert infos.is_saturated.tolist() == [True]
    assert infos.winner.tolist() == [0]
    if voters:
        assert np.flatnonzero(after.counts == 2).tolist() == [min(voters)]
    else:  # All are equally useful, and the first is written over.
        assert (after.prototypes[0], after.votes[0, 1], after.stored_at[0]) == (0, 1, 1056)


@every_learn
def test_voters_that_are_equally_near_are_taken_by_index_and_not_by_group(learn):
    layer, _ = bank(num_features=1, num_classes=1056, capacity=1056)
    # Both voters are at 2; the nearest of all lies beside the later one.
    prototypes = np.full((1056, 1), 5, np.float32)
    prototypes[[40, 1000]], prototypes[1001] = 2, 1
    votes = np.zeros((1056, 1056), np.int32)
    votes[:, 0] = 1
    votes[[40, 1000], :2] = 0, 1
    state = layer.init(KEY)._replace(
        prototypes=jnp.asarray(prototypes),
        counts=jnp.ones((1056,), jnp.int32),
        votes=jnp.asarray(votes),
        size=jnp.int32(1056),
        num_seen=jnp.int32(1056),
    )
    x, labels = np.zeros((1, 1), np.float32), np.ones(1, int)
    after, _, infos = learn_all(layer, layer.params(0.0), state, x, labels, 1, learn)
    assert infos.winner.tolist() == [1001]
    assert np.flatnonzero(after.counts == 2).tolist() == [40]


@pytest.mark.long
def test_members_of_a_sweep_whose_banks_are_not_equally_full_learn_as_they_do_alone():
    """Of 2,100 memories, three tiles of a block's product, the members need none to three."""
    layer, _ = bank(num_features=3, num_classes=2, capacity=2100)
    generator = np.random.default_rng(0)
    xs = jnp.asarray(generator.normal(size=(2400, 3)), jnp.float32)
    labels = jnp.asarray(generator.integers(0, 2, 2400), jnp.int32)
    full, _ = memjax.fit(layer, layer.params(0.0), layer.init(KEY), xs[:2300], labels[:2300])
    states = []
    for size in (0, 10, 1500, 2100):
        columns = [np.where(np.arange(2100) < size, rows.T, 0).T for rows in full[:4]]
        state = full._replace(size=jnp.int32(size), num_seen=jnp.int32(size))
        states.append(state._replace(**dict(zip(MemoryState._fields, columns, strict=False))))

    learn = functools.partial(memjax.fit, layer, layer.params(0.3))
    together = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
    found = jax.vmap(learn, in_axes=(0, None, None))(together, xs[2300:], labels[2300:])
    for index, state in enumerate(states):
        expected, told = learn(state, xs[2300:], labels[2300:])
        member, info = jax.tree.map(lambda leaf, i=index: leaf[i], found)
        jax.tree.map(np.testing.assert_array_equal, member, expected)
        np.testing.assert_array_equal(info.winner, told.winner)
        # One product for all members rounds otherwise.
        np.testing.assert_allclose(info.distance, told.distance, atol=1e-5)


def test_memories_that_are_not_there_are_not_multiplied():
    """A block is multiplied with itself, and with a tile of 1,024 memories where one is in use."""
    tiles = []

    def pairwise(xs, memories):
        jax.debug.callback(lambda: tiles.append(len(memories)))
        return DISTANCES["squared_euclidean"].pairwise(xs, memories)

    distance = dataclasses.replace(DISTANCES["squared_euclidean"], pairwise=pairwise)
    layer = MemoryLayer(2, 2, capacity=4096, distance=distance)
    xs, labels = jnp.zeros((8, 2)), jnp.zeros((8,), jnp.int32)
    for size, number in [(0, 0), (1, 1), (1024, 1), (1025, 2), (4096, 4)]:
        tiles.clear()
        state = layer.init(KEY)._replace(size=jnp.int32(size))
        jax.block_until_ready(layer.step_block(layer.params(1.0), state, xs, labels))
        jax.effects_barrier()
        assert sorted(tiles) == [8] + [1024] * number


@every_learn
def test_equal_distances_go_to_the_lowest_index(learn):
    layer, _ = bank(num_features=1)
    params = layer.params(1.5)
    xs = np.array([[3.0], [1.0], [-1.0], [-3.0], [0.0]], np.float32)
    _, _, infos = learn_all(layer, params, layer.init(KEY), xs, np.zeros(5, int), 33, learn)
    assert infos.winner[4] == 1


@pytest.mark.parametrize("is_wide", [False, True], ids=["x64 off", "x64 on"])
@pytest.mark.parametrize("policy", POLICIES)
def test_a_step_changes_no_type(policy, is_wide):
    with jax.enable_x64(is_wide):
        layer, params = bank(policy)
        state = layer.init(jax.random.key(0))
        x, label = jnp.zeros(12, jnp.float32), jnp.int32(0)
        stepped = jax.eval_shape(layer.step, params, state, x, label)
        blocked = jax.eval_shape(
            layer.step_block, params, state, x[None], label[None], jnp.int32(1)
        )
        row = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), blocked[1:])
    before = jax.tree.map(lambda a: (a.shape, str(a.dtype)), state)
    for new_state in (stepped[0], blocked[0]):
        assert jax.tree.map(lambda a: (a.shape, str(a.dtype)), new_state) == before
    assert jax.tree.map(str, stepped[1:]) == jax.tree.map(str, row)
    assert {str(leaf.dtype) for leaf in jax.tree.leaves(stepped)} == {"int32", "float32", "bool"}


def test_learning_with_wide_types_on_gives_the_same_memories():
    layer, params = bank()
    expected, _ = memjax.fit(layer, params, layer.init(KEY), *clustered())
    with jax.enable_x64(True):
        state, _ = memjax.fit(layer, params, layer.init(jax.random.key(0)), *clustered())
    assert_same(state, expected)


@pytest.mark.parametrize("output", ["evidence", "activations"])
@every_distance
def test_recall_of_a_block_is_recall_one_by_one(distance, output):
    layer, params = bank(distance=distance, output=output, capacity=50)
    xs, labels = clustered()
    state, _, _ = learn_all(layer, params, layer.init(KEY), xs[:40], labels[:40])
    assert 10 < state.size < 50
    singles = recall_each(layer, params, state, xs[40:])
    blocks = recall_all(layer, params, state, xs[40:])
    np.testing.assert_allclose(blocks, singles, rtol=1e-4, atol=2e-5)
    assert np.ptp(singles) > 0.1


@pytest.mark.parametrize("output", ["evidence", "activations"])
@pytest.mark.parametrize("num_neighbours", [1, 3, 9, 36, 99])
def test_recall_is_what_the_oracle_recalls(num_neighbours, output):
    layer, params = bank(num_neighbours=num_neighbours, output=output)
    xs, labels = clustered()
    oracle = ReferenceMemory(layer, params.novelty_threshold, params.plasticity_floor)
    for index in range(40):  # the first memories are fewer than the neighbours asked for
        oracle.learn(xs[index], int(labels[index]))
        if index % 3 == 0:
            code = recall_each(layer, params, state_of(oracle), xs[-index - 1 :][:1])
            np.testing.assert_allclose(code[0], oracle.recall(xs[-index - 1]), rtol=1e-4, atol=2e-5)


@every_distance
def test_evidence_sums_to_1_where_a_neighbour_has_a_vote(distance):
    layer, params = bank(distance=distance)
    xs, labels = clustered()
    state, _, _ = learn_all(layer, params, layer.init(KEY), xs[:200], labels[:200])
    evidence = np.asarray(recall_all(layer, params, state, xs[200:]))
    assert np.all(evidence >= 0)
    np.testing.assert_allclose(evidence.sum(axis=1), 1, atol=1e-5)


def test_the_only_voter_is_heard_even_where_it_is_the_farthest_memory():
    layer, params = bank(num_features=1, num_neighbours=5)
    xs = np.array([[0.0], [1.0], [3.0]], np.float32)
    state, _, _ = learn_all(layer, params, layer.init(KEY), xs, np.array([-1, -1, 2]))
    code = recall_each(layer, params, state, np.array([[0.1]], np.float32))
    np.testing.assert_array_equal(code[0], [0, 0, 1, 0])


def test_an_empty_memory_answers_nothing():
    layer, params = bank()
    xs = clustered()[0][:5]
    _, codes, infos = learn_all(layer, params, layer.init(KEY), xs, np.zeros(5, int))
    assert np.all(codes[0] == 0)
    assert (infos.winner[0], infos.predicted[0], infos.distance[0]) == (-1, -1, np.inf)
    assert infos.is_novel[0]
    assert np.all(recall_all(layer, params, layer.init(KEY), xs) == 0)


def weights_of(distances, totals, num_neighbours, size):
    distances, totals = jnp.array(distances, jnp.float32), jnp.array(totals, jnp.int32)
    return vote_weights(distances, totals, num_neighbours, jnp.int32(size))


def test_weights_of_neighbours_worked_out_by_hand():
    weights = weights_of([1, 2, 4], [3, 9, 1], 2, 9)
    np.testing.assert_allclose(weights, [3 / 4 * 3 / 5, 2 / 4 * 9 / 11])


def test_no_more_than_half_of_the_memories_vote():
    weights = weights_of([1, 4, 9, 100], [2, 2, 2, 2], 7, 4)
    np.testing.assert_allclose(weights, [2 / 4 * 8 / 9, 2 / 4 * 5 / 9, 0, 0])
    np.testing.assert_allclose(weights_of([1, np.inf], [3, 0], 7, 1), [1, 0])


def test_neighbours_that_are_equally_near_count_alike():
    np.testing.assert_array_equal(weights_of([2, 2, 2], [1, 9, 1], 2, 9), [1, 1])


def test_a_memory_that_is_the_input_answers_alone_if_it_has_votes_enough():
    np.testing.assert_array_equal(weights_of([0, 1, 2], [2, 9, 1], 2, 9), [1, 0])
    weights = weights_of([0, 1, 2], [1, 9, 1], 2, 9)
    np.testing.assert_allclose(weights, [1 / 3, 1 / 2 * 9 / 11])


@pytest.mark.parametrize(
    ("capacity", "size", "number"),
    [
        (1, 1, 3),
        (20, 20, 8),
        (20, 3, 8),  # free rows, smaller than a group
        (33, 33, 1),
        (300, 300, 6),  # groups, the last one not full
        (300, 300, 60),  # more than groups
        (1500, 2, 8),  # fewer stored than asked for
        (2049, 2049, 6),  # two tiles, the last one not full
        (2049, 2000, 2049),
        (6000, 5990, 40),
        (6144, 0, 4),
    ],
)
def test_the_nearest_are_those_of_a_stable_sort_by_distance_and_index(capacity, size, number):
    generator = np.random.default_rng(capacity + size)
    layer, _ = bank(num_features=1, capacity=capacity)
    # Whole numbers: many ties, and no rounding.
    rows = generator.integers(0, max(4, size // 50), capacity)
    xs = generator.integers(0, max(4, size // 50), 9)
    state = layer.init(KEY)._replace(
        prototypes=jnp.asarray(rows[:, None], jnp.float32), size=jnp.int32(size)
    )
    table = np.where(np.arange(capacity) < size, np.square(xs[:, None] - rows[None]), np.inf)
    expected = np.argsort(table, axis=1, kind="stable")[:, :number]
    nearest = jax.jit(layer.nearest, static_argnums=2)
    distances, indices = nearest(state, xs[:, None].astype(np.float32), number)
    np.testing.assert_array_equal(indices, expected)
    np.testing.assert_array_equal(distances, np.take_along_axis(table, expected, axis=1))


@pytest.mark.parametrize(
    ("shape", "number", "message"),
    [
        ((1, 12), 0, "number: expected a positive integer, got 0."),
        ((12,), 1, "xs: expected [B, 12], got [12]."),
    ],
)
def test_a_search_for_the_nearest_says_what_it_was_asked_in_vain(shape, number, message):
    layer, _ = bank(num_features=12)
    with pytest.raises(ValueError) as caught:
        layer.nearest(layer.init(KEY), jnp.zeros(shape), number)
    assert str(caught.value) == message


def test_activations_are_how_much_nearer_than_the_average_a_memory_is():
    layer, _ = bank(num_features=1, output="activations", capacity=4)
    xs = np.array([[0.0], [1.0], [3.0]], np.float32)
    state, _, _ = learn_all(layer, layer.params(0.0), layer.init(KEY), xs, np.zeros(3, int))
    code = recall_each(layer, layer.params(0.0), state, np.zeros((1, 1), np.float32))
    np.testing.assert_allclose(code[0], [10 / 3, 10 / 3 - 1, 0, 0], rtol=1e-6)


@pytest.mark.long
def test_two_banks_in_a_row_learn_in_blocks_as_they_do_one_by_one():
    first, first_params = bank(output="activations", supervised_growth=False)
    second, _ = bank(num_features=36, capacity=40, supervised_growth=False)
    chain = Chain((first, second))
    params = (first_params, second.params(150.0))
    results = [
        learn_all(chain, params, chain.init(KEY), *clustered(), 33, learn)
        for learn in (learn_steps, learn_block)
    ]
    assert_same(results[1][0], results[0][0], atol=1e-3)
    np.testing.assert_array_equal(results[1][2].predicted, results[0][2].predicted)
    assert results[0][0][1].size > 10
    assert np.sum(~results[0][2].parts[1].is_novel) > 30


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"capacity": 0}, "capacity: expected a positive integer, got 0."),
        ({"num_neighbours": 0}, "num_neighbours: expected a positive integer, got 0."),
        ({"num_classes": -1}, "num_classes: expected a positive integer, got -1."),
        (
            {"policy": "forget"},
            "on_full: expected one of 'adapt', 'replace', 'ignore', got 'forget'.",
        ),
        ({"output": "spikes"}, "output: expected one of 'evidence', 'activations', got 'spikes'."),
    ],
)
def test_a_bank_says_which_attribute_is_out_of_its_range(fields, message):
    with pytest.raises(ValueError) as caught:
        bank(**fields)
    assert str(caught.value) == message


def test_a_capacity_that_is_no_integer_is_a_type_error():
    with pytest.raises(TypeError, match=r"capacity: expected a positive integer, got 2\.5\."):
        bank(capacity=2.5)


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ((-1.0,), "novelty_threshold: expected a number from 0 to inf, got -1."),
        ((float("nan"),), "novelty_threshold: expected a number from 0 to inf, got nan."),
        (("low",), "novelty_threshold: expected one of 'auto', got 'low'."),
        ((1.0, 1.5), "plasticity_floor: expected a number from 0 to 1, got 1.5."),
        ((1.0, -0.1), "plasticity_floor: expected a number from 0 to 1, got -0.1."),
    ],
)
def test_params_say_which_number_is_out_of_its_range(numbers, message):
    layer, _ = bank()
    with pytest.raises(ValueError) as caught:
        layer.params(*numbers)
    assert str(caught.value) == message


@pytest.mark.parametrize("name", DISTANCES)
def test_distances_to_winners_are_counted_alike_however_they_are_learned(name):
    layer, params = bank(distance=name)
    xs, labels = clustered()
    counted = []
    for learn in (learn_steps, learn_block):
        state, _, infos = learn_all(layer, params, layer.init(KEY), xs, labels, 33, learn)
        counted.append(state.distance_counts)
        told = infos.distance[infos.winner >= 0]
        bins = np.asarray(told).view(np.int32) >> 21
        np.testing.assert_array_equal(state.distance_counts, np.bincount(bins, minlength=NUM_BINS))
    np.testing.assert_array_equal(*counted)


def test_novelty_is_the_share_of_learned_examples_that_were_nearer():
    layer, params = bank(capacity=40)
    xs, labels = clustered(2000)
    state, _, infos = learn_all(layer, params, layer.init(KEY), xs, labels)
    asked, (distances, _) = xs[:400], layer.nearest(state, xs[:400], 1)
    expected = [np.mean(infos.distance[1:] < distance) for distance in distances[:, 0]]
    found = layer.novelty(params, state, jnp.asarray(asked))
    np.testing.assert_allclose(found, expected, atol=0.03)
    strange = layer.novelty(params, state, jnp.asarray(asked + 100))
    np.testing.assert_array_equal(strange, 1)
    np.testing.assert_array_equal(layer.novelty(params, layer.init(KEY), jnp.asarray(asked)), 1)
