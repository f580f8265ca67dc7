"""What the estimator accepts as rows and as labels beyond what scikit-learn checks."""

from collections.abc import Hashable
from typing import Any

import numpy as np

from memjax._checks import check_choice, shorten
from memjax.base import UNLABELLED


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
