"""Exemplars: whole codes remembered as they are, that answer by how near an input is."""

import dataclasses
import math
from functools import partial
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from memjax._checks import check_learned, check_positive, check_whole
from memjax._numerics import matmul, run_if
from memjax.base import BlockLayer, FeatureLayer, RecruitInfo
from memjax.distances import origin_of, squared_distances
from memjax.params import Number, exportable

__all__ = ["Exemplars", "ExemplarsParams", "ExemplarsState"]


@exportable
class ExemplarsParams(NamedTuple):
    """The numbers of exemplars that one may sweep, each a float32 scalar."""

    spread: Annotated[
        jax.Array, Number(0.25, 1e-6, math.inf, "width of an answer, in mean squared distances")
    ]
    homeostasis_period: Annotated[
        jax.Array,
        Number(math.inf, 1, math.inf, "inputs heard by which a memory adapts its width"),
    ]


@exportable
class ExemplarsState(NamedTuple):
    """What exemplars have learned; ``K`` memories of ``D`` features."""

    prototypes: jax.Array  # float32 [K, D]: inputs, zero when free; or mixtures of the first ones
    size: jax.Array  # int32 []: memories in use
    stored_at: jax.Array  # int32 [K]: examples heard when the memory was stored, itself included
    distance: jax.Array  # float32 [K]: sum of squared distances heard in its homeostasis period
    answer: jax.Array  # float32 [K]: sum of its answers in its homeostasis period
    num_heard: jax.Array  # int32 []: examples that were not silent


