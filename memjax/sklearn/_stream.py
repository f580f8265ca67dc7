"""Learning a stream that may stop anywhere, be asked, and go on."""

from typing import Any

import jax
import numpy as np

from memjax.base import Layer
from memjax.params import check_params, has_unset
from memjax.streams import fit_stream
from memjax.training import CALIBRATION_EXAMPLES, calibrate

_BLOCK_SIZE = 256


class HeldStream:
    """A network that learns batches of any sizes with the result of one pass over all of them.

    Blocks are cut where a single pass cuts them. So the examples after the last whole block are
    held back, and so are the first ones while a number waits to be calibrated from them.
    """

    def __init__(self, network: Layer, params: Any):
        check_params(network, params, may_be_unset=True)
        self.network = network
        self._params = params
        self._state = network.init(jax.random.key(0))  # after the whole blocks
        self._held = (np.zeros((0, *network.input_shape), np.float32), np.zeros(0, np.int32))
        self._settled: Any = None

    def __getstate__(self):
        return self.__dict__ | {"_settled": None}  # it can be made again

    def learn(self, inputs: np.ndarray, labels: np.ndarray) -> None:
        """Learn examples, or hold them back."""
        inputs = np.concatenate([self._held[0], inputs])
        labels = np.concatenate([self._held[1], labels])
        self._held, self._settled = (inputs, labels), None
        if len(labels) < (CALIBRATION_EXAMPLES if self._is_waiting() else _BLOCK_SIZE):
            return
        self._params = self._calibrated()
        num_whole = len(labels) // _BLOCK_SIZE * _BLOCK_SIZE
        self._state = self._learned(self._params, inputs[:num_whole], labels[:num_whole])
        self._held = inputs[num_whole:].copy(), labels[num_whole:].copy()

    def settled(self) -> tuple[Any, Any]:
        """Return the params and the state after all examples; the stream itself does not change."""
        if self._settled is None:
            params = self._calibrated()
            self._settled = params, self._learned(params, *self._held)
        return self._settled

    def _is_waiting(self) -> bool:
        return has_unset(self._params)

    def _calibrated(self) -> Any:
        if not self._is_waiting():
            return self._params
        inputs, labels = self._held
        first = slice(CALIBRATION_EXAMPLES)
        return calibrate(self.network, self._params, inputs[first], labels[first])

    def _learned(self, params: Any, inputs: np.ndarray, labels: np.ndarray) -> Any:
        starts = range(0, len(labels), _BLOCK_SIZE)
        blocks = ((inputs[i : i + _BLOCK_SIZE], labels[i : i + _BLOCK_SIZE]) for i in starts)
        state, _ = fit_stream(self.network, params, self._state, blocks, _BLOCK_SIZE)
        return state
