"""The memory network's layer: memories that are stored once and adjusted, one example at a time."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from memjax._checks import (
    check_bool,
    check_choice,
    check_kind,
    check_positive,
    check_values,
    checked_inputs,
    checked_params,
)
from memjax._numerics import max_over_members, run_if
from memjax.base import UNLABELLED, Layer, MemoryInfo
from memjax.distances import Distance, squared_euclidean
from memjax.memory._table import (
    GROUP,
    Held,
    Others,
    Write,
    entries,
    hold,
    in_groups,
    is_before,
    least,
    minimum,
    nearest,
    nearest_voter,
)

__all__ = [
    "TILE",
    "MemoryLayer",
    "MemoryParams",
    "MemoryState",
    "nearest_memories",
    "vote_weights",
    "voted_labels",
]

TILE = 1024
"""Memories whose distances to a block are computed in one product."""

# The same where only the nearest are kept: each tile costs a search of its own, but its distances
# should stay in a cache.
_RECALL_TILE = 2048


class MemoryParams(NamedTuple):
    """The numbers of a memory layer that one may sweep, each a float32 scalar."""

    novelty_threshold: jax.Array  # distance above which an example is a surprise; NaN: estimate it
    plasticity_floor: jax.Array  # least step size of a winner, 0 to 1; 0 keeps the running mean

    ranges = (0, math.inf), (0, 1)


class MemoryState(NamedTuple):
    """What a memory layer has learned. Rows from ``size`` on are free and hold zeros."""

    prototypes: jax.Array  # float32 [K, D]: the stored patterns
    counts: jax.Array  # int32 [K]: examples each memory has learned from
    votes: jax.Array  # int32 [K, C]: labelled examples among them, by class
    stored_at: jax.Array  # int32 [K]: number of examples seen when the memory was stored
    size: jax.Array  # int32 []: memories in use
    num_seen: jax.Array  # int32 []: examples seen


@checked_inputs
@dataclasses.dataclass(frozen=True)
class MemoryLayer(Layer):
    r"""A bank of memories that learns in one pass: winner, surprise, plasticity, votes.

    For one example $(x, y)$ with memories $m_k$, distances $d_k = d(x, m_k)$ and the winner
    $w = \arg\min_k d_k$ (ties go to the lowest index):

    * *surprise* if nothing is stored, if $d_w$ is over ``novelty_threshold``, or, with
      ``supervised_growth`` and a known $y$, if $w$ votes for another label than $y$;
    * a surprise is stored as a new memory, $m = x$, with count 1 and one vote for $y$;
    * a surprise in a full bank goes by ``on_full``: ``"adapt"`` lets the nearest memory that votes
      for $y$ (else the winner) learn it, ``"replace"`` overwrites the memory with the fewest wins
      per example since it was stored, ``"ignore"`` drops it;
    * otherwise the winner learns:
      $m_w \leftarrow (1 - \eta) m_w + \eta x$ with
      $\eta = \max(1 / (n_w + 1), \text{plasticity floor})$, $n_w \leftarrow n_w + 1$, and one more
      vote for $y$.

    A label of -1 is unknown: it counts no vote and surprises nobody. A memory votes for the label
    it has met most often (ties: the lowest), and one that has met none contradicts none.

    The code is class evidence [C]: the vote shares of the ``num_neighbours`` nearest memories, each
    weighted by $1 - d_i / d_{k+1}$ (see ``nearest_memories``), divided by the sum of the weights
    (voters that all weigh 0 count alike); all zero when none of them has a vote. With
    ``output="activations"`` it is, for each memory, how much nearer than the average memory it is,
    $\max(0, \bar d - d_k)$, [K].

    Attributes:
        num_features: D, length of an input.
        num_classes: C.
        capacity: K, the number of memories there is room for.
        distance: one of ``memjax.distances``.
        supervised_growth: whether a wrong vote is a surprise.
        on_full: "adapt", "replace" or "ignore".
        num_neighbours: how many memories vote in recall.
        output: "evidence" or "activations".

    Raises:
        ValueError: an attribute is out of its range.

    Source: the reconstruction in docs/paper.md of Ruiz & Gupta (2024), arXiv 2409.17282.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> layer = MemoryLayer(num_features=2, num_classes=2, capacity=4)
        >>> params = layer.params(novelty_threshold=0.5)
        >>> state = layer.init(jax.random.key(0))
        >>> for x, label in [([0.0, 0.0], 0), ([1.0, 0.0], 1), ([0.0, 0.2], 0)]:
        ...     state, _, info = layer.step(params, state, jnp.array(x), jnp.int32(label))
        >>> int(state.size), state.counts.tolist()
        (2, [2, 1, 0, 0])
        >>> layer.recall(params, state, jnp.array([0.9, 0.0])).argmax().item()
        1
    """

    num_features: int
    num_classes: int
    capacity: int
    distance: Distance = squared_euclidean
    supervised_growth: bool = True
    on_full: str = "adapt"
    num_neighbours: int = 7
    output: str = "evidence"

    def __post_init__(self):
        for name in ("num_features", "num_classes", "capacity", "num_neighbours"):
            check_positive(name, getattr(self, name))
        check_kind("distance", self.distance, Distance, "one of memjax.distances")
        check_bool("supervised_growth", self.supervised_growth)
        check_choice("on_full", self.on_full, ("adapt", "replace", "ignore"))
        check_choice("output", self.output, ("evidence", "activations"))

    @property
    def input_shape(self) -> tuple[int, ...]:
        """[D]."""
        return (self.num_features,)

    @property
    def output_shape(self) -> tuple[int, ...]:
        """[C] class evidence, or [K] activations."""
        return (self.num_classes if self.output == "evidence" else self.capacity,)

    def params(
        self, novelty_threshold: float | str = "auto", plasticity_floor: float = 0.0
    ) -> MemoryParams:
        """Return checked params; "auto" leaves the threshold to ``calibrate``.

        Raises:
            ValueError: a negative or NaN threshold, or a floor outside 0 to 1.
        """
        if not isinstance(novelty_threshold, str):
            return checked_params(
                MemoryParams,
                novelty_threshold=novelty_threshold,
                plasticity_floor=plasticity_floor,
            )
        check_choice("novelty_threshold", novelty_threshold, ("auto",))
        return self.params(0, plasticity_floor)._replace(
            novelty_threshold=jnp.asarray(jnp.nan, jnp.float32)
        )

    def default_params(self) -> MemoryParams:
        """Return params with the threshold still to be estimated and no plasticity floor."""
        return self.params()

    def init(self, key: jax.Array) -> MemoryState:
        """Return an empty bank; ``key`` is not used, as every memory comes from the data."""
        del key
        k, c = self.capacity, self.num_classes
        return MemoryState(
            prototypes=jnp.zeros((k, self.num_features), jnp.float32),
            counts=jnp.zeros((k,), jnp.int32),
            votes=jnp.zeros((k, c), jnp.int32),
            stored_at=jnp.zeros((k,), jnp.int32),
            size=jnp.zeros((), jnp.int32),
            num_seen=jnp.zeros((), jnp.int32),
        )

    def step(
        self, params: MemoryParams, state: MemoryState, x: jax.Array, label: jax.Array
    ) -> tuple[MemoryState, jax.Array, MemoryInfo]:
        """Learn from one example [D]; see ``Layer.step``."""
        distances = self._distances(state, x)
        code = self.code(distances, state.votes)
        tally = pack(state)
        own, winner = minimum(distances)
        write, info, _ = self._decide(
            params, tally, state.size, state.size, state.num_seen, label, winner, own,
            lambda label: minimum(jnp.where(tally[:, -1] == label, distances, jnp.inf)),
        )  # fmt: skip
        row = blend(state.prototypes[write.slot], x, write.rate)
        new_state = unpack(
            state.prototypes.at[write.slot].set(row),
            tally.at[write.slot].set(write.tally),
            size=state.size + write.is_fresh.astype(jnp.int32),
            num_seen=state.num_seen + 1,
        )
        # `replace` writes a fresh memory over an old one, and the bank stays as large as it was.
        new_state = new_state._replace(size=jnp.minimum(new_state.size, self.capacity))
        return new_state, code, info

    def recall(self, params: MemoryParams, state: MemoryState, x: jax.Array) -> jax.Array:
        """Return the code of one input [D] without writing."""
        del params
        return self.code(self._distances(state, x), state.votes)

    def recall_block(self, params: MemoryParams, state: MemoryState, xs: jax.Array) -> jax.Array:
        """Return the codes of inputs [B, D] by matrix products; equal up to rounding."""
        del params
        if self.output == "activations":
            table = self._tile(state, xs, 0, self.capacity)
            return jax.vmap(self.code, in_axes=(1, None))(table, state.votes)
        k = self.num_neighbours

        def code(distances, indices):
            return _evidence(indices[:k], vote_weights(distances, k), state.votes)

        return jax.vmap(code)(*self.nearest(state, xs, k + 1))

    def nearest(
        self, state: MemoryState, xs: jax.Array, number: int
    ) -> tuple[jax.Array, jax.Array]:
        """Return the memories nearest to each input, the nearest first; ties: the lowest index.

        The bank is read tile by tile: beside the result, only the distances to one tile are held.

        Args:
            state: what the layer has learned.
            xs: inputs [B, D].
            number: how many memories are asked for; n is this, and K at most.

        Returns:
            Distances float32 [B, n], inf for a free row, and indices int32 [B, n].

        Raises:
            TypeError, ValueError: an argument has another shape, dtype or range.

        Example:
            >>> layer = MemoryLayer(num_features=1, num_classes=2, capacity=3)
            >>> state = layer.init(jax.random.key(0))
            >>> state = state._replace(prototypes=jnp.array([[0.0], [3.0], [0.0]]))
            >>> state = state._replace(size=jnp.int32(2))
            >>> distances, indices = layer.nearest(state, jnp.array([[1.0], [2.5]]), 2)
            >>> distances.tolist(), indices.tolist()
            ([[1.0, 4.0], [0.25, 6.25]], [[0, 1], [1, 0]])
        """
        check_positive("number", number)
        check_values("xs", xs, ("B", self.num_features))
        xs = jnp.asarray(xs, jnp.float32)
        number = min(number, self.capacity)
        # Tiles of one size: a last one that is mostly empty would cost as much as the others.
        num_groups = in_groups(self.capacity) // GROUP
        per_tile = -(-num_groups // -(-self.capacity // _RECALL_TILE))
        tile = min(per_tile * GROUP, self.capacity)
        num_tiles, rest = divmod(self.capacity, tile)

        def nearer(best, start, length):
            # One shape of product for all tiles; what overlaps the tile before is left out.
            table = self._tile(state, xs, start + length - tile, tile)[tile - length :]
            distances, rows = least(table, number)
            # The tiles come from last to first, so in a tie what is found now is the lowest.
            distances = jnp.concatenate([distances, best[0]], axis=1)
            indices = jnp.concatenate([rows + start, best[1]], axis=1)
            negated, places = lax.top_k(-distances, number)
            return -negated, jnp.take_along_axis(indices, places, axis=1)

        shape = xs.shape[0], number
        best = jnp.full(shape, jnp.inf, jnp.float32), jnp.zeros(shape, jnp.int32)
        if rest:
            best = nearer(best, num_tiles * tile, rest)
        return lax.fori_loop(
            0, num_tiles, lambda i, best: nearer(best, (num_tiles - 1 - i) * tile, tile), best
        )

    def step_block(
        self,
        params: MemoryParams,
        state: MemoryState,
        xs: jax.Array,
        labels: jax.Array,
        length: jax.Array | None = None,
    ) -> tuple[MemoryState, jax.Array, MemoryInfo]:
        """Learn from a block [B, D], exactly as ``B`` steps would, by one matrix product.

        All distances between the memories and the block are computed once, [K, B]. Learning from an
        example rewrites one memory, so one row of that table: the new row follows from the old one
        and the distances between the block's examples, with no pass over the features. The
        memories themselves are written in the same arithmetic as in ``step``, so as long as float
        rounding decides no winner the result is the same to the last bit.
        """
        labels = jnp.asarray(labels)
        block = xs.shape[0]
        count = jnp.asarray(block if length is None else length, jnp.int32)
        table = self.local_table(state, xs, num_rows=in_groups(self.capacity))
        between = self.distance.pairwise(xs, xs)

        def learn(carry, index):
            held, size = carry
            distances = entries(held.table, index, 0, self.capacity)
            code = self.code(distances, held.tally[:, : self.num_classes])
            held, write, info, _ = self.learn_from(
                params, held, xs, between, index, labels[index],
                size=size, free=size, now=state.num_seen + index, is_real=index < count,
            )  # fmt: skip
            size = jnp.minimum(size + write.is_fresh.astype(jnp.int32), self.capacity)
            return (held, size), (code, info)

        carry = (hold(state.prototypes, table, pack(state)), state.size)
        (held, size), (codes, infos) = lax.scan(learn, carry, lax.iota(jnp.int32, block))
        new_state = unpack(held.prototypes, held.tally, size, state.num_seen + count)
        return new_state, codes, infos

    def learn_from(
        self,
        params: MemoryParams,
        held: Held,
        xs: jax.Array,
        between: jax.Array,
        index: jax.Array,
        label: jax.Array,
        *,
        size: jax.Array,
        free: jax.Array,
        now: jax.Array,
        is_real: jax.Array,
        others: Others | None = None,
    ) -> tuple[Held, Write, MemoryInfo, jax.Array]:
        """Learn from one example of a block.

        Args:
            params: the layer's numbers.
            held: memories, and their distances to the block.
            xs: the block, [B, D].
            between: distances between the block's examples, [B, B].
            index: which example it is.
            label: its label.
            size: memories in use, in the whole bank.
            free: the row that a new memory is given.
            now: examples seen before this one.
            is_real: whether it is to be learned.
            others: what is known of memories that are not held; None where all are.

        Returns:
            The memories after it, what was written, what was done, and whether the memories held
            were enough to say so: where not, nothing was written.
        """
        own, winner = nearest(held, index)
        write, info, is_certain = self._decide(
            params, held.tally, size, free, now, label, winner, own,
            lambda label: nearest_voter(held, index, label), is_real, others,
        )  # fmt: skip
        slot = write.slot
        memory = blend(held.prototypes[slot], xs[index], write.rate)
        prototypes = lax.dynamic_update_index_in_dim(held.prototypes, memory, slot, 0)
        if self.distance.moved is None:
            memory = lax.dynamic_index_in_dim(prototypes, slot, 0)
            new_row = self.distance.pairwise(xs, memory)[0]
            new_row = jnp.where(write.rate > 0, new_row, held.table[slot])
        else:
            old_row = held.table[slot]
            moved = self.distance.moved(old_row, between[index], old_row[index], write.rate)
            new_row = jnp.where(write.is_fresh, between[index], moved)
        table = lax.dynamic_update_index_in_dim(held.table, new_row, slot, 0)
        group = slot // GROUP
        rows = lax.dynamic_slice_in_dim(table, group * GROUP, GROUP)
        minima = lax.dynamic_update_index_in_dim(held.minima, jnp.min(rows, axis=0), group, 0)
        tally = lax.dynamic_update_index_in_dim(held.tally, write.tally, slot, 0)
        return Held(prototypes, table, minima, tally), write, info, is_certain

    def calibrate(self, params: MemoryParams, xs: jax.Array, labels: jax.Array) -> MemoryParams:
        """Return ``params`` with a threshold that is still NaN estimated from inputs [n, D].

        The estimate is the mean distance from an input to its nearest neighbour among the others (0
        for a single input): what lies farther from all memories than those examples from each other
        is new, whatever its label.
        """
        del labels
        xs = jnp.asarray(xs, jnp.float32)
        between = self.distance.pairwise(xs, xs)
        between = jnp.where(jnp.eye(xs.shape[0], dtype=bool), jnp.inf, between)
        nearest = jnp.min(between, axis=0)
        estimate = jnp.mean(jnp.where(jnp.isinf(nearest), 0, nearest))
        is_unset = jnp.isnan(params.novelty_threshold)
        return params._replace(
            novelty_threshold=jnp.where(is_unset, estimate, params.novelty_threshold)
        )

    def _masked(self, distances: jax.Array, size: jax.Array) -> jax.Array:
        is_free = lax.broadcasted_iota(jnp.int32, distances.shape, 0) >= size
        return jnp.where(is_free, jnp.inf, distances)

    def local_table(self, state: MemoryState, xs: jax.Array, num_rows: int) -> jax.Array:
        """Return distances [num_rows, B], inf in free rows and beyond the capacity.

        The table is filled in place tile by tile: at once, the product and what is made of it would
        be held side by side. A tile without a memory in use is not computed.
        """
        tile = min(TILE, self.capacity)

        def fill(index, table):
            start = jnp.minimum(index * tile, self.capacity - tile)
            distances = self._tile(state, xs, start, tile)
            return lax.dynamic_update_slice_in_dim(table, distances, start, 0)

        table = jnp.full((num_rows, xs.shape[0]), jnp.inf, jnp.float32)
        return lax.fori_loop(0, -(-max_over_members(state.size) // tile), fill, table)

    def _tile(self, state: MemoryState, xs: jax.Array, start: Any, length: int) -> jax.Array:
        """Return the distances [length, B] to the memories from ``start`` on."""
        memories = lax.dynamic_slice_in_dim(state.prototypes, start, length)
        return self._masked(self.distance.pairwise(xs, memories), state.size - start)

    def _distances(self, state: MemoryState, x: jax.Array) -> jax.Array:
        return self._masked(self.distance.to_memories(x, state.prototypes), state.size)

    def code(self, distances: jax.Array, votes: jax.Array) -> jax.Array:
        """Return the code of an input from its distances to memories [K] and their votes [K, C]."""
        if self.output == "activations":
            is_stored = jnp.isfinite(distances)
            finite = jnp.where(is_stored, distances, 0)
            number = jnp.maximum(jnp.sum(is_stored.astype(distances.dtype)), 1)
            return jnp.where(is_stored, jnp.maximum(jnp.sum(finite) / number - finite, 0), 0)
        return _evidence(*nearest_memories(distances, self.num_neighbours), votes)

    def _decide(
        self,
        params: MemoryParams,
        tally: jax.Array,
        size: jax.Array,
        free: jax.Array,
        now: jax.Array,
        label: jax.Array,
        winner: jax.Array,
        own: jax.Array,
        find_voter: Callable[[jax.Array], tuple[jax.Array, jax.Array]],
        is_real: jax.Array | bool = True,
        others: Others | None = None,
    ) -> tuple[Write, MemoryInfo, jax.Array]:
        """Decide which row one example writes, and how. A row that is not real writes nothing."""
        c = self.num_classes
        columns = lax.iota(jnp.int32, c + 3)
        # Numbers are read from a row by a reduction, for the reason given in `minimum`.
        predicted = jnp.sum(jnp.where(columns == c + 2, tally[winner], 0), dtype=jnp.int32)
        is_empty = size == 0
        is_novel = is_empty | (own > params.novelty_threshold)
        if self.supervised_growth:
            is_novel |= (label >= 0) & (predicted >= 0) & (predicted != label)
        is_certain = jnp.asarray(True)
        if others is not None:
            is_certain = is_before(own, others.ids[winner], others.nearest)
        is_novel &= is_real & is_certain
        is_full = size == self.capacity
        is_saturated = is_novel & is_full

        def least_useful(tally):
            return minimum(usefulness(tally, now))

        full_slot = winner
        if self.on_full != "ignore":
            nobody = jnp.full_like(own, jnp.inf), winner
            if self.on_full == "adapt":
                asks = is_saturated & (label >= 0)
                least, found = run_if(asks, find_voter, nobody, label)
            else:
                asks = is_saturated
                least, found = run_if(asks, least_useful, nobody, tally)
            full_slot = jnp.where(jnp.isfinite(least), found, winner)
            if others is not None:
                is_certain &= ~asks | is_before(least, others.ids[found], others.target)
                is_novel &= is_certain
                is_saturated &= is_certain

        slot = jnp.where(is_saturated, full_slot, jnp.where(is_novel, free, winner))
        is_fresh = (is_novel & ~is_full) | (is_saturated & (self.on_full == "replace"))
        learns = is_real & is_certain & ~(is_saturated & (self.on_full == "ignore"))
        row = tally[slot]
        count = jnp.sum(jnp.where(columns == c, row, 0), dtype=jnp.int32)
        rate = jnp.maximum(1 / (count + 1).astype(jnp.float32), params.plasticity_floor)
        rate = jnp.where(is_fresh, 1, jnp.where(learns, rate, 0))
        votes = jnp.where(is_fresh, 0, row) + ((columns == label) & learns).astype(jnp.int32)
        count = jnp.where(is_fresh, 0, count) + jnp.asarray(learns, jnp.int32)
        stored_at = jnp.where(is_fresh, now, row)
        favourite = _favourite(votes[:c])
        rest = jnp.where(columns == c, count, jnp.where(columns == c + 1, stored_at, favourite))
        write = Write(slot, rate, is_fresh, jnp.where(columns < c, votes, rest))
        info = MemoryInfo(
            winner=jnp.where(is_empty, -1, winner),
            distance=own,
            is_novel=is_novel,
            is_saturated=is_saturated,
            predicted=jnp.where(is_empty, UNLABELLED, predicted),
        )
        return write, info, is_certain


def usefulness(tally: jax.Array, now: jax.Array) -> jax.Array:
    """Return the wins of each memory per example since it was stored, float32 [K]."""
    age = (now - tally[:, -2] + 1).astype(jnp.float32)
    return tally[:, -3].astype(jnp.float32) / age


def nearest_memories(distances: jax.Array, num_neighbours: int) -> tuple[jax.Array, jax.Array]:
    """Return the nearest memories and the weights of their votes.

    Args:
        distances: float32 [K], inf for a free row.
        num_neighbours: how many may vote.

    Returns:
        Indices int32 [k] by growing distance and weights float32 [k], k being at most K:
        $1 - d_i / d_{k+1}$, where the farthest memory stands in for the (k+1)-th if there are
        fewer; 1 for all when all are equally near; 0 for a free row.
    """
    negated, indices = lax.top_k(-distances, min(num_neighbours + 1, distances.shape[0]))
    return indices[:num_neighbours].astype(jnp.int32), vote_weights(-negated, num_neighbours)


def vote_weights(distances: jax.Array, num_neighbours: int) -> jax.Array:
    """Return the weights float32 [k] that ``nearest_memories`` gives to votes.

    Args:
        distances: float32 [k + 1] of the nearest memories, growing; [K] if there are no more.
        num_neighbours: k.
    """
    is_stored = jnp.isfinite(distances)
    nearest = jnp.where(is_stored, distances, 0)
    edge = jnp.max(nearest)
    # Without the clip a quotient rounded to above 1 would leave a weight below 0.
    closeness = jnp.maximum(1 - nearest / jnp.where(edge > 0, edge, 1), 0)
    weights = jnp.where(edge > nearest[0], jnp.where(nearest < edge, closeness, 0), 1)
    return jnp.where(is_stored, weights, 0)[:num_neighbours]


def _evidence(indices: jax.Array, weights: jax.Array, votes: jax.Array) -> jax.Array:
    """Return the weighted vote shares [C] of the memories [k] that vote."""
    shares = votes[indices].astype(weights.dtype)
    total = jnp.sum(shares, axis=1)
    shares = shares / jnp.maximum(total, 1)[:, None]
    has_vote = total > 0
    weights = jnp.where(has_vote, weights, 0)
    weights = jnp.where(jnp.sum(weights) > 0, weights, has_vote.astype(weights.dtype))
    whole = jnp.sum(weights)
    return jnp.sum(weights[:, None] * shares, axis=0) / jnp.where(whole > 0, whole, 1)


def blend(memory: jax.Array, x: jax.Array, rate: jax.Array) -> jax.Array:
    # In this form a memory that is x stays x, and no fused multiplication rounds it otherwise; a
    # rate of 1 must give x itself.
    return jnp.where(rate < 1, memory + rate * (x - memory), x)


def voted_labels(votes: jax.Array) -> jax.Array:
    """Return the label that each memory votes for, int32 [...]; -1 for one without votes.

    Args:
        votes: int32 [..., C], votes for each class; ties go to the lowest label.

    Example:
        >>> print(voted_labels(jnp.array([[0, 2, 1], [0, 0, 0]])))
        [ 1 -1]
    """
    return jnp.vectorize(_favourite, signature="(c)->()")(votes)


def _favourite(votes: jax.Array) -> jax.Array:
    least, label = minimum(-votes)
    return jnp.where(least < 0, label, UNLABELLED)


def pack(state: MemoryState) -> jax.Array:
    """Lay what is counted of a memory, and its favourite, side by side: one write changes it."""
    columns = [state.counts, state.stored_at, voted_labels(state.votes)]
    return jnp.concatenate([state.votes, *(column[:, None] for column in columns)], axis=1)


def unpack(
    prototypes: jax.Array, tally: jax.Array, size: jax.Array, num_seen: jax.Array
) -> MemoryState:
    """Return the state of memories whose counts ``pack`` has laid side by side."""
    return MemoryState(
        prototypes=prototypes,
        counts=tally[:, -3],
        votes=tally[:, :-3],
        stored_at=tally[:, -2],
        size=size,
        num_seen=num_seen,
    )
