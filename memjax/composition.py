"""Composition: layers in a row, side by side, or in a vote."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from memjax._checks import check_kind, check_lengths, checked_inputs
from memjax.base import UNLABELLED, CompositeInfo, FixedLayer, Layer

__all__ = ["Chain", "Concatenate", "Reshape", "Vote"]


@checked_inputs
@dataclasses.dataclass(frozen=True)
class Chain(Layer):
    """Layers in a row: the code of one is the input of the next, and all learn in the same pass.

    Params, state and the parts of the info are tuples, one entry a layer. The chain's answer before
    learning is that of its last layer that gives one.

    Attributes:
        layers: at least one layer; each takes what the one before it hands on.

    Raises:
        ValueError: no layers, or two neighbours whose shapes do not fit, by their places.

    Example:
        >>> from memjax.vision.encoders import Pixels
        >>> from memjax.memory import MemoryLayer
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
        return next(filter(None, map(_num_classes, reversed(self.layers))), None)

    def default_params(self) -> tuple[Any, ...]:
        """Return every layer's default params."""
        return tuple(layer.default_params() for layer in self.layers)

    def init(self, key: jax.Array) -> tuple[Any, ...]:
        """Return every layer's first state, each from a key of its own."""
        return _init_all(self.layers, key)

    def step(self, params, state, x, label):
        """Learn from one example in every layer; see ``Layer.step``."""
        states, infos, code = [], [], x
        for layer, layer_params, layer_state in zip(self.layers, params, state, strict=True):
            layer_state, code, info = layer.step(layer_params, layer_state, code, label)
            states.append(layer_state)
            infos.append(info)
        return tuple(states), code, _in_a_row(infos, label.shape)

    def step_block(self, params, state, xs, labels, length=None):
        """Learn from a block, layer by layer; see ``Layer.step_block``."""
        states, infos, codes = [], [], xs
        for layer, layer_params, layer_state in zip(self.layers, params, state, strict=True):
            layer_state, codes, info = layer.step_block(
                layer_params, layer_state, codes, labels, length
            )
            states.append(layer_state)
            infos.append(info)
        return tuple(states), codes, _in_a_row(infos, labels.shape)

    def recall(self, params, state, x):
        """Return the last layer's code of one input without writing."""
        for layer, layer_params, layer_state in zip(self.layers, params, state, strict=True):
            x = layer.recall(layer_params, layer_state, x)
        return x

    def recall_block(self, params, state, xs):
        """Return the last layer's codes of a block without writing."""
        for layer, layer_params, layer_state in zip(self.layers, params, state, strict=True):
            xs = layer.recall_block(layer_params, layer_state, xs)
        return xs

    def calibrate(self, params, xs, labels):
        """Calibrate layer by layer, each on what the calibrated layers below make of ``xs``."""
        calibrated = []
        for index, (layer, layer_params) in enumerate(zip(self.layers, params, strict=True)):
            layer_params = layer.calibrate(layer_params, xs, labels)
            calibrated.append(layer_params)
            if index + 1 < len(self.layers):
                # A trial state that is thrown away: only its codes are of use.
                state = layer.init(jax.random.key(0))
                _, xs, _ = layer.step_block(layer_params, state, xs, labels)
        return tuple(calibrated)

    def consolidate(self, params, state):
        """Consolidate every layer."""
        return _consolidate_all(self.layers, params, state)


@dataclasses.dataclass(frozen=True)
class _Members(Layer):
    """Layers side by side: params and state are tuples, one entry a member."""

    members: tuple[Layer, ...]

    def default_params(self) -> tuple[Any, ...]:
        """Return every member's default params."""
        return tuple(member.default_params() for member in self.members)

    def init(self, key: jax.Array) -> tuple[Any, ...]:
        """Return every member's first state, each from a key of its own."""
        return _init_all(self.members, key)

    def consolidate(self, params, state):
        """Consolidate every member."""
        return _consolidate_all(self.members, params, state)


