"""Columns: memories of their own at every place of the image, and the eye that moves over it."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from memjax.checks import check_image_shape, check_number, check_positive
from memjax.encoders import as_float_image
from memjax.types import ColumnsInfo, Layer

__all__ = ["Columns", "ColumnsParams", "ColumnsState", "Fixations"]


class ColumnsParams(NamedTuple):
    """The numbers of columns that one may sweep, each a float32 scalar."""

    novelty_threshold: jax.Array  # cosine distance above which a place stores what it sees
    blank_contrast: jax.Array  # norm of a centred patch below which a place sees nothing
    selectivity: jax.Array  # standard deviations above its mean at which a neuron starts to answer
    critical_period: jax.Array  # examples after which a place stores nothing more


class ColumnsState(NamedTuple):
    """What columns have learned; ``P`` places of ``K`` memories of ``D`` features."""

    prototypes: jax.Array  # float32 [P, K, D]: stored patches, of length 1; zero when free
    size: jax.Array  # int32 [P]: memories in use
    stored_at: jax.Array  # int32 [P, K]: examples seen when the memory was stored
    drive: jax.Array  # float32 [P, K]: sum of each neuron's drive since it was stored
    squared_drive: jax.Array  # float32 [P, K]: sum of its square
    num_seen: jax.Array  # int32 []: examples seen


class _ImageByImage(Layer):
    """A layer that learns a block image by image; a subclass writes ``_step``, without a label."""

    def _step(self, params: Any, state: Any, x: jax.Array, is_real: jax.Array | bool) -> Any:
        """Return the state, and the code and the info; one that is not real changes nothing."""
        raise NotImplementedError

    def step(self, params, state, x, label):
        """Learn from one image; see ``Layer.step``."""
        del label
        state, (code, info) = self._step(params, state, x, is_real=True)
        return state, code, info

    def step_block(self, params, state, xs, labels, length=None):
        """Learn from a block, image by image; see ``Layer.step_block``."""
        del labels
        count = xs.shape[0] if length is None else length
        are_real = lax.iota(jnp.int32, xs.shape[0]) < count

        def learn(state, row):
            return self._step(params, state, *row)

        state, (codes, infos) = lax.scan(learn, state, (xs, are_real))
        return state, codes, infos


@dataclasses.dataclass(frozen=True)
class Columns(_ImageByImage):
    r"""One bank of memories for each receptive field, sharing nothing between places.

    The receptive fields lie on a square grid. A place sees its patch $q$ after local contrast
    normalisation, $p = (q - \bar q) / \sqrt{|q - \bar q|^2 + c}$, and for one example

    * stores $p / |p|$ as a new memory, if it is within the ``critical_period``, has room, sees
      anything (contrast over ``blank_contrast``), and no memory of its own is within the cosine
      distance ``novelty_threshold``;
    * drives each of its neurons by $s_k = \langle p, m_k \rangle$, and each neuron keeps the mean
      $\mu_k$ and the deviation $\sigma_k$ of its own drive since it was stored (homeostasis);
    * hands on the graded code $\max(0, s_k - \mu_k - z \sigma_k)$ with the selectivity $z$: how
      near each memory is, beyond what is usual for it.

    Memories do not move once stored, so that a neuron means the same to the layers above for all
    its life. It says nothing before it is stored, and its threshold settles over its first
    examples; a layer above meets these early codes too, which is why the critical period is short:
    a neuron that joins late would be known to a readout from too few examples. The code of an
    example is made after its patches were stored, without its label; no label is used anywhere.

    Attributes:
        image_shape: (H, W, channels) of one input.
        patch: side of a receptive field, pixels.
        places: receptive fields along each side.
        capacity: K, memories of each place.
        contrast_constant: c, on the scale of squared pixels.

    Raises:
        ValueError: an attribute is out of its range, or a patch does not fit the image.

    Source: competing hidden units with local receptive fields after Coates & Ng (2011) and
    McDonnell et al. (2015), recruited by novelty as in Reilly, Cooper & Elbaum (1982).

    Example:
        >>> columns = Columns((28, 28, 1), patch=9, places=5, capacity=100)
        >>> columns.output_shape
        (2500,)
    """

    image_shape: tuple[int, int, int]
    patch: int
    places: int
    capacity: int
    contrast_constant: float = 0.5

    def __post_init__(self):
        check_image_shape(self.image_shape)
        for name in ("patch", "places", "capacity"):
            check_positive(name, getattr(self, name))
        check_number("contrast_constant", self.contrast_constant, 0)
        if self.patch > min(self.image_shape[:2]):
            raise ValueError(
                f"patch: expected at most {min(self.image_shape[:2])}, the image's side, "
                f"got {self.patch}."
            )

    @property
    def input_shape(self) -> tuple[int, ...]:
        """[H, W, channels]."""
        return self.image_shape

    @property
    def output_shape(self) -> tuple[int, ...]:
        """[P K]: the codes of all places, one after another."""
        return (self.places**2 * self.capacity,)

    def params(
        self,
        novelty_threshold: float = 0.3,
        blank_contrast: float = 0.5,
        selectivity: float = 0.5,
        critical_period: float = 2000,
    ) -> ColumnsParams:
        """Return checked params.

        Raises:
            ValueError: a threshold outside 0 to 2, or a negative contrast or period.
        """
        check_number("novelty_threshold", novelty_threshold, 0, 2)
        check_number("blank_contrast", blank_contrast, 0)
        check_number("selectivity", selectivity, -1e6, 1e6)
        check_number("critical_period", critical_period, 0)
        return ColumnsParams(
            *(
                jnp.asarray(number, jnp.float32)
                for number in (novelty_threshold, blank_contrast, selectivity, critical_period)
            )
        )

    def default_params(self) -> ColumnsParams:
        """Return the params that serve grey digits."""
        return self.params()

    def init(self, key: jax.Array) -> ColumnsState:
        """Return empty columns; ``key`` is not used, as every memory comes from the data."""
        del key
        p, k, d = self.places**2, self.capacity, self.patch**2 * self.image_shape[2]
        return ColumnsState(
            prototypes=jnp.zeros((p, k, d), jnp.float32),
            size=jnp.zeros((p,), jnp.int32),
            stored_at=jnp.zeros((p, k), jnp.int32),
            drive=jnp.zeros((p, k), jnp.float32),
            squared_drive=jnp.zeros((p, k), jnp.float32),
            num_seen=jnp.zeros((), jnp.int32),
        )

    def learn(
        self,
        params: ColumnsParams,
        state: ColumnsState,
        x: jax.Array,
        is_real: jax.Array | bool = True,
    ) -> tuple[ColumnsState, ColumnsInfo]:
        """Return the state and the info of one image [H, W, channels], without making its code.

        An image that is not real leaves the state as it is.
        """
        patches, contrasts = self._patches(x[None])
        patches, contrasts = patches[:, 0], contrasts[:, 0]
        norms = jnp.maximum(_norms(patches), 1e-6)
        cosines = _products(patches[:, None], state.prototypes)[:, 0] / norms
        is_free = _places_from(state.size, self.capacity)
        nearest = 1 - jnp.max(jnp.where(is_free, -1, cosines), axis=1)
        is_novel = (nearest > params.novelty_threshold) | (state.size == 0)
        is_stored = is_novel & (contrasts > params.blank_contrast) & (state.size < self.capacity)
        is_stored &= is_real & (state.num_seen.astype(jnp.float32) < params.critical_period)

        rows = jnp.arange(self.places**2, dtype=jnp.int32)
        slots = jnp.minimum(state.size, self.capacity - 1)
        memories = patches / norms
        old = state.prototypes[rows, slots]
        prototypes = state.prototypes.at[rows, slots].set(
            jnp.where(is_stored[:, None], memories, old)
        )
        stored_at = state.stored_at.at[rows, slots].set(
            jnp.where(is_stored, state.num_seen, state.stored_at[rows, slots])
        )
        size = state.size + is_stored.astype(jnp.int32)
        # The drive of a memory by the patch that it was made of counts as its first.
        drive = jnp.where(is_real, _products(patches[:, None], prototypes)[:, 0], 0)
        learned = ColumnsState(
            prototypes=prototypes,
            size=size,
            stored_at=stored_at,
            drive=state.drive + drive,
            squared_drive=state.squared_drive + jnp.square(drive),
            num_seen=state.num_seen + jnp.asarray(is_real, jnp.int32),
        )
        return learned, ColumnsInfo(jnp.sum(is_stored, dtype=jnp.int32))

    def _step(self, params, state, x, is_real):
        state, info = self.learn(params, state, x, is_real)
        return state, (self.recall(params, state, x), info)

    def recall(self, params, state, x):
        """Return the code [P K] of one image without writing."""
        return self.pooled(params, state, x[None], jnp.ones((1,), jnp.float32))

    def pooled(
        self, params: ColumnsParams, state: ColumnsState, views: jax.Array, weights: jax.Array
    ) -> jax.Array:
        """Return the weighted sum [P K] of the codes of views [F, H, W, channels]."""
        patches, _ = self._patches(views)
        drives = _products(patches, state.prototypes)
        number = jnp.maximum(state.num_seen - state.stored_at, 1).astype(jnp.float32)
        mean = state.drive / number
        variance = jnp.maximum(state.squared_drive / number - jnp.square(mean), 0)
        thresholds = mean + params.selectivity * jnp.sqrt(variance)
        answers = jnp.maximum(drives - thresholds[:, None, :], 0)
        code = jnp.einsum("pfk,f->pk", answers, weights)
        is_free = _places_from(state.size, self.capacity)
        return jnp.where(is_free, 0, code).reshape(-1)

    def _patches(self, views: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return patches [P, F, D] of views [F, H, W, channels], and their contrasts [P, F]."""
        views = as_float_image(views)
        rows, columns = (self._starts(side) for side in self.image_shape[:2])
        patches = jnp.stack(
            [
                views[:, row : row + self.patch, column : column + self.patch].reshape(
                    views.shape[0], -1
                )
                for row in rows
                for column in columns
            ]
        )
        patches = patches - jnp.mean(patches, axis=2, keepdims=True)
        squares = jnp.sum(jnp.square(patches), axis=2)
        scale = jax.lax.rsqrt(squares + self.contrast_constant)
        return patches * scale[:, :, None], jnp.sqrt(squares)

    def _starts(self, side: int) -> list[int]:
        return [round(start) for start in np.linspace(0, side - self.patch, self.places)]


