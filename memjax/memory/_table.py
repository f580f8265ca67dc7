"""Tables of distances between memories and the examples of a block, read and searched in a loop.

A table is *memory-major*, [R, B]: an example reads one column of it, and a memory that moves
rewrites one row. The minima of its groups of rows go with it, so that most of a column need not be
read. The functions have the form that the loop around them needs: XLA copies the whole table where
it cannot order all reading before the writing (docs/design.md).
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from memjax._numerics import max_over_members, minimum, run_if, smaller
from memjax._places import vary_as
from memjax.base import MemoryInfo
from memjax.distances import Distance
from memjax.memory._rule import (
    Example,
    Found,
    Outside,
    Rule,
    Write,
    decide,
    remoteness,
    voter_distances,
    write_row,
)
from memjax.memory._state import MemoryParams

GROUP = 32
"""Rows of a distance table that share one entry in the table of minima.

In a block, finding a winner reads K / 32 + 32 entries, and a moved memory refreshes one group.
"""

TILE = 1024
"""Memories whose distances to a block are computed in one product."""

# Groups, the nearest first, in which a full bank looks for the nearest memory of a class.
_SEARCHED = 16


class DistanceTable(NamedTuple):
    """Memories while a block is learned, with their distances to its examples.

    The rows are a multiple of GROUP. Those without a memory hold inf.
    """

    prototypes: jax.Array  # float32 [K, D]
    counters: jax.Array  # int32 [K, C + 4]
    distances: jax.Array  # float32 [R, B]
    minima: jax.Array  # float32 [R / GROUP, B]: those of each group of rows


class Block(NamedTuple):
    """The examples of a block."""

    xs: jax.Array  # float32 [B, D]; [B, 0] where moved distances follow from distances alone
    between: jax.Array  # float32 [B, B]: distances between the examples


def in_groups(num_rows: int) -> int:
    """Return a number of rows, rounded up to whole groups."""
    return -(-num_rows // GROUP) * GROUP


def make_table(prototypes: jax.Array, counters: jax.Array, distances: jax.Array) -> DistanceTable:
    """Return memories with their distances [R, B] to a block."""
    groups = distances.reshape(-1, GROUP, distances.shape[1])
    return DistanceTable(prototypes, counters, distances, jnp.min(groups, axis=1))


def column(table: jax.Array, index: jax.Array, start: Any, length: int) -> jax.Array:
    """Return ``length`` entries of one column of a table, from the row ``start`` on."""
    start = jnp.asarray(start, jnp.int32)
    return lax.dynamic_slice(table, (start, index), (length, 1))[:, 0]


def distances_to(
    distance: Distance,
    prototypes: jax.Array,
    averaged: jax.Array,
    size: jax.Array,
    xs: jax.Array,
    start: Any = 0,
    length: int | None = None,
) -> jax.Array:
    """Return the distances [length, B] of inputs to the memories from ``start`` on; inf if free."""
    length = prototypes.shape[0] if length is None else length
    memories = lax.dynamic_slice_in_dim(prototypes, start, length)
    factors = remoteness(lax.dynamic_slice_in_dim(averaged, start, length))
    distances = distance.pairwise(xs, memories) * factors[:, None]
    is_free = lax.broadcasted_iota(jnp.int32, distances.shape, 0) >= size - start
    return jnp.where(is_free, jnp.inf, distances)


def all_distances(
    distance: Distance, prototypes: jax.Array, averaged: jax.Array, size: jax.Array, xs: jax.Array
) -> jax.Array:
    """Return the distances [R, B] of a block to all memories, in whole groups of rows.

    The table is filled in place, one tile after the other: at once, the product and what is made of
    it would be held side by side. A tile without a memory in use is not computed.
    """
    capacity = prototypes.shape[0]
    tile = min(TILE, capacity)

    def fill(index, table):
        start = jnp.minimum(index * tile, capacity - tile)
        distances = distances_to(distance, prototypes, averaged, size, xs, start, tile)
        return lax.dynamic_update_slice_in_dim(table, distances, start, 0)

    table = vary_as(xs, jnp.full((in_groups(capacity), xs.shape[0]), jnp.inf, jnp.float32))
    return lax.fori_loop(0, -(-max_over_members(size) // tile), fill, table)


def learn_example(
    rule: Rule,
    distance: Distance,
    params: MemoryParams,
    table: DistanceTable,
    block: Block,
    index: jax.Array,
    example: Example,
    outside: Outside | None = None,
) -> tuple[DistanceTable, Write, MemoryInfo, jax.Array]:
    """Learn from one example of a block.

    Args:
        rule: the layer's choices.
        distance: its distance.
        params: its numbers.
        table: the memories at hand.
        block: the block.
        index: which example of it is learned.
        example: what the rule must know of it.
        outside: what is known of memories that are not at hand; None where all are.

    Returns:
        The table after it, and what ``decide`` returns.
    """
    nearest = _nearest(table, index)
    write, info, is_certain = decide(
        rule, params, table.counters, example, nearest,
        lambda label: _nearest_voter(table, index, label), outside,
    )  # fmt: skip
    slot = write.slot
    prototypes, counters, far = write_row(
        distance, table.prototypes, table.counters, write, info.winner, block.xs[index]
    )
    info = info._replace(distance=far)
    old, averaged = table.distances[slot], write.averaged
    if distance.moved is None:
        memory = lax.dynamic_index_in_dim(prototypes, slot, 0)
        row = distance.pairwise(block.xs, memory)[0] * remoteness(averaged)
    else:
        before, between = old / remoteness(averaged - 1), block.between[index]
        moved = distance.moved(before, between, before[index], write.rate) * remoteness(averaged)
        row = jnp.where(write.is_fresh, between, moved)
    row = jnp.where(write.rate > 0, row, old)
    distances = lax.dynamic_update_index_in_dim(table.distances, row, slot, 0)
    group = slot // GROUP
    rows = lax.dynamic_slice_in_dim(distances, group * GROUP, GROUP)
    minima = lax.dynamic_update_index_in_dim(table.minima, jnp.min(rows, axis=0), group, 0)
    return DistanceTable(prototypes, counters, distances, minima), write, info, is_certain


def _nearest(table: DistanceTable, index: jax.Array) -> Found:
    """Return the smallest distance of an example to a memory, and the first such memory."""
    _, group = minimum(column(table.minima, index, 0, table.minima.shape[0]))
    value, place = minimum(column(table.distances, index, group * GROUP, GROUP))
    return value, group * GROUP + place


def _nearest_voter(table: DistanceTable, index: jax.Array, label: jax.Array) -> Found:
    """Return the nearest memory that votes for a label; inf if there is none.

    It mostly lies in one of the nearest groups. These are searched one after the other, and all
    memories only if it may lie in none of them.
    """
    num_memories = table.counters.shape[0]

    def among_all(index, label):
        distances = column(table.distances, index, 0, num_memories)
        return minimum(voter_distances(table.counters, label, distances))

    def may_be_elsewhere(carry):
        _, (lowest, _), (value, _), _ = carry
        return (lowest <= value) & (lowest < jnp.inf)

    def search(carry):
        minima, (_, group), best, num_searched = carry
        start = group * GROUP
        rows = jnp.minimum(start + lax.iota(jnp.int32, GROUP), num_memories - 1)
        distances = column(table.distances, index, start, GROUP)
        value, place = minimum(voter_distances(table.counters[rows], label, distances))
        minima = minima.at[group].set(jnp.inf)
        return minima, minimum(minima), smaller(best, (value, start + place)), num_searched + 1

    minima = column(table.minima, index, 0, table.minima.shape[0])
    nobody = vary_as(minima, (jnp.full((), jnp.inf, minima.dtype), jnp.int32(0)))
    carry = lax.while_loop(
        lambda carry: may_be_elsewhere(carry) & (carry[3] < _SEARCHED),
        search,
        (minima, minimum(minima), nobody, jnp.int32(0)),
    )
    return run_if(may_be_elsewhere(carry), among_all, carry[2], index, label)


def smallest_rows(table: jax.Array, number: int) -> tuple[jax.Array, jax.Array]:
    """Return the smallest values of each column of a table [R, B], ascending, and their rows.

    Both are [B, min(number, R)]; ties go to the lowest row. The values lie in at most ``number``
    groups of rows, those with the smallest minima, so no others are searched.
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
