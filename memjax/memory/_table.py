"""Tables of distances between memories and a block's examples, read and searched in a loop.

A table is *memory-major*, [K, B]: an example reads one column of it, a moved memory rewrites one
row. With it go the minima of its groups of rows, by which most of a column need not be read. These
functions have the form that the loop around them needs: XLA copies the whole table where it cannot
order all reading before the writing.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from memjax._numerics import run_if

__all__ = [
    "GROUP",
    "Held",
    "Others",
    "Write",
    "entries",
    "hold",
    "in_groups",
    "is_before",
    "least",
    "minimum",
    "nearest",
    "nearest_voter",
]

GROUP = 32
"""Rows of a distance table that share one entry in the table of minima.

In a block, finding a winner reads K / 32 + 32 entries and a moved memory refreshes one group of 32.
"""

# Groups, the nearest first, in which a full bank looks for the nearest memory of a class.
_SEARCHED = 16


class Held(NamedTuple):
    """Memories while a block is learned. The table has a multiple of GROUP rows, inf in the rest.

    ``tally`` lies as ``pack`` lays it; ``minima`` are those of every group of rows of the table.
    """

    prototypes: jax.Array  # float32 [K, D]
    table: jax.Array  # float32 [R, B]: distances to the block's examples
    minima: jax.Array  # float32 [R / GROUP, B]
    tally: jax.Array  # int32 [K, C + 3]: votes, count, stored_at and favourite


class Others(NamedTuple):
    """What one example needs to know of memories that are not held.

    A bound is the least value among them and the memory that has it, (inf, any) for none.
    """

    ids: jax.Array  # int32 [K]: which memories of the whole bank are held, in ascending order
    nearest: tuple[jax.Array, jax.Array]  # bound of the distances
    target: tuple[jax.Array, jax.Array]  # bound of what a full bank is searched for


class Write(NamedTuple):
    """The one row that an example writes."""

    slot: jax.Array  # int32 []
    rate: jax.Array  # float32 []: 1 stores the example itself, 0 leaves the row as it is
    is_fresh: jax.Array  # bool []: the row is given to a new memory
    tally: jax.Array  # int32 [C + 3]: the row's new votes, count, stored_at and favourite


def minimum(values: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the least value and its lowest index.

    Both come from one reduction: a value read again through its index could be fused into several
    later operations, and XLA would copy the whole table to keep it readable.
    """
    indices = lax.iota(jnp.int32, values.shape[0])
    is_real = jnp.issubdtype(values.dtype, jnp.floating)
    highest = jnp.inf if is_real else jnp.iinfo(values.dtype).max
    start = (jnp.asarray(highest, values.dtype), jnp.asarray(values.shape[0], jnp.int32))
    return lax.reduce((values, indices), start, _first, (0,))


def _first(
    one: tuple[jax.Array, jax.Array], other: tuple[jax.Array, jax.Array]
) -> tuple[jax.Array, jax.Array]:
    """Return which of two values with their indices is less; ties: that of the lower index."""
    takes_other = (other[0] < one[0]) | ((other[0] == one[0]) & (other[1] < one[1]))
    return jnp.where(takes_other, other[0], one[0]), jnp.where(takes_other, other[1], one[1])


def in_groups(num_rows: int) -> int:
    """Return a number of rows rounded up to whole groups."""
    return -(-num_rows // GROUP) * GROUP


def hold(prototypes: jax.Array, table: jax.Array, tally: jax.Array) -> Held:
    """Return memories with their distances to a block, whose rows are a multiple of a group."""
    groups = table.reshape(-1, GROUP, table.shape[1])
    return Held(prototypes, table, jnp.min(groups, axis=1), tally)


def entries(table: jax.Array, column: jax.Array, start: Any, length: int) -> jax.Array:
    """Return so many entries [length] of one column of a table, from ``start`` on."""
    start = jnp.asarray(start, jnp.int32)
    return lax.dynamic_slice(table, (start, column), (length, 1))[:, 0]


def least(table: jax.Array, number: int) -> tuple[jax.Array, jax.Array]:
    """Return the least values of each column of a table [T, B], growing, and their rows.

    Both are [B, min(number, T)]; ties go to the lowest row. As many groups of rows, those with the
    least minima, hold all of these values, so no others are looked through.
    """
    num_rows, num_columns = table.shape
    num_groups = in_groups(num_rows) // GROUP
    if num_groups <= number:
        negated, rows = lax.top_k(-table.T, min(number, num_rows))
        return -negated, rows
    missing = num_groups * GROUP - num_rows
    table = jnp.pad(table, ((0, missing), (0, 0)), constant_values=jnp.inf)
    minima = jnp.min(table.reshape(num_groups, GROUP, num_columns), axis=1)
    # In the order of the rows, so that a tie between two groups goes to the lowest row as well.
    groups = jnp.sort(lax.top_k(-minima.T, number)[1], axis=1)
    rows = groups[:, :, None] * GROUP + lax.iota(jnp.int32, GROUP)[None, None]
    rows = rows.reshape(num_columns, number * GROUP)
    candidates = jnp.take_along_axis(table, rows.T, axis=0).T
    negated, places = lax.top_k(-candidates, number)
    return -negated, jnp.take_along_axis(rows, places, axis=1)


def is_before(value: jax.Array, place: jax.Array, bound: tuple[jax.Array, jax.Array]) -> jax.Array:
    """Whether (value, place) comes before a bound; a bound of inf is that of no memory at all."""
    least, first = bound
    return (value < least) | ((value == least) & (place < first)) | jnp.isinf(least)


def nearest(held: Held, index: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the least distance of an example to a memory, and the first such memory."""
    _, group = minimum(entries(held.minima, index, 0, held.minima.shape[0]))
    value, place = minimum(entries(held.table, index, group * GROUP, GROUP))
    return value, group * GROUP + place


def nearest_voter(held: Held, index: jax.Array, label: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return what ``nearest`` does among the memories that vote for a label; inf if there is none.

    It mostly lies in one of the nearest groups, which are looked through one after the other; all
    memories are only where it lies in none of these.
    """
    num_memories = held.tally.shape[0]

    def among(distances, favourites):
        return minimum(jnp.where(favourites == label, distances, jnp.inf))

    def among_all(index):
        return among(entries(held.table, index, 0, num_memories), held.tally[:, -1])

    def may_be_elsewhere(carry):
        _, (lowest, _), (value, _), _ = carry
        return (lowest <= value) & (lowest < jnp.inf)

    def look(carry):
        minima, (_, group), best, num_searched = carry
        start = group * GROUP
        rows = jnp.minimum(start + lax.iota(jnp.int32, GROUP), num_memories - 1)
        value, place = among(entries(held.table, index, start, GROUP), held.tally[rows, -1])
        minima = minima.at[group].set(jnp.inf)
        return minima, minimum(minima), _first(best, (value, start + place)), num_searched + 1

    minima = entries(held.minima, index, 0, held.minima.shape[0])
    nobody = jnp.full((), jnp.inf, minima.dtype), jnp.int32(0)
    carry = lax.while_loop(
        lambda carry: may_be_elsewhere(carry) & (carry[3] < _SEARCHED),
        look,
        (minima, minimum(minima), nobody, jnp.int32(0)),
    )
    return run_if(may_be_elsewhere(carry), among_all, carry[2], index)
