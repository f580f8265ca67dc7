"""Memories over devices: a bank larger than one device's memory, which learns as on one device."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from memjax._checks import check_kind, checked_inputs
from memjax.base import BlockLayer, Layer, MemoryInfo
from memjax.composition import Chain, Concatenate, Vote
from memjax.devices import MEMORY_AXIS
from memjax.memory._table import Others, Write, entries, hold, in_groups, least
from memjax.memory.layer import (
    MemoryLayer,
    MemoryParams,
    MemoryState,
    blend,
    pack,
    unpack,
    usefulness,
)

__all__ = ["ShardedMemoryLayer", "shard"]

# Candidates among the memories nearest to an example: the more, the fewer rounds.
_NEAREST = 2

_BY_MEMORY: Any = PartitionSpec(MEMORY_AXIS)
_ALIKE: Any = PartitionSpec()
_PLACES = MemoryState(_BY_MEMORY, _BY_MEMORY, _BY_MEMORY, _BY_MEMORY, _ALIKE, _ALIKE)
"""How a state lies: memories by device, the numbers of all the same everywhere."""


def shard(network: Layer, mesh: Mesh) -> Layer:
    """Return a network whose banks of memories lie over the devices of a mesh.

    It has the params and the state of the network given, learns the same memories and gives the
    same answers. What ``init`` returns lies over the devices already, and any state is laid there
    when it is first used.

    Args:
        network: a ``MemoryLayer``, or a ``Chain``, ``Concatenate`` or ``Vote`` with such in it.
        mesh: what ``memory_mesh`` returns.

    Raises:
        ValueError: it has no bank of memories, or one that cannot be cut into equal parts.

    Example:
        >>> from memjax.networks import memory_network
        >>> network, params = memory_network((8, 8, 1), num_classes=10, capacity=64)
        >>> placed = shard(network, memory_mesh())
        >>> [type(layer).__name__ for layer in placed.layers]
        ['OrientedEdges', 'ShardedMemoryLayer']
    """
    check_kind("network", network, Layer, "a memjax layer")
    placed = _placed(network, mesh)
    if placed == network:
        raise ValueError(
            "network: expected one with a MemoryLayer in it, got one without "
            f"({type(network).__name__})."
        )
    return placed


def _placed(layer: Layer, mesh: Mesh) -> Layer:
    if isinstance(layer, MemoryLayer):
        return ShardedMemoryLayer(layer, mesh)
    if isinstance(layer, Chain):
        return Chain(tuple(_placed(each, mesh) for each in layer.layers))
    if isinstance(layer, Concatenate | Vote):
        return type(layer)(tuple(_placed(each, mesh) for each in layer.members))
    return layer


# Outside of a jitted function shard_map would compile each of its operations alone.
_compiled = partial(jax.jit, static_argnames="self")


@checked_inputs
@dataclasses.dataclass(frozen=True)
class ShardedMemoryLayer(BlockLayer):
    r"""A bank of memories that lies over devices, each holding as many memories.

    Learning means what it means to ``MemoryLayer``, one example after the other, each meeting the
    winner among *all* memories. For a block of $B$ examples every device computes the distances of
    its own $K / P$ memories by one product. Then *candidates* are exchanged, at most $4 B$ however
    many devices there are: the two memories nearest to each example, the next free rows, and those
    that a full bank may be searched for. With their distances all devices learn the block alike, in
    little space, and each writes the memories that are its own.

    That is exact, since it is also known how near the nearest memory is that is *no* candidate: an
    example whose winner is farther, since candidates have moved away, begins another round of
    candidates. Rounds are few, and one where all memories are candidates.

    Attributes:
        bank: the layer, with "evidence" as its output.
        mesh: devices along one axis "memory", as ``memory_mesh`` lays them.

    Raises:
        ValueError: the capacity is no multiple of the number of devices, or the bank hands on
            activations.

    Example:
        >>> layer = ShardedMemoryLayer(MemoryLayer(2, num_classes=2, capacity=8), memory_mesh())
        >>> params = layer.default_params()._replace(novelty_threshold=jnp.float32(0.5))
        >>> state = layer.init(jax.random.key(0))
        >>> xs, labels = jnp.array([[0.0, 0.0], [1.0, 0.0]]), jnp.array([0, 1], jnp.int32)
        >>> state, _, infos = layer.step_block(params, state, xs, labels)
        >>> int(state.size), infos.is_novel.tolist()
        (2, [True, True])
    """

    bank: MemoryLayer
    mesh: Mesh

    def __post_init__(self):
        check_kind("bank", self.bank, MemoryLayer, "a MemoryLayer")
        check_kind("mesh", self.mesh, Mesh, "what memjax.memory.sharded.memory_mesh returns")
        if self.mesh.axis_names != (MEMORY_AXIS,):
            raise ValueError(
                f"mesh: expected one axis {MEMORY_AXIS!r}, got the axes {self.mesh.axis_names}."
            )
        if self.bank.capacity % self.mesh.size:
            raise ValueError(
                f"capacity: expected a multiple of the {self.mesh.size} devices, "
                f"got {self.bank.capacity}."
            )
        if self.bank.output != "evidence":
            raise ValueError(f'bank: expected the output "evidence", got {self.bank.output!r}.')

    @property
    def input_shape(self) -> tuple[int, ...]:
        """[D]."""
        return self.bank.input_shape

    @property
    def output_shape(self) -> tuple[int, ...]:
        """[C] class evidence."""
        return self.bank.output_shape

    @property
    def num_classes(self) -> int:
        """C."""
        return self.bank.num_classes

    @property
    def num_neighbours(self) -> int:
        """How many memories vote."""
        return self.bank.num_neighbours

    def default_params(self) -> MemoryParams:
        """Return the default params of the bank."""
        return self.bank.default_params()

    def init(self, key: jax.Array) -> MemoryState:
        """Return an empty bank that lies over the devices."""
        shardings = jax.tree.map(partial(NamedSharding, self.mesh), _PLACES)
        return jax.jit(self.bank.init, out_shardings=shardings)(key)

    def calibrate(self, params: MemoryParams, xs: jax.Array, labels: jax.Array) -> MemoryParams:
        """Return what the bank's ``calibrate`` returns."""
        return self.bank.calibrate(params, xs, labels)

    @_compiled
    def step_block(
        self,
        params: MemoryParams,
        state: MemoryState,
        xs: jax.Array,
        labels: jax.Array,
        length: jax.Array | None = None,
    ) -> tuple[MemoryState, jax.Array, MemoryInfo]:
        """Learn from a block [B, D]; what ``MemoryLayer.step_block`` returns."""
        count = jnp.asarray(xs.shape[0] if length is None else length, jnp.int32)
        learn = self._on_devices(self._learn, 4, (_PLACES, _ALIKE, _ALIKE))
        return learn(state, params, xs, jnp.asarray(labels), count)

    @_compiled
    def recall_block(self, params: MemoryParams, state: MemoryState, xs: jax.Array) -> jax.Array:
        """Return the codes of inputs [B, D]: each device finds its nearest, and all vote."""
        del params

        def recall(state, xs):
            distances, rows = self._part.nearest(self._local(state), xs, self.num_neighbours + 1)
            return self._codes(distances, state.votes[rows])

        return self._on_devices(recall, 1, _ALIKE)(state, xs)

    @partial(jax.jit, static_argnames=("self", "number"))
    def nearest(
        self, state: MemoryState, xs: jax.Array, number: int
    ) -> tuple[jax.Array, jax.Array]:
        """Return the memories nearest to each input; what ``MemoryLayer.nearest`` returns."""

        def find(state, xs):
            distances, rows = self._part.nearest(self._local(state), xs, number)
            return self._least_of_all(distances, rows, number)

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
    def _part(self) -> MemoryLayer:
        """The layer of one device's memories."""
        return dataclasses.replace(self.bank, capacity=self.bank.capacity // self.mesh.size)

    @property
    def _num_voters(self) -> int:
        """How many of a device's memories may be among those that vote."""
        return min(self.num_neighbours + 1, self._part.capacity)

    def _offset(self) -> jax.Array:
        return lax.axis_index(MEMORY_AXIS).astype(jnp.int32) * self._part.capacity

    def _local(self, state: MemoryState) -> MemoryState:
        """Return a device's part of the state with the number of its own memories in use."""
        size = jnp.clip(state.size - self._offset(), 0, self._part.capacity)
        return state._replace(size=size)

    def _codes(self, distances: jax.Array, votes: jax.Array) -> jax.Array:
        """Return the codes [B, C] by the voters of all devices."""
        return jax.vmap(self.bank.code)(_joined(distances, axis=1), _joined(votes, axis=1))

    def _learn(
        self,
        state: MemoryState,
        params: MemoryParams,
        xs: jax.Array,
        labels: jax.Array,
        count: jax.Array,
    ) -> tuple[MemoryState, jax.Array, MemoryInfo]:
        part, block = self._part, xs.shape[0]
        indices = lax.iota(jnp.int32, block)
        between = self.bank.distance.pairwise(xs, xs)
        # Memories themselves are exchanged only where moved distances do not follow from distances.
        features = slice(None) if self.bank.distance.moved is None else slice(0)

        def learn_round(carry):
            start, own, size, voters, infos = carry
            is_waiting = (indices >= start) & (indices < count)
            others = self._choose(own, size, start, state.num_seen + indices, labels, is_waiting)
            candidates = hold(*self._exchanged(own, others.ids, features))
            # Where the next free rows are among the candidates.
            free = jnp.argmin(jnp.abs(others.ids[None] - (size + indices)[:, None]), axis=1)

            def learn(carry, index):
                candidates, new_size, is_stuck = carry
                is_real = is_waiting[index] & ~is_stuck
                candidates, write, info, is_certain = self.bank.learn_from(
                    params, candidates, xs[:, features], between, index, labels[index],
                    size=new_size, free=free[jnp.minimum(new_size - size, block - 1)],
                    now=state.num_seen + index, is_real=is_real,
                    others=others._replace(
                        nearest=(others.nearest[0][index], others.nearest[1][index]),
                        target=(others.target[0][index], others.target[1][index]),
                    ),
                )  # fmt: skip
                is_stuck |= is_real & ~is_certain
                new_size = new_size + write.is_fresh.astype(jnp.int32)
                new_size = jnp.minimum(new_size, self.bank.capacity)
                info = info._replace(winner=jnp.where(info.winner < 0, -1, others.ids[info.winner]))
                row = candidates.table[write.slot]
                write = write._replace(slot=others.ids[write.slot])
                return (candidates, new_size, is_stuck), (write, row, info, is_real & is_certain)

            begin = candidates, size, jnp.asarray(False)
            (_, size, _), (writes, rows, found, is_done) = lax.scan(learn, begin, indices)

            own, asked = self._written(own, xs, writes, rows, is_done)

            def done(new, old):
                return jnp.where(is_done.reshape(-1, *(1,) * (new.ndim - 1)), new, old)

            start += jnp.sum(is_done, dtype=jnp.int32)
            voters, infos = jax.tree.map(done, (asked, found), (voters, infos))
            return start, own, size, voters, infos

        table = part.local_table(self._local(state), xs, num_rows=in_groups(part.capacity))
        voters = (
            jnp.zeros((block, self._num_voters), jnp.float32),
            jnp.zeros((block, self._num_voters, self.num_classes), jnp.int32),
        )
        infos = MemoryInfo(
            winner=jnp.zeros((block,), jnp.int32),
            distance=jnp.zeros((block,), jnp.float32),
            is_novel=jnp.zeros((block,), bool),
            is_saturated=jnp.zeros((block,), bool),
            predicted=jnp.zeros((block,), jnp.int32),
        )
        begin = jnp.int32(0), (state.prototypes, table, pack(state)), state.size, voters, infos
        _, own, size, voters, infos = lax.while_loop(
            lambda carry: carry[0] < count, learn_round, begin
        )
        prototypes, _, tally = own
        new_state = unpack(prototypes, tally, size, state.num_seen + count)
        return new_state, self._codes(*voters), infos

    def _written(
        self,
        own: tuple[jax.Array, jax.Array, jax.Array],
        xs: jax.Array,
        writes: Write,
        rows: jax.Array,
        is_done: jax.Array,
    ) -> tuple[tuple[jax.Array, jax.Array, jax.Array], tuple[jax.Array, jax.Array]]:
        """Write what a round has changed of a device's memories, one example after the other.

        Args:
            own: the device's memories, their distances to the block and what is counted of them.
            xs: the block, [B, D].
            writes: what each example writes, by the memories of the whole bank.
            rows: the distances of what each example has written, [B, B].
            is_done: whether an example was learned in this round, [B].

        Returns:
            The memories after it, and what each example found before it was learned: distances
            [B, V] and votes [B, V, C] of its nearest.
        """
        capacity, offset = self._part.capacity, self._offset()

        def write(own, index):
            prototypes, table, tally = own
            distances, nearest = least(
                entries(table, index, 0, capacity)[:, None], self._num_voters
            )
            voters = distances[0], tally[nearest[0], :-3]
            slot = writes.slot[index] - offset
            is_own = is_done[index] & (slot >= 0) & (slot < capacity)
            slot = jnp.clip(slot, 0, capacity - 1)
            rate = jnp.where(is_own, writes.rate[index], 0)
            memory = blend(prototypes[slot], xs[index], rate)
            row = jnp.where(is_own, rows[index], table[slot])
            counted = jnp.where(is_own, writes.tally[index], tally[slot])
            return (
                lax.dynamic_update_index_in_dim(prototypes, memory, slot, 0),
                lax.dynamic_update_index_in_dim(table, row, slot, 0),
                lax.dynamic_update_index_in_dim(tally, counted, slot, 0),
            ), voters

        return lax.scan(write, own, lax.iota(jnp.int32, len(xs)))

    def _choose(
        self,
        own: tuple[jax.Array, jax.Array, jax.Array],
        size: jax.Array,
        start: jax.Array,
        times: jax.Array,
        labels: jax.Array,
        is_waiting: jax.Array,
    ) -> Others:
        """Choose the candidates among the memories of all devices.

        Args:
            own: the device's memories, their distances to the block and what is counted of them.
            size: memories in use in the whole bank.
            start: the first example that is waiting.
            times: examples seen before each of the block, [B].
            labels: [B].
            is_waiting: whether an example is still to be learned, [B].

        Returns:
            The candidates, filled up with the capacity, which is no memory; and the bounds [B] of
            those memories that are none.
        """
        _, table, tally = own
        capacity, block, none = self._part.capacity, len(labels), self.bank.capacity
        ids = self._offset() + lax.iota(jnp.int32, capacity)
        is_full = size + block >= none  # or may be before the block ends

        def aims(is_hidden):
            """Return the least of what a full bank is searched for, by example, [B, 1]."""
            if self.bank.on_full == "adapt":
                votes_for_label = tally[:, -1:] == labels[None]
                values = jnp.where(votes_for_label, table[:capacity], jnp.inf)
            else:
                values = jax.vmap(usefulness, in_axes=(None, 0), out_axes=1)(tally, times)
            hidden = is_hidden[:capacity, None] | (ids >= size)[:, None]
            return least(jnp.where(hidden, jnp.inf, values), 1)

        def nobody():
            shape = block, 1
            return jnp.full(shape, jnp.inf, jnp.float32), jnp.zeros(shape, jnp.int32)

        values, rows = least(table, _NEAREST)
        nearest = self._least_of_all(values, rows, _NEAREST)
        chosen = [size + lax.iota(jnp.int32, block)]  # the next free rows
        chosen += [jnp.where(is_waiting[:, None], _real(*nearest, none), none).ravel()]
        is_hidden = jnp.zeros(table.shape[0], bool)
        if self.bank.on_full == "adapt":
            values, rows = lax.cond(is_full, lambda: aims(is_hidden), nobody)
            target = _real(*self._least_of_all(values, rows, 1), none)
            chosen += [jnp.where(is_waiting, target[:, 0], none)]
        if self.bank.on_full == "replace":
            # Each replacement makes another memory the least useful one.
            worth = jnp.where((ids < size) & is_full, usefulness(tally, times[start]), jnp.inf)
            negated, rows = lax.top_k(-worth, min(block, capacity))
            useless = self._least_of_all(-negated[None], rows[None], min(block, none))
            chosen += [_real(*useless, none)[0]]

        candidates = jnp.minimum(jnp.sort(jnp.concatenate(chosen)), none)
        is_again = jnp.concatenate([jnp.asarray([False]), candidates[1:] == candidates[:-1]])
        candidates = jnp.sort(jnp.where(is_again, none, candidates))
        number = in_groups(min(len(candidates), none))
        missing = max(number - len(candidates), 0)
        candidates = jnp.pad(candidates[:number], (0, missing), constant_values=none)

        rows, is_own = self._rows(candidates)
        is_hidden = is_hidden.at[jnp.where(is_own, rows, len(is_hidden))].set(True, mode="drop")
        bounds = [least(jnp.where(is_hidden[:, None], jnp.inf, table), 1), nobody()]
        if self.bank.on_full != "ignore":
            bounds[1] = lax.cond(is_full, lambda: aims(is_hidden), nobody)
        bounds = [self._least_of_all(values, rows, 1) for values, rows in bounds]
        return Others(candidates, *((values[:, 0], ids[:, 0]) for values, ids in bounds))

    def _rows(self, ids: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return the rows of a device that hold some memories, and whether they are its own."""
        rows = ids - self._offset()
        is_own = (rows >= 0) & (rows < self._part.capacity)
        return jnp.where(is_own, rows, 0), is_own

    def _least_of_all(
        self, values: jax.Array, rows: jax.Array, number: int
    ) -> tuple[jax.Array, jax.Array]:
        """Return the least values [B, number] of all devices, and the memories that have them.

        Devices come in the order of their memories, so that ties go to the lowest.
        """
        values, ids = _joined(values, axis=1), _joined(self._offset() + rows, axis=1)
        negated, places = lax.top_k(-values, min(number, values.shape[1]))
        return -negated, jnp.take_along_axis(ids, places, axis=1)

    def _exchanged(
        self, own: tuple[jax.Array, jax.Array, jax.Array], ids: jax.Array, features: slice
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Return memories, distances and counts of candidates, each from the device that has it."""
        prototypes, table, tally = own
        rows, is_own = self._rows(ids)
        # Where there is none: out of reach, of no class, and too useful to be replaced.
        nothing = jnp.array([0] * self.num_classes + [2**30, 0, -2], jnp.int32)

        def of_all(array, otherwise):
            # One device adds the row, the others add zeros.
            mine = jnp.where(is_own[:, None], array[rows], jnp.zeros_like(array[:1]))
            sent = lax.psum(mine, MEMORY_AXIS)
            return jnp.where((ids < self.bank.capacity)[:, None], sent, otherwise)

        return (
            of_all(prototypes[:, features], jnp.float32(0)),
            of_all(table, jnp.float32(jnp.inf)),
            of_all(tally, nothing),
        )


def _real(values: jax.Array, ids: jax.Array, none: int) -> jax.Array:
    """Return the memories, or ``none`` where a value says that there is none."""
    return jnp.where(jnp.isfinite(values), ids, none)


def _joined(array: jax.Array, axis: int = 0) -> jax.Array:
    """Return the arrays of all devices, joined along an axis."""
    return lax.all_gather(array, MEMORY_AXIS, axis=axis, tiled=True)
