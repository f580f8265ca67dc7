"""Memories over devices: a bank larger than one device's memory, which learns as on one device.

For a block of B examples every device computes the distances of its own K / P memories by one
product. Then *candidates* are exchanged, at most 5 B of them however many devices there are: the
two memories nearest to each example, the next free rows, and those that a full bank may be searched
for. With their distances all devices learn the block alike, in little space, and each writes the
memories that are its own.

This is exact. For each example it is known how near the nearest of all other memories is. An
example that finds no candidate nearer than that, because candidates have moved away, begins
another round with new candidates. Rounds are few, and a round in which all memories are candidates
is the last one.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from memjax.base import MemoryInfo
from memjax.devices import MEMORY_AXIS
from memjax.distances import Distance
from memjax.memory._recall import evidence, find_nearest
from memjax.memory._rule import (
    Example,
    Found,
    Outside,
    Rule,
    Write,
    size_after,
    usefulness,
    voter_distances,
    write_row,
)
from memjax.memory._state import (
    NUM_COUNTERS,
    MemoryParams,
    MemoryState,
    counters_from,
    state_after,
    votes_for,
)
from memjax.memory._table import (
    Block,
    all_distances,
    column,
    in_groups,
    learn_example,
    make_table,
    smallest_rows,
)

# Candidates among the memories nearest to an example: the more, the fewer rounds.
_NEAREST = 2

_BY_MEMORY: Any = PartitionSpec(MEMORY_AXIS)
_ALIKE: Any = PartitionSpec()
# Memories lie by device; the numbers of all are the same everywhere.
_PLACES = MemoryState(*(_BY_MEMORY,) * 5, *(_ALIKE,) * 3)


class Own(NamedTuple):
    """The memories of one device, while a block is learned."""

    prototypes: jax.Array  # float32 [K / P, D]
    counters: jax.Array  # int32 [K / P, C + 4]
    distances: jax.Array  # float32 [R, B], in whole groups of rows


class Lessons(NamedTuple):
    """The examples of a block, as the rule asks for them; each [B]."""

    labels: jax.Array  # int32
    times: jax.Array  # int32: examples seen before each
    is_waiting: jax.Array  # bool: whether it is still to be learned


class Voters(NamedTuple):
    """What each example found before it was learned: the nearest memories of one device."""

    distances: jax.Array  # float32 [B, V]
    votes: jax.Array  # int32 [B, V, C]


class ShardedBank(NamedTuple):
    """A bank whose memories lie over the devices of a mesh; static."""

    rule: Rule
    distance: Distance
    num_neighbours: int
    num_classes: int
    mesh: Mesh

    def shardings(self) -> MemoryState:
        """Return how the arrays of a state lie."""
        return jax.tree.map(partial(NamedSharding, self.mesh), _PLACES)

    def step_block(
        self,
        params: MemoryParams,
        state: MemoryState,
        xs: jax.Array,
        labels: jax.Array,
        count: jax.Array,
    ) -> tuple[MemoryState, jax.Array, MemoryInfo]:
        """Learn from the first ``count`` examples of a block; as ``MemoryLayer.step_block``."""
        learn = self._on_devices(self._learn, 4, (_PLACES, _ALIKE, _ALIKE))
        return learn(state, params, xs, labels, count)

    def recall_block(self, state: MemoryState, xs: jax.Array) -> jax.Array:
        """Return the evidence [B, C] of inputs: each device finds its nearest, and all vote."""

        def recall(state, xs):
            distances, rows = self._find(state, xs, self.num_neighbours + 1)
            sizes = jnp.broadcast_to(state.size, len(xs))
            return self._evidence(Voters(distances, state.votes[rows]), sizes)

        return self._on_devices(recall, 1, _ALIKE)(state, xs)

    def nearest(
        self, state: MemoryState, xs: jax.Array, number: int
    ) -> tuple[jax.Array, jax.Array]:
        """Return the memories nearest to each input; as ``MemoryLayer.nearest``."""

        def find(state, xs):
            distances, rows = self._find(state, xs, number)
            return self._smallest_of_all(distances, rows, number)

        return self._on_devices(find, 1, (_ALIKE, _ALIKE))(state, xs)

    def _on_devices(self, function: Callable[..., Any], num_shared: int, places: Any) -> Any:
        """Return ``function(state, ...)`` run on every device with its own part of the state."""
        return jax.shard_map(
            function,
            mesh=self.mesh,
            in_specs=(_PLACES, *(_ALIKE,) * num_shared),
            out_specs=places,
            check_vma=False,
        )

    @property
    def _capacity(self) -> int:
        """Memories of one device."""
        return self.rule.capacity // self.mesh.size

    def _offset(self) -> jax.Array:
        """Return the first memory of this device."""
        return lax.axis_index(MEMORY_AXIS).astype(jnp.int32) * self._capacity

    def _local_size(self, size: jax.Array) -> jax.Array:
        """Return how many of this device's memories are in use."""
        return jnp.clip(size - self._offset(), 0, self._capacity)

    def _find(self, state: MemoryState, xs: jax.Array, number: int) -> Any:
        size = self._local_size(state.size)
        return find_nearest(self.distance, state.prototypes, state.averaged, size, xs, number)

    def _evidence(self, voters: Voters, sizes: jax.Array) -> jax.Array:
        """Return the evidence [B, C] by the voters of all devices, of banks of some sizes [B]."""
        k = self.num_neighbours
        distances, votes = (_join(part, axis=1) for part in voters)

        def of_one(distances, votes, size):
            negated, places = lax.top_k(-distances, min(k + 1, distances.shape[0]))
            return evidence(-negated, votes[places], k, size)

        return jax.vmap(of_one)(distances, votes, sizes)

    def _learn(
        self,
        state: MemoryState,
        params: MemoryParams,
        xs: jax.Array,
        labels: jax.Array,
        count: jax.Array,
    ) -> tuple[MemoryState, jax.Array, MemoryInfo]:
        size, num_examples = self._local_size(state.size), len(labels)
        indices = lax.iota(jnp.int32, num_examples)
        block = Block(xs, self.distance.pairwise(xs, xs))

        def learn_round(carry):
            start, own, size, voters, infos = carry
            is_waiting = (indices >= start) & (indices < count)
            lessons = Lessons(labels, state.num_seen + indices, is_waiting)
            outside = self._choose(own, size, start, lessons)
            size, writes, rows, found, is_done = self._meet(
                params, own, size, block, lessons, outside
            )
            own, asked, far = self._write(own, xs, writes, rows, found.winner, is_done)
            found = found._replace(distance=far)

            def keep(new, old):
                return jnp.where(is_done.reshape(-1, *(1,) * (new.ndim - 1)), new, old)

            start += jnp.sum(is_done, dtype=jnp.int32)
            voters, infos = jax.tree.map(keep, (asked, found), (voters, infos))
            return start, own, size, voters, infos

        distances = all_distances(self.distance, state.prototypes, state.averaged, size, xs)
        num_voters = min(self.num_neighbours + 1, self._capacity)
        voters = Voters(
            jnp.zeros((num_examples, num_voters), jnp.float32),
            jnp.zeros((num_examples, num_voters, self.num_classes), jnp.int32),
        )
        infos = MemoryInfo(
            winner=jnp.zeros((num_examples,), jnp.int32),
            distance=jnp.zeros((num_examples,), jnp.float32),
            is_novel=jnp.zeros((num_examples,), bool),
            is_saturated=jnp.zeros((num_examples,), bool),
            predicted=jnp.zeros((num_examples,), jnp.int32),
        )
        own = Own(state.prototypes, counters_from(state), distances)
        _, own, size, voters, infos = lax.while_loop(
            lambda carry: carry[0] < count,
            learn_round,
            (jnp.int32(0), own, state.size, voters, infos),
        )
        far = lax.psum(infos.distance, MEMORY_AXIS)
        infos = infos._replace(distance=jnp.where(infos.winner < 0, jnp.inf, far))
        new_state = state_after(state, own.prototypes, own.counters, size, infos, count)
        num_stored = infos.memories_added
        sizes = state.size + jnp.cumsum(num_stored) - num_stored
        return new_state, self._evidence(voters, sizes), infos

    def _meet(
        self,
        params: MemoryParams,
        own: Own,
        size: jax.Array,
        block: Block,
        lessons: Lessons,
        outside: Outside,
    ) -> tuple[jax.Array, Write, jax.Array, MemoryInfo, jax.Array]:
        """Learn a block from the candidates, as far as they are enough; on all devices alike.

        Returns:
            The memories in use after it; what each example writes, by the memories of the whole
            bank; the distances [B, B] of what it has written; its info; and whether it was learned.
        """
        num_examples = len(lessons.labels)
        indices = lax.iota(jnp.int32, num_examples)
        # Patterns are exchanged only where moved distances do not follow from distances.
        features = slice(None) if self.distance.moved is None else slice(0)
        block = block._replace(xs=block.xs[:, features])
        candidates = make_table(*self._exchange(own, outside.ids, features))
        # Where the next free rows are among the candidates.
        free = jnp.argmin(jnp.abs(outside.ids[None] - (size + indices)[:, None]), axis=1)

        def learn(carry, index):
            candidates, new_size, is_stuck = carry
            example = Example(
                label=lessons.labels[index],
                now=lessons.times[index],
                is_real=lessons.is_waiting[index] & ~is_stuck,
                size=new_size,
                free=free[jnp.minimum(new_size - size, num_examples - 1)],
            )
            bounds = Outside(outside.ids, *jax.tree.map(lambda leaf: leaf[index], outside[1:]))
            candidates, write, info, is_certain = learn_example(
                self.rule, self.distance, params, candidates, block, index, example, bounds
            )
            is_stuck |= example.is_real & ~is_certain
            new_size = size_after(self.rule, new_size, write)
            winner = jnp.where(info.winner < 0, -1, outside.ids[info.winner])
            row = candidates.distances[write.slot]
            write = write._replace(slot=outside.ids[write.slot])
            is_done = example.is_real & is_certain
            info = info._replace(winner=winner)
            return (candidates, new_size, is_stuck), (write, row, info, is_done)

        begin = candidates, size, jnp.asarray(False)
        (_, size, _), learned = lax.scan(learn, begin, indices)
        return size, *learned

    def _write(
        self,
        own: Own,
        xs: jax.Array,
        writes: Write,
        rows: jax.Array,
        winners: jax.Array,
        is_done: jax.Array,
    ) -> tuple[Own, Voters, jax.Array]:
        """Write what a round has changed of a device's memories, one example after the other.

        Args:
            own: the device's memories.
            xs: the block, [B, D].
            writes: what each example writes, by the memories of the whole bank.
            rows: the distances of what each example has written, [B, B].
            winners: the winners [B] among the memories of the whole bank; -1 for none.
            is_done: whether an example was learned in this round, [B].

        Returns:
            The memories after it; what each example found before it was learned; and its distance
            to its winner, [B], 0 on devices that do not hold the winner.
        """
        num_voters = min(self.num_neighbours + 1, self._capacity)

        def write(own, index):
            found = column(own.distances, index, 0, self._capacity)[:, None]
            distances, nearest = smallest_rows(found, num_voters)
            voters = Voters(distances[0], own.counters[nearest[0], :-NUM_COUNTERS])
            winner, has_won = self._rows(winners[index])
            slot, is_own = self._rows(writes.slot[index])
            is_own &= is_done[index]
            mine = Write(
                slot=slot,
                rate=jnp.where(is_own, writes.rate[index], 0),
                is_fresh=writes.is_fresh[index],
                counters=jnp.where(is_own, writes.counters[index], own.counters[slot]),
                averaged=writes.averaged[index],
            )
            prototypes, counters, far = write_row(
                self.distance, own.prototypes, own.counters, mine, winner, xs[index]
            )
            row = jnp.where(is_own, rows[index], own.distances[slot])
            table = lax.dynamic_update_index_in_dim(own.distances, row, slot, 0)
            return Own(prototypes, counters, table), (voters, jnp.where(has_won, far, 0))

        own, (voters, far) = lax.scan(write, own, lax.iota(jnp.int32, len(xs)))
        return own, voters, far

    def _choose(self, own: Own, size: jax.Array, start: jax.Array, lessons: Lessons) -> Outside:
        """Choose the candidates among the memories of all devices.

        Args:
            own: the device's memories.
            size: memories in use in the whole bank.
            start: the first example that is waiting.
            lessons: the block.

        Returns:
            The candidates, filled up with the capacity, which is no memory; and the bounds [B] of
            all other memories.
        """
        rule, block = self.rule, len(lessons.labels)
        capacity, none = self._capacity, rule.capacity
        ids = self._offset() + lax.iota(jnp.int32, capacity)
        # A full bank, or one that may be full before the block ends, is searched on surprises.
        is_searched = size + block >= none
        if rule.on_full == "adapt":  # an example without a label asks for no memory but the nearest
            is_searched &= jnp.any(lessons.is_waiting & (lessons.labels >= 0))

        def find_voters(is_hidden):
            """Return the nearest memory that votes for the label of each example, [B, 1]."""
            distances = jnp.where(is_hidden[:, None], jnp.inf, own.distances)[:capacity]
            of_label = jax.vmap(partial(voter_distances, own.counters), (0, 1), 1)
            return smallest_rows(of_label(lessons.labels, distances), 1)

        def find_useless(is_hidden):
            """Return the least useful memory at the time of each example, [B, 1]."""
            worth = jax.vmap(partial(usefulness, own.counters), out_axes=1)(lessons.times)
            is_none = is_hidden[:capacity] | (ids >= size)
            return smallest_rows(jnp.where(is_none[:, None], jnp.inf, worth), 1)

        def find_nobody(_):
            shape = block, 1
            return jnp.full(shape, jnp.inf, jnp.float32), jnp.zeros(shape, jnp.int32)

        def find(search, may_be_asked, is_hidden):
            if not may_be_asked:
                return find_nobody(is_hidden)
            return lax.cond(is_searched, search, find_nobody, is_hidden)

        adapts, writes_over = rule.on_full == "adapt", rule.on_full != "ignore"
        is_hidden = jnp.zeros(own.distances.shape[0], bool)
        nearest = self._smallest_of_all(*smallest_rows(own.distances, _NEAREST), _NEAREST)
        chosen = [size + lax.iota(jnp.int32, block)]  # the next free rows
        chosen += [jnp.where(lessons.is_waiting[:, None], _real(*nearest, none), none).ravel()]
        if adapts:
            values, rows = find(find_voters, adapts, is_hidden)
            voter = _real(*self._smallest_of_all(values, rows, 1), none)
            chosen += [jnp.where(lessons.is_waiting, voter[:, 0], none)]
        if writes_over:
            # Each memory that is written over makes another one the least useful.
            worth = usefulness(own.counters, lessons.times[start])
            worth = jnp.where((ids < size) & is_searched, worth, jnp.inf)
            negated, rows = lax.top_k(-worth, min(block, capacity))
            useless = self._smallest_of_all(-negated[None], rows[None], min(block, none))
            chosen += [_real(*useless, none)[0]]
        candidates = _fill(jnp.concatenate(chosen), none)

        rows, is_own = self._rows(candidates)
        is_hidden = is_hidden.at[jnp.where(is_own, rows, len(is_hidden))].set(True, mode="drop")
        found = smallest_rows(jnp.where(is_hidden[:, None], jnp.inf, own.distances), 1)

        def bound(values, rows) -> Found:
            values, ids = self._smallest_of_all(values, rows, 1)
            return values[:, 0], ids[:, 0]

        votes_for_each = jax.vmap(partial(votes_for, own.counters), out_axes=1)
        votes = votes_for_each(lax.iota(jnp.int32, self.num_classes))
        number = jnp.sum(votes & ~is_hidden[:capacity, None], axis=0, dtype=jnp.int32)
        return Outside(
            ids=candidates,
            nearest=bound(*found),
            voter=bound(*find(find_voters, adapts, is_hidden)),
            useless=bound(*find(find_useless, writes_over, is_hidden)),
            num_voters=lax.psum(number, MEMORY_AXIS)[jnp.maximum(lessons.labels, 0)],
        )

    def _rows(self, ids: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return the rows of a device that hold some memories, and whether they are its own."""
        rows = ids - self._offset()
        is_own = (rows >= 0) & (rows < self._capacity)
        return jnp.where(is_own, rows, 0), is_own

    def _smallest_of_all(
        self, values: jax.Array, rows: jax.Array, number: int
    ) -> tuple[jax.Array, jax.Array]:
        """Return the smallest values [B, number] of all devices, and the memories that have them.

        Devices come in the order of their memories, so that ties go to the lowest.
        """
        values, ids = _join(values, axis=1), _join(self._offset() + rows, axis=1)
        negated, places = lax.top_k(-values, min(number, values.shape[1]))
        return -negated, jnp.take_along_axis(ids, places, axis=1)

    def _exchange(
        self, own: Own, ids: jax.Array, features: slice
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Return patterns, counters and distances of candidates, from the devices that have them.

        Args:
            own: the device's memories.
            ids: the candidates.
            features: which numbers of a pattern are exchanged.
        """
        rows, is_own = self._rows(ids)
        # Where there is none: out of reach, without a vote, and too useful to be replaced.
        nothing = jnp.array([0] * self.num_classes + [0, 2**30, 0, 0], jnp.int32)

        def of_all(array, otherwise):
            # One device adds the row, the others add zeros.
            mine = jnp.where(is_own[:, None], array[rows], jnp.zeros_like(array[:1]))
            sent = lax.psum(mine, MEMORY_AXIS)
            return jnp.where((ids < self.rule.capacity)[:, None], sent, otherwise)

        return (
            of_all(own.prototypes[:, features], jnp.float32(0)),
            of_all(own.counters, nothing),
            of_all(own.distances, jnp.float32(jnp.inf)),
        )


def _fill(candidates: jax.Array, none: int) -> jax.Array:
    """Return candidates once each, in ascending order, filled up with ``none`` to whole groups."""
    candidates = jnp.minimum(jnp.sort(candidates), none)
    is_again = jnp.concatenate([jnp.asarray([False]), candidates[1:] == candidates[:-1]])
    candidates = jnp.sort(jnp.where(is_again, none, candidates))
    number = in_groups(min(len(candidates), none))
    missing = max(number - len(candidates), 0)
    return jnp.pad(candidates[:number], (0, missing), constant_values=none)


def _real(values: jax.Array, ids: jax.Array, none: int) -> jax.Array:
    """Return the memories, or ``none`` where a value says that there is none."""
    return jnp.where(jnp.isfinite(values), ids, none)


def _join(array: jax.Array, axis: int = 0) -> jax.Array:
    """Return the arrays of all devices, joined along an axis."""
    return lax.all_gather(array, MEMORY_AXIS, axis=axis, tiled=True)
