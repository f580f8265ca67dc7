"""The rule: what one example does to a bank of memories. docs/concepts.md tells it in words.

Every way of learning calls this: one example, a block, and a block over several devices. They
differ only in how they find the winner and the target of a full bank.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from memjax._numerics import minimum, run_if
from memjax.base import UNLABELLED, MemoryInfo
from memjax.distances import Distance
from memjax.memory._state import (
    AVERAGED,
    COUNT,
    MOST,
    NUM_COUNTERS,
    STORED_AT,
    MemoryParams,
    favourite,
    votes_for,
)


class Rule(NamedTuple):
    """The choices of a memory layer that the rule depends on; static."""

    capacity: int
    supervised_growth: bool
    on_full: str


class Example(NamedTuple):
    """One example, and the bank as it finds it."""

    label: jax.Array  # int32 []
    now: jax.Array  # int32 []: examples seen before it
    is_real: jax.Array | bool  # whether it is to be learned
    size: jax.Array  # int32 []: memories in use, in the whole bank
    free: jax.Array  # int32 []: the row that a new memory is given


class Write(NamedTuple):
    """The one row that an example writes."""

    slot: jax.Array  # int32 []
    rate: jax.Array  # float32 []: 1 stores the example itself, 0 leaves the row as it is
    is_fresh: jax.Array  # bool []: the row is given to a new memory
    counters: jax.Array  # int32 [C + 4]: the new counters of the row
    averaged: jax.Array  # int32 []: examples that the row averages then, one of the counters


class Outside(NamedTuple):
    """What an example must know of the memories that are not at hand.

    A bound is the smallest value among them and the memory that has it; (inf, any) for none.
    """

    ids: jax.Array  # int32 [K]: which memories of the whole bank are at hand, in ascending order
    nearest: tuple[jax.Array, jax.Array]  # bound of the distances
    voter: tuple[jax.Array, jax.Array]  # bound of the distances to those that vote for its label
    useless: tuple[jax.Array, jax.Array]  # bound of their usefulness
    num_voters: jax.Array  # int32 []: how many of them vote for its label


Found = tuple[jax.Array, jax.Array]
"""A value, and the memory that has it."""


def decide(
    rule: Rule,
    params: MemoryParams,
    counters: jax.Array,
    example: Example,
    nearest: Found,
    find_voter: Callable[[jax.Array], Found],
    outside: Outside | None = None,
) -> tuple[Write, MemoryInfo, jax.Array]:
    """Decide which row an example writes, and how.

    Args:
        rule: the layer's choices.
        params: its numbers.
        counters: int32 [K, C + 4] of the memories at hand.
        example: the example.
        nearest: the distance to the winner, and the winner.
        find_voter: from a label to the nearest memory that votes for it; asked only if needed.
        outside: what is known of memories that are not at hand; None where all are.

    Returns:
        What is written, what was done, and whether the memories at hand were enough to decide. If
        they were not, or the example is not real, nothing is written.
    """
    distance, winner = nearest
    label, row = example.label, counters[winner]
    num_columns = row.shape[0]
    num_classes = num_columns - NUM_COUNTERS
    is_empty, is_full = example.size == 0, example.size == rule.capacity
    # Numbers are read from a row by a reduction, for the reason given in `minimum`.
    most, met = _read(row, num_columns + MOST), _read(row, label)
    predicted = favourite(row[:num_classes])
    is_certain = jnp.asarray(True)
    if outside is not None:
        is_certain = is_before((distance, outside.ids[winner]), outside.nearest)
    # A memory whose votes are tied contradicts none of these labels. The last condition follows
    # from the one before. It makes the write depend on all that is read, so XLA makes no copy.
    is_mistaken = example.is_real & (label >= 0) & (met < most) & (label != predicted)
    num_voters = _count_voters(counters, label, is_mistaken, outside)

    def are_fewer_than(parts):
        """Return whether the voters are fewer than the memories in use, divided by ``parts``."""
        return is_mistaken & (num_voters < -(-example.size // parts))

    is_novel = is_empty | (distance > params.novelty_threshold)
    if rule.supervised_growth:
        # What cannot be told from the winner would be a memory in the same place.
        is_novel |= is_mistaken & (distance > 0) & ((met > 0) | are_fewer_than(2 * num_classes))
    is_novel &= example.is_real & is_certain
    is_saturated = is_novel & is_full

    target = winner
    is_replaced = is_saturated & (rule.on_full == "replace")
    if rule.on_full == "adapt":
        is_replaced = is_saturated & are_fewer_than(num_classes)
    if rule.on_full != "ignore":
        nobody = jnp.full_like(distance, jnp.inf), winner
        worth, found = run_if(
            is_replaced, lambda now: minimum(usefulness(counters, now)), nobody, example.now
        )
        target = jnp.where(is_replaced, found, target)
        if outside is not None:
            is_certain &= ~is_replaced | is_before((worth, outside.ids[found]), outside.useless)
    if rule.on_full == "adapt":
        is_asked = is_saturated & ~is_replaced & (label >= 0)
        value, found = run_if(is_asked, find_voter, nobody, label)
        target = jnp.where(jnp.isfinite(value), found, target)
        if outside is not None:
            is_certain &= ~is_asked | is_before((value, outside.ids[found]), outside.voter)
    is_novel &= is_certain
    is_saturated &= is_certain

    slot = jnp.where(is_saturated, target, jnp.where(is_novel, example.free, winner))
    is_fresh = is_novel & (~is_full | is_replaced)
    learns = example.is_real & is_certain & ~(is_saturated & (rule.on_full == "ignore"))
    is_copy = ~is_novel & (distance == 0)
    write = _write(params, counters[slot], example, slot, is_fresh, learns, is_copy)
    info = MemoryInfo(
        winner=jnp.where(is_empty, -1, winner),
        distance=distance,
        is_novel=is_novel,
        is_saturated=is_saturated,
        predicted=jnp.where(is_empty, UNLABELLED, predicted),
    )
    return write, info, is_certain


def _count_voters(
    counters: jax.Array, label: jax.Array, is_asked: jax.Array, outside: Outside | None
) -> jax.Array:
    """Return how many memories vote for a label, int32 []; counted only if asked for."""

    def count(label):
        return jnp.sum(votes_for(counters, label), dtype=jnp.int32)

    number = run_if(is_asked, count, jnp.zeros_like(label), label)
    return number if outside is None else number + outside.num_voters


def _write(
    params: MemoryParams,
    row: jax.Array,
    example: Example,
    slot: jax.Array,
    is_fresh: jax.Array,
    learns: jax.Array,
    is_copy: jax.Array,
) -> Write:
    """Return the write of a row whose counters are ``row``: a new memory, a lesson, or nothing."""
    num_columns = row.shape[0]
    columns = lax.iota(jnp.int32, num_columns)
    moves, kept = learns & ~is_copy, jnp.where(is_fresh, 0, row)
    count = _read(kept, num_columns + COUNT)
    rate = jnp.maximum(1 / (count + 1).astype(jnp.float32), params.plasticity_floor)
    counters = kept + ((columns == example.label) & learns).astype(jnp.int32)
    averaged = _read(kept, num_columns + AVERAGED) + jnp.asarray(moves, jnp.int32)
    values = {
        AVERAGED: averaged,
        COUNT: count + jnp.asarray(learns, jnp.int32),
        STORED_AT: jnp.where(is_fresh, example.now, row),
        MOST: jnp.max(counters[:-NUM_COUNTERS]),
    }
    for column, value in values.items():
        counters = jnp.where(columns == num_columns + column, value, counters)
    return Write(slot, jnp.where(moves, rate, 0), is_fresh, counters, averaged)


def _read(row: jax.Array, column: jax.Array | int) -> jax.Array:
    is_column = lax.iota(jnp.int32, row.shape[0]) == column
    return jnp.sum(jnp.where(is_column, row, 0), dtype=jnp.int32)


def write_row(
    distance: Distance,
    prototypes: jax.Array,
    counters: jax.Array,
    write: Write,
    winner: jax.Array,
    x: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return memories [K, D], their counters [K, C + 4], and how far the winner was.

    The example [D] is written, and its distance to the winner before is computed here, so that it
    has the same bits however the example is learned. It is inf for a winner of -1, nobody.
    """
    far = distance.to_memories(x, lax.dynamic_index_in_dim(prototypes, winner, 0))[0]
    far = jnp.where(winner < 0, jnp.inf, far * remoteness(counters[winner, AVERAGED]))
    # Always so, but XLA cannot know it: the rows are read before others are written, with no copy.
    is_read = far != -jnp.inf
    rate = jnp.where(is_read, write.rate, 0)
    memory = prototypes[write.slot]
    # In this form a memory that is x stays x, and no fused multiplication rounds it otherwise; a
    # rate of 1 must give x itself.
    memory = jnp.where(rate < 1, memory + rate * (x - memory), x)
    return (
        lax.dynamic_update_index_in_dim(prototypes, memory, write.slot, 0),
        lax.dynamic_update_index_in_dim(
            counters, jnp.where(is_read, write.counters, 0), write.slot, 0
        ),
        far,
    )


