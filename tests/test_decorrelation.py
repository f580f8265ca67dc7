"""Decorrelation and random projection: against NumPy, and by their laws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from lessons import learn_in_blocks, learn_one_by_one

from memjax.projections import Decorrelation, RandomProjection

LAYER = Decorrelation(num_features=6, num_dimensions=4)
PARAMS = LAYER.params(start=3, decorrelation_period=20, decorrelation_floor=0.1, exponent=0.4)
NONE = jnp.full(40, -1)


@pytest.fixture(scope="module")
def xs():
    rng = np.random.default_rng(1)
    mixing = rng.normal(size=(6, 6))
    return (rng.normal(size=(40, 6)) @ mixing + 2).astype(np.float32)


def test_codes_are_those_of_the_formula(xs):
    _, codes, _ = learn_one_by_one(LAYER, PARAMS, xs)
    learned = xs[3:23].astype(np.float64)
    variances, vectors = np.linalg.eigh(np.cov(learned.T, bias=True))
    scale = (variances + 0.1 * variances.mean()) ** -0.4
    expected = (xs - learned.mean(0)) @ (vectors * scale)[:, -4:]
    assert not np.any(codes[:22])  # silent until the period is over
    # An eigenvector may point either way.
    np.testing.assert_allclose(np.abs(codes[22:]), np.abs(expected[22:]), rtol=2e-3, atol=2e-3)


def test_components_are_uncorrelated_and_of_one_strength(xs):
    params = LAYER.params(decorrelation_period=40, decorrelation_floor=0)
    state, _, _ = learn_one_by_one(LAYER, params, xs)
    codes = np.asarray(LAYER.recall_block(params, state, jnp.asarray(xs)))
    np.testing.assert_allclose(np.cov(codes.T, bias=True), np.eye(4), atol=1e-3)


@pytest.mark.parametrize("block_size", [1, 7, 40, 64])
def test_a_block_is_its_single_steps(xs, block_size):
    state, codes, _ = learn_one_by_one(LAYER, PARAMS, xs)
    learned, block_codes, _ = learn_in_blocks(LAYER, PARAMS, xs, block_size)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4),
        learned.sums[:3],
        state.sums[:3],
    )
    assert learned.num_seen == state.num_seen == 40
    np.testing.assert_allclose(np.abs(block_codes), np.abs(codes), rtol=2e-3, atol=2e-3)


def test_a_feature_that_never_varies_says_nothing():
    layer = Decorrelation(num_features=3, num_dimensions=3)
    params = layer.params(decorrelation_period=10, decorrelation_floor=0)
    xs = np.zeros((10, 3), np.float32)
    xs[:, 0] = np.arange(10)
    state, _, _ = learn_one_by_one(layer, params, xs)
    codes = np.asarray(layer.recall_block(params, state, jnp.asarray(xs) + 5))
    assert np.isfinite(codes).all()
    assert np.abs(codes[:, :2]).max() < 1e-3


def test_a_sweep_learns_what_each_member_learns(xs):
    def learn(floor):
        params = LAYER.params()._replace(
            decorrelation_period=jnp.float32(25), decorrelation_floor=floor
        )
        state, _, _ = LAYER.step_block(params, LAYER.init(jax.random.key(0)), xs, NONE)
        return LAYER.recall_block(params, state, xs)

    floors = jnp.array([0.0, 0.5], jnp.float32)
    swept = jax.jit(jax.vmap(learn))(floors)
    for floor, codes in zip(floors, swept, strict=True):
        np.testing.assert_allclose(np.abs(codes), np.abs(learn(floor)), rtol=2e-3, atol=2e-3)


def test_a_random_projection_keeps_distances_and_depends_on_its_key():
    layer = RandomProjection(num_features=400, num_dimensions=300)
    xs = jnp.asarray(np.random.default_rng(0).normal(size=(2, 400)), jnp.float32)
    state = layer.init(jax.random.key(0))
    codes = layer.recall_block((), state, xs)
    np.testing.assert_allclose(
        np.linalg.norm(codes[0] - codes[1]), np.linalg.norm(xs[0] - xs[1]), rtol=0.15
    )
    np.testing.assert_allclose(
        layer.step((), state, xs[0], jnp.int32(0))[1], codes[0], rtol=1e-5, atol=1e-5
    )
    assert np.any(np.asarray(layer.init(jax.random.key(1)) != state))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Decorrelation(3, 4), "num_dimensions: expected at most num_features = 3, got 4"),
        (lambda: Decorrelation(0, 1), "num_features: expected a positive integer, got 0"),
        (lambda: RandomProjection(3, 0), "num_dimensions: expected a positive integer, got 0"),
        (lambda: LAYER.params(decorrelation_period=0), "decorrelation_period: expected a number"),
        (lambda: LAYER.params(exponent=2), "exponent: expected a number from 0 to 1, got 2"),
        (lambda: LAYER.params(decorrelation_floor=-1), "decorrelation_floor: expected a number"),
    ],
)
def test_bad_settings_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("scale", [1e-12, 1e-7, 1e7])
def test_components_do_not_depend_on_the_scale_of_inputs(xs, scale):
    layer = Decorrelation(xs.shape[1], 2)
    params = layer.params(decorrelation_period=20, decorrelation_floor=0)
    codes = []
    for factor in (1, scale):
        inputs = (xs * factor).astype(np.float32)
        state, _, _ = learn_in_blocks(layer, params, inputs, 7)
        codes.append(np.abs(layer.recall_block(params, state, inputs)))
    np.testing.assert_allclose(codes[0], codes[1], atol=1e-3)
    assert codes[0].max() > 1
