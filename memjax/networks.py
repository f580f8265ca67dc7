"""Networks: layers in a row, layers that vote, and the ready-made reconstruction of the paper."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from memjax.checks import check_choice, check_image_shape
from memjax.columns import Columns, ColumnsParams, Fixations
from memjax.decorrelation import Decorrelation, RandomProjection
from memjax.distances import Distance, squared_euclidean
from memjax.encoders import ENCODERS, Blur, FeatureMap, OrientedEdges
from memjax.exemplars import Exemplars
from memjax.memory import MemoryLayer
from memjax.readouts import RidgeReadout
from memjax.types import UNLABELLED, CompositeInfo, FixedLayer, Layer

__all__ = [
    "Chain",
    "Mirrored",
    "Same",
    "SideBySide",
    "Vote",
    "columnar_network",
    "memory_network",
    "replace_params",
]


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


@dataclasses.dataclass(frozen=True)
class Same(FixedLayer):
    """Hands on what it gets, in another shape if asked: to lay a code beside what becomes of it.

    Attributes:
        shape: of what it gets.
        new_shape: of what it hands on, None for the same; with as many numbers.

    Raises:
        ValueError: the shapes hold different numbers of entries.

    Example:
        >>> from memjax.exemplars import Exemplars
        >>> SideBySide((Same((100,)), Exemplars(100, capacity=30))).output_shape
        (130,)
    """

    shape: tuple[int, ...]
    new_shape: tuple[int, ...] | None = None

    def __post_init__(self):
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


@dataclasses.dataclass(frozen=True)
class Mirrored(Layer):
    """A network that sees every image twice, as it is and in the mirror.

    It learns from both, one after the other, and its evidence is the average of both. The info and
    the code of learning are those of the image as it is, before the mirror's turn. This is one pass
    over the data, but two lessons an example; and it assumes that the mirror image of a thing is of
    the same class, which holds for photographs and not for digits.

    Params and state are those of the network.

    Attributes:
        network: takes [H, W, channels].

    Raises:
        ValueError: a network that takes no images.

    Example:
        >>> network, params = memory_network((8, 8, 1), num_classes=10, capacity=100)
        >>> Mirrored(network).output_shape
        (10,)
    """

    network: Layer

    def __post_init__(self):
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
        return _num_classes(self.network)

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
        """Learn from a block and its mirror images, by turns; see ``Layer.step_block``."""
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

    def calibrate(self, params, xs, labels):
        """Calibrate the network on the images as they are."""
        return self.network.calibrate(params, xs, labels)

    def consolidate(self, params, state):
        """Consolidate the network."""
        return self.network.consolidate(params, state)


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
    image_shape: tuple[int, int, int],
    num_classes: int,
    size: str = "medium",
    *,
    is_mirrored: bool = False,
) -> tuple[Layer, tuple[Any, ...]]:
    """Return a network with depth, and its params: columns, fixations and a ridge readout.

    For grey images one set of columns looks at the pixels, in sizes medium and large a second one
    at a map of oriented edges. For colour images three sets of columns look at decorrelated
    patches: small ones, large ones, and those of an image of half the side. Exemplars of the
    columns' whole code answer beside it, in all sizes for colour and in size large for grey. The
    eye moves over all columns; everything is read out together, and learns in one pass.

    Args:
        image_shape: (H, W, channels) of the raw images, at least 8 pixels wide and high, 16 in
            colour.
        num_classes: C.
        size: "small", "medium" or "large".
        is_mirrored: whether every image is also seen in the mirror; see ``Mirrored``.

    Returns:
        The network and its params.

    Raises:
        ValueError: an unknown size, or images that are too small.

    Source: memjax's own composition; its parts name theirs.

    Example:
        >>> network, params = columnar_network((28, 28, 1), num_classes=10, size="small")
        >>> network.layers[0].output_shape
        (2500,)
    """
    check_choice("size", size, ("small", "medium", "large"))
    check_image_shape(image_shape)
    height, width, channels = image_shape
    least = 8 if channels == 1 else 16
    if min(height, width) < least:
        raise ValueError(
            f"image_shape: expected (H, W, channels) of at least {least} pixels, got {image_shape}."
        )
    build = _for_grey if channels == 1 else _for_colour
    eye, params, ridge = build((height, width, channels), size)
    readout = RidgeReadout(eye.output_shape[0], num_classes)
    network, params = Chain((eye, readout)), (params, readout.params(ridge))
    return (Mirrored(network) if is_mirrored else network), params


def _for_grey(image_shape: tuple[int, int, int], size: str) -> tuple[Layer, Any, float]:
    """Return the layers below the readout for grey images, their params and the ridge."""
    capacity = {"small": 100, "medium": 200, "large": 250}[size]
    side = min(image_shape[:2])
    looks = min(round(8 * side / 28), 4 if size == "small" else 8)
    reach = looks * max(round(8 * side / 28 / looks), 1)
    pixels = Columns(image_shape, round(9 * side / 28), places=5, capacity=capacity)
    eye = Fixations(pixels, num_per_side=looks, reach=reach, sigma=reach / 4)
    params = pixels.params(novelty_threshold=0.25)
    if size == "small":
        return eye, params, 1e-3
    edges = FeatureMap(OrientedEdges(image_shape, grid=16, sharpness=4))
    rows, columns, features = edges.output_shape
    textures = Columns((rows, columns, features), patch=5, places=5, capacity=capacity)
    second = Chain((edges, Fixations(textures, num_per_side=4, reach=4, sigma=1.0)))
    both, params = (
        SideBySide((eye, second)),
        (params, ((), textures.params(novelty_threshold=0.25))),
    )
    if size == "medium":
        return both, params, 1e-3
    return *_with_exemplars(both, params, num_exemplars=3000), 1e-3


def _for_colour(image_shape: tuple[int, int, int], size: str) -> tuple[Layer, Any, float]:
    """Return the layers below the readout for colour images, their params and the ridge."""
    capacity, reach, spread, num_exemplars, ridge = {
        "small": (100, 12, 0.5, 1000, 3e-3),
        "medium": (300, 12, 0.5, 2000, 3e-3),
        "large": (500, 16, 0.6, 6000, 1e-3),
    }[size]
    coarse = FeatureMap(Blur(image_shape, sigma=0.02, grid=min(image_shape[:2]) // 2))
    sets = [
        _windows(image_shape, 5, capacity, reach, spread, floor=0.3),
        _windows(image_shape, 8, capacity, reach, spread, floor=0.4),
        _windows(coarse.output_shape, 6, capacity // 2, reach, spread, floor=0.3),
    ]
    (fine, wide, whole), (fine_params, wide_params, whole_params) = zip(*sets, strict=True)
    eye = SideBySide((fine, wide, Chain((coarse, whole))))
    params = (fine_params, wide_params, ((), whole_params))
    return *_with_exemplars(eye, params, num_exemplars), ridge


def _windows(
    image_shape: tuple[int, ...],
    patch: int,
    capacity: int,
    reach: int,
    spread: float,
    floor: float,
) -> tuple[Fixations, ColumnsParams]:
    """Return decorrelated columns at 3 x 3 places whose windows of fixations overlap.

    ``reach`` is that of the eye in 32nds of the image, ``spread`` the width of its Gaussian in
    distances between places.
    """
    height, width, channels = image_shape
    side, num_pixels = min(height, width), patch**2 * channels
    looks = round(reach * side / 32)
    margin = max(min(round(6 * side / 32) - patch // 4, (side - patch - 2) // 2), 0)
    columns = Columns(
        (height, width, channels),
        patch,
        places=3,
        capacity=capacity,
        contrast_constant=10 / 255**2 * num_pixels,
        dimensions=min(64, num_pixels - 1),
        margin=margin,
        square_root=True,
    )
    spacing = (side - patch - 2 * margin) / 2
    # Every patch is stored, so that places are full soon after their decorrelation.
    params = columns.params(
        novelty_threshold=0.0,
        blank_contrast=0.0,
        critical_period=500 + 2 * capacity,
        decorrelation_floor=floor,
    )
    return Fixations(columns, looks, looks, sigma=spread * spacing, padding="reflect"), params


def _with_exemplars(eye: Layer, params: Any, num_exemplars: int) -> tuple[Layer, Any]:
    """Lay exemplars of an eye's whole code beside it; return both as one layer, and its params."""
    (num_features,) = eye.output_shape
    sketch = RandomProjection(num_features, 1024)
    components = Decorrelation(1024, 200)
    exemplars = Exemplars(200, num_exemplars)
    whole = Chain((sketch, components, exemplars))
    numbers = components.params(
        start=1000, decorrelation_period=2000, decorrelation_floor=0, exponent=0.25
    )
    both = SideBySide((Same((num_features,)), whole))
    return Chain((eye, both)), (params, ((), ((), numbers, exemplars.params())))


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
