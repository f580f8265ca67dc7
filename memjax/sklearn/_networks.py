"""The network that the parameters of the estimator describe."""

from typing import Any

from memjax._checks import check_choice, check_positive, shorten
from memjax.base import Layer
from memjax.distances import DISTANCES
from memjax.memory import MemoryLayer
from memjax.networks import columnar_network, memory_network

# Parameters that only one of the two networks uses.
_OF_COLUMNS = ("size", "is_mirrored")
_OF_MEMORIES = (
    "n_neighbors",
    "capacity",
    "novelty_threshold",
    "plasticity_floor",
    "distance",
    "supervised_growth",
    "on_full",
    "encoder",
)


def build_network(
    chosen: dict[str, Any],
    defaults: dict[str, Any],
    image_shape: tuple[int, int, int] | None,
    num_features: int,
    num_classes: int,
) -> tuple[Layer, Any]:
    """Return a network and its params.

    Args:
        chosen: the parameters of the estimator.
        defaults: their defaults, which those have to keep that the network does not use.
        image_shape: (H, W, channels), or None for rows of features.
        num_features: D of such rows.
        num_classes: C.
    """
    check_choice("network", chosen["network"], ("memory", "columnar"))
    if chosen["network"] == "columnar":
        if image_shape is None:
            raise ValueError(
                "image_shape: expected (H, W, channels) of the images for a columnar network, "
                "got None with rows of features."
            )
        _check_unused(_OF_MEMORIES, chosen, defaults, "a columnar network does")
        is_mirrored = chosen["is_mirrored"]
        return columnar_network(image_shape, num_classes, chosen["size"], is_mirrored=is_mirrored)
    _check_unused(_OF_COLUMNS, chosen, defaults, "a network of memories does")
    check_positive("n_neighbors", chosen["n_neighbors"])
    check_choice("distance", chosen["distance"], tuple(DISTANCES))
    choices = {
        "capacity": chosen["capacity"],
        "distance": DISTANCES[chosen["distance"]],
        "supervised_growth": chosen["supervised_growth"],
        "on_full": chosen["on_full"],
        "num_neighbours": chosen["n_neighbors"],
    }
    numbers = {name: chosen[name] for name in ("novelty_threshold", "plasticity_floor")}
    if image_shape is not None:
        encoder = chosen["encoder"]
        return memory_network(image_shape, num_classes, encoder=encoder, **choices, **numbers)
    _check_unused(("encoder",), chosen, defaults, "rows of features do")
    layer = MemoryLayer(num_features, num_classes, **choices)
    return layer, layer.params(**numbers)


def _check_unused(
    names: tuple[str, ...], chosen: dict[str, Any], defaults: dict[str, Any], user: str
) -> None:
    """Raise if a parameter that has no meaning was changed."""
    for name in names:
        value, default = chosen[name], defaults[name]
        if type(value) is not type(default) or value != default:
            raise ValueError(
                f"{name}: expected its default, {default!r}, since {user} not use it, "
                f"got {shorten(value)}."
            )
