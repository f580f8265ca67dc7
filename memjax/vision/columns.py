"""Columns: memories of their own at every place of the image, and the eye that moves over it."""

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from memjax._checks import (
    check_bool,
    check_choice,
    check_image_shape,
    check_kind,
    check_lengths,
    check_number,
    check_positive,
    check_scalar,
    check_whole,
    checked_inputs,
    checked_params,
)
from memjax.base import Layer, RecruitInfo
from memjax.projections import decorrelated, gathered, nothing_gathered
from memjax.vision.encoders import as_float_image

__all__ = ["Columns", "ColumnsParams", "ColumnsState", "Fixations", "Looks"]


# A blank patch is divided by the root of this, and not by zero, when no contrast constant is given.
_LEAST = 1e-30


class ColumnsParams(NamedTuple):
    """The numbers of columns that one may sweep, each a float32 scalar."""

    novelty_threshold: jax.Array  # cosine distance above which a place stores what it sees
    blank_contrast: jax.Array  # norm of a centred patch below which a place sees nothing
    selectivity: jax.Array  # standard deviations above its mean at which a neuron starts to answer
    critical_period: jax.Array  # examples after which a place stores nothing more
    homeostasis_period: jax.Array  # examples from its storing on by which a neuron adapts
    decorrelation_period: jax.Array  # first examples, from which places learn to decorrelate
    decorrelation_floor: jax.Array  # added to each component's variance, in mean variances

    ranges = (
        (0, 2),
        (0, math.inf),
        (-1e6, 1e6),
        (0, math.inf),
        (1, math.inf),
        (0, math.inf),
        (0, math.inf),
    )


class ColumnsState(NamedTuple):
    """What columns have learned; ``P`` places of ``K`` memories.

    A memory has ``E`` features, the ``D`` of a patch or its decorrelated components.
    """

    prototypes: jax.Array  # float32 [P, K, E]: stored patches, of length 1; zero when free
    size: jax.Array  # int32 [P]: memories in use
    stored_at: jax.Array  # int32 [P, K]: examples seen when the memory was stored
    drive: jax.Array  # float32 [P, K]: sum of each neuron's drive in its homeostasis period
    squared_drive: jax.Array  # float32 [P, K]: sum of its square, over the same examples
    decorrelation: Any  # DecorrelationSums [P, ...], each place its own; () for none
    num_seen: jax.Array  # int32 []: examples seen


class Looks(NamedTuple):
    """What ``P`` places see from ``F`` positions of the eye."""

    patches: jax.Array  # float32 [P, F, D], or [P, F, E] when decorrelated
    contrasts: jax.Array  # float32 [P, F]: norms of the centred patches


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

    def recall_block(self, params, state, xs):
        """Return the codes of a block, one image at a time: one alone fills the caches."""
        return lax.map(lambda x: self.recall(params, state, x), xs)


