"""What the page knows: a network and what it has learned, with names, pictures, and room."""

import dataclasses
import functools
import itertools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from memjax.base import Layer, replace_layers
from memjax.memory import MemoryParams, resize, voted_labels
from memjax.params import like

_CLASSES_AT_ONCE = 32  # room grows by this many, so that a new class needs no new program
_MEMORIES_AT_ONCE = 1024
_serials = itertools.count()


class Picture(NamedTuple):
    """The image that a memory was stored from; no two pictures of a process have one serial."""

    serial: int
    pixels: np.ndarray  # uint8 [H, W, channels]


class Source(NamedTuple):
    """Where further examples come from."""

    dataset: str
    split: str
    seed: int


class Knowledge(NamedTuple):
    """A network and what it has learned, with names for its classes and pictures of its memories.

    The network has room for more classes than have names.
    """

    network: Layer
    params: Any
    state: Any
    names: tuple[str, ...]
    pictures: Mapping[int, Picture]  # by the number of examples seen when the memory was stored
    about: str  # what was learned, in words
    source: Source | None
    position: int = 0  # examples of the source that were learned
    hits: np.ndarray = np.zeros(0, bool)  # which of them were answered right before


class Banks(NamedTuple):
    """The memories in use of all banks, one after the other."""

    banks: np.ndarray  # int [n]: which bank
    rows: np.ndarray  # int [n]: which memory of it
    numbers: np.ndarray  # int [n]: examples seen when the memory was stored
    labels: np.ndarray  # int [n]: the label that it votes for; -1 for none
    counts: np.ndarray  # int [n]: examples that it has learned
    votes: np.ndarray  # int [n, C]
    prototypes: np.ndarray  # float32 [n, D]


def picture(pixels: np.ndarray) -> Picture:
    """Return a picture with a serial of its own."""
    return Picture(next(_serials), pixels)


def banks(knowledge: Knowledge) -> Banks:
    """Return the memories in use; none for a network whose answer does not come from memories."""
    found = []
    for index, bank in enumerate(knowledge.network.banks(knowledge.params, knowledge.state)):
        size = int(bank.state.size)
        labels = _voted_labels(bank.state.votes)
        parts = bank.state.stored_at, labels, bank.state.counts, bank.state.votes
        parts = *parts, bank.state.prototypes
        found.append(
            (np.full(size, index), np.arange(size), *(np.asarray(p)[:size] for p in parts))
        )
    if not found:
        return Banks(*(np.zeros(0, int) for _ in range(5)), *(np.zeros((0, 0)) for _ in range(2)))
    return Banks(*(np.concatenate(parts) for parts in zip(*found, strict=True)))


_voted_labels = jax.jit(voted_labels)


def with_room(knowledge: Knowledge, num_names: int = 0, num_memories: int = 1) -> Knowledge:
    """Return the same knowledge with room for a number of names and for some more memories."""
    network, params, state = knowledge[:3]
    if not can_learn(network):
        return knowledge
    (num_classes,) = network.output_shape
    capacity, sizes = _capacity(knowledge), {}
    if (wanted := max(num_names, len(knowledge.names) + 1)) > num_classes:
        sizes["num_classes"] = _CLASSES_AT_ONCE * -(-wanted // _CLASSES_AT_ONCE)
    used = np.bincount(banks(knowledge).banks, minlength=1).max()
    if used + num_memories > capacity:
        sizes["capacity"] = int(used) + _MEMORIES_AT_ONCE
    if not sizes:
        return knowledge
    network, params, state = resize(network, params, state, **sizes)
    return knowledge._replace(network=network, params=params, state=state)


def has_one_bank(knowledge: Knowledge) -> bool:
    """Return whether single memories can be forgotten."""
    return len(knowledge.network.banks(knowledge.params, knowledge.state)) == 1


@functools.cache
def can_learn(network: Layer) -> bool:
    """Return whether a network learns in memories only, so that it can be taught and edited."""
    params, state = network.default_params(), network.init(jax.random.key(0))
    try:
        resize(network, params, state, num_classes=network.output_shape[0])
    except ValueError:
        return False
    return True


def _capacity(knowledge: Knowledge) -> int:
    return knowledge.network.banks(knowledge.params, knowledge.state)[0].layer.capacity


def without_room(knowledge: Knowledge) -> tuple[Layer, Any, Any]:
    """Return the network with its named classes only, its params and its state."""

    def narrow(layer: Any) -> Any:
        if layer.params_kind is MemoryParams:
            return dataclasses.replace(layer, num_classes=len(knowledge.names))
        return replace_layers(layer, narrow)

    if not can_learn(knowledge.network):
        return knowledge[:3]
    network = narrow(knowledge.network)
    _, shapes = like(network)
    # Classes without a name have no votes.
    state = jax.tree.map(
        lambda leaf, shape: leaf[tuple(map(slice, shape.shape))], knowledge.state, shapes
    )
    return network, knowledge.params, state
