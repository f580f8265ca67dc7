"""The memory layer against the oracle, blocks against single steps, and the laws of both."""

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
from memjax.distances import DISTANCES, Distance
from memjax.encoders import ENCODERS
from memjax.memory import MemoryLayer, MemoryParams, MemoryState, nearest_memories
from memjax.networks import Chain
from memjax.types import Layer

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


def learn_all(layer, params, state, xs, labels, block_size=32, learn: Learn = learn_block):
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
        results.append(
            jax.tree.map(lambda x, n=len(rows): np.asarray(x)[:n], (codes, infos)),
        )
    codes, infos = jax.tree.map(lambda *parts: np.concatenate(parts), *results)
    return state, codes, infos


def state_of(oracle: ReferenceMemory) -> MemoryState:
    return MemoryState(
        prototypes=jnp.asarray(oracle.prototypes, jnp.float32),
        counts=jnp.asarray(oracle.counts, jnp.int32),
        votes=jnp.asarray(oracle.votes, jnp.int32),
        stored_at=jnp.asarray(oracle.stored_at, jnp.int32),
        size=jnp.int32(oracle.size),
        num_seen=jnp.int32(oracle.num_seen),
    )


def same_counts(state: MemoryState, oracle: ReferenceMemory) -> bool:
    pairs = zip(state[1:], state_of(oracle)[1:], strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


def first_difference(infos, outcomes) -> int | None:
    for index, outcome in enumerate(outcomes):
        for name in ("winner", "is_novel", "is_saturated", "predicted"):
            if getattr(infos, name)[index] != getattr(outcome, name):
                return index
    return None


def compare_with_oracle(layer, params, xs, labels, block_size: int, learn: Learn) -> int:
    """Assert that a layer does as the oracle does; return how many near-ties rounding decided.

    Where the two part, the oracle's choice must have been within float32 rounding of another; then
    both go on from the oracle's state.
    """
    oracle = ReferenceMemory(layer, params.novelty_threshold, params.plasticity_floor)
    state, start, near_ties = layer.init(KEY), 0, 0
    size = max(1.0, float(np.abs(xs).max()))
    while start < len(xs):
        rows, row_labels = xs[start : start + block_size], labels[start : start + block_size]
        before = oracle.copy()
        codes, outcomes = [], []
        for x, y in zip(rows, row_labels, strict=True):
            codes.append(oracle.recall(x))
            outcomes.append(oracle.learn(x, int(y)))

        def attempt(length, rows=rows, row_labels=row_labels, state=state):
            return learn_all(layer, params, state, rows[:length], row_labels[:length], block_size, learn)

        new_state, new_codes, infos = attempt(len(rows))
        different = first_difference(infos, outcomes)
        if different is None and not same_counts(new_state, oracle):
            # The winners agree and the rows written do not: find the first such row.
            replay = before.copy()
            for different in range(len(rows)):
                replay.learn(rows[different], int(row_labels[different]))
                if not same_counts(attempt(different + 1)[0], replay):
                    break
        if different is None:
            np.testing.assert_allclose(new_state.prototypes, oracle.prototypes, atol=3e-6 * size)
            scale = ROUNDING * 2 * float(np.max(np.sum(np.abs(rows), axis=1) + np.sum(rows**2, axis=1)))
            distances = [outcome.distance for outcome in outcomes]
            np.testing.assert_allclose(infos.distance, distances, rtol=1e-5, atol=scale)
            np.testing.assert_allclose(new_codes, codes, rtol=1e-4, atol=2e-4)
            state, start = new_state, start + len(rows)
            continue
        assert outcomes[different].margin < ROUNDING, (start + different, outcomes[different])
        near_ties += 1
        oracle = before
        for x, y in zip(rows[: different + 1], row_labels, strict=False):
            oracle.learn(x, int(y))
        state, start = state_of(oracle), start + different + 1
    return near_ties


@functools.cache
def clustered(count=300, num_features=12, seed=0):
    """Examples around 40 centres, every tenth label wrong and every tenth unknown."""
    generator = np.random.default_rng(seed)
    centres = generator.normal(size=(40, num_features))
    cluster = generator.integers(0, 40, count)
    xs = centres[cluster] + 0.12 * generator.normal(size=(count, num_features))
    labels = cluster % 4
    noise = generator.random(count)
    labels = np.where(noise < 0.1, generator.integers(0, 4, count), labels)
    labels = np.where(noise > 0.9, -1, labels)
    return xs.astype(np.float32), labels.astype(np.int32)


def bank(policy="adapt", distance="squared_euclidean", supervised_growth=True, **fields):
    fields = {"num_features": 12, "num_classes": 4, "capacity": 24, "num_neighbours": 5, **fields}
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

@every_bank
def test_the_random_examples_hit_fill_and_saturate_every_bank(policy, distance, supervised_growth):
    layer, params = bank(policy, distance, supervised_growth)
    _, _, infos = learn_all(layer, params, layer.init(KEY), *clustered(), 33)
    print(np.sum(~infos.is_novel) , np.sum(infos.is_saturated))
    assert np.sum(~infos.is_novel) > 30
    assert np.sum(infos.is_saturated) > 30


@every_bank
def test_single_steps_do_as_the_oracle_does(policy, distance, supervised_growth):
    layer, params = bank(policy, distance, supervised_growth)
    assert compare_with_oracle(layer, params, *clustered(), 33, learn_steps) <= 1


@pytest.mark.parametrize("block_size", [1, 7, 33, 512])
@every_bank
def test_blocks_do_as_the_oracle_does(policy, distance, supervised_growth, block_size):
    layer, params = bank(policy, distance, supervised_growth)
    assert compare_with_oracle(layer, params, *clustered(), block_size, learn_block) <= 1
