"""What a bank of memories holds: its numbers, its state, and what it counts, in one row each."""

import math
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from memjax._checks import check_learned
from memjax._novelty import count_distances
from memjax._numerics import minimum
from memjax.base import UNLABELLED, MemoryInfo
from memjax.params import Number, exportable

# The columns of counters after the votes, from the end.
AVERAGED, COUNT, STORED_AT, MOST = -4, -3, -2, -1
NUM_COUNTERS = 4


@exportable
class MemoryParams(NamedTuple):
    """The numbers of a memory layer that one may sweep, each a float32 scalar."""

    novelty_threshold: Annotated[
        jax.Array, Number("auto", 0, math.inf, "distance above which an example is a surprise")
    ]
    plasticity_floor: Annotated[
        jax.Array,
        Number(0.0, 0, 1, "smallest step size of a winner; 0 keeps the running mean"),
    ]


@exportable
class MemoryState(NamedTuple):
    """What a memory layer has learned. Rows from ``size`` on are free and hold zeros."""

    prototypes: jax.Array  # float32 [K, D]: the stored patterns
    counts: jax.Array  # int32 [K]: examples that each memory has learned from
    averaged: jax.Array  # int32 [K]: those among them that were not equal to the memory already
    votes: jax.Array  # int32 [K, C]: labelled examples among them, by class
    stored_at: jax.Array  # int32 [K]: number of examples seen when the memory was stored
    size: jax.Array  # int32 []: memories in use
    num_seen: jax.Array  # int32 []: examples seen
    distance_counts: jax.Array  # int32 [1024]: examples by the distance to their winner, in bins


def check_bank(state: MemoryState) -> None:
    """Raise unless a bank can have learned what it holds."""
    check_learned("MemoryLayer.prototypes", state.prototypes)
    check_learned("MemoryLayer.num_seen", state.num_seen, 0)
    most = min(state.counts.shape[0], int(state.num_seen))
    check_learned("MemoryLayer.size", state.size, 0, most)
    check_learned("MemoryLayer.counts", state.counts, 0)
    check_learned("MemoryLayer.votes", state.votes, 0)
    check_learned("MemoryLayer.stored_at", state.stored_at, 0, int(state.num_seen))
    check_learned("MemoryLayer.distance_counts", state.distance_counts, 0)
    size = int(state.size)
    check_learned("MemoryLayer.counts of the memories in use", state.counts[:size], 1)
    check_learned("MemoryLayer.averaged of the memories in use", state.averaged[:size], 1)
    for name in ("prototypes", "counts", "averaged", "votes", "stored_at"):
        check_learned(f"MemoryLayer.{name} of free rows", getattr(state, name)[size:], 0, 0)
    left = state.counts - state.votes.sum(axis=1, dtype=state.counts.dtype)
    check_learned("MemoryLayer.counts, less the votes", left, 0)
    check_learned("MemoryLayer.counts, less the averaged", state.counts - state.averaged, 0)


def counters_from(state: MemoryState) -> jax.Array:
    """Return int32 [K, C + 4]: votes, averaged, count, stored_at and the largest number of votes.

    They lie side by side so that one write changes all that is counted of a memory.
    """
    columns = [state.averaged, state.counts, state.stored_at, jnp.max(state.votes, axis=1)]
    return jnp.concatenate([state.votes, *(column[:, None] for column in columns)], axis=1)


def state_after(
    state: MemoryState,
    prototypes: jax.Array,
    counters: jax.Array,
    size: jax.Array,
    infos: MemoryInfo,
    count: jax.Array | int,
) -> MemoryState:
    """Return the state after the first ``count`` of some examples, with infos [B].

    The memories come as ``counters_from`` has laid them side by side.
    """
    is_counted = (lax.iota(jnp.int32, infos.winner.shape[0]) < count) & (infos.winner >= 0)
    return MemoryState(
        prototypes=prototypes,
        counts=counters[:, COUNT],
        averaged=counters[:, AVERAGED],
        votes=counters[:, :-NUM_COUNTERS],
        stored_at=counters[:, STORED_AT],
        size=size,
        num_seen=state.num_seen + count,
        distance_counts=count_distances(state.distance_counts, infos.distance, is_counted),
    )


def votes_for(counters: jax.Array, label: jax.Array) -> jax.Array:
    """Return which memories have met a label most often, or as often as another, bool [K]."""
    votes = lax.dynamic_index_in_dim(counters, label, axis=1, keepdims=False)
    return (votes == counters[:, MOST]) & (votes > 0)


def voted_labels(votes: jax.Array) -> jax.Array:
    """Return the label that each memory votes for, int32 [...]; -1 for one without votes.

    Args:
        votes: int32 [..., C], votes for each class; ties go to the lowest label.

    Example:
        >>> print(voted_labels(jnp.array([[0, 2, 1], [0, 0, 0]])))
        [ 1 -1]
    """
    return jnp.vectorize(favourite, signature="(c)->()")(votes)


def favourite(votes: jax.Array) -> jax.Array:
    """Return the label with most votes [C], int32 []; -1 where there are none."""
    negated, label = minimum(-votes)
    return jnp.where(negated < 0, label, UNLABELLED)
