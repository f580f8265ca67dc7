"""Composition: layers in a row, side by side, or in a vote."""

import abc
import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from memjax._checks import check_kind, check_lengths
from memjax._entry import classes_of
from memjax.base import UNLABELLED, Bank, CompositeInfo, FixedLayer, Layer, Part

__all__ = ["Chain", "Concatenate", "Reshape", "Vote"]


class _Composite(Layer):
    """Layers inside a layer: params and state are tuples with one entry for each.

    A subclass writes ``_inside``, ``_learn`` and ``_read``, which serve one example and a block
    alike: they are given the name of the method that they call inside.
    """

    @property
    @abc.abstractmethod
    def _inside(self) -> tuple[Layer, ...]:
        """The layers inside."""

    @abc.abstractmethod
    def _learn(self, method: str, parts: tuple[Part, ...], x: Any, *rest: Any) -> Any:
        """Call a step of every layer inside; return what a step returns."""

    @abc.abstractmethod
    def _read(self, method: str, parts: tuple[Part, ...], x: Any) -> Any:
        """Call a recall of every layer inside; return the code."""

    def parts(self, params, state):
        """Return the layers inside, each with its slices of params and state."""
        return tuple(map(Part._make, zip(self._inside, params, state, strict=True)))

    def default_params(self) -> tuple[Any, ...]:
        """Return the default params of every layer inside."""
        return tuple(layer.default_params() for layer in self._inside)

    def init(self, key: jax.Array) -> tuple[Any, ...]:
        """Return the first state of every layer inside, each from a key of its own."""
        keys = jax.random.split(key, len(self._inside))
        return tuple(layer.init(keys[index]) for index, layer in enumerate(self._inside))

    def step(self, params, state, x, label):
        """Learn from one example in every layer inside; see ``Layer.step``."""
        return self._learn("step", self.parts(params, state), x, label)

    def step_block(self, params, state, xs, labels, length=None):
        """Learn from a block in every layer inside; see ``Layer.step_block``."""
        return self._learn("step_block", self.parts(params, state), xs, labels, length)

    def recall(self, params, state, x):
        """Return the code of one input without writing."""
        return self._read("recall", self.parts(params, state), x)

    def recall_block(self, params, state, xs):
        """Return the codes of a block without writing."""
        return self._read("recall_block", self.parts(params, state), xs)

    def consolidate(self, params, state):
        """Consolidate every layer inside."""
        parts = self.parts(params, state)
        return tuple(part.layer.consolidate(part.params, part.state) for part in parts)


@dataclasses.dataclass(frozen=True)
class Chain(_Composite):
    """Layers in a row: the code of one is the input of the next, and all learn in the same pass.

    Params, state and the parts of the info are tuples with one entry for each layer. The chain's
    answer before learning is that of its last layer that gives one.

    Attributes:
        layers: at least one layer; each takes what the one before it hands on.

    Raises:
        ValueError: no layers, or two neighbours whose shapes do not fit, by their places.

    Example:
        >>> from memjax.memory import MemoryLayer
        >>> from memjax.vision import Pixels
        >>> chain = Chain((Pixels((8, 8, 1)), MemoryLayer(64, num_classes=10, capacity=100)))
        >>> chain.input_shape, chain.output_shape
        ((8, 8, 1), (10,))
    """

    layers: tuple[Layer, ...]

    def __post_init__(self):
        _check_layers("layers", self.layers)
        for index, (left, right) in enumerate(zip(self.layers, self.layers[1:], strict=False)):
            if left.output_shape != right.input_shape:
                raise ValueError(
                    f"layers[{index + 1}]: expected a layer that takes {list(left.output_shape)}, "
                    f"which layers[{index}] hands on, got one that takes {list(right.input_shape)}."
                )

    @property
    def input_shape(self) -> tuple[int, ...]:
        """What the first layer takes."""
        return self.layers[0].input_shape

    @property
    def output_shape(self) -> tuple[int, ...]:
        """What the last layer hands on."""
        return self.layers[-1].output_shape

    @property
    def num_classes(self) -> int | None:
        """C of the last layer that knows it; None when none does."""
        return next(filter(None, map(classes_of, reversed(self.layers))), None)

    @property
    def _inside(self) -> tuple[Layer, ...]:
        return self.layers

    def _learn(self, method, parts, x, *rest):
        states, infos = [], []
        for part in parts:
            state, x, info = getattr(part.layer, method)(part.params, part.state, x, *rest)
            states.append(state)
            infos.append(info)
        answers = [info.predicted for info in infos if hasattr(info, "predicted")]
        nothing = jnp.full(jnp.shape(rest[0]), UNLABELLED, jnp.int32)
        return tuple(states), x, CompositeInfo((nothing, *answers)[-1], tuple(infos))

    def _read(self, method, parts, x):
        for part in parts:
            x = getattr(part.layer, method)(part.params, part.state, x)
        return x

    def calibrate(self, params, xs, labels, length=None):
        """Calibrate layer by layer, each on what the calibrated layers below make of ``xs``."""
        calibrated = []
        for index, (layer, layer_params) in enumerate(zip(self.layers, params, strict=True)):
            layer_params = layer.calibrate(layer_params, xs, labels, length)
            calibrated.append(layer_params)
            if index + 1 < len(self.layers):
                # A trial state that is thrown away: only its codes are of use.
                state = layer.init(jax.random.key(0))
                _, xs, _ = layer.step_block(layer_params, state, xs, labels, length)
        return tuple(calibrated)

    def novelty_block(self, params, state, xs):
        """Return the scores [B, M] of all layers, each of what the layers below make of ``xs``."""
        *below, last = self.parts(params, state)
        scores = []
        for part in below:
            scores.append(part.layer.novelty_block(part.params, part.state, xs))
            xs = self._read("recall_block", (part,), xs)
        scores.append(last.layer.novelty_block(last.params, last.state, xs))
        return jnp.concatenate(scores, axis=1)

    def banks(self, params, state, xs=None) -> tuple[Bank, ...]:
        """Return the banks of the last layer, which see what the layers below make of ``xs``."""
        *below, last = self.parts(params, state)
        if xs is not None:
            xs = self._read("recall_block", tuple(below), xs)
        banks = last.layer.banks(last.params, last.state, xs)
        if not below:
            return banks
        picture = below[-1].layer.picture
        return tuple(bank._replace(picture=bank.picture or picture) for bank in banks)


