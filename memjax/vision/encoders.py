"""Fixed sensory encoders: one image in, features of unit length out; nothing is learned.

Integer images are read on the scale 0 to 255, floating-point images as they are. Every encoder ends
with features of Euclidean length 1 (or all zero), so that a novelty threshold has one scale.
"""

import abc
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from memjax._checks import (
    check_bool,
    check_image_shape,
    check_kind,
    check_lengths,
    check_positive,
    check_scalar,
)
from memjax._numerics import einsum, norms, square_root
from memjax.base import FixedLayer


@dataclasses.dataclass(frozen=True)
class Encoder(FixedLayer):
    """A layer without params or state; a subclass writes ``feature_shape`` and ``features``.

    Attributes:
        image_shape: (H, W, channels) of one image.
        is_split_by_channel: hand on [channels, D], features of each colour channel of length 1 on
            their own, for one member of a ``Vote`` each; otherwise [D], all channels together.
    """

    image_shape: tuple[int, int, int]
    is_split_by_channel: bool = False

    def __post_init__(self):
        check_image_shape(self.image_shape)
        check_lengths("image_shape", self.image_shape)
        check_bool("is_split_by_channel", self.is_split_by_channel)

    @property
    @abc.abstractmethod
    def feature_shape(self) -> tuple[int, int, int]:
        """(rows, columns, features of each place) of one channel."""

    @abc.abstractmethod
    def features(self, image: jax.Array) -> jax.Array:
        """Return features [rows, columns, features, channels] of a float image [H, W, channels]."""

    @property
    def input_shape(self) -> tuple[int, ...]:
        """[H, W, channels]."""
        return self.image_shape

    @property
    def output_shape(self) -> tuple[int, ...]:
        """[D], or [channels, D]."""
        size, channels = int(np.prod(self.feature_shape)), self.image_shape[2]
        return (channels, size) if self.is_split_by_channel else (channels * size,)

    def recall(self, params, state, x):
        """Encode one image [H, W, channels]."""
        del params, state
        features = jnp.moveaxis(self.features(as_float_image(x)), -1, 0).reshape(
            self.image_shape[2], -1
        )
        if not self.is_split_by_channel:
            features = features.reshape(1, -1)
        lengths = norms(features)
        return (features / jnp.where(lengths > 0, lengths, 1)).reshape(self.output_shape)

    def picture(self, code: jax.Array) -> jax.Array:
        """Return a code as a picture [rows, columns, channels]: total activity at each place.

        The code may be that of all channels or of one.
        """
        features = code.reshape(-1, *self.feature_shape)
        return jnp.moveaxis(jnp.sum(features, axis=3), 0, -1)


@dataclasses.dataclass(frozen=True)
class Pixels(Encoder):
    """The raw pixels.

    Example:
        >>> import numpy as np
        >>> pixels = Pixels((2, 2, 1))
        >>> print(pixels.recall((), (), np.array([[[3], [0]], [[4], [0]]], np.uint8)).round(1))
        [0.6 0.  0.8 0. ]
    """

    @property
    def feature_shape(self) -> tuple[int, int, int]:
        """(H, W, 1)."""
        return (*self.image_shape[:2], 1)

    def features(self, image: jax.Array) -> jax.Array:
        """Return the image itself."""
        return image[:, :, None, :]


@dataclasses.dataclass(frozen=True)
class Blur(Encoder):
    """Pixels behind a Gaussian blur, which forgives small shifts.

    Attributes:
        sigma: width of the Gaussian, as a part of the image's side.
        grid: places along each side that the blurred image is taken at; None for every pixel.

    Raises:
        ValueError: the width is below 0, or the grid is not positive.
    """

    sigma: float = 0.03
    grid: int | None = None

    def __post_init__(self):
        super().__post_init__()
        check_scalar("sigma", self.sigma, 0)
        if self.grid is not None:
            check_positive("grid", self.grid)

    @property
    def feature_shape(self) -> tuple[int, int, int]:
        """(H, W, 1), or (grid, grid, 1)."""
        return (*(self.image_shape[:2] if self.grid is None else (self.grid, self.grid)), 1)

    def features(self, image: jax.Array) -> jax.Array:
        """Return the blurred image."""
        return _smooth(image, self.feature_shape[:2], self.sigma)[:, :, None, :]


