"""Whatever is done with a bank, in any order, it is what the oracle makes of it."""

import dataclasses
import tempfile
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from reference import ROUNDING, ReferenceMemory

import memjax
from memjax import checkpoint

pytest.importorskip("orbax.checkpoint")

CAPACITIES, CLASSES, LENGTHS = (4, 9, 14), (2, 4), (1, 5, 12)
SEEDS = st.integers(0, 2**32 - 1)
# Memories that moved by sums in another order differ in their last bits.
CLOSE = 1e-4


class Machine(RuleBasedStateMachine):
    """A bank of three features, and the oracle beside it."""

    layer: Any
    params: Any
    state: Any
    oracle: ReferenceMemory

    @initialize(
        on_full=st.sampled_from(("adapt", "replace", "ignore")),
        supervised_growth=st.booleans(),
        threshold=st.sampled_from((0.0, 0.05, 0.5)),
        floor=st.sampled_from((0.0, 0.1)),
    )
    def begin(self, on_full, supervised_growth, threshold, floor):
        self.layer = memjax.MemoryLayer(
            3, 2, 4, num_neighbours=3, on_full=on_full, supervised_growth=supervised_growth
        )
        self.params = self.layer.params(threshold, floor)
        self.state = self.layer.init(jax.random.key(0))
        self.oracle = self.oracle_of(self.state)

    def oracle_of(self, state):
        return ReferenceMemory.of(self.layer, self.params, state)

    def examples(self, seed, number):
        """Examples around a few places; some labels are wrong, and some are not known."""
        generator = np.random.default_rng(seed)
        kinds = generator.integers(0, 6, number)
        places = np.random.default_rng(0).normal(size=(6, 3))
        xs = places[kinds] + 0.2 * generator.normal(size=(number, 3))
        labels = np.where(generator.random(number) < 0.2, generator.integers(-1, 2), kinds)
        return xs.astype(np.float32), np.minimum(labels, self.layer.num_classes - 1)

    def learn(self, oracle, xs, labels):
        """Let the oracle learn; return by how little it missed doing something else."""
        return min(oracle.learn(x, int(label)).margin for x, label in zip(xs, labels, strict=True))

    def agree(self, gap):
        """Check that the oracle has the same, or that rounding decided and it is to follow."""
        same = all(
            np.array_equal(getattr(self.state, name), getattr(self.oracle, name))
            for name in ("counts", "averaged", "votes", "stored_at", "size", "num_seen")
        ) and np.allclose(self.state.prototypes, self.oracle.prototypes, CLOSE, CLOSE)
        assert same or gap < ROUNDING
        # Its memories are rounded as the bank's from here on, so that no gap can grow.
        self.oracle = self.oracle_of(self.state)

    @rule(seed=SEEDS, number=st.sampled_from(LENGTHS))
    def fit(self, seed, number):
        xs, labels = self.examples(seed, number)
        self.state, _ = memjax.fit(self.layer, self.params, self.state, xs, labels, 8)
        self.agree(self.learn(self.oracle, xs, labels))

    @rule(seed=SEEDS, cuts=st.sets(st.integers(1, 11), max_size=3))
    def fit_stream(self, seed, cuts):
        xs, labels = self.examples(seed, 12)
        ends = sorted(cuts)
        batches = zip(np.split(xs, ends), np.split(labels, ends), strict=True)
        self.state, tally = memjax.fit_stream(
            self.layer, self.params, self.state, batches, block_size=8
        )
        assert tally.num_seen == 12
        self.agree(self.learn(self.oracle, xs, labels))

    @rule()
    def save_and_restore(self):
        with tempfile.TemporaryDirectory() as folder:
            path = checkpoint.save(Path(folder) / "kept", self.layer, self.params, self.state)
            self.layer, self.params, found = checkpoint.restore(path)
        assert checkpoint.state_digest(found) == checkpoint.state_digest(self.state)
        self.state = found

    @rule(capacity=st.sampled_from(CAPACITIES), num_classes=st.sampled_from(CLASSES))
    def resize(self, capacity, num_classes):
        num_classes = max(num_classes, self.layer.num_classes)
        layer = dataclasses.replace(self.layer, capacity=capacity, num_classes=num_classes)
        self.layer, _, self.state = memjax.resize(
            self.layer, self.params, self.state, capacity=capacity, num_classes=num_classes
        )
        assert self.layer == layer
        self.agree(self.oracle.resize(layer))

    @rule(label=st.integers(0, 1))
    def forget_a_label(self, label):
        self.state = memjax.forget(self.layer, self.state, label=label)
        self.oracle.forget_label(label)
        self.agree(np.inf)

    @rule(share=st.floats(0, 1), is_mask=st.booleans(), seed=SEEDS)
    def forget_memories(self, share, is_mask, seed):
        mask = np.random.default_rng(seed).random(self.layer.capacity) < share
        gone = [k for k in range(self.oracle.size) if mask[k]]
        chosen: Any = {"mask": mask} if is_mask else {"indices": gone}
        self.state = memjax.forget(self.layer, self.state, **chosen)
        self.oracle.forget(gone)
        self.agree(np.inf)

    @rule(seeds=st.lists(SEEDS, min_size=1, max_size=2), number=st.sampled_from(LENGTHS))
    def merge(self, seeds, number):
        empty = self.layer.init(jax.random.key(0))
        others = [
            memjax.fit(self.layer, self.params, empty, *self.examples(seed, number), 8)[0]
            for seed in seeds
        ]
        self.state = memjax.merge(self.layer, self.params, [self.state, *others])
        self.agree(self.oracle.merge(list(map(self.oracle_of, others))))

    @rule(seed=SEEDS)
    def predict(self, seed):
        xs, _ = self.examples(seed, 5)
        found = memjax.predict_proba(self.layer, self.params, self.state, xs)
        expected = np.array([self.oracle.recall(x) for x in xs])
        np.testing.assert_allclose(found, expected, CLOSE, CLOSE)
        labels = memjax.predict(self.layer, self.params, self.state, xs)
        assert np.array_equal(labels, np.where(found.any(axis=1), found.argmax(axis=1), -1))

    @invariant()
    def free_rows_hold_zeros(self):
        for rows in (self.state.prototypes, self.state.counts, self.state.votes):
            assert not np.any(rows[int(self.state.size) :])


@pytest.mark.parametrize(("runs", "steps"), [(2, 15), pytest.param(20, 50, marks=pytest.mark.long)])
def test_any_order_of_learning_editing_saving_and_asking_is_what_the_oracle_makes_of_it(
    runs, steps
):
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=runs,
            stateful_step_count=steps,
            deadline=None,
            derandomize=True,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        ),
    )
