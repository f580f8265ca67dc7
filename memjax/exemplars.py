"""Exemplars: whole codes remembered as they are, that answer by how near an input is."""

import dataclasses
import math
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from memjax._checks import check_learned
from memjax._numerics import inner_products
from memjax.base import BlockLayer, FeatureLayer, RecruitInfo
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

    prototypes: jax.Array  # float32 [K, D]: stored inputs; zero when free
    size: jax.Array  # int32 []: memories in use
    stored_at: jax.Array  # int32 [K]: examples heard when the memory was stored, itself included
    distance: jax.Array  # float32 [K]: sum of squared distances heard in its homeostasis period
    answer: jax.Array  # float32 [K]: sum of its answers in its homeostasis period
    num_heard: jax.Array  # int32 []: examples that were not silent


@dataclasses.dataclass(frozen=True)
class Exemplars(FeatureLayer, BlockLayer):
    r"""A bank that keeps the first ``capacity`` inputs and answers by a radial function.

    With the squared distance $d_k = |x - m_k|^2$ and its mean $\bar d_k$ over what was heard since
    memory $k$ was stored, the first ``homeostasis_period`` inputs of it, the code is

    $$a_k - \bar a_k, \qquad a_k = \exp\left(-\frac{d_k}{s\, \bar d_k}\right)$$

    with the spread $s$ and the mean $\bar a_k$ over the same inputs. The code of an example is made
    before it is stored, so no memory responds to itself. An input of zeros is silence: it is not
    stored, not counted, and its code is zero. No label is used.

    A memory that is not stored yet says 0, as one that is no more like the input than usual. So a
    readout does not learn that the classes that came first are those without answers.

    A linear readout that sees such memories beside its own input can weigh *combinations* of what
    the neurons below say.

    Attributes:
        num_features: D, length of an input.
        capacity: K, memories there is room for.

    Raises:
        ValueError: an attribute is not positive.

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
    """

    params_kind = ExemplarsParams

    num_features: int
    capacity: int

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
        # The bank takes what it hears in order, until it is full.
        slots = state.size + jnp.cumsum(is_heard, dtype=jnp.int32) - 1
        is_stored = is_heard & (slots < self.capacity)
        slots = jnp.where(is_stored, slots, self.capacity)
        prototypes = state.prototypes.at[slots].set(xs, mode="drop")
        stored_at = state.stored_at.at[slots].set(heard, mode="drop")
        size = state.size + jnp.sum(is_stored, dtype=jnp.int32)

        distances = _squared_distances(xs, prototypes)
        is_known = (lax.iota(jnp.int32, self.capacity) < size)[None, :]
        is_known = is_known & (stored_at[None, :] < heard[:, None]) & is_heard[:, None]
        number = (heard[:, None] - stored_at[None, :]).astype(jnp.float32)
        is_counted = is_known & (number <= params.homeostasis_period)
        sums = state.distance[None, :] + jnp.cumsum(jnp.where(is_counted, distances, 0), axis=0)
        answers = _answers(params, distances, sums, number)
        told = state.answer[None, :] + jnp.cumsum(jnp.where(is_counted, answers, 0), axis=0)
        answers = answers - _mean(params, told, number)
        learned = ExemplarsState(prototypes, size, stored_at, sums[-1], told[-1], heard[-1])
        infos = RecruitInfo(is_stored.astype(jnp.int32))
        return learned, jnp.where(is_known, answers, 0), infos

    def check_values(self, state):
        """Raise unless the bank can have learned what it holds; see ``Layer.check_values``."""
        super().check_values(state)
        check_learned("Exemplars.num_heard", state.num_heard, 0)
        most = min(self.capacity, int(state.num_heard))
        check_learned("Exemplars.size", state.size, 0, most)
        check_learned("Exemplars.stored_at", state.stored_at, 0, int(state.num_heard))
        check_learned("Exemplars.distance", state.distance, 0)
        check_learned("Exemplars.answer", state.answer, 0)
        for name in ("prototypes", "stored_at", "distance", "answer"):
            free = getattr(state, name)[int(state.size) :]
            check_learned(f"Exemplars.{name} of free rows", free, 0, 0)

    def num_memories(self, state):
        """Return how many memories are in use, int32 []."""
        return state.size

    def recall_block(self, params, state, xs):
        """Return the answers [B, K] to a block without writing."""
        distances = _squared_distances(xs, state.prototypes)
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


def _squared_distances(xs: jax.Array, prototypes: jax.Array) -> jax.Array:
    """Return [B, K] for rows [B, D] and [K, D]."""
    lengths = jnp.sum(jnp.square(xs), axis=1), jnp.sum(jnp.square(prototypes), axis=1)
    products = inner_products(xs, prototypes)
    return jnp.maximum(lengths[0][:, None] + lengths[1][None, :] - 2 * products, 0)
