"""Exemplars: against a plain loop, and by their laws."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from lessons import learn_in_blocks

from memjax.composition import Chain
from memjax.exemplars import Exemplars
from memjax.params import replace_params
from memjax.readouts import RidgeReadout

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


MIXED = Exemplars(num_features=5, capacity=8, num_mixed=6)


@pytest.mark.parametrize("block_size", [1, 4, 30])
def test_mixtures_are_known_at_once_and_do_not_depend_on_the_blocks(xs, block_size):
    state, codes, infos = learn_in_blocks(MIXED, PARAMS, xs, block_size)
    whole, expected, _ = learn_in_blocks(MIXED, PARAMS, xs, 30)
    np.testing.assert_allclose(state.prototypes, whole.prototypes, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(codes, expected, atol=1e-5)
    last = np.flatnonzero(np.any(xs, axis=1))[5]  # the sixth that is not silence
    added = np.zeros(30)
    added[last] = 8
    np.testing.assert_array_equal(infos.memories_added, added)
    assert not np.any(codes[: last + 1])
    assert np.all(codes[last + 2] != 0)
    # What came after the first six changes no memory.
    few, _, _ = learn_in_blocks(MIXED, PARAMS, xs[: last + 1], block_size)
    np.testing.assert_array_equal(few.prototypes, state.prototypes)
    MIXED.check_values(state)
    MIXED.check_values(few)


def test_mixtures_vary_as_the_inputs_do():
    rng = np.random.default_rng(0)
    xs = (rng.normal(size=(400, 3)) @ [[2.0, 0, 0], [1, 1, 0], [0, 0, 0.1]]).astype(np.float32)
    layer = Exemplars(num_features=3, capacity=5000, num_mixed=400)
    state, _, _ = learn_in_blocks(layer, layer.params(), xs, 64)
    expected = xs.T @ xs / 400
    np.testing.assert_allclose(np.cov(state.prototypes.T), expected, atol=0.05 * expected.max())
    assert abs(np.mean(state.prototypes, axis=0) / np.sqrt(np.diag(expected))).max() < 0.05


def test_a_seed_draws_other_mixtures(xs):
    first, again, other = (
        np.asarray(learn_in_blocks(layer, PARAMS, xs, 7)[0].prototypes)
        for layer in (MIXED, MIXED, dataclasses.replace(MIXED, seed=1))
    )
    np.testing.assert_array_equal(first, again)
    assert np.all(first != other)


@pytest.mark.parametrize(("num_mixed", "loses"), [(50, False), (None, True)])
def test_the_first_class_of_a_sorted_stream_is_known_as_well_as_in_a_shuffled_one(num_mixed, loses):
    # Eight sectors of a circle: a linear readout alone could not tell the four classes apart.
    rng = np.random.default_rng(0)
    angles = rng.uniform(0, 2 * np.pi, 1600)
    labels = (angles * 8 / (2 * np.pi)).astype(int) % 4
    xs = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    xs = (xs + 0.03 * rng.normal(size=xs.shape)).astype(np.float32)
    network = Chain((Exemplars(2, 200, num_mixed=num_mixed), RidgeReadout(200, 4)))
    params = replace_params(network.default_params(), homeostasis_period=50)

    def accuracy_of_first_class(rows):
        state, _, _ = learn_in_blocks(network, params, xs[rows], 50, labels[rows])
        state = network.consolidate(params, state)
        answers = np.argmax(network.recall_block(params, state, jnp.asarray(xs)), axis=1)
        return np.mean(answers[labels == 0] == 0)

    lost = accuracy_of_first_class(slice(None)) - accuracy_of_first_class(np.argsort(labels))
    assert (lost > 0.04) == loses


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Exemplars(5, 8, num_mixed=0), "num_mixed: expected a positive integer, got 0"),
        (lambda: Exemplars(5, 8, seed=-1), "seed: expected a whole number"),
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
