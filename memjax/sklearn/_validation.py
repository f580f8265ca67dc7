"""What the estimator accepts as rows and as labels beyond what scikit-learn checks."""

from collections.abc import Hashable
from typing import Any

import numpy as np
from scipy.sparse import issparse

from memjax._checks import (
    LARGEST,
    Spread,
    as_numbers,
    check_choice,
    check_kind,
    check_scalar,
    check_shape,
    shorten,
    warn,
)
from memjax.base import UNLABELLED

# Rows that are made dense, and float32, at a time.
MOST_ROWS = 4096


def flatten_images(X: Any) -> tuple[Any, tuple[int, int, int] | None]:
    """Return images as rows, with their (H, W, channels); anything else as it is, with None."""
    try:
        is_array = hasattr(X, "shape") and hasattr(X, "__array__")
        shape = X.shape if is_array else np.asarray(X).shape
    except (TypeError, ValueError):
        return X, None  # scikit-learn says what is wrong
    if len(shape) not in (3, 4):
        return X, None
    height, width, channels = (*shape[1:], 1)[:3]
    return np.reshape(X, (shape[0], height * width * channels)), (height, width, channels)


def check_magnitude(name: str, X: Any) -> None:
    """Raise if rows, dense or sparse, are still too large when measured from one of them."""
    numbers = X.data if issparse(X) else X
    if numbers.size and numbers.dtype.kind == "f" and np.abs(numbers).max() > LARGEST / 2:
        raise ValueError(
            f"{name}: expected finite numbers of at most {LARGEST / 2:g} in size, "
            f"got {np.abs(numbers).max():g}."
        )


def find_narrow(X: Any, held: np.ndarray | None) -> str | None:
    """Return a sentence if rows, dense or sparse, and those held before them hardly differ."""
    spread = Spread("X")
    if held is not None:
        spread.add(held.reshape(len(held), -1))
    for start in range(0, X.shape[0], MOST_ROWS):
        some = X[start : start + MOST_ROWS]
        spread.add(some.toarray() if issparse(some) else some)
    return spread.fault


def find_scale(X: Any) -> int:
    """Return what images of integers are divided by: 1, 16, 255 or 65535, by the greatest value."""
    if X.dtype.kind not in "iu":
        return 255
    greatest = int(X.max())
    return next((scale for scale in (1, 16, 255, 65535) if scale >= greatest), greatest)


def check_scale(X: Any, scale: int) -> None:
    """Raise if integers exceed the scale of those that came first."""
    if X.dtype.kind in "iu" and X.max() > scale:
        raise ValueError(
            f"X: expected integers of at most {scale}, the scale of the first call, got {X.max()}; "
            "give floating-point images from 0 to 1."
        )


def is_minus_one(name: str, labels: np.ndarray) -> np.ndarray:
    """Return where labels are -1, bool [N]; strings never are."""
    if labels.dtype.kind not in "biufOUS":
        raise TypeError(f"{name}: expected numbers, strings or objects, got {labels.dtype}.")
    return labels == UNLABELLED if labels.dtype.kind not in "US" else np.zeros(labels.shape, bool)


def find_classes(name: str, labels: Any, unlabelled: int | str | None) -> np.ndarray:
    """Return the classes among labels, [C], in their order."""
    check_choice("unlabelled", unlabelled, ("auto", UNLABELLED, None))
    try:
        labels = np.asarray(labels)
        classes = np.unique(labels[~is_minus_one(name, labels)])
        if unlabelled is None or (unlabelled == "auto" and classes.tolist() == [1]):
            classes = np.unique(labels)
        set(classes.tolist())  # labels are found again by their hash
    except (TypeError, ValueError):
        raise TypeError(
            f"{name}: expected labels of one kind that sorts, got {type(labels).__name__}."
        ) from None
    if not classes.size:
        raise ValueError(f"{name}: expected at least one class, got none.")
    return classes


def is_dropped(labels: Any, classes: np.ndarray, unlabelled: int | str | None) -> bool:
    """Return whether "auto" takes a -1 among some labels for no label."""
    if unlabelled != "auto" or UNLABELLED in classes.tolist():
        return False
    return bool(is_minus_one("y", np.asarray(labels)).any())