@checked_inputs
@dataclasses.dataclass(frozen=True)
class Vote(_Members):
    """Layers side by side that vote: member ``i`` sees ``x[i]`` and their evidence is averaged.

    With one member a colour channel this is channel voting, and the members' memories together are
    the neuron tensor [channels, K, D]. The answer before learning is the one that most members
    give (ties: the lowest label).

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
        return _num_classes(self.members[0])

    def step(self, params, state, x, label):
        """Learn from one example in every member; see ``Layer.step``."""
        results = [
            member.step(member_params, member_state, x[index], label)
            for index, (member, member_params, member_state) in self._enumerate(params, state)
        ]
        return self._side_by_side(results)

    def step_block(self, params, state, xs, labels, length=None):
        """Learn from a block in every member; see ``Layer.step_block``."""
        results = [
            member.step_block(member_params, member_state, xs[:, index], labels, length)
            for index, (member, member_params, member_state) in self._enumerate(params, state)
        ]
        return self._side_by_side(results)

    def recall(self, params, state, x):
        """Return the average evidence of one input without writing."""
        return self._mean(
            [
                member.recall(member_params, member_state, x[index])
                for index, (member, member_params, member_state) in self._enumerate(params, state)
            ]
        )

    def recall_block(self, params, state, xs):
        """Return the average evidence of a block without writing."""
        return self._mean(
            [
                member.recall_block(member_params, member_state, xs[:, index])
                for index, (member, member_params, member_state) in self._enumerate(params, state)
            ]
        )

    def calibrate(self, params, xs, labels):
        """Calibrate every member on its own input."""
        return tuple(
            member.calibrate(member_params, xs[:, index], labels)
            for index, (member, member_params) in enumerate(zip(self.members, params, strict=True))
        )

    def _enumerate(self, params, state):
        return enumerate(zip(self.members, params, state, strict=True))

    def _mean(self, codes: list[jax.Array]) -> jax.Array:
        return sum(codes[1:], start=codes[0]) / len(codes)

    def _side_by_side(self, results):
        states, codes, infos = zip(*results, strict=True)
        for index, info in enumerate(infos):
            if not hasattr(info, "predicted"):
                raise TypeError(
                    f"members[{index}]: expected a layer that answers, with a `predicted` in its "
                    f"info, got {type(self.members[index]).__name__}."
                )
        answers = jnp.stack([info.predicted for info in infos], axis=-1)
        ballots = jnp.sum(jax.nn.one_hot(answers, self.output_shape[0], dtype=jnp.int32), axis=-2)
        winner = jnp.argmax(ballots, axis=-1).astype(jnp.int32)
        predicted = jnp.where(jnp.max(ballots, axis=-1) > 0, winner, UNLABELLED)
        return states, self._mean(list(codes)), CompositeInfo(predicted, infos)


@checked_inputs
@dataclasses.dataclass(frozen=True)
class Concatenate(_Members):
    """Layers that all see the same input, their codes joined to one vector.

    Params, state and the parts of the info are tuples, one entry a member.

    Attributes:
        members: at least one layer; all take one shape.

    Raises:
        ValueError: no members, or members that take different shapes.

    Example:
        >>> from memjax.vision.encoders import OnOff, Pixels
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

    def step(self, params, state, x, label):
        """Learn from one example in every member; see ``Layer.step``."""
        results = [
            member.step(member_params, member_state, x, label)
            for member, member_params, member_state in zip(self.members, params, state, strict=True)
        ]
        states, codes, infos = zip(*results, strict=True)
        return states, jnp.concatenate([code.ravel() for code in codes]), infos

    def step_block(self, params, state, xs, labels, length=None):
        """Learn from a block in every member; see ``Layer.step_block``."""
        results = [
            member.step_block(member_params, member_state, xs, labels, length)
            for member, member_params, member_state in zip(self.members, params, state, strict=True)
        ]
        states, codes, infos = zip(*results, strict=True)
        return states, _joined(codes), infos

    def recall(self, params, state, x):
        """Return the joined code of one input without writing."""
        return self.recall_block(params, state, x[None])[0]

    def recall_block(self, params, state, xs):
        """Return the joined codes of a block without writing."""
        return _joined(
            [
                member.recall_block(member_params, member_state, xs)
                for member, member_params, member_state in zip(
                    self.members, params, state, strict=True
                )
            ]
        )

    def calibrate(self, params, xs, labels):
        """Calibrate every member."""
        return tuple(
            member.calibrate(member_params, xs, labels)
            for member, member_params in zip(self.members, params, strict=True)
        )


@checked_inputs
@dataclasses.dataclass(frozen=True)
class Reshape(FixedLayer):
    """Hands on what it gets, in another shape if asked: to lay a code beside what becomes of it.

    Attributes:
        shape: of what it gets.
        new_shape: of what it hands on, None for the same; with as many numbers.

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
        """What it gets."""
        return self.shape

    @property
    def output_shape(self) -> tuple[int, ...]:
        """What it hands on."""
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


def _joined(codes: Sequence[jax.Array]) -> jax.Array:
    return jnp.concatenate([code.reshape(code.shape[0], -1) for code in codes], axis=1)


def _num_classes(layer: Layer) -> int | None:
    return getattr(layer, "num_classes", None)


def _init_all(layers: tuple[Layer, ...], key: jax.Array) -> tuple[Any, ...]:
    keys = jax.random.split(key, len(layers))
    return tuple(layer.init(keys[index]) for index, layer in enumerate(layers))


def _consolidate_all(layers: tuple[Layer, ...], params, state) -> tuple[Any, ...]:
    return tuple(
        layer.consolidate(layer_params, layer_state)
        for layer, layer_params, layer_state in zip(layers, params, state, strict=True)
    )


def _in_a_row(infos: list[Any], shape: tuple[int, ...]) -> CompositeInfo:
    answers = [info.predicted for info in infos if hasattr(info, "predicted")]
    nothing = jnp.full(shape, UNLABELLED, jnp.int32)
    return CompositeInfo(answers[-1] if answers else nothing, tuple(infos))
