"""Networks: layers in a row, layers that vote, and the ready-made reconstruction of the paper."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from memjax.checks import check_choice, check_image_shape
from memjax.columns import Columns, Fixations
from memjax.distances import Distance, squared_euclidean
from memjax.encoders import ENCODERS, FeatureMap, OrientedEdges
from memjax.memory import MemoryLayer
from memjax.readouts import RidgeReadout
from memjax.types import UNLABELLED, CompositeInfo, Layer

__all__ = ["Chain", "SideBySide", "Vote", "columnar_network", "memory_network", "replace_params"]


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
        >>> from memjax.encoders import Pixels
        >>> from memjax.memory import MemoryLayer
        >>> chain = Chain((Pixels((8, 8, 1)), MemoryLayer(64, num_classes=10, capacity=100)))
        >>> chain.input_shape, chain.output_shape
        ((8, 8, 1), (10,))
    """

    layers: tuple[Layer, ...]

    def __post_init__(self):
        if not self.layers:
            raise ValueError("layers: expected at least one layer, got none.")
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
        answers = jnp.stack([info.predicted for info in infos], axis=-1)
        ballots = jnp.sum(jax.nn.one_hot(answers, self.output_shape[0], dtype=jnp.int32), axis=-2)
        winner = jnp.argmax(ballots, axis=-1).astype(jnp.int32)
        predicted = jnp.where(jnp.max(ballots, axis=-1) > 0, winner, UNLABELLED)
        return states, self._mean(list(codes)), CompositeInfo(predicted, infos)


