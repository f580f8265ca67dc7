"""The mirror: a network that sees every image twice."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from memjax._checks import check_kind
from memjax._entry import classes_of
from memjax.base import Bank, Layer, Lesson, Part


@dataclasses.dataclass(frozen=True)
class Mirrored(Layer):
    """A network that sees every image twice, as it is and in the mirror.

    It learns from both, one after the other, and its evidence is the average of both. The info and
    the code of learning are those of the image as it is, before the mirror image is learned. This
    is one pass over the data, but two lessons per example. It assumes that the mirror image of a
    thing is of the same class, which holds for photographs and not for digits.

    Params and state are those of the network.

    Attributes:
        network: takes [H, W, channels].

    Raises:
        ValueError: a network that takes no images.

    Example:
        >>> from memjax.networks import memory_network
        >>> network, params = memory_network((8, 8, 1), num_classes=10, capacity=100)
        >>> Mirrored(network).output_shape
        (10,)
    """

    network: Layer

    def __post_init__(self):
        check_kind("network", self.network, Layer, "a memjax layer")
        if len(self.network.input_shape) != 3:
            raise ValueError(
                "network: expected one that takes images [H, W, channels], got one that takes "
                f"{list(self.network.input_shape)}."
            )

    @property
    def input_shape(self) -> tuple[int, ...]:
        """[H, W, channels]."""
        return self.network.input_shape

    @property
    def output_shape(self) -> tuple[int, ...]:
        """What the network hands on."""
        return self.network.output_shape

    @property
    def num_classes(self) -> int | None:
        """C of the network; None when it does not know it."""
        return classes_of(self.network)

    def parts(self, params, state):
        """Return the network, with its params and state."""
        return (Part(self.network, params, state),)

    def default_params(self) -> Any:
        """Return the network's default params."""
        return self.network.default_params()

    def init(self, key: jax.Array) -> Any:
        """Return the network's first state."""
        return self.network.init(key)

    def step(self, params, state, x, label):
        """Learn from one image and its mirror image; see ``Layer.step``."""
        state, code, info = self.network.step(params, state, x, label)
        state, _, _ = self.network.step(params, state, x[:, ::-1], label)
        return state, code, info

    def step_block(self, params, state, xs, labels, length=None):
        """Learn from a block and its mirror images, in turns; see ``Layer.step_block``."""
        pairs = jnp.stack([xs, xs[:, :, ::-1]], axis=1).reshape(-1, *xs.shape[1:])
        length = None if length is None else 2 * length
        state, codes, infos = self.network.step_block(
            params, state, pairs, jnp.repeat(labels, 2), length
        )
        return state, codes[::2], jax.tree.map(lambda leaf: leaf[::2], infos)

    def recall(self, params, state, x):
        """Return the average evidence of one image and its mirror image without writing."""
        return self.recall_block(params, state, x[None])[0]

    def recall_block(self, params, state, xs):
        """Return the average evidence of a block and its mirror images without writing."""
        seen = self.network.recall_block(params, state, xs)
        return (seen + self.network.recall_block(params, state, xs[:, :, ::-1])) / 2

    def calibrate(self, params, xs, labels, length=None):
        """Calibrate the network on the images as they are."""
        return self.network.calibrate(params, xs, labels, length)

    def consolidate(self, params, state):
        """Consolidate the network."""
        return self.network.consolidate(params, state)

    def novelty_block(self, params, state, xs):
        """Return the network's scores [B, M] of the images, then of their mirror images."""
        views = xs, xs[:, :, ::-1]
        scores = [self.network.novelty_block(params, state, view) for view in views]
        return jnp.concatenate(scores, axis=1)

    def banks(self, params, state, xs=None) -> tuple[Bank, ...]:
        """Return the network's banks twice: with the images as they are, then with mirror images.

        Without images they are returned once.
        """
        banks = self.network.banks(params, state, xs)
        if xs is not None:
            banks += self.network.banks(params, state, xs[:, :, ::-1])
        return tuple(bank._replace(lesson=partial(_lesson, bank.lesson)) for bank in banks)


def _lesson(lesson: Callable[[int], Lesson], number: int) -> Lesson:
    """Return a lesson of the network inside, which has two for each example."""
    example, is_mirrored = lesson(number)
    return Lesson(example // 2, is_mirrored != bool(example % 2))
