"""Learning a stream that may stop anywhere, be asked, and go on."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from memjax.base import Layer
from memjax.params import check_params, has_unset
from memjax.sklearn._warnings import loses_distances
from memjax.streams import learn_block
from memjax.training import CALIBRATION_EXAMPLES, estimate

# Small, since all rows of a block that is not whole are learned again for each question.
BLOCK_SIZE = 64


class Learned(NamedTuple):
    """What a stream has come to know."""

    origin: np.ndarray  # float64 [D], from which features are measured; 0 where they are not
    params: Any
    state: Any


class HeldStream:
    """A network that learns batches of any sizes with the result of one pass over all of them.

    Blocks are cut where a single pass cuts them. So the rows after the last whole block are held
    back, and so are the first 1,000 while the origin or a number waits to be estimated from them.
    Asked meanwhile, the stream estimates both from the rows so far. It does so again, and learns
    them all anew, whenever they have grown by an eighth. When it is asked changes no answer.
    """

    def __init__(self, network: Layer, params: Any, is_measured: bool):
        check_params(network, params, may_be_unset=True)
        self.network = network
        self.is_waiting = is_measured or has_unset(params)
        self.known = Learned(np.zeros(1), params, network.init(jax.random.key(0)))
        """What is known from the rows that were learned for good."""
        self.num_met = np.zeros(network.output_shape, int)
        """Labels among those rows, by class."""
        self.is_too_far = False
        """Whether float32 has lost the distances between rows that lie far from the origin."""
        self._is_measured = is_measured
        dtype = np.float64 if is_measured else np.float32
        self.held = np.zeros((0, *network.input_shape), dtype), np.zeros(0, np.int32)
        """The rows that are held back, and their labels."""
        self._num_estimated = 0
        """How many of them numbers are estimated from while they wait."""
        self._forget_trial()

    def __getstate__(self):
        return self.__dict__ | {"_settled": None}  # it can be made again

    @property
    def num_missing(self) -> int:
        """How many rows are missing until some are learned for good."""
        return (CALIBRATION_EXAMPLES if self.is_waiting else BLOCK_SIZE) - len(self.held[1])

    def learn(self, rows: np.ndarray, labels: np.ndarray) -> None:
        """Learn rows, or hold them back: float64 features, or float32 images."""
        is_enough = len(labels) >= self.num_missing
        rows, labels = (
            np.concatenate([self.held[0], rows]),
            np.concatenate([self.held[1], labels]),
        )
        if is_enough:
            known = self._begun(rows, labels) if self.is_waiting else self.known
            num_whole = len(labels) // BLOCK_SIZE * BLOCK_SIZE
            known, met = self._after(known, rows, labels, 0, num_whole), labels[:num_whole]
            self.is_too_far |= self._is_measured and loses_distances(rows - known.origin, known)
            self.num_met = self.num_met + np.bincount(met[met >= 0], minlength=len(self.num_met))
            self.known, self.is_waiting = known, False
            rows, labels = rows[num_whole:].copy(), labels[num_whole:].copy()
            self._forget_trial()
        elif 8 * len(labels) >= 9 * self._num_estimated:
            self._num_estimated = len(labels)
        self.held, self._settled = (rows, labels), None

    def settled(self) -> Learned:
        """Return what is known from all rows; what is learned for good does not change."""
        if self._settled is None:
            rows, labels = self.held
            known, start = self.known, 0
            if self.is_waiting:
                known, num_estimated, start = self._trial
                if num_estimated != self._num_estimated:
                    num_estimated, start = self._num_estimated, 0
                    known = self._begun(rows[:num_estimated], labels[:num_estimated])
                num_whole = len(labels) // BLOCK_SIZE * BLOCK_SIZE
                known = self._after(known, rows, labels, start, num_whole)
                self._trial, start = (known, num_estimated, num_whole), num_whole
            known = self._after(known, rows, labels, start, len(labels))
            state = _consolidated(self.network, known.params, known.state)
            self._settled = known._replace(state=state)
        return self._settled

    def inputs(self, rows: np.ndarray, origin: np.ndarray) -> np.ndarray:
        """Return rows as the network takes them, float32."""
        return (rows - origin).astype(np.float32) if self._is_measured else rows

    def replace_network(self, network: Layer) -> None:
        """Go on with a network that has more classes, or asks another number of neighbours.

        While nothing is learned for good, it may have fewer classes as well.
        """
        if network.output_shape != self.num_met.shape:
            state, num_met = network.init(jax.random.key(0)), np.zeros(network.output_shape, int)
            if not self.is_waiting:
                state = _widened(self.known.state, state)
                num_met[: len(self.num_met)] = self.num_met
            self.known, self.num_met = self.known._replace(state=state), num_met
        self.network = network
        self._forget_trial()

    def _forget_trial(self) -> None:
        self._trial: tuple[Learned, int, int] = self.known, 0, 0
        self._settled: Learned | None = None

    def _begun(self, rows: np.ndarray, labels: np.ndarray) -> Learned:
        """Return the origin and the numbers that the first rows give, and an empty state."""
        first = slice(CALIBRATION_EXAMPLES)
        origin = np.median(rows[first], axis=0) if self._is_measured else self.known.origin
        inputs, labels = self.inputs(rows[first], origin), labels[first]
        # Filled up, so that one program serves any number of rows.
        inputs, some = (filled(part, CALIBRATION_EXAMPLES) for part in (inputs, labels))
        params = self.known.params
        if has_unset(params):
            params = estimate(self.network, params, inputs, some, np.int32(len(labels)))
        return Learned(origin, params, self.network.init(jax.random.key(0)))

    def _after(
        self, known: Learned, rows: np.ndarray, labels: np.ndarray, start: int, stop: int
    ) -> Learned:
        """Return what is known after some rows more."""
        if start == stop:
            return known
        state = _copied(known.state)  # it is given up block by block
        for first in range(start, stop, BLOCK_SIZE):
            cut = slice(first, min(first + BLOCK_SIZE, stop))
            length = cut.stop - first
            inputs = filled(self.inputs(rows[cut], known.origin), BLOCK_SIZE)
            some = filled(labels[cut], BLOCK_SIZE)
            state, _ = learn_block(
                self.network, known.params, state, inputs, some, np.int32(length)
            )
        return known._replace(state=state)


def filled(rows: np.ndarray, number: int) -> np.ndarray:
    """Return rows, filled up with zeros to a number of them."""
    result = np.zeros((number, *rows.shape[1:]), rows.dtype)
    result[: len(rows)] = rows
    return result


@jax.jit
def _copied(state):
    return jax.tree.map(jnp.copy, state)


@partial(jax.jit, static_argnames="network")
def _consolidated(network, params, state):
    return network.consolidate(params, state)


def _widened(old: Any, new: Any) -> Any:
    """Return a new state whose arrays begin with those of an old one."""

    def write(old, new):
        return jnp.asarray(new).at[tuple(map(slice, old.shape))].set(old)

    return jax.tree.map(write, old, new)