@dataclasses.dataclass(frozen=True)
class _Members(_Composite):
    """Layers side by side; a subclass writes ``_input`` and ``_join``."""

    members: tuple[Layer, ...]

    @property
    def _inside(self) -> tuple[Layer, ...]:
        return self.members

    @abc.abstractmethod
    def _input(self, x: Any, index: int) -> Any:
        """Return what one member sees of an input, or of a block."""

    @abc.abstractmethod
    def _join(self, codes: Sequence[jax.Array]) -> jax.Array:
        """Return the code made of the members' codes, of one input or of a block."""

    def _info(self, infos: tuple[Any, ...]) -> Any:
        return infos

    def _learn(self, method, parts, x, *rest):
        results = [
            getattr(part.layer, method)(part.params, part.state, self._input(x, index), *rest)
            for index, part in enumerate(parts)
        ]
        states, codes, infos = zip(*results, strict=True)
        return states, self._join(codes), self._info(infos)

    def _read(self, method, parts, x):
        return self._join(
            [
                getattr(part.layer, method)(part.params, part.state, self._input(x, index))
                for index, part in enumerate(parts)
            ]
        )

    def calibrate(self, params, xs, labels, length=None):
        """Calibrate every member on its own input."""
        return tuple(
            member.calibrate(member_params, self._input(xs, index), labels, length)
            for index, (member, member_params) in enumerate(zip(self.members, params, strict=True))
        )

    def novelty_block(self, params, state, xs):
        """Return the scores [B, M] of all members, in their order."""
        scores = [
            part.layer.novelty_block(part.params, part.state, self._input(xs, index))
            for index, part in enumerate(self.parts(params, state))
        ]
        return jnp.concatenate(scores, axis=1)

    def banks(self, params, state, xs=None) -> tuple[Bank, ...]:
        """Return the banks of all members, in their order."""
        return tuple(
            bank
            for index, part in enumerate(self.parts(params, state))
            for bank in part.layer.banks(
                part.params, part.state, None if xs is None else self._input(xs, index)
            )
        )


