"""A classifier for scikit-learn: a memjax network behind ``fit``, ``partial_fit`` and ``predict``.

It needs scikit-learn: ``pip install 'memjax[cli]'``.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, Self

import jax
import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from memjax import evaluation
from memjax._checks import (
    check_choice,
    check_finite,
    check_image_shape,
    check_positive,
    check_unmasked,
)
from memjax.base import UNLABELLED, Layer
from memjax.distances import DISTANCES
from memjax.memory import MemoryLayer
from memjax.networks import columnar_network, memory_network
from memjax.sklearn._stream import HeldStream
from memjax.sklearn._validation import find_classes, find_indices, flatten_images, is_minus_one

__all__ = ["MemoryNetworkClassifier"]

# Rows are asked in batches of this size, filled up. So there is one compilation for any number of
# rows, and the rounding of an answer does not depend on the rows beside it.
_BATCH_SIZE = 64


class MemoryNetworkClassifier(ClassifierMixin, BaseEstimator):
    """Memories that vote, learned in one pass over the rows in their order.

    Rows of features are learned by one ``MemoryLayer`` as they are, at their own scale, as
    nearest-neighbour methods do. Images are learned by ``memory_network`` or ``columnar_network``.
    Nothing is shuffled, and no row is seen twice. The mathematics is that of these networks.

    ``partial_fit`` in batches of any sizes gives what one ``fit`` of the same rows in the same
    order gives. For that it holds back the rows after the last whole block of 256 rows, and the
    first 1,000 rows while a threshold "auto" waits for them. An estimator that is asked meanwhile
    answers as if it had learned them too.

    Labels may be integers, strings or anything else that sorts; for rows without a label see
    ``unlabelled``. Where no memory has a vote, all classes are equally likely and the answer is the
    first class. Evidence below 0, which a columnar network may give, counts as 0. Sample weights
    are not supported.

    Args:
        n_neighbors: how many memories vote (the name is scikit-learn's).
        network: "memory", or "columnar" for a network with depth, which takes images.
        image_shape: (H, W, channels), if the rows are flattened images. None for rows of features,
            and for X of [N, H, W] or [N, H, W, channels], which has the shape in it. Integer images
            are read on the scale 0 to 255, and floating-point images as they are; a columnar
            network expects 0 to 1.
        capacity: K, the most memories that a bank holds.
        novelty_threshold: the distance above which a row is stored. "auto" estimates it from the
            first 1,000 rows, or from all rows if there are fewer: see ``MemoryLayer.calibrate``.
        plasticity_floor: the least step size of a winner, 0 to 1.
        distance: "squared_euclidean", "cosine" or "manhattan".
        supervised_growth: whether a row is also stored when the vote on it is wrong.
        on_full: what happens to a surprise when the bank is full: "adapt", "replace" or "ignore".
        encoder: of images: "edges", "pixels", "blur" or "on_off".
        size: of a columnar network: "small", "medium" or "large". Besides ``size``, such a network
            uses only ``is_mirrored`` and the shape of the images.
        is_mirrored: whether a columnar network also sees the mirror image of every image.
        unlabelled: -1: rows with this label have no label. None: every row has a label. "auto" is
            -1, unless all labels are -1 or 1; then these are two classes. To mix -1 with labels
            that are strings, give y as an array of objects.

    Attributes:
        classes_: [C], the labels in their order.
        n_features_in_: D, how many numbers a row or an image has.
        feature_names_in_: [D], only if X had names that are strings.
        image_shape_: (H, W, channels), None for rows of features.
        origin_: float64 [D], the first row. Features are measured from it, so that small
            differences between large numbers survive in float32. It is 0 for cosine distance and
            for images.
        network_, params_, state_: what the other functions of memjax take. Prototypes of features
            are relative to ``origin_``.
        num_memories_: how many memories are in use.

    Raises:
        ValueError, TypeError: ``fit`` or ``partial_fit`` was called with a parameter outside its
            range, or with rows or labels that do not fit.

    Example:
        >>> X, y = [[0.0, 0.1], [0.2, 0.0], [5.0, 5.1], [5.2, 4.9]], ["low", "low", "high", "high"]
        >>> estimator = MemoryNetworkClassifier().fit(X, y)
        >>> print(estimator.predict([[0.0, 0.0], [4.0, 6.0]]))
        ['low' 'high']
    """

    def __init__(
        self,
        n_neighbors: int = 7,
        *,
        network: str = "memory",
        image_shape: Sequence[int] | None = None,
        capacity: int = 3000,
        novelty_threshold: float | str = "auto",
        plasticity_floor: float = 0.0,
        distance: str = "squared_euclidean",
        supervised_growth: bool = True,
        on_full: str = "adapt",
        encoder: str = "edges",
        size: str = "medium",
        is_mirrored: bool = False,
        unlabelled: int | str | None = "auto",
    ):
        self.n_neighbors = n_neighbors
        self.network = network
        self.image_shape = image_shape
        self.capacity = capacity
        self.novelty_threshold = novelty_threshold
        self.plasticity_floor = plasticity_floor
        self.distance = distance
        self.supervised_growth = supervised_growth
        self.on_full = on_full
        self.encoder = encoder
        self.size = size
        self.is_mirrored = is_mirrored
        self.unlabelled = unlabelled

    def fit(self, X: Any, y: Any) -> Self:
        """Forget everything and learn the rows X in their order.

        Args:
            X: [N, D] features or flattened images, or images [N, H, W] or [N, H, W, channels].
            y: [N] labels.

        Returns:
            The estimator.

        Raises:
            ValueError, TypeError: no row has a label; for the rest see the class.
        """
        X, y = self._validated(X, y, is_first=True)
        check_classification_targets(y[~is_minus_one("y", y)])
        return self._begin(X, y, find_classes("y", y, self.unlabelled))

    def partial_fit(self, X: Any, y: Any, classes: Any = None) -> Self:
        """Go on learning with the rows X, after ``partial_fit`` or ``fit``.

        A columnar network solves its readout in every call that learns a whole block, so large
        batches are faster.

        Args:
            X: as in ``fit``.
            y: [n] labels.
            classes: all labels that there will be; needed in the first call. A -1 among them means
                what it means in y.

        Returns:
            The estimator.

        Raises:
            ValueError, TypeError: the classes are missing in the first call or differ from those of
                the first call, or y has a label that is none of them; for the rest see the class.
        """
        is_first = not self.__sklearn_is_fitted__()
        if is_first and classes is None:
            raise ValueError("classes: expected all labels in the first partial_fit, got None.")
        X, y = self._validated(X, y, is_first)
        if is_first:
            return self._begin(X, y, find_classes("classes", classes, self.unlabelled))
        if classes is not None:
            found = find_classes("classes", classes, self.unlabelled).tolist()
            if found != self.classes_.tolist():
                raise ValueError(
                    f"classes: expected those of the first call, {self.classes_.tolist()}, "
                    f"got {found}."
                )
        self._stream.learn(self._inputs(X), find_indices(y, self.classes_, self.unlabelled))
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Return the most likely class of each row, [N] of ``classes_``."""
        likely = np.argmax(self.predict_proba(X), axis=1)
        return self.classes_[likely]

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the share of the votes for each class, float64 [N, C]; each row sums to 1.

        The shares are not calibrated probabilities.
        """
        evidence = np.maximum(self._asked(evaluation.predict_proba, X).astype(np.float64), 0)
        whole = evidence.sum(axis=1, keepdims=True)
        uniform = np.full_like(evidence, 1 / evidence.shape[1])
        return np.divide(evidence, whole, out=uniform, where=whole > 0)

    def explain(self, X: Any) -> evaluation.Explanation:
        """Return the memories that voted on each row, the nearest first.

        Returns:
            ``memories``, ``distances`` and ``weights`` as ``memjax.explain`` gives them, each
            [N, M, k] for M banks (one, except for colour images). ``labels`` is a masked array of
            the classes that the memories vote for. It is masked where a memory has no vote, and
            where a bank has fewer than k memories.

        Raises:
            ValueError: the network is columnar.
        """
        found = self._asked(evaluation.explain, X)
        labels = np.ma.array(self.classes_[found.labels], mask=found.labels == UNLABELLED)
        return found._replace(labels=labels)

    def novelty_score(self, X: Any) -> np.ndarray:
        """Return how new each row is, float32 [N]; above 1 it is new. See ``memjax.novelty_score``.

        Raises:
            ValueError: the network is columnar.
        """
        return self._asked(evaluation.novelty_score, X)

    @property
    def network_(self) -> Layer:
        """The memjax network."""
        check_is_fitted(self)
        return self._stream.network

    @property
    def params_(self) -> Any:
        """The numbers of the network, the threshold among them."""
        check_is_fitted(self)
        return self._stream.settled()[0]

    @property
    def state_(self) -> Any:
        """What the network has learned from all rows so far."""
        check_is_fitted(self)
        return self._stream.settled()[1]

    @property
    def num_memories_(self) -> int:
        """How many memories are in use."""
        return evaluation.num_memories(self.network_, self.state_)

    def __sklearn_is_fitted__(self):
        return hasattr(self, "_stream")

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags

    def _validated(self, X: Any, y: Any = "no_validation", is_first: bool = False) -> Any:
        """Return X as [N, D], and y if there is one; X of the first call decides the layout."""
        check_unmasked("X", X)
        check_unmasked("y", y)
        X, image_shape = flatten_images(X)
        if is_first:
            self.image_shape_ = self._first_image_shape(image_shape)
        elif image_shape not in (None, self.image_shape_):
            expected = "rows" if self.image_shape_ is None else f"images {self.image_shape_}"
            raise ValueError(f"X: expected {expected} as in fit, got images {image_shape}.")
        dtype = np.float64 if self.image_shape_ is None else "numeric"
        return validate_data(self, X, y, reset=is_first, dtype=dtype)

    def _first_image_shape(self, found: tuple[int, int, int] | None) -> Any:
        """Return the (H, W, channels) that the parameter and the first images agree on, or None."""
        if self.image_shape is None:
            return found
        check_image_shape(self.image_shape)
        expected = tuple(self.image_shape)
        if found not in (None, expected):
            raise ValueError(f"X: expected images {expected}, as image_shape says, got {found}.")
        return expected

    def _begin(self, X: np.ndarray, y: np.ndarray, classes: np.ndarray) -> Self:
        """Learn the first rows of a new stream."""
        indices = find_indices(y, classes, self.unlabelled)
        stream = HeldStream(*self._network(X.shape[1], len(classes)))
        is_shifted = self.image_shape_ is None and self.distance != "cosine"
        self.origin_ = X[0].copy() if is_shifted else np.zeros(X.shape[1])
        stream.learn(self._inputs(X), indices)
        self.classes_, self._stream = classes, stream
        return self

    def _network(self, num_features: int, num_classes: int) -> tuple[Layer, Any]:
        """Return the network that the parameters describe, and its params."""
        check_choice("network", self.network, ("memory", "columnar"))
        shape = self.image_shape_
        if shape is not None and math.prod(shape) != num_features:
            raise ValueError(
                f"X: expected {math.prod(shape)} numbers in each row, as image_shape says, "
                f"got {num_features}."
            )
        if self.network == "columnar":
            if shape is None:
                raise ValueError(
                    "image_shape: expected (H, W, channels) of the images for a columnar network, "
                    "got None with rows of features."
                )
            return columnar_network(shape, num_classes, self.size, is_mirrored=self.is_mirrored)
        check_positive("n_neighbors", self.n_neighbors)
        check_choice("distance", self.distance, tuple(DISTANCES))
        choices = {
            "capacity": self.capacity,
            "distance": DISTANCES[self.distance],
            "supervised_growth": self.supervised_growth,
            "on_full": self.on_full,
            "num_neighbours": self.n_neighbors,
        }
        if shape is None:
            layer = MemoryLayer(num_features, num_classes, **choices)
            return layer, layer.params(
                novelty_threshold=self.novelty_threshold, plasticity_floor=self.plasticity_floor
            )
        return memory_network(
            shape,
            num_classes,
            encoder=self.encoder,
            novelty_threshold=self.novelty_threshold,
            plasticity_floor=self.plasticity_floor,
            **choices,
        )

    def _inputs(self, X: np.ndarray) -> np.ndarray:
        """Return rows as the network takes them, float32."""
        if self.image_shape_ is None:
            X = X - self.origin_
        with np.errstate(over="ignore"):
            inputs = X.astype(np.float32)
        check_finite("X", inputs)
        if self.image_shape_ is None:
            return inputs
        # Integers are scaled here, as an encoder does, to join them with batches of floats.
        scale = 255 if X.dtype.kind in "iu" else 1
        return (inputs / np.float32(scale)).reshape(-1, *self.image_shape_)

    def _asked(self, function: Callable[..., Any], X: Any) -> Any:
        """Apply a function of ``memjax.evaluation`` to rows."""
        check_is_fitted(self)
        inputs = self._inputs(self._validated(X))
        missing = max(_BATCH_SIZE - len(inputs), 0)
        filled = np.pad(inputs, [(0, missing)] + [(0, 0)] * (inputs.ndim - 1))
        result = function(self.network_, self.params_, self.state_, filled, _BATCH_SIZE)
        return jax.tree.map(lambda rows: rows[: len(inputs)], result)
