"""Columns: memories of their own at every place of an image, and an eye that moves over it."""

import dataclasses
import math
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from memjax._checks import (
    check_bool,
    check_choice,
    check_learned,
    check_number,
    check_positive,
)
from memjax._decorrelation import decorrelate, empty_sums, gather, mean_of
from memjax._novelty import NUM_BINS, count_distances, share_nearer
from memjax._numerics import (
    einsum,
    inner_products,
    matmul,
    norms,
    one_member_at_a_time,
    run_if,
    square_root,
)
from memjax.base import Layer, RecruitInfo
from memjax.params import Number, exportable
from memjax.vision._eye import Eye, Looks


@exportable
class ColumnsParams(NamedTuple):
    """The numbers of columns that one may sweep, each a float32 scalar."""

    novelty_threshold: Annotated[
        jax.Array, Number(0.3, 0, 2, "cosine distance above which a place stores what it sees")
    ]
    blank_contrast: Annotated[
        jax.Array,
        Number(0.5, 0, math.inf, "norm of a centred patch below which a place sees nothing"),
    ]
    selectivity: Annotated[
        jax.Array,
        Number(0.5, -1e6, 1e6, "standard deviations above its mean at which a neuron responds"),
    ]
    critical_period: Annotated[
        jax.Array, Number(2000.0, 0, math.inf, "examples after which a place stores nothing more")
    ]
    homeostasis_period: Annotated[
        jax.Array,
        Number(math.inf, 1, math.inf, "examples since its storing by which a neuron adapts"),
    ]
    decorrelation_period: Annotated[
        jax.Array,
        Number(500.0, 0, math.inf, "first examples, by which places learn to decorrelate"),
    ]
    decorrelation_floor: Annotated[
        jax.Array,
        Number(0.3, 0, math.inf, "added to the variance of each component, in mean variances"),
    ]


@exportable
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
    distance_counts: jax.Array  # int32 [1024]: examples by their distance (_novelty.py)


class _Synapses(NamedTuple):
    """How a patch as it is drives the neurons of each place: by its scale W q - offset."""

    weights: tuple[jax.Array, ...]  # P of float32 [K, D], each row with the mean 0
    offsets: jax.Array  # float32 [P, K]


