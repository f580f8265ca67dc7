"""Projections: features of one scale, uncorrelated components of equal strength, random ones."""

import dataclasses
import math
from typing import Annotated, Any, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from memjax._checks import (
    LARGEST,
    check_finite,
    check_kind,
    check_learned,
    check_scalar,
    check_values,
)
from memjax._decorrelation import DecorrelationSums, decorrelate, empty_sums, gather
from memjax._numerics import matmul
from memjax.base import BlockLayer, FeatureLayer, FixedLayer
from memjax.params import Number, exportable

__all__ = [
    "Decorrelation",
    "DecorrelationParams",
    "DecorrelationState",
    "RandomProjection",
    "Standardisation",
]


@exportable
class DecorrelationParams(NamedTuple):
    """The numbers of a decorrelation that one may sweep, each a float32 scalar."""

    start: Annotated[
        jax.Array, Number(0.0, 0, math.inf, "examples that pass before it begins to learn")
    ]
    decorrelation_period: Annotated[
        jax.Array, Number(1000.0, 1, math.inf, "examples that it then learns from")
    ]
    decorrelation_floor: Annotated[
        jax.Array,
        Number(0.01, 0, math.inf, "added to the variance of each component, in mean variances"),
    ]
    exponent: Annotated[
        jax.Array, Number(0.5, 0, 1, "power of its variance that a component is divided by")
    ]


@exportable
class DecorrelationState(NamedTuple):
    """What a decorrelation has learned."""

    sums: DecorrelationSums
    num_seen: jax.Array  # int32 []: examples seen


@dataclasses.dataclass(frozen=True)
class Decorrelation(FeatureLayer, BlockLayer):
    r"""The strongest components of its input, uncorrelated and equally strong.

    Over the ``decorrelation_period`` examples after ``start`` it gathers the mean $\bar x$ and the
    sum of $(x - \bar x)(x - \bar x)^\top$. At the end of the period it takes the
    ``num_dimensions`` strongest eigenvectors $u_i$ of the covariance, with variances $v_i$, and
    from then on hands on

    $$z_i = \frac{u_i^\top (x - \bar x)}{(v_i + f \bar v)^{p}} ,$$

    with the floor $f$ in mean variances $\bar v$ and the exponent $p$: 0.5 makes all components
    equally strong, less leaves the strong ones stronger. Until then its code is zero, which the
    layers above take for silence: they learn nothing from it. The sums are products of activities
    that meet; the eigenvectors are a computation over all of them, where a nervous system would
    settle there by anti-Hebbian learning.

    Attributes:
        num_features: D, length of an input.
        num_dimensions: E, components handed on, at most D.

    Raises:
        ValueError: an attribute is not positive, or there are more dimensions than features.

    Source: Földiák (1990), "Forming sparse representations by local anti-Hebbian learning"; closed
    form after Kessy, Lewin & Strimmer (2018), "Optimal whitening and decorrelation".

    Example:
        >>> layer = Decorrelation(num_features=2, num_dimensions=2)
        >>> params = layer.params(decorrelation_period=4, decorrelation_floor=0)
        >>> xs = jnp.array([[0.0, 0.0], [3.0, 0.0], [0.0, 1.0], [3.0, 1.0]])
        >>> state, _, _ = layer.step_block(params, layer.init(jax.random.key(0)), xs, jnp.ones(4))
        >>> print(jnp.abs(layer.recall_block(params, state, xs)).round(3)[0])
        [1. 1.]
    """

    params_kind = DecorrelationParams

    num_features: int
    num_dimensions: int

    def __post_init__(self):
        super().__post_init__()
        if self.num_dimensions > self.num_features:
            raise ValueError(
                f"num_dimensions: expected at most num_features = {self.num_features}, "
                f"got {self.num_dimensions}."
            )

    def init(self, key: jax.Array) -> DecorrelationState:
        """Return empty sums; ``key`` is not used."""
        del key
        sums = empty_sums((), self.num_features, self.num_dimensions)
        return DecorrelationState(sums, jnp.zeros((), jnp.int32))

    def check_values(self, state):
        """Raise unless these can be sums of examples; see ``Layer.check_values``."""
        super().check_values(state)
        check_learned("Decorrelation.num_seen", state.num_seen, 0)
        check_learned("Decorrelation.sums.number", state.sums.number, 0, int(state.num_seen))
        squares = state.sums.scatter.diagonal()
        check_learned("Decorrelation.sums.scatter of a feature with itself", squares, 0)

    def step_block(self, params, state, xs, labels, length=None):
        """Learn from a block by one product; see ``Layer.step_block``."""
        del labels
        count = jnp.asarray(xs.shape[0] if length is None else length, jnp.int32)
        seen = (state.num_seen + lax.iota(jnp.int32, xs.shape[0])).astype(jnp.float32)
        is_real = lax.iota(jnp.int32, xs.shape[0]) < count
        end = params.start + params.decorrelation_period
        is_learned = is_real & (seen >= params.start) & (seen < end)
        is_last = is_learned & (seen + 1 >= end)
        sums = gather(
            state.sums,
            xs,
            is_learned,
            jnp.any(is_last),
            params.decorrelation_floor,
            params.exponent,
        )
        # Rows of this block that came before the period was over have met no matrix.
        codes = jnp.where((seen + 1 >= end)[:, None], _components(sums, xs), 0)
        return DecorrelationState(sums, state.num_seen + count), codes, ()

    def recall_block(self, params, state, xs):
        """Return the components [B, E] of a block without writing."""
        del params
        return _components(state.sums, xs)