@dataclasses.dataclass(frozen=True)
class OnOff(Encoder):
    r"""On and off contrast, as in the retina.

    With a narrow blur $c$ (centre) and a wide one $s$ (surround), the on cells answer
    $\max(0, c - s)$ and the off cells $\max(0, s - c)$.

    Attributes:
        centre: width of the narrow Gaussian, as a part of the image's side.
        surround: width of the wide one.

    Raises:
        ValueError: a width is below 0.
    """

    centre: float = 0.025
    surround: float = 0.1

    def __post_init__(self):
        super().__post_init__()
        check_scalar("centre", self.centre, 0)
        check_scalar("surround", self.surround, 0)

    @property
    def feature_shape(self) -> tuple[int, int, int]:
        """(H, W, 2)."""
        return (*self.image_shape[:2], 2)

    def features(self, image: jax.Array) -> jax.Array:
        """Return on and off answers at every pixel."""
        shape = image.shape[:2]
        contrast = _smooth(image, shape, self.centre) - _smooth(image, shape, self.surround)
        return jnp.stack([jnp.maximum(contrast, 0), jnp.maximum(-contrast, 0)], axis=2)


@dataclasses.dataclass(frozen=True)
class OrientedEdges(Encoder):
    r"""Energy of oriented edges on a coarse grid, as complex cells pool it.

    The image is blurred a little. At every pixel the gradient of size $g$ and angle $\alpha$ drives
    one cell for each direction $\theta$ by $g \max(0, \cos(\alpha - \theta))^{p}$. Each place of
    the grid takes the Gaussian average around its centre, $E_\theta$, and hands on

    $$\sqrt{E_\theta / (1 + \nu S / \bar S)}, \qquad S = \sum_\theta E_\theta ,$$

    where $\bar S$ is the mean of $S$ over the places of the image. With $\nu > 0$ the cells of a
    place hold each other back (divisive normalisation): a faint edge counts nearly as much as a
    strong one, unless its place is much fainter than the others.

    Attributes:
        grid: places along each side of the image, whatever its size.
        num_directions: directions, spread over the full circle.
        sharpness: the power $p$; higher makes a cell more particular about its direction.
        pooling: width of a place's Gaussian, in distances between places.
        blur: width of the first blur, in distances between places.
        normalisation: $\nu$, how strongly the cells of a place hold each other back; 0: not at all.

    Raises:
        ValueError: a number is out of its range.

    Source: Carandini & Heeger (2012), "Normalization as a canonical neural computation".

    Example:
        >>> OrientedEdges((28, 28, 1)).output_shape
        (512,)
    """

    grid: int = 8
    num_directions: int = 8
    sharpness: int = 12
    pooling: float = 0.45
    blur: float = 0.15
    normalisation: float = 2.0

    def __post_init__(self):
        super().__post_init__()
        for name in ("grid", "num_directions", "sharpness"):
            check_positive(name, getattr(self, name))
        check_scalar("pooling", self.pooling, 0)
        check_scalar("blur", self.blur, 0)
        check_scalar("normalisation", self.normalisation, 0, 1e6)

    @property
    def feature_shape(self) -> tuple[int, int, int]:
        """(grid, grid, directions)."""
        return (self.grid, self.grid, self.num_directions)

    def features(self, image: jax.Array) -> jax.Array:
        """Return the pooled edge energy of every direction."""
        smooth = _smooth(image, image.shape[:2], self.blur / self.grid)
        padded = jnp.pad(smooth, ((1, 1), (1, 1), (0, 0)), mode="edge")
        across = (padded[1:-1, 2:] - padded[1:-1, :-2]) / 2
        down = (padded[2:, 1:-1] - padded[:-2, 1:-1]) / 2
        size = square_root(across * across + down * down)[:, :, None, :]
        angles = np.arange(self.num_directions) * (2 * np.pi / self.num_directions)
        # What keeps an even area from being divided by zero must stay below a faint image. Its
        # square is a divisor of the gradient, and must not vanish either.
        least = 1e-6 * jnp.clip(1e3 * jax.lax.stop_gradient(jnp.max(jnp.abs(smooth))), 1e-12, 1)
        along = (
            across[:, :, None, :] * np.cos(angles).astype(np.float32)[None, None, :, None]
            + down[:, :, None, :] * np.sin(angles).astype(np.float32)[None, None, :, None]
        ) / (size + least)
        answers = size * jnp.maximum(along, 0) ** self.sharpness
        shape = answers.shape
        flat = answers.reshape(*shape[:2], -1)
        pooled = _smooth(flat, (self.grid, self.grid), self.pooling / self.grid)
        energies = pooled.reshape(self.grid, self.grid, *shape[2:])
        places = jnp.sum(energies, axis=2, keepdims=True)
        mean = jnp.mean(places, axis=(0, 1), keepdims=True)
        held_back = 1 + self.normalisation * places / jnp.where(mean > 0, mean, 1)
        return square_root(energies / held_back)

    def picture(self, code: jax.Array) -> jax.Array:
        """Return a code as a sketch [9 grid, 9 grid, channels]: a stroke along each edge."""
        offsets = np.arange(9) - 4
        angles = np.arange(self.num_directions) * (2 * np.pi / self.num_directions)
        across = (
            np.cos(angles)[:, None, None] * offsets[None, None, :]
            + np.sin(angles)[:, None, None] * offsets[None, :, None]
        )
        strokes = np.exp(-(across**2)).astype(np.float32)
        features = code.reshape(-1, *self.feature_shape)
        sketch = jnp.einsum("cpqd,dij->piqjc", features, strokes)
        return sketch.reshape(9 * self.grid, 9 * self.grid, -1)