@dataclasses.dataclass(frozen=True)
class Vote(_Members):
    """Layers side by side that vote: member ``i`` sees ``x[i]`` and their evidence is averaged.

    With one member for each colour channel this is channel voting, and the members' memories
    together are the neuron tensor [channels, K, D]. The answer before learning is the one that most
    members give (ties: the lowest label).

    Attributes:
        members: at least one layer; all take one shape and hand on one shape, [C], and their infos
            have a ``predicted``.

    Raises:
        ValueError: no members, or members of different shapes.

    Example:
        >>> from memjax.memory import MemoryLayer
        >>> bank = MemoryLayer(64, num_classes=10, capacity=100)
        >>> Vote((bank, bank, bank)).input_shape
        (3, 64)
    """

    def __post_init__(self):
        _check_members(self.members, ("input_shape", "output_shape"))
        if len(shape := self.members[0].output_shape) != 1:
            raise ValueError(
                "members: expected layers that hand on evidence [C], got ones that hand on "
                f"{list(shape)}."
            )

    @property
    def input_shape(self) -> tuple[int, ...]:
        """[members, *what a member takes]."""
        return (len(self.members), *self.members[0].input_shape)

    @property
    def output_shape(self) -> tuple[int, ...]:
        """What a member hands on."""
        return self.members[0].output_shape

    @property
    def num_classes(self) -> int | None:
        """C of the members; None when they do not know it."""
        return classes_of(self.members[0])

    def _input(self, x, index):
        return lax.index_in_dim(x, index, x.ndim - len(self.input_shape), keepdims=False)

    def _join(self, codes):
        return sum(codes[1:], start=codes[0]) / len(codes)

    def _info(self, infos):
        for index, info in enumerate(infos):
            if not hasattr(info, "predicted"):
                raise TypeError(
                    f"members[{index}]: expected a layer that answers, with a `predicted` in its "
                    f"info, got {type(self.members[index]).__name__}."
                )
        answers = jnp.stack([info.predicted for info in infos], axis=-1)
        ballots = jnp.sum(jax.nn.one_hot(answers, self.output_shape[0], dtype=jnp.int32), axis=-2)
        winner = lax.argmax(ballots, ballots.ndim - 1, jnp.int32)
        return CompositeInfo(jnp.where(jnp.max(ballots, axis=-1) > 0, winner, UNLABELLED), infos)


@dataclasses.dataclass(frozen=True)
class Concatenate(_Members):
    """Layers that all see the same input, their codes joined to one vector.

    Params, state and info are tuples with one entry for each member.

    Attributes:
        members: at least one layer; all take one shape.

    Raises:
        ValueError: no members, or members that take different shapes.

    Example:
        >>> from memjax.vision import OnOff, Pixels
        >>> Concatenate((Pixels((8, 8, 1)), OnOff((8, 8, 1)))).output_shape
        (192,)
    """

    def __post_init__(self):
        _check_members(self.members, ("input_shape",))

    @property
    def input_shape(self) -> tuple[int, ...]:
        """What every member takes."""
        return self.members[0].input_shape

    @property
    def output_shape(self) -> tuple[int, ...]:
        """[sum of the members' codes]."""
        return (sum(math.prod(member.output_shape) for member in self.members),)

    def _input(self, x, index):
        del index
        return x

    def _join(self, codes):
        batch = codes[0].shape[: codes[0].ndim - len(self.members[0].output_shape)]
        return jnp.concatenate([code.reshape(*batch, -1) for code in codes], axis=-1)


@dataclasses.dataclass(frozen=True)
class Reshape(FixedLayer):
    """Hand on the input, in a new shape if one is given.

    Without a new shape it lays a code beside what other layers make of it (see ``Concatenate``).

    Attributes:
        shape: of the input.
        new_shape: of what is handed on, with as many numbers; None for the same shape.

    Raises:
        ValueError: the shapes hold different numbers of entries.

    Example:
        >>> from memjax.exemplars import Exemplars
        >>> Concatenate((Reshape((100,)), Exemplars(100, capacity=30))).output_shape
        (130,)
    """

    shape: tuple[int, ...]
    new_shape: tuple[int, ...] | None = None

    def __post_init__(self):
        check_lengths("shape", self.shape)
        check_lengths("new_shape", self.output_shape)
        if math.prod(self.output_shape) != math.prod(self.shape):
            raise ValueError(
                f"new_shape: expected one of {math.prod(self.shape)} entries as shape has, "
                f"got {self.new_shape}."
            )

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of the input."""
        return self.shape

    @property
    def output_shape(self) -> tuple[int, ...]:
        """The shape of what is handed on."""
        return self.shape if self.new_shape is None else self.new_shape

    def recall(self, params, state, x):
        """Hand on one input."""
        del params, state
        return x.reshape(self.output_shape)


def _check_layers(name: str, layers: Any) -> None:
    check_kind(name, layers, tuple, "a tuple of layers")
    if not layers:
        raise ValueError(f"{name}: expected at least one layer, got none.")
    for index, layer in enumerate(layers):
        check_kind(f"{name}[{index}]", layer, Layer, "a memjax layer")


def _check_members(members: tuple[Layer, ...], alike: tuple[str, ...]) -> None:
    _check_layers("members", members)
    for index, member in enumerate(members):
        for name in alike:
            expected, got = list(getattr(members[0], name)), list(getattr(member, name))
            if got != expected:
                raise ValueError(
                    f"members[{index}].{name}: expected {expected} as of members[0], got {got}."
                )
