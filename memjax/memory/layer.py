"""The memory network's layer: memories that are stored once and adjusted, one example at a time."""

import dataclasses
from functools import partial
from typing import Any, Self

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import Mesh

from memjax._checks import check_bool, check_choice, check_kind, check_positive, check_values
from memjax._novelty import NUM_BINS, share_nearer
from memjax._numerics import minimum, one_member_at_a_time
from memjax.base import Bank, Layer, MemoryInfo
from memjax.devices import MEMORY_AXIS
from memjax.distances import Distance, squared_euclidean
from memjax.memory._recall import activations, evidence, find_nearest, vote_weights
from memjax.memory._rule import (
    Example,
    Rule,
    decide,
    remoteness,
    size_after,
    voter_distances,
    write_row,
)
from memjax.memory._sharded import ShardedBank
from memjax.memory._state import (
    NUM_COUNTERS,
    MemoryParams,
    MemoryState,
    check_bank,
    counters_from,
    state_after,
    voted_labels,
)
from memjax.memory._table import (
    Block,
    all_distances,
    column,
    distances_to,
    learn_example,
    make_table,
)
from memjax.params import is_unset


@dataclasses.dataclass(frozen=True)
class MemoryLayer(Layer):
    r"""A bank of memories that learns in one pass: winner, surprise, plasticity, votes.

    For one example $(x, y)$ with memories $m_k$, each the mean of $u_k$ examples, the distances are
    $d_k = d(x, m_k) \, 5 u_k / (4 u_k + 1)$: a single example is as far as it is, the mean of many
    counts as a quarter farther. With the winner $w = \arg\min_k d_k$ (ties go to the lowest
    index):

    * the example is a *surprise* if nothing is stored, or if $d_w$ is over ``novelty_threshold``;
    * it is a *mistake* if $y$ is known and $w$ has met another label more often. With
      ``supervised_growth`` a mistake is a surprise if $w$ has met $y$ before, or if $y$ is *rare*:
      if fewer than half of its share of the memories in use, $n / C$, vote for it. The example must
      differ from $w$: at $d_w = 0$ there is nothing to store;
    * a surprise is stored as a new memory, $m = x$, with count 1 and one vote for $y$;
    * when the bank is full, ``on_full`` decides what a surprise does. With ``"adapt"`` the nearest
      memory that votes for $y$ learns it (the winner, if there is none), but a mistake overwrites
      the least useful memory if fewer than $n / C$ vote for $y$. That is the memory with the fewest
      wins per example since it was stored. With ``"replace"`` every surprise overwrites the least
      useful memory, and with ``"ignore"`` it is dropped;
    * otherwise the winner learns:
      $m_w \leftarrow (1 - \eta) m_w + \eta x$ with
      $\eta = \max(1 / (n_w + 1), \text{plasticity floor})$, $n_w \leftarrow n_w + 1$, and one more
      vote for $y$. Unless $d_w = 0$, also $u_w \leftarrow u_w + 1$: equal examples average nothing.

    A label of -1 is unknown: it counts no vote and is no mistake. A memory votes for the label that
    it has met most often. If several are tied, it votes for each of them, contradicts none, and
    answers with the lowest.

    The code is class evidence [C]. Of $n$ memories the $j = \min(k, n / 2)$ nearest vote, at least
    one. Each gives its shares of votes. With $t_i$ votes it weighs
    $(1 - d_i / d_{j+1}) \, t_i / (t_i + 2)$, and the sum is divided by the sum of the weights.
    Voters that would all weigh 0 count alike. If none of them has a vote, the $k$ nearest that have
    one count alike, and the evidence is zero if there is none. A memory at distance 0 with at least
    $k$ votes answers alone: the $k$ nearest examples are its own. With ``output="activations"`` the
    code is, for each memory, how much nearer than the average memory it is,
    $\max(0, \bar d - d_k)$, [K].

    Attributes:
        num_features: D, length of an input.
        num_classes: C.
        capacity: K, the number of memories there is room for.
        distance: one of ``memjax.distances``.
        supervised_growth: whether a mistake can be a surprise.
        on_full: "adapt", "replace" or "ignore".
        num_neighbours: k, how many memories vote in recall at most.
        output: "evidence" or "activations".
        mesh: devices that the memories lie over, as ``memjax.devices.memory_mesh`` gives them; None
            for one device. It changes where the memories lie, not what is learned, and it is not
            saved.

    Raises:
        ValueError: an attribute is out of its range, the capacity is no multiple of the number of
            devices, or a bank over devices is asked for activations.

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

    params_kind = MemoryParams

    num_features: int
    num_classes: int
    capacity: int
    distance: Distance = squared_euclidean
    supervised_growth: bool = True
    on_full: str = "adapt"
    num_neighbours: int = 7
    output: str = "evidence"
    mesh: Mesh | None = dataclasses.field(default=None, metadata={"saved": False})

    def __post_init__(self):
        for name in ("num_features", "num_classes", "capacity", "num_neighbours"):
            check_positive(name, getattr(self, name))
        check_kind("distance", self.distance, Distance, "one of memjax.distances")
        check_bool("supervised_growth", self.supervised_growth)
        check_choice("on_full", self.on_full, ("adapt", "replace", "ignore"))
        check_choice("output", self.output, ("evidence", "activations"))
        if self.mesh is not None:
            self._check_mesh(self.mesh)

    def __getstate__(self):
        if self.mesh is not None:
            raise TypeError(
                "mesh: devices cannot be pickled; pickle the layer without them, and lay it over "
                "devices with memjax.shard again."
            )
        return self.__dict__

    def _check_mesh(self, mesh: Mesh) -> None:
        check_kind("mesh", mesh, Mesh, "what memjax.devices.memory_mesh returns")
        if mesh.axis_names != (MEMORY_AXIS,):
            raise ValueError(f"mesh: expected one axis {MEMORY_AXIS!r}, got {mesh.axis_names}.")
        if self.capacity % mesh.size:
            raise ValueError(
                f"capacity: expected a multiple of the {mesh.size} devices, got {self.capacity}."
            )
        if self.output != "evidence":
            raise ValueError(
                f'output: expected "evidence" of a bank over devices, got {self.output!r}.'
            )

    @property
    def input_shape(self) -> tuple[int, ...]:
        """[D]."""
        return (self.num_features,)

    @property
    def output_shape(self) -> tuple[int, ...]:
        """[C] class evidence, or [K] activations."""
        return (self.num_classes if self.output == "evidence" else self.capacity,)

    def init(self, key: jax.Array) -> MemoryState:
        """Return an empty bank; ``key`` is not used, as every memory comes from the data."""
        del key
        k, c = self.capacity, self.num_classes

        def make():
            return MemoryState(
                prototypes=jnp.zeros((k, self.num_features), jnp.float32),
                counts=jnp.zeros((k,), jnp.int32),
                averaged=jnp.zeros((k,), jnp.int32),
                votes=jnp.zeros((k, c), jnp.int32),
                stored_at=jnp.zeros((k,), jnp.int32),
                size=jnp.zeros((), jnp.int32),
                num_seen=jnp.zeros((), jnp.int32),
                distance_counts=jnp.zeros((NUM_BINS,), jnp.int32),
            )

        if self._sharded is None:
            return make()
        return jax.jit(make, out_shardings=self._sharded.shardings())()

    def step(
        self, params: MemoryParams, state: MemoryState, x: jax.Array, label: jax.Array
    ) -> tuple[MemoryState, jax.Array, MemoryInfo]:
        """Learn from one example [D]; see ``Layer.step``."""
        if self.mesh is not None:
            state, codes, infos = self.step_block(params, state, x[None], label[None])
            return state, codes[0], jax.tree.map(lambda leaf: leaf[0], infos)
        distances = self._distances(state, x)
        counters = counters_from(state)
        write, info, _ = decide(
            self._rule, params, counters,
            Example(label, state.num_seen, is_real=True, size=state.size, free=state.size),
            minimum(distances),
            lambda label: minimum(voter_distances(counters, label, distances)),
        )  # fmt: skip
        prototypes, counters, far = write_row(
            self.distance, state.prototypes, counters, write, info.winner, x
        )
        info = info._replace(distance=far)
        size = size_after(self._rule, state.size, write)
        infos = jax.tree.map(lambda leaf: leaf[None], info)
        new_state = state_after(state, prototypes, counters, size, infos, 1)
        return new_state, self._code(distances, state.votes, state.size), info

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
        example changes one memory, and so one row of that table. The new row follows from the old
        one and from the distances between the block's examples, with no pass over the features. The
        memories are written by the same arithmetic as in ``step``. As long as rounding decides no
        winner, the result is the same to the last bit.
        """
        count = jnp.asarray(xs.shape[0] if length is None else length, jnp.int32)
        xs = _without_filling(xs, count)
        if self._sharded is not None:
            return self._sharded.step_block(params, state, xs, labels, count)
        return one_member_at_a_time(self._learn_block)(params, state, xs, labels, count)

    def _learn_block(
        self,
        params: MemoryParams,
        state: MemoryState,
        xs: jax.Array,
        labels: jax.Array,
        count: jax.Array,
    ) -> tuple[MemoryState, jax.Array, MemoryInfo]:
        distances = all_distances(self.distance, state.prototypes, state.averaged, state.size, xs)
        block = Block(xs, self.distance.pairwise(xs, xs))

        def learn(carry, index):
            table, size = carry
            found = column(table.distances, index, 0, self.capacity)
            code = self._code(found, table.counters[:, :-NUM_COUNTERS], size)
            example = Example(labels[index], state.num_seen + index, index < count, size, size)
            table, write, info, _ = learn_example(
                self._rule, self.distance, params, table, block, index, example
            )
            return (table, size_after(self._rule, size, write)), (code, info)

        carry = make_table(state.prototypes, counters_from(state), distances), state.size
        indices = lax.iota(jnp.int32, xs.shape[0])
        (table, size), (codes, infos) = lax.scan(learn, carry, indices)
        new_state = state_after(state, table.prototypes, table.counters, size, infos, count)
        return new_state, codes, infos

    def recall(self, params: MemoryParams, state: MemoryState, x: jax.Array) -> jax.Array:
        """Return the code of one input [D] without writing."""
        if self.mesh is not None:
            return self.recall_block(params, state, x[None])[0]
        return self._code(self._distances(state, x), state.votes, state.size)

    def recall_block(self, params: MemoryParams, state: MemoryState, xs: jax.Array) -> jax.Array:
        """Return the codes of inputs [B, D] by matrix products; equal up to rounding."""
        del params
        if self._sharded is not None:
            return self._sharded.recall_block(state, xs)
        if self.output == "activations":
            table = distances_to(self.distance, state.prototypes, state.averaged, state.size, xs)
            return jax.vmap(activations, in_axes=1)(table)
        distances, indices = self.nearest(state, xs, self.num_neighbours + 1)
        of_one = partial(evidence, num_neighbours=self.num_neighbours, size=state.size)
        return jax.vmap(of_one)(distances, state.votes[indices])

    @partial(jax.jit, static_argnames=("self", "number"))
    def nearest(
        self, state: MemoryState, xs: jax.Array, number: int
    ) -> tuple[jax.Array, jax.Array]:
        """Return the memories nearest to each input, the nearest first; ties: the lowest index.

        The bank is read tile by tile. Beside the result, only the distances to one tile are held.

        Args:
            state: what the layer has learned.
            xs: inputs [B, D].
            number: how many memories are asked for; n is this, and K at most.

        Returns:
            Distances $d_k$ float32 [B, n], inf for a free row, and indices int32 [B, n].

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
        if self._sharded is not None:
            return self._sharded.nearest(state, xs, number)
        return find_nearest(self.distance, state.prototypes, state.averaged, state.size, xs, number)

    def calibrate(
        self,
        params: MemoryParams,
        xs: jax.Array,
        labels: jax.Array,
        length: jax.Array | None = None,
    ) -> MemoryParams:
        """Return ``params`` with a threshold that is still "auto" estimated from inputs [n, D].

        The estimate is the median distance from an input to its nearest neighbour among the others
        (0 for a single input), which a few outliers do not move. An example is new, whatever its
        label, if it lies farther from all memories than those examples lie from each other.
        """
        del labels
        count = jnp.asarray(xs.shape[0] if length is None else length, jnp.int32)
        estimate = one_member_at_a_time(self._usual_distance)(jnp.asarray(xs, jnp.float32), count)
        threshold = params.novelty_threshold
        return params._replace(
            novelty_threshold=jnp.where(is_unset(threshold), estimate, threshold)
        )

    def _usual_distance(self, xs: jax.Array, count: jax.Array) -> jax.Array:
        """Return the median distance of the first inputs to their nearest neighbours, []."""
        xs = _without_filling(xs, count)
        between = self.distance.pairwise(xs, xs)
        is_real = lax.iota(jnp.int32, xs.shape[0]) < count
        is_other = is_real[:, None] & ~jnp.eye(xs.shape[0], dtype=bool)
        nearest = jnp.min(jnp.where(is_other, between, jnp.inf), axis=0)
        nearest = jnp.where(jnp.isinf(nearest), 0, nearest)
        ascending = jnp.sort(jnp.where(is_real, nearest, jnp.inf))
        return (ascending[(count - 1) // 2] + ascending[count // 2]) / 2

    def check_values(self, state: MemoryState) -> None:
        """Raise unless the bank can have learned what it holds; see ``Layer.check_values``."""
        check_bank(state)

    def num_memories(self, state: MemoryState) -> jax.Array:
        """Return how many memories are in use, int32 []."""
        return state.size

    def banks(
        self, params: MemoryParams, state: MemoryState, xs: jax.Array | None = None
    ) -> tuple[Bank, ...]:
        """Return this bank, unless its code is no answer."""
        return (Bank(self, params, state, xs, None),) if self.output == "evidence" else ()

    def explain(self, params: MemoryParams, state: MemoryState, xs: jax.Array) -> Any:
        """Return which memories vote on inputs [B, D], the nearest first.

        Returns:
            Indices int32 [B, k], distances $d_k$ float32 [B, k] (inf for a free row), weights of
            the votes float32 [B, k], and the labels voted for int32 [B, k], -1 for none.
        """
        del params
        k = self.num_neighbours
        distances, indices = self.nearest(state, xs, k + 1)
        votes = state.votes[indices]
        weigh = partial(vote_weights, num_neighbours=k, size=state.size)
        weights = jax.vmap(weigh)(distances, jnp.sum(votes, axis=2, dtype=jnp.int32))
        labels = voted_labels(votes[:, :k])
        return indices[:, :k], distances[:, :k], weights, labels

    def novelty(self, params: MemoryParams, state: MemoryState, xs: jax.Array) -> jax.Array:
        """Return the share of the learned examples that were nearer to their memory, float32 [B].

        1 minus it is the share of those that were farther from the memory that was nearest to them.
        """
        del params
        distances, _ = self.nearest(state, xs, 1)
        return share_nearer(state.distance_counts, distances[:, 0])

    def shard(self, mesh: Mesh) -> Self:
        """Return the layer with its memories laid over the devices of a mesh."""
        return dataclasses.replace(self, mesh=mesh)

    @property
    def _rule(self) -> Rule:
        return Rule(self.capacity, self.supervised_growth, self.on_full)

    @property
    def _sharded(self) -> ShardedBank | None:
        """Return the bank over its devices; None if there is one device."""
        if self.mesh is None:
            return None
        return ShardedBank(
            self._rule, self.distance, self.num_neighbours, self.num_classes, self.mesh
        )

    def _distances(self, state: MemoryState, x: jax.Array) -> jax.Array:
        distances = self.distance.to_memories(x, state.prototypes) * remoteness(state.averaged)
        is_free = lax.iota(jnp.int32, self.capacity) >= state.size
        return jnp.where(is_free, jnp.inf, distances)

    def _code(self, distances: jax.Array, votes: jax.Array, size: jax.Array) -> jax.Array:
        """Return the code of an input from its distances to all memories [K], and their votes."""
        if self.output == "activations":
            return activations(distances)
        number = min(self.num_neighbours + 1, self.capacity)
        negated, indices = lax.top_k(-distances, number)
        return evidence(-negated, votes[indices], self.num_neighbours, size)


def _without_filling(xs: jax.Array, count: jax.Array) -> jax.Array:
    """Return the rows, with zeros for those beyond the real ones, which say nothing of the data."""
    return jnp.where(lax.iota(jnp.int32, xs.shape[0])[:, None] < count, xs, 0)