@dataclasses.dataclass(frozen=True)
class FeatureMap(FixedLayer):
    """An encoder's features laid out as an image, for layers that look at places.

    The features are not scaled to length 1 here: columns normalise the contrast of what they see.

    Attributes:
        encoder: whose features.

    Example:
        >>> FeatureMap(OrientedEdges((28, 28, 1), grid=16)).output_shape
        (16, 16, 8)
    """

    encoder: Encoder

    def __post_init__(self):
        check_kind("encoder", self.encoder, Encoder, "one of memjax.vision.encoders")

    @property
    def input_shape(self) -> tuple[int, ...]:
        """[H, W, channels]."""
        return self.encoder.image_shape

    @property
    def output_shape(self) -> tuple[int, ...]:
        """[rows, columns, features of each place x channels]."""
        rows, columns, features = self.encoder.feature_shape
        return (rows, columns, features * self.encoder.image_shape[2])

    def recall(self, params, state, x):
        """Return the map of one image."""
        del params, state
        return self.encoder.features(as_float_image(x)).reshape(self.output_shape)


@dataclasses.dataclass(frozen=True)
class Grey(FixedLayer):
    r"""An image without its colours: $z = \frac{1}{C} \sum_c x_c$ at every pixel.

    Attributes:
        image_shape: (H, W, channels) of one image.

    Raises:
        ValueError: the image shape is not of three positive numbers.

    Source: Gonzalez & Woods, "Digital Image Processing": the intensity of the HSI colour model.

    Example:
        >>> import numpy as np
        >>> print(Grey((1, 2, 3)).recall((), (), np.array([[[3, 6, 9], [0, 0, 255]]], np.uint8)))
        [[[0.02352941]
          [0.33333334]]]
    """

    image_shape: tuple[int, int, int]

    def __post_init__(self):
        check_image_shape(self.image_shape)
        check_lengths("image_shape", self.image_shape)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """[H, W, channels]."""
        return self.image_shape

    @property
    def output_shape(self) -> tuple[int, ...]:
        """[H, W, 1]."""
        return (*self.image_shape[:2], 1)

    def recall(self, params, state, x):
        """Return one image as float32 in grey."""
        del params, state
        return jnp.mean(as_float_image(x), axis=2, keepdims=True)


ENCODERS: dict[str, type[Encoder]] = {
    "pixels": Pixels,
    "blur": Blur,
    "on_off": OnOff,
    "edges": OrientedEdges,
}
"""The encoders by name."""


def as_float_image(image: jax.Array) -> jax.Array:
    """Return an image as float32; integers are scaled from 0 to 255 to 0 to 1, and True is 1."""
    if jnp.issubdtype(image.dtype, jnp.integer):
        return image.astype(jnp.float32) / 255
    return image.astype(jnp.float32)


def _windows(length: int, places: int, sigma: float) -> np.ndarray:
    """Return Gaussian windows [places, length] of ``sigma`` pixels at evenly spread centres."""
    centres = (np.arange(places) + 0.5) * length / places - 0.5
    offsets = np.arange(length)[None, :] - centres[:, None]
    windows = np.exp(-0.5 * (offsets / max(sigma, 0.1)) ** 2)
    return (windows / windows.sum(axis=1, keepdims=True)).astype(np.float32)


def _smooth(image: jax.Array, shape: tuple[int, ...], sigma: float) -> jax.Array:
    """Return [*shape, features]: Gaussian averages of [H, W, features] around each place.

    ``sigma`` is a part of the image's side.
    """
    rows, columns = image.shape[:2]
    return einsum(
        "ph,qw,hwf->pqf",
        _windows(rows, shape[0], sigma * rows),
        _windows(columns, shape[1], sigma * columns),
        image,
    )
