"""Checks of shapes, dtypes and values at the seams, and the sentences they raise."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

__all__ = [
    "check_choice",
    "check_finite",
    "check_image_shape",
    "check_images",
    "check_labels",
    "check_number",
    "check_params",
    "check_positive",
    "check_shape",
]


def check_positive(name: str, value: Any) -> None:
    """Raise unless ``value`` is an integer of at least 1."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name}: expected a positive integer, got {value!r}.")
    if value < 1:
        raise ValueError(f"{name}: expected a positive integer, got {value}.")


def check_image_shape(image_shape: Any) -> None:
    """Raise unless ``image_shape`` is (H, W, channels), each a positive integer."""
    if len(image_shape) != 3:
        raise ValueError(f"image_shape: expected (H, W, channels), got {image_shape}.")
    for length in image_shape:
        check_positive("image_shape", length)


def check_choice(name: str, value: Any, choices: tuple[Any, ...]) -> None:
    """Raise unless ``value`` is one of ``choices``."""
    if value not in choices:
        raise ValueError(f"{name}: expected one of {', '.join(map(repr, choices))}, got {value!r}.")


def check_number(name: str, value: Any, low: float, high: float = math.inf) -> None:
    """Raise unless every entry of a concrete ``value`` lies in [low, high]; NaN does not."""
    if isinstance(value, Tracer):
        return
    try:
        numbers = np.asarray(value, np.float64)
    except (TypeError, ValueError):
        raise TypeError(f"{name}: expected a number, got {value!r}.") from None
    if not np.all((numbers >= low) & (numbers <= high)):
        bad = numbers.ravel()[~((numbers >= low) & (numbers <= high)).ravel()][0]
        raise ValueError(f"{name}: expected a number from {low:g} to {high:g}, got {bad:g}.")


def check_shape(name: str, value: Any, expected: tuple[int | str, ...]) -> None:
    """Raise unless ``value`` has the expected shape; a letter stands for any length but 0."""
    shape = np.shape(value)
    fits = len(shape) == len(expected) and all(
        length > 0 if isinstance(letter, str) else length == letter
        for length, letter in zip(shape, expected, strict=True)
    )
    if not fits:
        raise ValueError(f"{name}: expected {_brackets(expected)}, got {_brackets(shape)}.")


def check_finite(name: str, value: Any) -> None:
    """Raise when a concrete floating-point ``value`` holds a NaN or an infinity, naming the row."""
    if isinstance(value, Tracer) or not jnp.issubdtype(value.dtype, jnp.floating):
        return
    finite = np.isfinite(np.asarray(value))
    if not finite.all():
        row = int(np.argwhere(~finite)[0][0])
        raise ValueError(f"{name}: expected finite numbers, got a NaN or an infinity in row {row}.")


def check_images(images: Any, input_shape: tuple[int, ...], name: str = "images") -> None:
    """Raise unless ``images`` is a finite, real, non-empty array [N, *input_shape]."""
    if not hasattr(images, "dtype") or not hasattr(images, "shape"):
        raise TypeError(f"{name}: expected an array, got {type(images).__name__}.")
    check_shape(name, images, ("N", *input_shape))
    if not (
        jnp.issubdtype(images.dtype, jnp.integer) or jnp.issubdtype(images.dtype, jnp.floating)
    ):
        raise TypeError(f"{name}: expected integers or real numbers, got {images.dtype}.")
    check_finite(name, images)


def check_labels(labels: Any, num_examples: int, num_classes: int | None) -> None:
    """Raise unless ``labels`` holds N integers, each a class or -1 for an unlabelled example.

    ``num_classes`` is None for a network that does not know it; then any class will do.
    """
    if not hasattr(labels, "dtype") or not hasattr(labels, "shape"):
        raise TypeError(f"labels: expected an array, got {type(labels).__name__}.")
    check_shape("labels", labels, (num_examples,))
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise TypeError(f"labels: expected integers, got {labels.dtype}.")
    if isinstance(labels, Tracer):
        return
    values = np.asarray(labels)
    low, high = int(values.min()), int(values.max())
    highest = math.inf if num_classes is None else num_classes - 1
    if low < -1 or high > highest:
        raise ValueError(
            f"labels: expected classes 0 to {highest}, or -1 for unlabelled, "
            f"got {low if low < -1 else high}."
        )


def check_params(expected: Any, params: Any) -> None:
    """Raise unless ``params`` is a pytree of the same structure as ``expected``, without NaN."""
    if jax.tree.structure(params) != jax.tree.structure(expected):
        raise ValueError(
            f"params: expected the structure {jax.tree.structure(expected)}, "
            f"got {jax.tree.structure(params)}."
        )
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if isinstance(leaf, Tracer):
            continue
        name = "params" + jax.tree_util.keystr(path)
        check_shape(name, leaf, ())
        if np.isnan(leaf):
            raise ValueError(
                f"{name}: is still to be set (NaN); give a number, or estimate it with "
                "memjax.calibrate(network, params, images, labels)."
            )


def _brackets(shape: tuple[int | str, ...]) -> str:
    return f"[{', '.join(map(str, shape))}]"