@checked_inputs
@dataclasses.dataclass(frozen=True)
class Columns(_ImageByImage):
    r"""One bank of memories for each receptive field, sharing nothing between places.

    The receptive fields lie on a square grid, or where ``seed`` draws them. A place sees its patch
    $q$ after local contrast normalisation, $p = (q - \bar q) / \sqrt{|q - \bar q|^2 + c}$, and for
    one example

    * with ``dimensions``, learns in the first ``decorrelation_period`` examples which components of
      $p$ are strong, and from then on sees them at like strength in place of $p$
      (``memjax.projections``, each place its own); until then it stores and says nothing;
    * stores $p / |p|$ as a new memory, if it is within the ``critical_period``, has room, sees
      anything (contrast over ``blank_contrast``), and no memory of its own is within the cosine
      distance ``novelty_threshold``;
    * drives each of its neurons by $s_k = \langle p, m_k \rangle$, and each neuron keeps the mean
      $\mu_k$ and the deviation $\sigma_k$ of its own drive since it was stored (homeostasis), over
      at most ``homeostasis_period`` examples;
    * hands on a graded code, how near each memory is beyond what is usual: for the neuron,
      $\max(0, s_k - \mu_k - z \sigma_k)$ with the selectivity $z$ (``"threshold"``); or for the
      place, $\max(0, \bar d - d_k)$ with $d_k = |p - m_k|$ and their mean $\bar d$
      (``"triangle"``); with ``square_root``, the root of it.

    Memories do not move once stored, so that a neuron means the same to the layers above for all
    its life. It says nothing before it is stored, and its threshold settles over its first
    examples; a layer above meets these early codes too, which is why the critical period is short:
    a neuron that joins late would be known to a readout from too few examples. docs/concepts.md
    says what the early codes cost. Where classes come one after another, the homeostasis period
    must be short as well: thresholds that follow the stream change the code of what was learned
    long ago (docs/continual.md). The code of an example is made after its patches were stored,
    without its label; no label is used anywhere.

    Attributes:
        image_shape: (H, W, channels) of one input.
        patch: side of a receptive field, pixels.
        places: receptive fields along each side; their square is P.
        capacity: K, memories of each place.
        contrast_constant: c, on the scale of squared pixels.
        dimensions: E, decorrelated components that a place sees; None for the patch as it is.
        margin: pixels between the image's edge and the outermost receptive fields; an eye that
            moves no farther than this never looks beyond the image.
        response: "threshold" or "triangle".
        square_root: whether the square root of a code is handed on.
        seed: draws the places at random, with this seed, in place of the grid.

    Raises:
        ValueError: an attribute is out of its range, or a patch does not fit the image.

    Source: competing hidden units with local receptive fields, whitening and triangle code after
    Coates, Ng & Lee (2011), "An analysis of single-layer networks in unsupervised feature
    learning", and McDonnell et al. (2015); recruited by novelty as in Reilly, Cooper & Elbaum
    (1982).

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
    dimensions: int | None = None
    margin: int = 0
    response: str = "threshold"
    square_root: bool = False
    seed: int | None = None

    def __post_init__(self):
        check_image_shape(self.image_shape)
        check_lengths("image_shape", self.image_shape)
        for name in ("patch", "places", "capacity"):
            check_positive(name, getattr(self, name))
        check_scalar("contrast_constant", self.contrast_constant, 0)
        check_whole("margin", self.margin)
        check_choice("response", self.response, ("threshold", "triangle"))
        check_bool("square_root", self.square_root)
        if self.seed is not None:
            check_whole("seed", self.seed)
        side = min(self.image_shape[:2])
        if self.patch > side:
            raise ValueError(f"patch: expected at most {side}, the image's side, got {self.patch}.")
        most = (side - self.patch) // 2
        if self.margin > most:
            raise ValueError(
                f"margin: expected 0 to {most}, so that a patch of {self.patch} fits between the "
                f"margins of an image of {side}, got {self.margin}."
            )
        if self.dimensions is not None:
            check_positive("dimensions", self.dimensions)
            if self.dimensions > self._num_pixels:
                raise ValueError(
                    f"dimensions: expected at most {self._num_pixels}, the numbers of a patch, "
                    f"got {self.dimensions}."
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
        homeostasis_period: float = math.inf,
        decorrelation_period: float = 500,
        decorrelation_floor: float = 0.3,
    ) -> ColumnsParams:
        """Return checked params.

        Raises:
            ValueError: a threshold outside 0 to 2, a negative contrast, period or floor, no
                example to adapt by, or places that would decorrelate by nothing.
        """
        check_number("decorrelation_period", decorrelation_period, self.dimensions is not None)
        return checked_params(
            ColumnsParams,
            novelty_threshold=novelty_threshold,
            blank_contrast=blank_contrast,
            selectivity=selectivity,
            critical_period=critical_period,
            homeostasis_period=homeostasis_period,
            decorrelation_period=decorrelation_period,
            decorrelation_floor=decorrelation_floor,
        )

    def default_params(self) -> ColumnsParams:
        """Return the params that serve grey digits."""
        return self.params()

    def init(self, key: jax.Array) -> ColumnsState:
        """Return empty columns; ``key`` is not used, as every memory comes from the data."""
        del key
        p, k, d, e = self.places**2, self.capacity, self._num_pixels, self.dimensions
        return ColumnsState(
            prototypes=jnp.zeros((p, k, e or d), jnp.float32),
            size=jnp.zeros((p,), jnp.int32),
            stored_at=jnp.zeros((p, k), jnp.int32),
            drive=jnp.zeros((p, k), jnp.float32),
            squared_drive=jnp.zeros((p, k), jnp.float32),
            decorrelation=() if e is None else nothing_gathered((p,), d, e),
            num_seen=jnp.zeros((), jnp.int32),
        )

    def recall(self, params, state, x):
        """Return the code [P K] of one image without writing."""
        return Fixations(self, num_per_side=1, reach=1).recall(params, state, x)

    def _step(self, params, state, x, is_real):
        return Fixations(self, num_per_side=1, reach=1)._step(params, state, x, is_real)

    def look(self, x: jax.Array, offsets: np.ndarray, padding: str) -> Looks:
        """Return what all places see of one image [H, W, channels], not decorrelated.

        Args:
            x: the image.
            offsets: evenly spaced shifts of the eye, pixels; it visits all pairs, row by row.
            padding: "zero" or "reflect", what lies beyond the image's edge.
        """
        reach = max(int(np.abs(offsets).max()) - self.margin, 0)
        image = jnp.pad(
            as_float_image(x),
            ((reach, reach), (reach, reach), (0, 0)),
            mode="constant" if padding == "zero" else "reflect",
        )
        height, width = (side - self.patch + 1 for side in image.shape[:2])
        # Every patch of the image is made and normalised once; the places cut theirs out of them.
        patches = jnp.concatenate(
            [
                image[row : row + height, column : column + width]
                for row in range(self.patch)
                for column in range(self.patch)
            ],
            axis=2,
        )
        patches = patches - jnp.mean(patches, axis=2, keepdims=True)
        squares = jnp.sum(jnp.square(patches), axis=2, keepdims=True)
        step = int(offsets[1] - offsets[0]) if len(offsets) > 1 else 1
        extent = step * (len(offsets) - 1) + 1

        def cut(rows):
            starts = self._starts() + reach + int(offsets[0])
            windows = [rows[r : r + extent : step, c : c + extent : step] for r, c in starts]
            return jnp.stack([window.reshape(len(offsets) ** 2, -1) for window in windows])

        return Looks(
            cut(patches * lax.rsqrt(jnp.maximum(squares + self.contrast_constant, _LEAST))),
            cut(jnp.sqrt(squares))[:, :, 0],
        )

    def learn(
        self,
        params: ColumnsParams,
        state: ColumnsState,
        looks: Looks,
        turn: jax.Array | int,
        is_real: jax.Array | bool = True,
    ) -> tuple[ColumnsState, RecruitInfo]:
        """Return the state and the info of one image, without making its code.

        Args:
            params: the columns' numbers.
            state: what they have learned so far.
            looks: what they see.
            turn: which of the F looks they store and settle by; all serve the decorrelation.
            is_real: an image that is not real leaves the state as it is.
        """
        seen = state.num_seen.astype(jnp.float32)
        may_store = is_real & (seen < params.critical_period)
        if self.dimensions is not None:
            is_learned = is_real & (seen < params.decorrelation_period)
            is_over = is_learned & (seen + 1 >= params.decorrelation_period)
            may_store &= ~is_learned | is_over
            rows = jnp.broadcast_to(is_learned, looks.patches.shape[1:2])
            sums = gathered(
                state.decorrelation, looks.patches, rows, is_over, params.decorrelation_floor, 0.5
            )
            state = state._replace(decorrelation=sums)
        patches, contrasts = looks.patches[:, turn][:, None], looks.contrasts[:, turn]
        patches = self._decorrelated(state, patches)
        memories = patches[:, 0] / jnp.maximum(_norms(patches[:, 0]), 1e-6)
        cosines = _products(state.prototypes, memories[:, None])[:, :, 0]
        nearest = 1 - jnp.max(jnp.where(self._is_free(state), -1, cosines), axis=1)
        is_novel = (nearest > params.novelty_threshold) | (state.size == 0)
        is_stored = is_novel & (contrasts > params.blank_contrast) & (state.size < self.capacity)
        is_stored &= may_store

        rows = jnp.arange(self.places**2, dtype=jnp.int32)
        slots = jnp.minimum(state.size, self.capacity - 1)
        old = state.prototypes[rows, slots]
        prototypes = state.prototypes.at[rows, slots].set(
            jnp.where(is_stored[:, None], memories, old)
        )
        stored_at = state.stored_at.at[rows, slots].set(
            jnp.where(is_stored, state.num_seen, state.stored_at[rows, slots])
        )
        # The drive of a memory by the patch that it was made of counts as its first.
        drive = _products(prototypes, patches)[:, :, 0]
        number = (state.num_seen - stored_at).astype(jnp.float32)
        drive = jnp.where(is_real & (number < params.homeostasis_period), drive, 0)
        learned = ColumnsState(
            prototypes=prototypes,
            size=state.size + is_stored.astype(jnp.int32),
            stored_at=stored_at,
            drive=state.drive + drive,
            squared_drive=state.squared_drive + jnp.square(drive),
            decorrelation=state.decorrelation,
            num_seen=state.num_seen + jnp.asarray(is_real, jnp.int32),
        )
        return learned, RecruitInfo(jnp.sum(is_stored, dtype=jnp.int32))

    def pooled(
        self, params: ColumnsParams, state: ColumnsState, looks: Looks, weights: jax.Array
    ) -> jax.Array:
        """Return the code [P K] of looks, each with a weight [F]."""
        patches = self._decorrelated(state, looks.patches)
        # Looks come last: sums over a place's neurons are then sums of whole rows, which is fast.
        drives = _products(state.prototypes, patches)
        is_free = self._is_free(state)
        if self.response == "threshold":
            number = (state.num_seen - state.stored_at).astype(jnp.float32)
            number = jnp.clip(number, 1, params.homeostasis_period)
            mean = state.drive / number
            variance = jnp.maximum(state.squared_drive / number - jnp.square(mean), 0)
            thresholds = mean + params.selectivity * jnp.sqrt(variance)
            answers = jnp.maximum(drives - thresholds[:, :, None], 0)
        else:
            squares = jnp.sum(jnp.square(patches), axis=2)[:, None, :]
            distances = jnp.sqrt(jnp.maximum(squares + 1 - 2 * drives, 0))
            distances = jnp.where(is_free[:, :, None], 0, distances)
            size = jnp.maximum(state.size, 1).astype(jnp.float32)[:, None, None]
            usual = jnp.sum(distances, axis=1, keepdims=True) / size
            answers = jnp.maximum(usual - distances, 0)
        code = jnp.where(is_free, 0, jnp.einsum("pkf,f->pk", answers, weights))
        return (jnp.sqrt(code) if self.square_root else code).reshape(-1)

    @property
    def _num_pixels(self) -> int:
        return self.patch**2 * self.image_shape[2]

    def _decorrelated(self, state: ColumnsState, patches: jax.Array) -> jax.Array:
        if self.dimensions is None:
            return patches
        return decorrelated(state.decorrelation, patches)

    def _is_free(self, state: ColumnsState) -> jax.Array:
        """Return [P, K]: which rows of each place are still free."""
        return lax.iota(jnp.int32, self.capacity)[None, :] >= state.size[:, None]

    def _starts(self) -> np.ndarray:
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


@checked_inputs
@dataclasses.dataclass(frozen=True)
class Fixations(_ImageByImage):
    r"""Let columns look at an image from several shifted positions, and pool their codes over time.

    The eye visits ``num_per_side``$^2$ positions on a square of ``reach`` pixels around the centre.
    The code is the average of the codes of all fixations, weighted by a Gaussian of the distance
    from the centre. The columns store from one fixation an image, another one each time.

    No weight is shared between places: each neuron sees its own part of the retina. But the image
    moves over it, so the pooled code resembles what convolution with local pooling computes, and
    costs as much: ``num_per_side``$^2$ times a single look.

    Attributes:
        columns: the columns that look.
        num_per_side: positions along each side of the square.
        reach: side of the square, pixels; a multiple of ``num_per_side``.
        sigma: width of the Gaussian, pixels.
        padding: "zero" or "reflect", what the eye sees beyond the image's edge.

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
    padding: str = "zero"

    def __post_init__(self):
        check_kind("columns", self.columns, Columns, "Columns")
        check_positive("num_per_side", self.num_per_side)
        check_positive("reach", self.reach)
        check_scalar("sigma", self.sigma, 1e-3)
        check_choice("padding", self.padding, ("zero", "reflect"))
        if self.reach % self.num_per_side:
            raise ValueError(
                f"reach: expected a multiple of num_per_side = {self.num_per_side}, "
                f"got {self.reach}."
            )

    @property
    def offsets(self) -> np.ndarray:
        """Shifts of the eye along one side, whole pixels."""
        step = self.reach // self.num_per_side
        return step * np.arange(self.num_per_side) - (self.reach - step + 1) // 2

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
        looks = self.columns.look(x, self.offsets, self.padding)
        # A stride without a common factor with the number of positions visits all of them.
        turn = (state.num_seen * 7) % self.num_per_side**2
        state, info = self.columns.learn(params, state, looks, turn, is_real)
        return state, (self.columns.pooled(params, state, looks, self._weights()), info)

    def recall(self, params, state, x):
        """Return the pooled code of one image without writing."""
        looks = self.columns.look(x, self.offsets, self.padding)
        return self.columns.pooled(params, state, looks, self._weights())

    def _weights(self) -> jax.Array:
        offsets = self.offsets - self.offsets.mean()
        side = np.exp(-0.5 * (offsets / self.sigma) ** 2)
        weights = np.outer(side, side).ravel()
        return jnp.asarray(weights / weights.sum(), jnp.float32)


def _products(prototypes: jax.Array, patches: jax.Array) -> jax.Array:
    """Return inner products [P, K, F] of memories [P, K, E] with patches [P, F, E]."""
    dimensions = (((2,), (2,)), ((0,), (0,)))
    return lax.dot_general(prototypes, patches, dimensions, precision=lax.Precision.HIGHEST)


def _norms(rows: jax.Array) -> jax.Array:
    return jnp.sqrt(jnp.sum(jnp.square(rows), axis=-1, keepdims=True))