@dataclasses.dataclass(frozen=True)
class Fixations(_ImageByImage):
    r"""Let columns look at an image from several shifted positions, and pool their codes over time.

    The eye visits ``num_per_side``$^2$ positions on a square of ``reach`` pixels around the centre;
    beyond the image's edge it sees zeros. The code is the average of the codes of all fixations,
    weighted by a Gaussian of the distance from the centre. The columns learn from one fixation an
    image, another one each time.

    No weight is shared between places: each neuron sees its own part of the retina. But the image
    moves over it, so the pooled code resembles what convolution with local pooling computes, and
    costs as much: ``num_per_side``$^2$ times a single look.

    Attributes:
        columns: the columns that look.
        num_per_side: positions along each side of the square.
        reach: side of the square, pixels.
        sigma: width of the Gaussian, pixels.

    Raises:
        ValueError: an attribute is out of its range.

    Example:
        >>> columns = Columns((28, 28, 1), patch=9, places=5, capacity=100)
        >>> Fixations(columns, num_per_side=4, reach=8).offsets.tolist()
        [-3, -1, 1, 3]
    """

    columns: Columns
    num_per_side: int = 4
    reach: int = 8
    sigma: float = 2.0

    def __post_init__(self):
        check_positive("num_per_side", self.num_per_side)
        check_positive("reach", self.reach)
        check_number("sigma", self.sigma, 1e-3)
        if self.num_per_side > self.reach:
            raise ValueError(
                f"num_per_side: expected at most reach = {self.reach} positions, "
                f"got {self.num_per_side}."
            )

    @property
    def offsets(self) -> np.ndarray:
        """Shifts of the eye along one side, whole pixels."""
        step = self.reach / self.num_per_side
        centres = (np.arange(self.num_per_side) - (self.num_per_side - 1) / 2) * step
        return np.floor(centres).astype(np.int32)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """[H, W, channels]."""
        return self.columns.input_shape

    @property
    def output_shape(self) -> tuple[int, ...]:
        """What the columns hand on."""
        return self.columns.output_shape

    def default_params(self) -> Any:
        """Return the columns' default params."""
        return self.columns.default_params()

    def init(self, key: jax.Array) -> ColumnsState:
        """Return the first state of the columns; the eye has none of its own."""
        return self.columns.init(key)

    def _step(self, params, state, x, is_real):
        views = self._views(x)
        # A stride without a common factor with the number of positions visits all of them.
        turn = (state.num_seen * 7) % views.shape[0]
        state, info = self.columns.learn(params, state, views[turn], is_real)
        return state, (self.columns.pooled(params, state, views, self._weights()), info)

    def recall(self, params, state, x):
        """Return the pooled code of one image without writing."""
        return self.columns.pooled(params, state, self._views(x), self._weights())

    def recall_block(self, params, state, xs):
        """Return the pooled codes of a block, one image at a time: one alone fills the caches."""
        return lax.map(lambda x: self.recall(params, state, x), xs)

    def _views(self, x: jax.Array) -> jax.Array:
        height, width, _ = self.input_shape
        offsets = self.offsets
        margin = int(np.abs(offsets).max())
        padded = jnp.pad(x, ((margin, margin), (margin, margin), (0, 0)))
        return jnp.stack(
            [
                padded[margin + row : margin + row + height, margin + column :][:, :width]
                for row in offsets
                for column in offsets
            ]
        )

    def _weights(self) -> jax.Array:
        offsets = self.offsets - self.offsets.mean()
        side = np.exp(-0.5 * (offsets / self.sigma) ** 2)
        weights = np.outer(side, side).ravel()
        return jnp.asarray(weights / weights.sum(), jnp.float32)


def _products(patches: jax.Array, prototypes: jax.Array) -> jax.Array:
    """Return inner products [P, F, K] of patches [P, F, D] with memories [P, K, D]."""
    dimensions = (((2,), (2,)), ((0,), (0,)))
    return lax.dot_general(patches, prototypes, dimensions, precision=lax.Precision.HIGHEST)


def _norms(rows: jax.Array) -> jax.Array:
    return jnp.sqrt(jnp.sum(jnp.square(rows), axis=-1, keepdims=True))


def _places_from(size: jax.Array, capacity: int) -> jax.Array:
    """Return [P, K]: which rows of each place are still free."""
    return lax.iota(jnp.int32, capacity)[None, :] >= size[:, None]
