"""The eye of columns: which patches of an image a place sees, as the eye moves over it."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from memjax._checks import (
    check_choice,
    check_image_shape,
    check_lengths,
    check_positive,
    check_scalar,
    check_whole,
)
from memjax._numerics import square_root
from memjax.vision.encoders import as_float_image

# A blank patch is divided by the root of this, and not by zero, when no contrast constant is given.
_LEAST = 1e-30


class Looks(NamedTuple):
    """What ``P`` places see from ``F`` positions of the eye."""

    patches: tuple[jax.Array, ...]  # P of float32 [F, D], as they are
    scales: jax.Array  # float32 [P, F]: what normalises a patch once it is centred


@dataclasses.dataclass(frozen=True)
class Eye:
    """Receptive fields, and the positions from which they see an image; see ``Columns``."""

    image_shape: tuple[int, int, int]
    patch: int
    places: int
    fixations: int
    reach: int
    sigma: float
    padding: str
    contrast_constant: float
    margin: int
    seed: int | None

    def __post_init__(self):
        check_image_shape(self.image_shape)
        check_lengths("image_shape", self.image_shape)
        for name in ("patch", "places", "fixations", "reach"):
            check_positive(name, getattr(self, name))
        check_scalar("sigma", self.sigma, 1e-3)
        check_choice("padding", self.padding, ("zero", "reflect"))
        check_scalar("contrast_constant", self.contrast_constant, 0)
        check_whole("margin", self.margin)
        if self.seed is not None:
            check_whole("seed", self.seed)
        if self.reach % self.fixations:
            raise ValueError(
                f"reach: expected a multiple of fixations = {self.fixations}, got {self.reach}."
            )
        side = min(self.image_shape[:2])
        if self.patch > side:
            raise ValueError(f"patch: expected at most {side}, the image's side, got {self.patch}.")
        most = (side - self.patch) // 2
        if self.margin > most:
            raise ValueError(
                f"margin: expected 0 to {most}, so that a patch of {self.patch} fits between the "
                f"margins of an image of {side}, got {self.margin}."
            )

    @property
    def num_pixels(self) -> int:
        """D, the numbers of a patch."""
        return self.patch**2 * self.image_shape[2]

    @property
    def offsets(self) -> np.ndarray:
        """Shifts of the eye along one side, whole pixels; it visits all pairs, row by row."""
        step = self.reach // self.fixations
        return step * np.arange(self.fixations) - (self.reach - step + 1) // 2

    def look(self, x: jax.Array) -> Looks:
        """Return what all places see of one image [H, W, channels], not decorrelated."""
        offsets = self.offsets
        reach = max(int(np.abs(offsets).max()) - self.margin, 0)
        image = jnp.pad(
            as_float_image(x),
            ((reach, reach), (reach, reach), (0, 0)),
            mode="constant" if self.padding == "zero" else "reflect",
        )
        height, width = (side - self.patch + 1 for side in image.shape[:2])
        # Every patch of the image is made once, and the places cut theirs out of them. The synapses
        # centre them.
        rows = jnp.concatenate([image[:, c : c + width] for c in range(self.patch)], axis=2)
        patches = jnp.concatenate([rows[r : r + height] for r in range(self.patch)], axis=2)
        mean = self._mean_of_patches(jnp.mean(image, axis=2))
        squares = jnp.sum(jnp.square(patches - mean[:, :, None]), axis=2)
        # What rounding makes of an even patch must stay small.
        rounding = 1e-11 * self.num_pixels * jnp.square(mean)
        scales = lax.rsqrt(squares + self.contrast_constant + rounding + _LEAST)
        step = int(offsets[1] - offsets[0]) if len(offsets) > 1 else 1
        extent = step * (len(offsets) - 1) + 1

        def cut(numbers):
            starts = self.starts() + reach + int(offsets[0])
            windows = [numbers[r : r + extent : step, c : c + extent : step] for r, c in starts]
            return [window.reshape(len(offsets) ** 2, -1) for window in windows]

        return Looks(tuple(cut(patches)), jnp.stack(cut(scales))[:, :, 0])

    def normal(self, patches: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return normalised patches [..., D], and their contrasts."""
        centred = patches - jnp.mean(patches, axis=-1, keepdims=True)
        squares = jnp.sum(jnp.square(centred), axis=-1, keepdims=True)
        scales = lax.rsqrt(jnp.maximum(squares + self.contrast_constant, _LEAST))
        return centred * scales, square_root(squares)[..., 0]

    def starts(self) -> np.ndarray:
        """Return the first row and column of every receptive field, [P, 2]."""
        lengths = [side - self.patch - 2 * self.margin for side in self.image_shape[:2]]
        if self.seed is not None:
            draw = np.random.default_rng(self.seed)
            ends = np.array(lengths) + 1
            return self.margin + draw.integers(0, ends, (self.places**2, 2))
        rows, columns = (
            np.round(np.linspace(0, length, self.places)).astype(int) for length in lengths
        )
        return self.margin + np.array([(row, column) for row in rows for column in columns])

    def weights(self) -> jax.Array:
        """Return the weights of the looks, float32 [F]: a Gaussian around the centre."""
        offsets = self.offsets - self.offsets.mean()
        side = np.exp(-0.5 * (offsets / self.sigma) ** 2)
        weights = np.outer(side, side).ravel()
        return jnp.asarray(weights / weights.sum(), jnp.float32)

    def _mean_of_patches(self, image: jax.Array) -> jax.Array:
        """Return the mean of every patch of an image [H, W]."""
        height, width = (side - self.patch + 1 for side in image.shape)
        rows = jnp.mean(jnp.stack([image[r : r + height] for r in range(self.patch)]), axis=0)
        columns = [rows[:, c : c + width] for c in range(self.patch)]
        return jnp.mean(jnp.stack(columns), axis=0)