def first_classes(y: np.ndarray, unlabelled: int | str | None) -> np.ndarray:
    """Return the classes to begin with where more may come: as few as the labels allow."""
    found = find_classes("y", y, unlabelled)
    return found if UNLABELLED in found.tolist() else y[~is_minus_one("y", y)][:1]


def find_new_classes(y: np.ndarray, known: np.ndarray, unlabelled: int | str | None) -> np.ndarray:
    """Return the labels that are not among the known ones, in the order in which they appear."""
    seen = set(known.tolist()) | (set() if unlabelled is None else {UNLABELLED})
    try:
        new = list(dict.fromkeys(label for label in y.tolist() if label not in seen))
        if new and (y.dtype.kind in "US") != (known.dtype.kind in "US"):
            raise TypeError
        new = np.array(new, y.dtype)
        np.unique(np.concatenate([known, new]))
    except (TypeError, ValueError):
        raise TypeError(
            f"y: expected labels that sort with {known.tolist()}, got some of {y.dtype}."
        ) from None
    return new


def find_repeats(
    y: np.ndarray, sample_weight: Any, class_weight: Any, classes: np.ndarray | None
) -> np.ndarray:
    """Return how many times in a row each row is learned, int64 [N].

    Args:
        y: [N] labels.
        sample_weight: [N] whole numbers, one number, or None for 1.
        class_weight: None, "balanced" or a dict from classes to weights.
        classes: the classes that a dict may name; None for any.
    """
    repeats = np.ones(len(y), np.int64)
    if sample_weight is not None:
        numbers = as_numbers("sample_weight", sample_weight)
        check_shape("sample_weight", numbers, numbers.shape and (len(y),))
        is_whole = (numbers >= 0) & (numbers < 2**31) & (numbers == np.rint(numbers))
        if not is_whole.all():
            raise ValueError(
                "sample_weight: expected whole numbers of at least 0, which say how often a row is "
                f"learned, got {numbers[~is_whole].flat[0]:g}."
            )
        repeats *= numbers.astype(np.int64)
    if class_weight is not None:
        repeats *= _class_repeats(y, repeats, class_weight, classes)
    return repeats


def _class_repeats(
    y: np.ndarray, repeats: np.ndarray, class_weight: Any, classes: np.ndarray | None
) -> np.ndarray:
    """Return the weight of the class of each row, int64 [N]; 1 for a row without a label."""
    labels = y.tolist()
    if isinstance(class_weight, str):
        check_choice("class_weight", class_weight, ("balanced",))
        counts = dict.fromkeys(classes.tolist(), 0) if classes is not None else {}
        for label, number in zip(labels, repeats.tolist(), strict=True):
            if label in counts:
                counts[label] += number
        most = max(counts.values())
        weights = {label: most / max(number, 1) for label, number in counts.items()}
    else:
        check_kind("class_weight", class_weight, dict, 'None, "balanced" or a dict')
        weights = class_weight
        for label, weight in weights.items():
            if classes is not None and label not in classes.tolist():
                raise ValueError(
                    f"class_weight: expected labels among {classes.tolist()}, got {shorten(label)}."
                )
            check_scalar("class_weight", weight, 0, 2**31 - 1)
            if 0 < weight <= 0.5:
                warn(f"class_weight: {weight:g} is rounded to 0, so {label!r} is left out.")
    return np.array([round(weights.get(label, 1)) for label in labels], np.int64)


def find_indices(y: np.ndarray, classes: np.ndarray, unlabelled: int | str | None) -> np.ndarray:
    """Return the place of each label among the classes, int32 [N]; -1 for an unlabelled row."""
    indices = {label: index for index, label in enumerate(classes.tolist())}
    if unlabelled is not None:
        indices.setdefault(-1, UNLABELLED)
    found = [indices.get(label) if isinstance(label, Hashable) else None for label in y.tolist()]
    if None in found:
        unknown = y.tolist()[found.index(None)]
        raise ValueError(f"y: expected labels among {list(indices)}, got {shorten(unknown)}.")
    return np.array(found, np.int32)
