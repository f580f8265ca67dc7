"""A symmetric matrix as panels of columns, each down to the diagonal, and its solve by Cholesky.

Half of the matrix is kept, and its factor takes as much again. No step needs the whole matrix.
"""

import jax
import jax.numpy as jnp
from jax import lax

from memjax._numerics import matmul

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


def add_to_diagonal(panels: Panels, values: jax.Array) -> Panels:
    """Return the panels with values [D] added to the diagonal."""
    added = []
    for panel, (start, stop) in zip(panels, spans(values.shape[0]), strict=True):
        rows = lax.iota(jnp.int32, stop)
        is_diagonal = rows[:, None] == rows[None, start:]
        added.append(panel + jnp.where(is_diagonal, values[None, start:stop], 0))
    return tuple(added)


def solve(panels: Panels, right: jax.Array) -> jax.Array:
    """Return the solution [D, C] for right sides [D, C]; NaN if not positive definite.

    With $A = R^T R$, the panels of the upper factor $R$ are found from left to right.
    """
    factors: list[jax.Array] = []
    for panel in panels:
        start = panel.shape[0] - panel.shape[1]
        factor = _forward(factors, panel)
        square = factor[start:] - matmul(factor[:start].T, factor[:start])
        lower = lax.linalg.cholesky(square, symmetrize_input=False)
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


def _triangular(upper: jax.Array, right: jax.Array, transpose_a: bool = False) -> jax.Array:
    return lax.linalg.triangular_solve(
        upper, right, left_side=True, lower=False, transpose_a=transpose_a
    )
