"""Exemplars: against a plain loop, and by their laws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from lessons import learn_in_blocks

from memjax.exemplars import Exemplars

LAYER = Exemplars(num_features=5, capacity=8)
PARAMS = LAYER.params(spread=0.4)


@pytest.fixture(scope="module")
def xs():
    xs = np.random.default_rng(2).normal(size=(30, 5)).astype(np.float32)
    xs[[0, 1, 5, 20]] = 0  # silence
    return xs


def reference(xs, homeostasis_period):
    """Return memories and codes of the rule as the docstring states it, in float64."""
    memories, heard, answered, codes = [], [], [], []
    for x in xs.astype(np.float64):
        code = np.zeros(LAYER.capacity)
        if np.any(x):
            for k, memory in enumerate(memories):
                distance = np.sum((x - memory) ** 2)
                is_counted = len(heard[k]) < homeostasis_period
                if is_counted:
                    heard[k].append(distance)
                answer = np.exp(-distance / (0.4 * np.mean(heard[k])))
                if is_counted:
                    answered[k].append(answer)
                code[k] = answer - np.mean(answered[k])
            if len(memories) < LAYER.capacity:
                memories.append(x)
                heard.append([])
                answered.append([])
        codes.append(code)
    return np.array(memories), np.array(codes)


@pytest.mark.parametrize("homeostasis_period", [3, np.inf])
@pytest.mark.parametrize("block_size", [1, 4, 30, 50])
def test_exemplars_do_what_the_plain_loop_does(xs, block_size, homeostasis_period):
    params = LAYER.params(spread=0.4, homeostasis_period=homeostasis_period)
    memories, expected = reference(xs, homeostasis_period)
    state, codes, infos = learn_in_blocks(LAYER, params, xs, block_size)
    np.testing.assert_array_equal(state.prototypes, memories.astype(np.float32))
    np.testing.assert_allclose(codes, expected, atol=1e-5)
    assert state.size == infos.memories_added.sum() == 8
    assert expected[6:].max() > 0.1
    # Recall answers as the last example was answered: it was the last one heard.
    recalled = LAYER.recall_block(params, state, xs[-1:])
    np.testing.assert_allclose(recalled[0], expected[-1], atol=1e-5)


def test_silence_is_answered_by_silence(xs):
    state, _, _ = LAYER.step_block(PARAMS, LAYER.init(jax.random.key(0)), xs, jnp.zeros(30))
    assert not np.any(np.asarray(LAYER.recall(PARAMS, state, jnp.zeros(5))))


def test_a_memory_that_has_heard_nothing_since_says_nothing(xs):
    state, _, _ = LAYER.step_block(PARAMS, LAYER.init(jax.random.key(0)), xs[2:3], jnp.zeros(1))
    assert not np.any(np.asarray(LAYER.recall(PARAMS, state, jnp.asarray(xs[2]))))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Exemplars(5, 0), "capacity: expected a positive integer, got 0"),
        (lambda: LAYER.params(spread=0), "spread: expected a number from 1e-06 to inf, got 0"),
        (
            lambda: LAYER.params(homeostasis_period=0),
            "homeostasis_period: expected a number",
        ),
    ],
)
def test_bad_settings_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("scale", [1e-12, 1e-7, 1e7])
def test_answers_do_not_depend_on_the_scale_of_inputs(xs, scale):
    expected, _, _ = learn_in_blocks(LAYER, PARAMS, xs, 7)
    found, _, _ = learn_in_blocks(LAYER, PARAMS, (xs * scale).astype(np.float32), 7)
    codes, expected = (
        LAYER.recall_block(PARAMS, state, factor * xs[6:])
        for state, factor in ((found, np.float32(scale)), (expected, 1))
    )
    np.testing.assert_allclose(codes, expected, atol=1e-4)