def _components(sums: DecorrelationSums, xs: jax.Array) -> jax.Array:
    # A weak component is divided by little, and may meet an input far stronger than all it learned
    # from; the layers above learn from no larger numbers than `fit` takes.
    return jnp.clip(decorrelate(sums, xs), -LARGEST, LARGEST)


@dataclasses.dataclass(frozen=True)
class RandomProjection(FeatureLayer, FixedLayer):
    r"""Fewer numbers that keep the distances: fixed random synapses, nothing is learned.

    $z = R^\top x$ with entries of $R$ drawn once from a normal distribution of variance $1/E$, so
    that $|z|^2$ is $|x|^2$ on average.

    Attributes:
        num_features: D, length of an input.
        num_dimensions: E, length of a code.

    Raises:
        ValueError: an attribute is not positive.

    Source: Johnson & Lindenstrauss (1984), "Extensions of Lipschitz mappings into a Hilbert space".

    Example:
        >>> layer = RandomProjection(num_features=5000, num_dimensions=1000)
        >>> state = layer.init(jax.random.key(0))
        >>> print(jnp.linalg.norm(layer.recall((), state, jnp.ones(5000) / 5000**0.5)).round(1))
        1.0
    """

    num_features: int
    num_dimensions: int

    def init(self, key: jax.Array) -> jax.Array:
        """Return the synapses, float32 [D, E], drawn with ``key``."""
        shape = (self.num_features, self.num_dimensions)
        return jax.random.normal(key, shape, jnp.float32) / self.num_dimensions**0.5

    def recall(self, params: Any, state: Any, x: jax.Array) -> jax.Array:
        """Return the projection [E] of one input [D]."""
        return self.recall_block(params, state, x[None])[0]

    def recall_block(self, params, state, xs):
        """Return the projections [B, E] of inputs [B, D]."""
        del params
        return matmul(xs, state)


@dataclasses.dataclass(frozen=True)
class Standardisation(FixedLayer):
    r"""Features of different units on one scale: $z_i = (x_i - \mu_i) / \sigma_i$.

    A distance adds up what all features differ by, so a feature in grams outweighs one in
    kilograms a thousandfold. The means and the deviations are fields of the layer: they are settled
    before anything is learned, and saved with the network. A feature that does not vary is only
    moved.

    Attributes:
        means: D numbers.
        deviations: D numbers over 0.

    Raises:
        ValueError, TypeError: there are not as many deviations as means, or one is out of its
            range.

    Example:
        >>> import numpy as np
        >>> layer = Standardisation.of(np.array([[1.0, 500.0], [3.0, 700.0]]))
        >>> print(layer.recall((), (), np.array([3.0, 500.0])))
        [ 1. -1.]
    """

    means: tuple[float, ...]
    deviations: tuple[float, ...]

    def __post_init__(self):
        for name in ("means", "deviations"):
            check_kind(name, getattr(self, name), tuple, "a tuple of numbers")
            for number in getattr(self, name):
                check_scalar(name, number, -LARGEST, LARGEST)
        if not self.means or len(self.deviations) != len(self.means):
            raise ValueError(
                f"deviations: expected one for each of {len(self.means)} means, "
                f"got {len(self.deviations)}."
            )
        if min(self.deviations) <= 0:
            raise ValueError(f"deviations: expected numbers over 0, got {min(self.deviations):g}.")

    @classmethod
    def of(cls, rows: Any) -> Self:
        """Return the layer after which given rows [n, D] have mean 0 and deviation 1."""
        check_values("rows", rows, ("n", "D"))
        check_finite("rows", rows)
        numbers = np.asarray(rows, np.float64)
        means, deviations = numbers.mean(axis=0), numbers.std(axis=0)
        # What is left of a constant by rounding is no deviation.
        is_still = deviations <= 1e-7 * np.abs(means)
        deviations[is_still] = 1
        return cls(tuple(means.tolist()), tuple(deviations.tolist()))

    @property
    def input_shape(self) -> tuple[int, ...]:
        """[D]."""
        return (len(self.means),)

    @property
    def output_shape(self) -> tuple[int, ...]:
        """[D]."""
        return self.input_shape

    def recall(self, params, state, x):
        """Standardise one row [D]."""
        del params, state
        means, deviations = (
            np.asarray(numbers, np.float32) for numbers in (self.means, self.deviations)
        )
        return (x - means) / deviations
