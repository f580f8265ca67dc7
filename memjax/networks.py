"""Networks: the ready-made reconstruction of the paper, and the ready-made network with depth."""

from typing import Any

from memjax._checks import (
    check_bool,
    check_choice,
    check_image_shape,
    check_positive,
    check_shape,
)
from memjax.base import Layer
from memjax.composition import Chain, Concatenate, Reshape, Vote
from memjax.distances import Distance, squared_euclidean
from memjax.exemplars import Exemplars
from memjax.memory import MemoryLayer
from memjax.params import replace_params
from memjax.projections import Decorrelation, RandomProjection, Standardisation
from memjax.readouts import RidgeReadout
from memjax.vision import Mirrored
from memjax.vision.columns import Columns, ColumnsParams
from memjax.vision.encoders import ENCODERS, FeatureMap, Grey, OrientedEdges

__all__ = ["SIZES", "columnar_network", "memory_network"]

SIZES = ("small", "medium", "large", "huge")
"""The sizes of columnar networks."""

# Edges for photographs, chosen on the validation split of CIFAR-10. Strokes need a blur first.
_PHOTOGRAPHS = {"blur": 0.0, "pooling": 0.8, "normalisation": 0.0}


def memory_network(
    image_shape: tuple[int, int, int] | tuple[int],
    num_classes: int,
    *,
    capacity: int = 3000,
    encoder: str = "edges",
    distance: Distance = squared_euclidean,
    supervised_growth: bool = True,
    on_full: str = "adapt",
    num_neighbours: int = 7,
    first_rows: Any = None,
    **numbers: Any,
) -> tuple[Chain, tuple[Any, ...]]:
    """Return the reconstruction of the paper's network, and its params.

    A fixed encoder, then one bank of memories. A colour image has one bank for each channel, and
    the evidence of the banks is averaged (channel voting). Rows of features have no encoder: they
    reach the bank standardised, or as they are.

    Args:
        image_shape: (H, W, channels) of the raw images, or (D,) of rows of D features.
        num_classes: C.
        capacity: K, memories that each bank has room for.
        encoder: "edges", "pixels", "blur" or "on_off"; see ``memjax.vision.encoders``. The edges of
            colour images are not blurred and not normalised, and are pooled over more. Features
            have no encoder.
        distance: one of ``memjax.distances``.
        supervised_growth: whether a mistake that comes again, or whose label is rare, is stored
            too.
        on_full: "adapt", "replace" or "ignore", for a surprise when the bank is full.
        num_neighbours: how many memories vote in recall.
        first_rows: [n, D], the first rows of features, by whose means and deviations all are
            standardised; see ``Standardisation``. None for features that have one scale already.
        **numbers: those of ``MemoryParams``, for instance ``novelty_threshold=0.3``. By default the
            threshold is "auto": ``memjax.calibrate`` estimates it from the first examples.

    Returns:
        The network and its params.

    Raises:
        ValueError: an argument is out of its range.

    Source: Ruiz & Gupta (2024), arXiv 2409.17282, as reconstructed in docs/paper.md.

    Example:
        >>> network, params = memory_network((32, 32, 3), num_classes=10, capacity=100)
        >>> [type(layer).__name__ for layer in network.layers]
        ['OrientedEdges', 'Vote']
        >>> import numpy as np
        >>> first_rows = np.array([[1.0, 500.0], [3.0, 700.0]])
        >>> network, params = memory_network((2,), num_classes=3, first_rows=first_rows)
        >>> [type(layer).__name__ for layer in network.layers]
        ['Standardisation', 'MemoryLayer']
    """
    check_choice("encoder", encoder, tuple(ENCODERS))
    senses, channels = _senses(image_shape, encoder, first_rows)
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
    # Each bank has arrays of its own: a buffer that is shared could not be donated.
    params = tuple(bank.params(**numbers) for _ in range(channels))
    return network, ((), params if channels > 1 else params[0])


