"""Checks of shapes, dtypes and values at the seams, and the sentences they raise."""

import importlib
import math
import sys
import warnings
from collections.abc import Iterator
from numbers import Real
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

_INTEGERS = {np.dtype(f"{sign}int{bits}") for sign in ("", "u") for bits in (8, 16, 32, 64)}
_BOOLEANS = {np.dtype(bool)}
_REALS = {np.dtype(name) for name in (np.float16, jnp.bfloat16, np.float32, np.float64)}

# The names under which packages are installed, where they are not those that are imported.
_PACKAGES = {"PIL": "pillow", "orbax": "orbax-checkpoint", "sklearn": "scikit-learn"}

LARGEST = 1e15
"""The largest number that is learned from: sums of squares of such are finite in float32."""

SMALLEST = 1e-16
"""The smallest spread that is learned from: the squares of a millionth of it vanish in float32."""

FARTHEST = 20_000
"""How many times as far from zero as from each other rows may lie before float32 is in doubt."""


def warn(sentence: str) -> None:
    """Warn of something in the line that calls memjax."""
    frame, level = sys._getframe(1), 2
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] == "memjax":
        frame, level = frame.f_back, level + 1
    warnings.warn(sentence, UserWarning, stacklevel=level)


def check_kind(name: str, value: Any, kind: Any, expected: str) -> None:
    """Raise unless ``value`` is of a kind, which ``expected`` says in words."""
    if not isinstance(value, kind):
        raise TypeError(f"{name}: expected {expected}, got {type(value).__name__}.")


