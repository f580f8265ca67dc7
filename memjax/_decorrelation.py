"""The sums of a decorrelation, for one vector or for each place of an image."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from memjax._numerics import around_mean, einsum, one_member_at_a_time, run_if
from memjax.params import exportable

_eigh = jnp.vectorize(
    one_member_at_a_time(lambda matrix: tuple(jnp.linalg.eigh(matrix))),
    signature="(d,d)->(d),(d,d)",
)


@exportable
class DecorrelationSums(NamedTuple):
    """What decorrelations gather, with any leading axes; ``D`` features, ``E`` components."""

    scatter: jax.Array  # float32 [..., D, D]: sum of (x - mean) (x - mean)^T
    total: jax.Array  # float32 [..., D]: sum of x
    number: jax.Array  # float32 []: rows in these sums
    matrix: jax.Array  # float32 [..., D, E]: zero until it is solved


def empty_sums(
    leading: tuple[int, ...], num_features: int, num_dimensions: int
) -> DecorrelationSums:
    """Return the sums of decorrelations that have seen nothing, with ``leading`` axes."""
    return DecorrelationSums(
        scatter=jnp.zeros((*leading, num_features, num_features), jnp.float32),
        total=jnp.zeros((*leading, num_features), jnp.float32),
        number=jnp.zeros((), jnp.float32),
        matrix=jnp.zeros((*leading, num_features, num_dimensions), jnp.float32),
    )


def gather(
    sums: DecorrelationSums,
    seen: Any,
    is_learned: jax.Array,
    is_over: jax.Array,
    floor: jax.Array,
    exponent: jax.Array | float,
    rows_of: Callable[[Any], jax.Array] = lambda rows: rows,
) -> DecorrelationSums:
    """Return the sums with the rows added, and solved where the period is over.

    Args:
        sums: what was gathered so far.
        seen: the rows float32 [..., F, D], or what ``rows_of`` makes them of where they are added.
        is_learned: bool [F], the rows to add; where there are none it costs nothing.
        is_over: bool [], whether to solve the sums.
        floor: added to each component's variance, in mean variances.
        exponent: power of its variance that a component is divided by.
        rows_of: makes the rows.
    """

    def add(is_learned, seen):
        rows = jnp.where(is_learned[:, None], rows_of(seen), 0)
        summed = around_mean(rows, is_learned, sums.total, sums.number)
        scatter = sums.scatter + einsum("...fd,...fe->...de", summed, summed)
        number = sums.number + jnp.sum(is_learned, dtype=jnp.float32)
        return scatter, sums.total + jnp.sum(rows, axis=-2), number

    scatter, total, number = run_if(jnp.any(is_learned), add, sums[:3], is_learned, seen)

    def solve(number):
        variances, components = _eigh(scatter / number)
        variances = jnp.maximum(variances, 0)
        mean_variance = jnp.mean(variances, axis=-1, keepdims=True)
        strength = variances + floor * mean_variance
        # A component that never varies carries nothing.
        is_strong = strength > 1e-12 * mean_variance
        scale = jnp.where(is_strong, jnp.where(is_strong, strength, 1) ** -exponent, 0)
        return (components * scale[..., None, :])[..., -sums.matrix.shape[-1] :]

    matrix = run_if(is_over, solve, sums.matrix, number)
    return DecorrelationSums(scatter, total, number, matrix)


def decorrelate(sums: DecorrelationSums, rows: jax.Array) -> jax.Array:
    """Return the components [..., F, E] of rows [..., F, D]; zero until they are solved."""
    rows = rows - mean_of(sums)[..., None, :]
    return einsum("...fd,...de->...fe", rows, sums.matrix)


def mean_of(sums: DecorrelationSums) -> jax.Array:
    """Return the mean row [..., D]; zero if there was none."""
    return sums.total / jnp.maximum(sums.number, 1)