def remoteness(averaged: jax.Array) -> jax.Array:
    """Return by what the distances to means of n examples are multiplied, 5 n / (4 n + 1).

    It is 1 for a single example and 5 / 4 for many. The mean of many noisy examples lies nearer to
    any new one than each of them does, and would win too often. Equal examples average no noise, so
    they are one here.
    """
    # A free row has no examples, and its distance is not asked for.
    averaged = jnp.maximum(averaged, 1).astype(jnp.float32)
    return 5 * averaged / (4 * averaged + 1)


def size_after(rule: Rule, size: jax.Array, write: Write) -> jax.Array:
    """Return the memories in use after a write; "replace" gives a full bank's row anew."""
    return jnp.minimum(size + write.is_fresh.astype(jnp.int32), rule.capacity)


def voter_distances(counters: jax.Array, label: jax.Array, distances: jax.Array) -> jax.Array:
    """Return the distances [K] of the memories that vote for a label, and inf for all others."""
    return jnp.where(votes_for(counters, label), distances, jnp.inf)


def usefulness(counters: jax.Array, now: jax.Array) -> jax.Array:
    """Return the wins of each memory per example since it was stored, float32 [K]."""
    age = now - counters[:, STORED_AT] + 1
    # The wins depend on the time too, so that `run_if` keeps all of this in its loop.
    wins = jnp.where(now >= 0, counters[:, COUNT], 0)
    return wins.astype(jnp.float32) / age.astype(jnp.float32)


def is_before(found: Found, bound: Found) -> jax.Array:
    """Return whether (value, memory) comes before a bound; a bound of inf is that of no memory."""
    (value, place), (smallest, first) = found, bound
    return (value < smallest) | ((value == smallest) & (place < first)) | jnp.isinf(smallest)