def check_bool(name: str, value: Any) -> None:
    """Raise unless ``value`` is True or False."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name}: expected True or False, got {shorten(value)}.")


def check_positive(name: str, value: Any) -> None:
    """Raise unless ``value`` is an integer of at least 1, which int32 counters can hold."""
    _check_integer(name, value, 1, "a positive integer")
    if value >= 2**31:
        raise ValueError(f"{name}: expected less than {2**31}, got {shorten(value)}.")


def check_whole(name: str, value: Any) -> None:
    """Raise unless ``value`` is an integer of at least 0."""
    _check_integer(name, value, 0, "a whole number of at least 0")


def _check_integer(name: str, value: Any, least: int, expected: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name}: expected {expected}, got {shorten(value)}.")
    if value < least:
        raise ValueError(f"{name}: expected {expected}, got {value}.")


def check_image_shape(image_shape: Any) -> None:
    """Raise unless ``image_shape`` is (H, W, channels), each a positive integer."""
    try:
        lengths = tuple(image_shape)
    except TypeError:
        raise TypeError(
            f"image_shape: expected (H, W, channels), got {shorten(image_shape)}."
        ) from None
    if len(lengths) != 3:
        raise ValueError(f"image_shape: expected (H, W, channels), got {shorten(image_shape)}.")
    for length in lengths:
        check_positive("image_shape", length)


def check_lengths(name: str, shape: Any) -> None:
    """Raise unless ``shape`` is a tuple of positive integers, as a field of a layer must be."""
    check_kind(name, shape, tuple, "a tuple of positive integers")
    for length in shape:
        check_positive(name, length)


def check_choice(name: str, value: Any, choices: tuple[Any, ...]) -> None:
    """Raise unless ``value`` is one of ``choices``."""
    try:
        hash(value)  # An array of one entry may equal a choice, and is none.
        is_choice = value in choices
    except TypeError:
        is_choice = False
    if not is_choice:
        raise ValueError(
            f"{name}: expected one of {', '.join(map(repr, choices))}, got {shorten(value)}."
        )


def check_number(name: str, value: Any, low: float, high: float = math.inf) -> None:
    """Raise unless every entry of a concrete ``value`` lies in [low, high]; NaN never does."""
    if isinstance(value, Tracer):
        return
    numbers = as_numbers(name, value)
    is_good = (numbers >= low) & (numbers <= high)
    if not is_good.all():
        bad = numbers[~is_good][0]
        raise ValueError(f"{name}: expected a number from {low:g} to {high:g}, got {bad:g}.")


def check_scalar(name: str, value: Any, low: float, high: float = math.inf) -> None:
    """Raise unless ``value`` is one number in [low, high], and no array: a field of a layer."""
    if not isinstance(value, int | float | np.integer | np.floating):
        raise TypeError(f"{name}: expected a number, got {shorten(value)}.")
    check_number(name, value, low, high)


def check_learned(name: str, value: Any, least: float = -math.inf, most: float = math.inf) -> None:
    """Raise unless every entry of an array is finite and lies in [least, most].

    It takes two reductions and no copy. An array over devices of several processes stays there.
    """
    if 0 in np.shape(value):
        return
    values = value if isinstance(value, jax.Array) else np.asarray(value)
    for entry in (float(values.min()), float(values.max())):  # A NaN is both.
        if not (math.isfinite(entry) and least <= entry <= most):
            bounds = "" if math.isinf(least) else f" from {least:g} to {most:g}"
            raise ValueError(f"{name}: expected finite numbers{bounds}, got {entry:g}.")


def check_shape(name: str, value: Any, expected: tuple[int | str, ...]) -> None:
    """Raise unless ``value`` has the expected shape; a letter stands for any length but 0."""
    shape = np.shape(value)
    fits = len(shape) == len(expected) and all(
        length > 0 if isinstance(letter, str) else length == letter
        for length, letter in zip(shape, expected, strict=True)
    )
    if not fits:
        raise ValueError(f"{name}: expected {brackets(expected)}, got {brackets(shape)}.")


def check_finite(name: str, value: Any) -> None:
    """Raise when a concrete ``value`` holds what no layer can learn from, naming the row.

    That is a NaN, an infinity, a number over 1e15 in size, whose squares would not be finite, or an
    integer that JAX would cut to fewer bits.
    """
    if isinstance(value, Tracer):
        return
    if jnp.issubdtype(value.dtype, jnp.floating):
        low, high = -LARGEST, LARGEST
    elif value.dtype.itemsize == 8:
        bounds = jnp.iinfo(jax.dtypes.canonicalize_dtype(value.dtype))
        low, high = float(bounds.min), float(bounds.max)
    else:
        return
    numbers = np.asarray(value)
    # Not `isfinite`: these reductions hold no second array. A NaN is below nothing.
    if float(numbers.min()) >= low and float(numbers.max()) <= high:
        return
    numbers = numbers.astype(np.float64)
    row, *place = np.argwhere(~((numbers >= low) & (numbers <= high)))[0].tolist()
    bad = numbers[(row, *place)]
    if not np.isfinite(bad):
        raise ValueError(f"{name}: expected finite numbers, got a NaN or an infinity in row {row}.")
    raise ValueError(
        f"{name}: expected numbers from {low:g} to {high:g}, got {bad:g} in row {row}."
    )


class Spread:
    """How far the rows of some data lie apart, as they come.

    Where they differ, but by less than 1e-16, their squares lose digits in float32 or vanish, and
    rows that are not the same have no distance. Where they lie very far from zero, float32 loses
    the digits in which they differ.

    Args:
        name: of the rows, for the sentences.
    """

    def __init__(self, name: str):
        self._name = name
        self._first: np.ndarray | None = None
        self._largest = 0.0
        self._farthest = 0.0
        self._is_told = False

    def add(self, rows: Any) -> Self:
        """Take account of some rows more [n, ...], of which few are looked at if they lie apart."""
        if isinstance(rows, Tracer) or rows.dtype.itemsize == 1:
            self._largest = math.inf  # numbers of one byte lie near zero, and differ by 1 at least
            return self
        rows = np.asarray(rows)
        for start in range(0, len(rows), 64):
            if self._largest >= SMALLEST and self.doubt is None:
                break
            some = rows[start : start + 64].astype(np.float64)
            first = self._first = some[0] if self._first is None else self._first
            apart = np.abs(some - first)
            apart[apart <= 1e-15 * np.abs(first)] = 0  # by the rounding of float64
            self._largest = max(self._largest, float(apart.max()))
            # Numbers that are the same in all rows cost no digits.
            varied = np.abs(first)[apart.max(axis=0) > 0]
            self._farthest = max(self._farthest, float(varied.max(initial=0)))
        return self

    @property
    def fault(self) -> str | None:
        """A sentence, if the rows differ by too little."""
        if not 0 < self._largest < SMALLEST:
            return None
        return (
            f"{self._name}: expected rows that differ by at least {SMALLEST:g}, whose squares "
            f"float32 can hold, got ones that differ by at most {self._largest:g}; multiply them "
            "by a large number."
        )

    @property
    def doubt(self) -> str | None:
        """A sentence, if the rows lie far from zero."""
        if self._farthest <= FARTHEST * self._largest:
            return None
        ratio = self._farthest / self._largest
        return (
            f"{self._name}: rows lie {ratio:,.0f} times as far from zero as from each other, so "
            "float32 loses digits in which they differ; subtract a typical row before."
        )

    def check(self) -> None:
        """Raise if the rows differ by too little; warn once if they lie far from zero."""
        if self.fault is not None:
            raise ValueError(self.fault)
        if self.doubt is not None and not self._is_told:
            self._is_told = True
            warn(self.doubt)


def check_unmasked(name: str, value: Any) -> None:
    """Raise when ``value`` is a masked array: what it hides would be learned."""
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{name}: expected an array without a mask, got {type(value).__name__}.")


def check_values(name: str, value: Any, expected: tuple[int | str, ...]) -> None:
    """Raise unless ``value`` is an array of integers or real numbers and of the expected shape."""
    check_array(name, value)
    check_shape(name, value, expected)
    if value.dtype not in _INTEGERS | _REALS | _BOOLEANS:
        raise TypeError(f"{name}: expected integers or real numbers, got {value.dtype}.")


def check_images(images: Any, input_shape: tuple[int, ...], name: str = "images") -> None:
    """Raise unless ``images`` is a finite, real, non-empty array [N, *input_shape]."""
    check_values(name, images, ("N", *input_shape))
    check_finite(name, images)


def check_labels(labels: Any, num_examples: int, num_classes: int | None) -> None:
    """Raise unless ``labels`` holds N integers, each a class or -1 for an unlabelled example.

    ``num_classes`` is None for a network that does not know it; then any class will do.
    """
    check_array("labels", labels)
    check_shape("labels", labels, (num_examples,))
    check_integers("labels", labels)
    if isinstance(labels, Tracer):
        return
    values = np.asarray(labels)
    low, high = int(values.min()), int(values.max())
    highest = np.iinfo(np.int32).max if num_classes is None else num_classes - 1
    if low < -1 or high > highest:
        raise ValueError(
            f"labels: expected classes 0 to {highest}, or -1 for unlabelled, "
            f"got {low if low < -1 else high}."
        )


def check_structure(name: str, tree: Any, expected: Any) -> None:
    """Raise unless two pytrees have one structure; their leaves may be anything."""
    if jax.tree.structure(tree) != jax.tree.structure(expected):
        raise ValueError(
            f"{name}: expected the structure {jax.tree.structure(expected)}, "
            f"got {jax.tree.structure(tree)}."
        )


def as_iterator(name: str, value: Any, expected: str) -> Iterator[Any]:
    """Return an iterator over ``value``, whose items ``expected`` says in words, or raise."""
    try:
        return iter(value)
    except TypeError:
        raise TypeError(f"{name}: expected {expected}, got {type(value).__name__}.") from None


def check_array(name: str, value: Any) -> None:
    is_array = all(hasattr(value, needed) for needed in ("dtype", "shape", "__array__"))
    if not is_array or isinstance(value, type):
        raise TypeError(f"{name}: expected an array, got {type(value).__name__}.")
    check_unmasked(name, value)


def check_integers(name: str, value: Any) -> None:
    if value.dtype not in _INTEGERS:
        raise TypeError(f"{name}: expected integers, got {value.dtype}.")


def as_numbers(name: str, value: Any) -> np.ndarray:
    """Return a number, or an array of them, as float64; booleans count as 0 and 1."""
    try:
        numbers = np.asarray(float(value) if isinstance(value, Real) else value)
    except (TypeError, ValueError, OverflowError):
        numbers = np.asarray(None)
    if numbers.dtype not in _INTEGERS | _REALS | _BOOLEANS:
        raise TypeError(f"{name}: expected a number, got {shorten(value)}.")
    return numbers.astype(np.float64)


def shorten(value: Any) -> str:
    """Return a value as it is written, or only its type where that takes more than a few words."""
    text = repr(value)
    return text if len(text) <= 60 and "\n" not in text else type(value).__name__


def brackets(shape: tuple[int | str, ...]) -> str:
    return f"[{', '.join(map(str, shape))}]"


def import_package(name: str, user: str, extra: str = "cli") -> Any:
    """Import a module of a package that an extra installs, or say which extra its user needs."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = name.partition(".")[0]
        raise ImportError(
            f"{user} needs the package {_PACKAGES.get(package, package)}: "
            f"pip install 'memjax[{extra}]'."
        ) from error