@dataclasses.dataclass(frozen=True)
class Columns(Layer):
    r"""One bank of memories for each receptive field, and the eye that moves over the image.

    The receptive fields lie on a square grid, or where ``seed`` draws them. Places share nothing. A
    place sees its patch $q$ after local contrast normalisation,
    $p = (q - \bar q) / \sqrt{|q - \bar q|^2 + c}$. For each example it does the following.

    * *Decorrelation*, with ``dimensions``: in the first ``decorrelation_period`` examples it learns
      which components of $p$ are strong. From then on it sees these in place of $p$, all about
      equally strong. Until then it stores nothing and says nothing.
    * *Storing*: $p / |p|$ becomes a new memory if the place is in its ``critical_period``, has
      room, sees anything (a contrast over ``blank_contrast``), and has no memory within the cosine
      distance ``novelty_threshold``.
    * *Homeostasis*: each neuron is driven by $s_k = \langle p, m_k \rangle$, and keeps the mean
      $\mu_k$ and the deviation $\sigma_k$ of its drive in its first ``homeostasis_period``
      examples.
    * *Code*: with a response "threshold" a neuron responds $\max(0, s_k - \mu_k - z \sigma_k)$,
      where $z$ is the selectivity. With "two-sided" it says in a second number how much it sees the
      opposite, $\max(0, \mu_k - z \sigma_k - s_k)$. With "triangle" it responds
      $\max(0, \bar d - d_k)$, where $d_k = |p - m_k|$ and $\bar d$ is their mean at the place. With
      ``square_root`` the root is handed on.

    The eye visits ``fixations``$^2$ positions on a square of ``reach`` pixels around the centre.
    The code is the average of the responses at all positions, weighted by a Gaussian of the
    distance from the centre. Each image stores from one position, the next image from another.
    Each neuron sees its own part of the retina, so no weight is shared between places. But the
    image moves over the retina: the average resembles what convolution with local pooling
    computes, and costs as much, ``fixations``$^2$ times a single look.

    A memory does not change once it is stored, so a neuron means the same to the layers above for
    all its life. The threshold of a neuron settles over its first examples, and a layer above meets
    these early codes too. Therefore the critical period is short: a readout would know a late
    neuron from too few examples (docs/concepts.md). If classes come one after another, the
    homeostasis period must be short as well, since a threshold that follows the stream changes the
    code of what was learned long ago (docs/continual.md). The code of an example is made after its
    patches were stored. No label is used anywhere.

    Attributes:
        image_shape: (H, W, channels) of one input.
        patch: side of a receptive field, pixels.
        places: receptive fields along each side; their square is P.
        capacity: K, memories of each place.
        fixations: positions of the eye along each side; 1 for an eye that does not move.
        reach: side of the square that the eye visits, pixels; a multiple of ``fixations``.
        sigma: width of the Gaussian of the average, pixels.
        padding: "zero" or "reflect": what the eye sees beyond the edge of the image.
        contrast_constant: c, on the scale of squared pixels.
        dimensions: E, decorrelated components that a place sees; None for the patch as it is.
        margin: pixels between the edge of the image and the outermost receptive fields. An eye that
            moves no farther than this never looks beyond the image.
        response: "threshold", "two-sided" or "triangle".
        square_root: whether the square root of a code is handed on.
        seed: draws the places at random, with this seed; None for the grid.

    Raises:
        ValueError: an attribute is out of its range, or a patch does not fit the image.

    Source: competing hidden units with local receptive fields, whitening and triangle code after
    Coates, Ng & Lee (2011), "An analysis of single-layer networks in unsupervised feature
    learning", and McDonnell et al. (2015); recruited by novelty as in Reilly, Cooper & Elbaum
    (1982).

    Example:
        >>> columns = Columns((28, 28, 1), patch=9, places=5, capacity=100, fixations=4, reach=8)
        >>> columns.output_shape, columns.offsets.tolist()
        ((2500,), [-3, -1, 1, 3])
    """

    params_kind = ColumnsParams

    image_shape: tuple[int, int, int]
    patch: int
    places: int
    capacity: int
    fixations: int = 1
    reach: int = 1
    sigma: float = 2.0
    padding: str = "zero"
    contrast_constant: float = 0.5
    dimensions: int | None = None
    margin: int = 0
    response: str = "threshold"
    square_root: bool = False
    seed: int | None = None

    def __post_init__(self):
        eye = self._eye  # checks what it takes
        check_positive("capacity", self.capacity)
        check_choice("response", self.response, ("threshold", "two-sided", "triangle"))
        check_bool("square_root", self.square_root)
        if self.dimensions is not None:
            check_positive("dimensions", self.dimensions)
            if self.dimensions > eye.num_pixels:
                raise ValueError(
                    f"dimensions: expected at most {eye.num_pixels}, the numbers of a patch, "
                    f"got {self.dimensions}."
                )

    @property
    def input_shape(self) -> tuple[int, ...]:
        """[H, W, channels]."""
        return self.image_shape

    @property
    def output_shape(self) -> tuple[int, ...]:
        """[P R]: the codes of all places, one after another; R is K, or 2 K if two-sided."""
        sides = 2 if self.response == "two-sided" else 1
        return (self.places**2 * sides * self.capacity,)

    def params(self, *values: Any, **numbers: Any) -> ColumnsParams:
        """Return checked params; see ``Layer.params``. Places decorrelate by at least 1 example."""
        params = super().params(*values, **numbers)
        check_number(
            "decorrelation_period", params.decorrelation_period, self.dimensions is not None
        )
        return params

    def init(self, key: jax.Array) -> ColumnsState:
        """Return empty columns; ``key`` is not used, as every memory comes from the data."""
        del key
        p, k, d, e = self.places**2, self.capacity, self._eye.num_pixels, self.dimensions
        return ColumnsState(
            prototypes=jnp.zeros((p, k, e or d), jnp.float32),
            size=jnp.zeros((p,), jnp.int32),
            stored_at=jnp.zeros((p, k), jnp.int32),
            drive=jnp.zeros((p, k), jnp.float32),
            squared_drive=jnp.zeros((p, k), jnp.float32),
            decorrelation=() if e is None else empty_sums((p,), d, e),
            num_seen=jnp.zeros((), jnp.int32),
            distance_counts=jnp.zeros((NUM_BINS,), jnp.int32),
        )

    def step(self, params, state, x, label):
        """Learn from one image; see ``Layer.step``."""
        del label
        synapses = self._synapses(state.prototypes, state.decorrelation)
        (state, _), (code, info) = self._learn(params, state, synapses, x, is_real=True)
        return state, code, info

    def step_block(self, params, state, xs, labels, length=None):
        """Learn from a block, image by image; see ``Layer.step_block``."""
        del labels
        count = jnp.asarray(xs.shape[0] if length is None else length, jnp.int32)
        return one_member_at_a_time(self._learn_block)(params, state, xs, count)

    def _learn_block(self, params, state, xs, count):
        are_real = lax.iota(jnp.int32, xs.shape[0]) < count

        def learn(carry, row):
            return self._learn(params, *carry, *row)

        carry = state, self._synapses(state.prototypes, state.decorrelation)
        (state, _), (codes, infos) = lax.scan(learn, carry, (xs, are_real))
        return state, codes, infos

    def recall(self, params, state, x):
        """Return the code [P R] of one image without writing."""
        synapses = self._synapses(state.prototypes, state.decorrelation)
        return self._pool(params, state, synapses, self._eye.look(x))

    def recall_block(self, params, state, xs):
        """Return the codes of a block, one image at a time: one alone fills the caches."""
        synapses = self._synapses(state.prototypes, state.decorrelation)
        return lax.map(lambda x: self._pool(params, state, synapses, self._eye.look(x)), xs)

    def novelty_block(self, params, state, xs):
        """Return [B, 1]: the share of the learned images that were nearer to the memories.

        An image's distance is the mean cosine distance, over all places that see anything, from
        what a place sees to its nearest memory, with the eye in the centre. Where no place sees
        anything it is 2, the greatest there is.
        """
        centre = (self.fixations // 2) * (self.fixations + 1)

        def distance(x):
            _, nearest, is_blank = self._nearest(params, state, self._eye.look(x), centre)
            return _mean_distance(nearest, is_blank)

        return share_nearer(state.distance_counts, lax.map(distance, xs))[:, None]

    def check_values(self, state: ColumnsState) -> None:
        """Raise unless all places can have learned what they hold; see ``Layer.check_values``."""
        super().check_values(state)
        check_learned("Columns.num_seen", state.num_seen, 0)
        check_learned("Columns.size", state.size, 0, min(self.capacity, int(state.num_seen)))
        check_learned("Columns.stored_at", state.stored_at, 0, int(state.num_seen))
        check_learned("Columns.squared_drive", state.squared_drive, 0)
        check_learned("Columns.distance_counts", state.distance_counts, 0)
        is_free = np.arange(self.capacity)[None, :] >= np.asarray(state.size)[:, None]
        for name in ("prototypes", "stored_at", "drive", "squared_drive"):
            free = np.asarray(getattr(state, name))[is_free]
            check_learned(f"Columns.{name} of free rows", free, 0, 0)
        if self.dimensions is not None:
            check_learned("Columns.decorrelation.number", state.decorrelation.number, 0)

    def num_memories(self, state: ColumnsState) -> jax.Array:
        """Return how many memories are in use, int32 []."""
        return jnp.sum(state.size)

    @property
    def offsets(self) -> np.ndarray:
        """Shifts of the eye along one side, whole pixels; it visits all pairs, row by row."""
        return self._eye.offsets

    @property
    def _eye(self) -> Eye:
        return Eye(**{field.name: getattr(self, field.name) for field in dataclasses.fields(Eye)})

    def _learn(self, params, state, synapses, x, is_real):
        """Return (state, synapses), (code, info); an image that is not real changes nothing."""
        looks = self._eye.look(x)
        # A stride without a common factor with the number of positions visits all of them.
        turn = (state.num_seen * 7) % self.fixations**2
        state, info, is_changed = self._store(params, state, looks, turn, is_real)
        synapses = run_if(
            is_changed, self._synapses, synapses, state.prototypes, state.decorrelation
        )
        return (state, synapses), (self._pool(params, state, synapses, looks), info)

    def _store(
        self,
        params: ColumnsParams,
        state: ColumnsState,
        looks: Looks,
        turn: jax.Array,
        is_real: jax.Array | bool,
    ) -> tuple[ColumnsState, RecruitInfo, jax.Array]:
        """Store and settle by one of the looks, ``turn``; all looks serve the decorrelation.

        Also returns whether a place has another memory, or decorrelates otherwise, than before.
        """
        seen = state.num_seen.astype(jnp.float32)
        may_store = is_real & (seen < params.critical_period)
        is_counted = jnp.asarray(is_real)
        is_over = jnp.asarray(False)
        if self.dimensions is not None:
            is_learned = is_real & (seen < params.decorrelation_period)
            is_over = is_learned & (seen + 1 >= params.decorrelation_period)
            sees = ~is_learned | is_over
            may_store, is_counted = may_store & sees, is_counted & sees
            sums = gather(
                state.decorrelation,
                looks.patches,
                jnp.broadcast_to(is_learned, looks.scales.shape[1:]),
                is_over,
                params.decorrelation_floor,
                0.5,
                lambda patches: self._eye.normal(jnp.stack(patches))[0],
            )
            state = state._replace(decorrelation=sums)
        patches, nearest, is_blank = self._nearest(params, state, looks, turn)
        memories = _of_length_one(patches)
        is_novel = (nearest > params.novelty_threshold) | (state.size == 0)
        is_stored = is_novel & ~is_blank & (state.size < self.capacity) & may_store

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
        drive = inner_products(prototypes, patches[:, None])[:, :, 0]
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
            distance_counts=count_distances(
                state.distance_counts, _mean_distance(nearest, is_blank), is_counted
            ),
        )
        info = RecruitInfo(jnp.sum(is_stored, dtype=jnp.int32))
        return learned, info, is_over | jnp.any(is_stored)

    def _nearest(
        self, params: ColumnsParams, state: ColumnsState, looks: Looks, turn: Any
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Return what places see by one look [P, E], the distances, and which see nothing [P]."""
        seen = jnp.stack([patches[turn] for patches in looks.patches])
        normal, contrasts = self._eye.normal(seen)
        patches = self._decorrelate(state, normal[:, None])[:, 0]
        cosines = inner_products(state.prototypes, _of_length_one(patches)[:, None])[:, :, 0]
        nearest = 1 - jnp.max(jnp.where(self._is_free(state), -1, cosines), axis=1)
        return patches, nearest, contrasts <= params.blank_contrast

    def _synapses(self, prototypes: jax.Array, decorrelation: Any) -> _Synapses:
        """Return the synapses: to centre and to decorrelate a patch is part of them."""
        offsets = jnp.zeros_like(prototypes[:, :, 0])
        if self.response == "triangle":  # asks for the decorrelated patches themselves
            return _Synapses((), offsets)
        if self.dimensions is not None:
            prototypes = einsum("pke,pde->pkd", prototypes, decorrelation.matrix)
            offsets = einsum("pkd,pd->pk", prototypes, mean_of(decorrelation))
        centred = prototypes - jnp.mean(prototypes, axis=2, keepdims=True)
        return _Synapses(tuple(centred), offsets)

    def _pool(
        self, params: ColumnsParams, state: ColumnsState, synapses: _Synapses, looks: Looks
    ) -> jax.Array:
        """Return the code [P R]: the responses to all looks, averaged."""
        is_free = self._is_free(state)
        if self.response == "triangle":
            sides = [self._triangles(state, looks)]
        else:
            sides = self._crossings(params, state, synapses, looks)
        code = jnp.concatenate([jnp.where(is_free, 0, side) for side in sides], axis=1)
        return (square_root(code) if self.square_root else code).reshape(-1)

    def _crossings(
        self, params: ColumnsParams, state: ColumnsState, synapses: _Synapses, looks: Looks
    ) -> list[jax.Array]:
        """Return the averages [P, K] of what is above the thresholds, and of what is below."""
        number = (state.num_seen - state.stored_at).astype(jnp.float32)
        number = jnp.clip(number, 1, params.homeostasis_period)
        mean = state.drive / number
        variance = jnp.maximum(state.squared_drive / number - jnp.square(mean), 0)
        margin = params.selectivity * square_root(variance)
        least = (synapses.offsets + mean + margin)[:, :, None]
        most = (synapses.offsets + mean - margin)[:, :, None]
        weights, above, below = self._eye.weights(), [], []
        # A product of its own for each place, since XLA computes several on as many cores, but
        # one product with an axis of places on one core.
        for place in range(self.places**2):
            # Looks come last: sums over a place's neurons are then sums of whole rows.
            drives = inner_products(synapses.weights[place], looks.patches[place])
            drives = drives * looks.scales[place][None]
            above.append(matmul(jnp.maximum(drives - least[place], 0), weights))
            if self.response == "two-sided":
                below.append(matmul(jnp.maximum(most[place] - drives, 0), weights))
        return [jnp.stack(side) for side in (above, below) if side]

    def _triangles(self, state: ColumnsState, looks: Looks) -> jax.Array:
        """Return the averages [P, K] of how much nearer than usual a memory is."""
        patches = self._decorrelate(state, self._eye.normal(jnp.stack(looks.patches))[0])
        drives = inner_products(state.prototypes, patches)
        squares = jnp.sum(jnp.square(patches), axis=2)[:, None, :]
        distances = square_root(jnp.maximum(squares + 1 - 2 * drives, 0))
        distances = jnp.where(self._is_free(state)[:, :, None], 0, distances)
        size = jnp.maximum(state.size, 1).astype(jnp.float32)[:, None, None]
        usual = jnp.sum(distances, axis=1, keepdims=True) / size
        return einsum("pkf,f->pk", jnp.maximum(usual - distances, 0), self._eye.weights())

    def _decorrelate(self, state: ColumnsState, patches: jax.Array) -> jax.Array:
        if self.dimensions is None:
            return patches
        return decorrelate(state.decorrelation, patches)

    def _is_free(self, state: ColumnsState) -> jax.Array:
        """Return [P, K]: which rows of each place are still free."""
        return lax.iota(jnp.int32, self.capacity)[None, :] >= state.size[:, None]


def _of_length_one(patches: jax.Array) -> jax.Array:
    return patches / jnp.maximum(norms(patches), 1e-6)


def _mean_distance(nearest: jax.Array, is_blank: jax.Array) -> jax.Array:
    # A place that sees nothing does not count: else a blurred image would seem to be known well.
    number = jnp.sum(~is_blank, dtype=jnp.float32)
    total = jnp.sum(jnp.where(is_blank, 0, nearest))
    return jnp.where(number > 0, total / jnp.maximum(number, 1), 2)