def columnar_network(
    image_shape: tuple[int, int, int],
    num_classes: int,
    size: str = "medium",
    *,
    is_mirrored: bool = False,
) -> tuple[Layer, tuple[Any, ...]]:
    """Return a network with depth, and its params: columns with a moving eye, and a ridge readout.

    For grey images, size small has one set of columns, which looks at the pixels. Size medium has
    three: one looks at a map of oriented edges, and two at decorrelated patches of a sixth and a
    quarter of the image's side. Sizes large and huge have all four. For colour images all sizes
    have four: two look at decorrelated patches of 4 and 5 pixels, and two at patches of 5 and 7
    pixels of the image in grey. Each neuron that looks at a decorrelated patch also says how much
    it sees the opposite. Exemplars of the columns' whole code answer beside it, in all sizes for
    colour and in sizes large and huge for grey. Everything is read out together, and learns in one
    pass.

    Each exemplar is a random mixture of 300 codes; all are there after 750 colour or 2,300 grey
    images. A network for colour images has no answer until it has seen 40 images.

    Each neuron adapts to the first 1,000 examples after it was stored, and then keeps its meaning,
    so that classes may come one after another. ``replace_params(params,
    homeostasis_period=math.inf)`` lets it follow the stream for ever.

    Args:
        image_shape: (H, W, channels) of the raw images, at least 8 pixels wide and high, 16 in
            colour.
        num_classes: C.
        size: "small", "medium", "large" or "huge".
        is_mirrored: whether every image is also seen in the mirror; see ``Mirrored``. The penalty
            of the readout is then a sixth of the usual one.

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
    check_choice("size", size, SIZES)
    check_bool("is_mirrored", is_mirrored)
    check_positive("num_classes", num_classes)
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
    # Chosen on the validation split of CIFAR-10: two lessons for each image need less of a penalty.
    ridge = ridge / 6 if is_mirrored else ridge
    network, params = Chain((eye, readout)), (params, readout.params(ridge=ridge))
    params = replace_params(params, homeostasis_period=1000)
    return (Mirrored(network) if is_mirrored else network), params


def _senses(image_shape: Any, encoder: str, first_rows: Any) -> tuple[Layer, int]:
    """Return what stands before the banks of memories, and how many banks there are."""
    if isinstance(image_shape, tuple | list) and len(image_shape) == 1:
        check_positive("image_shape", image_shape[0])
        if first_rows is None:
            return Reshape((image_shape[0],)), 1
        check_shape("first_rows", first_rows, ("n", image_shape[0]))
        return Standardisation.of(first_rows), 1
    check_image_shape(image_shape)
    if first_rows is not None:
        raise ValueError(
            "first_rows: expected None for images, which are not standardised, got rows."
        )
    height, width, channels = image_shape
    shape = (height, width, channels)
    own = _PHOTOGRAPHS if encoder == "edges" and channels > 1 else {}
    return ENCODERS[encoder](shape, is_split_by_channel=channels > 1, **own), channels


def _for_grey(image_shape: tuple[int, int, int], size: str) -> tuple[Layer, Any, float]:
    """Return the layers below the readout for grey images, their params and the ridge."""
    capacity, num_exemplars = {
        "small": (100, 0),
        "medium": (200, 0),
        "large": (200, 6000),
        "huge": (400, 8000),
    }[size]
    side = min(image_shape[:2])
    looks = min(round(8 * side / 28), 4 if size == "small" else 8)
    reach = looks * max(round(8 * side / 28 / looks), 1)
    pixels = Columns(
        image_shape,
        round(9 * side / 28),
        places=5,
        capacity=capacity,
        fixations=looks,
        reach=reach,
        sigma=reach / 4,
    )
    eye = pixels, pixels.params(novelty_threshold=0.25)
    if size == "small":
        return *eye, 1e-3
    edges = FeatureMap(
        OrientedEdges(image_shape, grid=16, sharpness=4, pooling=0.6, normalisation=0)
    )
    rows, columns, features = edges.output_shape
    textures = Columns(
        (rows, columns, features), 5, places=5, capacity=capacity, fixations=4, reach=4, sigma=1.0
    )
    patches = max(round(5 * side / 28), 3), max(round(7 * side / 28), 4)
    sets = [
        _chain((edges, ()), (textures, textures.params(novelty_threshold=0.25))),
        *(_windows(image_shape, patch, capacity, 500) for patch in patches),
    ]
    if not num_exemplars:
        return *_concatenate(*sets), 1e-3
    eye = _concatenate(eye, *sets)
    return *_with_exemplars(*eye, num_exemplars, start=1500, period=500), 1e-3


def _for_colour(image_shape: tuple[int, int, int], size: str) -> tuple[Layer, Any, float]:
    """Return the layers below the readout for colour images, their params and the ridge."""
    capacity, num_exemplars, ridge = {
        "small": (100, 4000, 6e-3),
        "medium": (200, 6000, 5e-3),
        "large": (400, 8000, 3e-3),
        "huge": (640, 10_000, 2e-3),
    }[size]
    in_grey = (*image_shape[:2], 1)
    # Until these sets speak there is no answer, so they begin early.
    colour = [_windows(image_shape, patch, capacity, 40) for patch in (4, 5)]
    grey = [
        _chain((Grey(image_shape), ()), _windows(in_grey, patch, capacity, 40)) for patch in (5, 7)
    ]
    eye = _concatenate(*colour, *grey)
    return *_with_exemplars(*eye, num_exemplars, start=150, period=300), ridge


def _windows(
    image_shape: tuple[int, int, int], patch: int, capacity: int, decorrelation_period: int
) -> tuple[Columns, ColumnsParams]:
    """Return decorrelated columns at 3 x 3 places whose windows of fixations overlap.

    The eye moves over 12 32nds of the image. The width of its Gaussian is half the distance
    between places.
    """
    height, width, channels = image_shape
    side, num_pixels = min(height, width), patch**2 * channels
    looks = round(12 * side / 32)
    margin = max(min(round(6 * side / 32) - patch // 4, (side - patch - 2) // 2), 0)
    spacing = (side - patch - 2 * margin) / 2
    columns = Columns(
        (height, width, channels),
        patch,
        places=3,
        capacity=capacity,
        fixations=looks,
        reach=looks,
        sigma=spacing / 2,
        padding="reflect",
        contrast_constant=10 / 255**2 * num_pixels,
        dimensions=min(64, num_pixels - 1),
        margin=margin,
        response="two-sided",
        square_root=True,
    )
    # Every patch is stored, so that places are full soon after their decorrelation.
    params = columns.params(
        novelty_threshold=0.0,
        blank_contrast=0.0,
        critical_period=decorrelation_period + 2 * capacity,
        decorrelation_period=decorrelation_period,
    )
    return columns, params


def _with_exemplars(
    eye: Layer, params: Any, num_exemplars: int, start: int, period: int
) -> tuple[Layer, Any]:
    """Lay exemplars of an eye's whole code beside it; return both as one layer, and its params.

    Their components are learned in ``period`` examples after ``start``, when most places have their
    memories, and they mix the codes of the next 300. The sooner, the less is lost if classes come
    one after another: the first ones are half learned before the exemplars speak.
    """
    (num_features,) = eye.output_shape
    components = Decorrelation(1024, 200)
    exemplars = Exemplars(200, num_exemplars, num_mixed=300)
    numbers = components.params(
        start=start, decorrelation_period=period, decorrelation_floor=0, exponent=0.25
    )
    whole = _chain(
        (RandomProjection(num_features, 1024), ()),
        (components, numbers),
        (exemplars, exemplars.params()),
    )
    return _chain((eye, params), _concatenate((Reshape((num_features,)), ()), whole))


def _chain(*links: tuple[Layer, Any]) -> tuple[Layer, Any]:
    """Return layers in a row, and their params."""
    layers, params = zip(*links, strict=True)
    return Chain(layers), params


def _concatenate(*members: tuple[Layer, Any]) -> tuple[Layer, Any]:
    """Return layers that see the same input, and their params."""
    layers, params = zip(*members, strict=True)
    return Concatenate(layers), params
