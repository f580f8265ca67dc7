"""The distances: hand-worked cases, blocks against single examples, and moved memories."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import distances

from memjax.distances import DISTANCES, cosine, manhattan, squared_euclidean

every_distance = pytest.mark.parametrize("distance", DISTANCES.values(), ids=DISTANCES)


def single(distance, xs, memories):
    """The distances of examples one by one, [K, B]."""
    return jax.jit(jax.vmap(distance.to_memories, in_axes=(0, None), out_axes=1))(xs, memories)


def pairwise(distance, xs, memories):
    return jax.jit(distance.pairwise)(xs, memories)


def rows(count, seed):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(count, 9)), jnp.float32)


@pytest.mark.parametrize(
    ("distance", "expected"),
    [
        (squared_euclidean, [0, 18, 25, 100]),
        (cosine, [0, 1 - 4 / 5, 1, 2]),
        (manhattan, [0, 6, 7, 14]),
    ],
    ids=DISTANCES,
)
def test_distances_worked_out_by_hand(distance, expected):
    memories = jnp.array([[3.0, 4.0], [0.0, 1.0], [0.0, 0.0], [-3.0, -4.0]])
    found = distance.to_memories(jnp.array([3.0, 4.0]), memories)
    np.testing.assert_allclose(found, expected, atol=1e-6)


@every_distance
def test_a_distance_is_that_of_the_oracle(distance):
    x, memories = rows(1, 0)[0], rows(7, 1)
    expected = distances(distance.name, np.asarray(x), np.asarray(memories))
    np.testing.assert_allclose(distance.to_memories(x, memories), expected, rtol=1e-5)


@every_distance
def test_the_block_form_is_the_single_form_memory_by_example(distance):
    xs, memories = rows(5, 0), rows(7, 1)
    expected = single(distance, xs, memories)
    assert expected.shape == (7, 5)
    np.testing.assert_allclose(pairwise(distance, xs, memories), expected, rtol=1e-5, atol=1e-5)


@every_distance
def test_an_example_is_at_distance_0_from_itself_in_both_forms(distance):
    xs = rows(40, 2)
    np.testing.assert_array_equal(np.diag(single(distance, xs, xs)), 0)
    np.testing.assert_array_equal(np.diag(pairwise(distance, xs, xs)), 0)


@pytest.mark.parametrize("number", [1, 2, 30])
@pytest.mark.parametrize("offset", [0.0, 300.0, -1e4])
def test_what_all_rows_share_costs_no_digits(offset, number):
    memories, xs = rows(30, 0), rows(20, 1)
    expected = squared_euclidean.to_memories(xs[0], memories)
    far = jnp.zeros_like(memories).at[:number].set(memories[:number] + offset)
    found = pairwise(squared_euclidean, jnp.concatenate([xs + offset, far]), far)[:number]
    np.testing.assert_allclose(found[:, 0], expected[:number], rtol=2e-3)
    assert not np.any(found[np.arange(number), 20 + np.arange(number)])


def test_a_few_outliers_among_the_memories_are_not_taken_for_the_middle():
    memories, xs = rows(30, 0) + 300, rows(20, 1) + 300
    for outlier in (0.0, 1e6):
        some = memories.at[jnp.array([1, 4])].set(outlier)
        found = pairwise(squared_euclidean, xs, some)
        expected = single(squared_euclidean, xs, some)
        np.testing.assert_allclose(found, expected, rtol=2e-3)


@every_distance
def test_no_distance_is_below_0_or_not_a_number(distance):
    xs = jnp.concatenate([rows(20, 3), 1e-3 * rows(20, 3), jnp.zeros((1, 9))])
    found = pairwise(distance, xs, xs)
    assert np.all(np.asarray(found) >= 0)


def test_the_cosine_distance_from_or_to_nothing_is_1():
    nothing, x = jnp.zeros((1, 2)), jnp.array([[3.0, 4.0]])
    for a, b in ((x, nothing), (nothing, x), (nothing, nothing)):
        assert cosine.to_memories(a[0], b)[0] == 1
        assert cosine.pairwise(a, b)[0, 0] == 1


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 1.0])
def test_distances_to_a_moved_memory_follow_from_those_before(rate):
    xs, memory = rows(8, 4), rows(1, 5)
    moved = (1 - rate) * memory + rate * xs[2:3]
    before = squared_euclidean.pairwise(xs, memory)[0]
    assert squared_euclidean.moved is not None
    found = squared_euclidean.moved(
        before, squared_euclidean.pairwise(xs, xs)[2], before[2], jnp.float32(rate)
    )
    expected = squared_euclidean.pairwise(xs, moved)[0]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_the_distances_are_known_by_their_names():
    assert {name: distance.name for name, distance in DISTANCES.items()} == {
        "squared_euclidean": "squared_euclidean",
        "cosine": "cosine",
        "manhattan": "manhattan",
    }