@dataclasses.dataclass(frozen=True)
class Exemplars(FeatureLayer, BlockLayer):
    r"""A bank of whole inputs, or of mixtures of them, that answers by a radial function.

    It keeps the first ``capacity`` inputs as they are, one after another. With ``num_mixed``, M,
    each memory is a mixture of the first M inputs $x_i$ instead,

    $$m_k = \frac{1}{\sqrt M} \sum_{i=1}^{M} g_{ki}\, x_i ,$$

    with $g_{ki}$ drawn once from a standard normal distribution. If the inputs have the mean 0, as
    those of a ``Decorrelation`` have, the mixtures vary as the inputs do. All of them are known at
    once, when M inputs have been heard. This matters if classes come one after another: memories
    that are stored while the first classes pass leave a readout in doubt about these classes.

    With the squared distance $d_k = |x - m_k|^2$ and its mean $\bar d_k$ over what was heard since
    memory $k$ was stored, the first ``homeostasis_period`` inputs of it, the code is

    $$a_k - \bar a_k, \qquad a_k = \exp\left(-\frac{d_k}{s\, \bar d_k}\right)$$

    with the spread $s$ and the mean $\bar a_k$ over the same inputs. The code of an example is made
    before it is stored, so no memory responds to itself. An input of zeros is silence: it is not
    stored, not mixed, not counted, and its code is zero. No label is used.

    A memory that is not stored yet says 0, as one that is no more like the input than usual. So a
    readout does not learn that the classes that came first are those without answers.

    A linear readout that sees such memories beside its own input can weigh *combinations* of what
    the neurons below say.

    Attributes:
        num_features: D, length of an input.
        capacity: K, memories there is room for.
        num_mixed: M, the first inputs that each memory mixes; None for memories of one input each.
        seed: draws the mixtures.

    Raises:
        ValueError: an attribute is not positive, or the seed is not a whole number from 0.

    Source: Broomhead & Lowe (1988), "Multivariable functional interpolation and adaptive
    networks"; exemplars as in Nosofsky (1986), "Attention, similarity, and the
    identification-categorization relationship".

    Example:
        >>> layer = Exemplars(num_features=2, capacity=2)
        >>> params, state = layer.params(), layer.init(jax.random.key(0))
        >>> xs = jnp.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.1]])
        >>> state, _, _ = layer.step_block(params, state, xs, jnp.full(3, -1))
        >>> print(layer.recall(params, state, jnp.array([1.0, 0.1])).round(2))
        [0.47 0.  ]
        >>> layer = Exemplars(num_features=2, capacity=4, num_mixed=2)
        >>> state, _, infos = layer.step_block(params, layer.init(None), xs, jnp.full(3, -1))
        >>> print(infos.memories_added)
        [0 4 0]
    """

    params_kind = ExemplarsParams

    num_features: int
    capacity: int
    num_mixed: int | None = None
    seed: int = 0

    def __post_init__(self):
        super().__post_init__()
        if self.num_mixed is not None:
            check_positive("num_mixed", self.num_mixed)
        check_whole("seed", self.seed)

    def init(self, key: jax.Array) -> ExemplarsState:
        """Return an empty bank; ``key`` is not used."""
        del key
        return ExemplarsState(
            prototypes=jnp.zeros((self.capacity, self.num_features), jnp.float32),
            size=jnp.zeros((), jnp.int32),
            stored_at=jnp.zeros((self.capacity,), jnp.int32),
            distance=jnp.zeros((self.capacity,), jnp.float32),
            answer=jnp.zeros((self.capacity,), jnp.float32),
            num_heard=jnp.zeros((), jnp.int32),
        )

    def step_block(self, params, state, xs, labels, length=None):
        """Learn from a block by one product; see ``Layer.step_block``."""
        del labels
        count = xs.shape[0] if length is None else length
        is_heard = jnp.any(xs != 0, axis=1) & (lax.iota(jnp.int32, xs.shape[0]) < count)
        heard = state.num_heard + jnp.cumsum(is_heard, dtype=jnp.int32)
        remember = self._store if self.num_mixed is None else partial(self._mix, self.num_mixed)
        prototypes, stored_at, added = remember(state, xs, is_heard, heard)
        size = state.size + jnp.sum(added, dtype=jnp.int32)

        distances = _distances(xs, prototypes)
        is_known = (lax.iota(jnp.int32, self.capacity) < size)[None, :]
        is_known = is_known & (stored_at[None, :] < heard[:, None]) & is_heard[:, None]
        number = (heard[:, None] - stored_at[None, :]).astype(jnp.float32)
        is_counted = is_known & (number <= params.homeostasis_period)
        sums = state.distance[None, :] + jnp.cumsum(jnp.where(is_counted, distances, 0), axis=0)
        answers = _answers(params, distances, sums, number)
        told = state.answer[None, :] + jnp.cumsum(jnp.where(is_counted, answers, 0), axis=0)
        answers = answers - _mean(params, told, number)
        learned = ExemplarsState(prototypes, size, stored_at, sums[-1], told[-1], heard[-1])
        return learned, jnp.where(is_known, answers, 0), RecruitInfo(added)

    def _store(self, state, xs, is_heard, heard):
        """Take what is heard in order, until the bank is full.

        Return the memories, how many inputs had been heard when each was stored, and how many
        memories each row added.
        """
        slots = state.size + jnp.cumsum(is_heard, dtype=jnp.int32) - 1
        is_stored = is_heard & (slots < self.capacity)
        slots = jnp.where(is_stored, slots, self.capacity)
        prototypes = state.prototypes.at[slots].set(xs, mode="drop")
        stored_at = state.stored_at.at[slots].set(heard, mode="drop")
        return prototypes, stored_at, is_stored.astype(jnp.int32)

    def _mix(self, num_mixed: int, state, xs, is_heard, heard):
        """Add the first inputs to all memories; return what ``_store`` returns."""
        is_mixed = is_heard & (heard <= num_mixed)

        def add(is_mixed, heard, xs):
            # The number of an input decides its weights, so they do not depend on the blocks.
            key = jax.random.key(self.seed, impl="threefry2x32")
            keys = jax.vmap(jax.random.fold_in, (None, 0))(key, heard)
            draw = partial(jax.random.normal, shape=(self.capacity,), dtype=jnp.float32)
            weights = jax.vmap(draw)(keys)
            rows = jnp.where(is_mixed[:, None], xs, 0)
            return state.prototypes + matmul(weights.T, rows) / math.sqrt(num_mixed)

        any_mixed = jnp.any(is_mixed)
        prototypes = run_if(any_mixed, add, state.prototypes, is_mixed, heard, xs)
        is_last = is_mixed & (heard == num_mixed)
        stored_at = jnp.where(jnp.any(is_last), num_mixed, state.stored_at)
        return prototypes, stored_at, is_last.astype(jnp.int32) * self.capacity

    def check_values(self, state):
        """Raise unless the bank can have learned what it holds; see ``Layer.check_values``."""
        super().check_values(state)
        check_learned("Exemplars.num_heard", state.num_heard, 0)
        num_heard, names = int(state.num_heard), ["stored_at", "distance", "answer"]
        if self.num_mixed is None:
            names.append("prototypes")
            most = min(self.capacity, num_heard)
        else:
            most = self.capacity if num_heard >= self.num_mixed else 0
        check_learned("Exemplars.size", state.size, 0, most)
        check_learned("Exemplars.stored_at", state.stored_at, 0, num_heard)
        check_learned("Exemplars.distance", state.distance, 0)
        check_learned("Exemplars.answer", state.answer, 0)
        for name in names:
            free = getattr(state, name)[int(state.size) :]
            check_learned(f"Exemplars.{name} of free rows", free, 0, 0)

    def num_memories(self, state):
        """Return how many memories are in use, int32 []."""
        return state.size

    def recall_block(self, params, state, xs):
        """Return the answers [B, K] to a block without writing."""
        distances = _distances(xs, state.prototypes)
        number = (state.num_heard - state.stored_at).astype(jnp.float32)
        is_known = (lax.iota(jnp.int32, self.capacity) < state.size) & (number > 0)
        is_known = is_known[None, :] & jnp.any(xs != 0, axis=1)[:, None]
        answers = _answers(params, distances, state.distance[None, :], number[None, :])
        answers = answers - _mean(params, state.answer[None, :], number[None, :])
        return jnp.where(is_known, answers, 0)


def _answers(params, distances, sums, number):
    mean = _mean(params, sums, number)
    return jnp.exp(-distances / jnp.maximum(params.spread * mean, 1e-37))


def _mean(params, sums, number):
    return sums / jnp.clip(number, 1, params.homeostasis_period)


def _distances(xs: jax.Array, prototypes: jax.Array) -> jax.Array:
    """Return the squared distances [B, K]."""
    return squared_distances(prototypes, xs, *origin_of(prototypes))
