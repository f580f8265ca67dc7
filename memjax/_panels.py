"""A symmetric matrix as panels of columns, each down to the diagonal, and its solve by Cholesky.

Half of the matrix is kept, and its factor takes as much again. No step needs the whole matrix.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from memjax._numerics import matmul, one_member_at_a_time

Panels = tuple[jax.Array, ...]
"""Float32 panels [rows to the diagonal, columns], from left to right."""

_WIDTH = 1024
_MOST = 32


def spans(size: int) -> list[tuple[int, int]]:
    """Return the first column of each panel of a matrix [size, size], and the one after its last.

    Example:
        >>> spans(1500)
        [(0, 1024), (1024, 1500)]
    """
    width = max(_WIDTH, -(-size // _MOST))
    return [(start, min(start + width, size)) for start in range(0, size, width)]


def zeros(size: int) -> Panels:
    """Return the panels of a matrix of zeros [size, size]."""
    return tuple(jnp.zeros((stop, stop - start), jnp.float32) for start, stop in spans(size))


def add_products(panels: Panels, rows: jax.Array) -> Panels:
    """Return the panels with the sum of x x^T over rows [B, D] added."""
    return tuple(
        panel + matmul(rows[:, :stop].T, rows[:, start:stop])
        for panel, (start, stop) in zip(panels, spans(rows.shape[1]), strict=True)
    )


def diagonal(panels: Panels) -> jax.Array:
    """Return the diagonal [D]."""
    return jnp.concatenate([panel[-panel.shape[1] :].diagonal() for panel in panels])


def add_to_diagonal(panel: jax.Array, values: jax.Array) -> jax.Array:
    """Return a panel [rows, n] with values [n] added to its part of the diagonal."""
    rows, columns = panel.shape
    places = lax.iota(jnp.int32, columns) + (rows - columns)
    is_diagonal = lax.iota(jnp.int32, rows)[:, None] == places[None, :]
    return panel + jnp.where(is_diagonal, values[None, :], 0)


def solve(
    panels: Panels,
    right: jax.Array,
    prepare: Callable[[jax.Array, int, int], jax.Array] = lambda panel, start, stop: panel,
) -> jax.Array:
    """Return the solution [D, C] for right sides [D, C]; NaN if not positive definite.

    With $A = R^T R$, the panels of the upper factor $R$ are found from left to right.

    Args:
        panels: what the panels of $A$ are made of.
        right: the right sides.
        prepare: from one of these, with its first column and the one after its last, to that of
            $A$.
    """
    factors: list[jax.Array] = []
    for panel, (start, stop) in zip(panels, spans(right.shape[0]), strict=True):
        if factors:
            # Otherwise XLA prepares all panels at first, and holds them beside their factors. It
            # cannot know that this adds 0, unless the factor is NaN, and then all that follows is.
            panel = panel + 0 * factors[-1][-1, -1]
        factor = _forward(factors, prepare(panel, start, stop))
        square = factor[start:] - matmul(factor[:start].T, factor[:start])
        lower = _cholesky(square)
        factors.append(factor.at[start:].set(lower.T))
    return _backward(factors, _forward(factors, right))


def _forward(factors: list[jax.Array], right: jax.Array) -> jax.Array:
    """Return the right sides, with Y of R^T Y = right in the rows that the factors have."""
    for factor in factors:
        start, stop = factor.shape[0] - factor.shape[1], factor.shape[0]
        rest = right[start:stop] - matmul(factor[:start].T, right[:start])
        right = right.at[start:stop].set(_triangular(factor[start:], rest, transpose_a=True))
    return right


def _backward(factors: list[jax.Array], right: jax.Array) -> jax.Array:
    """Return X with R X = right."""
    solved: list[jax.Array] = []
    for factor in reversed(factors):
        start = factor.shape[0] - factor.shape[1]
        found = _triangular(factor[start:], right[start:])
        right = right[:start] - matmul(factor[:start], found)
        solved.insert(0, found)
    return jnp.concatenate(solved)


@one_member_at_a_time
def _cholesky(square: jax.Array) -> jax.Array:
    return lax.linalg.cholesky(square, symmetrize_input=False)


def _triangular(upper: jax.Array, right: jax.Array, transpose_a: bool = False) -> jax.Array:
    @one_member_at_a_time
    def solve_one(upper, right):
        return lax.linalg.triangular_solve(
            upper, right, left_side=True, lower=False, transpose_a=transpose_a
        )

    return solve_one(upper, right)