@dataclasses.dataclass(frozen=True)
class SideBySide(_Members):
    """Layers that all see the same input, their codes joined to one vector.

    Params, state and the parts of the info are tuples, one entry a member.

    Attributes:
        members: at least one layer; all take one shape.

    Raises:
        ValueError: no members, or members that take different shapes.

    Example:
        >>> from memjax.encoders import OnOff, Pixels
        >>> SideBySide((Pixels((8, 8, 1)), OnOff((8, 8, 1)))).output_shape
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


def memory_network(
    image_shape: tuple[int, int, int],
    num_classes: int,
    *,
    capacity: int = 3000,
    encoder: str = "edges",
    novelty_threshold: float | str = "auto",
    plasticity_floor: float = 0.0,
    distance: Distance = squared_euclidean,
    supervised_growth: bool = True,
    on_full: str = "adapt",
    num_neighbours: int = 7,
) -> tuple[Chain, tuple[Any, ...]]:
    """Return the reconstruction of the paper's network, and its params.

    A fixed encoder, then one bank of memories for a grey image, or one a colour channel with the
    banks' evidence averaged (channel voting).

    Args:
        image_shape: (H, W, channels) of the raw images.
        num_classes: C.
        capacity: K, memories a bank has room for.
        encoder: "edges", "pixels", "blur" or "on_off"; see ``memjax.encoders``.
        novelty_threshold: distance above which an example is stored; "auto" leaves it to
            ``memjax.calibrate``, which estimates it from the first examples of the stream.
        plasticity_floor: least step size of a winner, 0 to 1.
        distance: one of ``memjax.distances``.
        supervised_growth: whether a wrong vote is stored as well.
        on_full: "adapt", "replace" or "ignore", for a surprise when the bank is full.
        num_neighbours: how many memories vote in recall.

    Returns:
        The network and its params.

    Raises:
        ValueError: an argument is out of its range.

    Source: Ruiz & Gupta (2024), arXiv 2409.17282, as reconstructed in docs/paper.md.

    Example:
        >>> network, params = memory_network((32, 32, 3), num_classes=10, capacity=100)
        >>> [type(layer).__name__ for layer in network.layers]
        ['OrientedEdges', 'Vote']
    """
    check_choice("encoder", encoder, tuple(ENCODERS))
    check_image_shape(image_shape)
    height, width, channels = image_shape
    senses = ENCODERS[encoder]((height, width, channels), is_split_by_channel=channels > 1)
    bank = MemoryLayer(
        num_features=senses.output_shape[-1],
        num_classes=num_classes,
        capacity=capacity,
        distance=distance,
        supervised_growth=supervised_growth,
        on_full=on_full,
        num_neighbours=num_neighbours,
    )
    network = Chain((senses, Vote((bank,) * channels) if channels > 1 else bank))
    params = bank.params(novelty_threshold, plasticity_floor)
    return network, ((), (params,) * channels if channels > 1 else params)


def columnar_network(
    image_shape: tuple[int, int, int], num_classes: int, size: str = "medium"
) -> tuple[Chain, tuple[Any, ...]]:
    """Return a network with depth, and its params: columns, fixations and a ridge readout.

    One set of columns looks at the pixels, in sizes medium and large a second one at a map of
    oriented edges; the eye moves over both; their pooled codes are read out together. All of it
    learns in one pass.

    Args:
        image_shape: (H, W, channels) of the raw images, at least 8 pixels wide and high.
        num_classes: C.
        size: "small", "medium" or "large": 100, 200 or 300 memories at each of 25 places.

    Returns:
        The network and its params.

    Raises:
        ValueError: an unknown size, or images under 8 pixels.

    Source: memjax's own composition; its parts name theirs.

    Example:
        >>> network, params = columnar_network((28, 28, 1), num_classes=10, size="small")
        >>> network.layers[0].output_shape
        (2500,)
    """
    check_choice("size", size, ("small", "medium", "large"))
    if len(image_shape) != 3 or min(image_shape[:2]) < 8:
        raise ValueError(
            f"image_shape: expected (H, W, channels) of at least 8 pixels, got {image_shape}."
        )
    height, width, channels = image_shape
    capacity = {"small": 100, "medium": 200, "large": 300}[size]
    side = min(height, width)
    reach = round(8 * side / 28)
    pixels = Columns((height, width, channels), round(9 * side / 28), places=5, capacity=capacity)
    looks = min(reach, 4 if size == "small" else 8)
    eye: Layer = Fixations(pixels, num_per_side=looks, reach=reach, sigma=reach / 4)
    params: Any = pixels.params(novelty_threshold=0.25)
    if size != "small":
        edges = FeatureMap(OrientedEdges((height, width, channels), grid=16, sharpness=4))
        rows, columns, features = edges.output_shape
        textures = Columns((rows, columns, features), patch=5, places=5, capacity=capacity)
        second = Chain((edges, Fixations(textures, num_per_side=4, reach=4, sigma=1.0)))
        eye = SideBySide((eye, second))
        params = (params, ((), textures.params(novelty_threshold=0.25)))
    readout = RidgeReadout(eye.output_shape[0], num_classes)
    return Chain((eye, readout)), (params, readout.params(ridge=1e-3))


def replace_params(params: Any, **numbers: Any) -> Any:
    """Return ``params`` with numbers replaced by name, in every layer that has them.

    Args:
        params: params of a layer or a network.
        **numbers: new values, for instance ``novelty_threshold=0.3``; arrays for a sweep are given
            to ``jax.vmap(lambda t: replace_params(params, novelty_threshold=t))``.

    Raises:
        ValueError: no layer has a number of that name.

    Example:
        >>> network, params = memory_network((8, 8, 1), num_classes=10)
        >>> replace_params(params, novelty_threshold=0.3)[1].novelty_threshold.item()
        0.30000001192092896
    """
    found: set[str] = set()

    def is_named(node):
        return hasattr(node, "_fields")

    def replace(node):
        if not is_named(node):
            return node
        mine = {name: value for name, value in numbers.items() if name in node._fields}
        found.update(mine)
        return node._replace(**{k: jnp.asarray(v, jnp.float32) for k, v in mine.items()})

    replaced = jax.tree.map(replace, params, is_leaf=is_named)
    if missing := sorted(set(numbers) - found):
        raise ValueError(f"{missing[0]}: expected the name of a number in params, found none.")
    return replaced


def _check_members(members: tuple[Layer, ...], alike: tuple[str, ...]) -> None:
    if not members:
        raise ValueError("members: expected at least one layer, got none.")
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
