"""A classifier for scikit-learn: a memjax network behind ``fit``, ``partial_fit`` and ``predict``.

It needs scikit-learn, which the extra ``all`` installs.
"""

import dataclasses
import math
from collections.abc import Callable, Hashable, Sequence
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
    shorten,
)
from memjax.base import UNLABELLED, Layer
from memjax.distances import DISTANCES
from memjax.memory import MemoryLayer
from memjax.networks import columnar_network, memory_network
from memjax.params import check_params, has_unset
from memjax.streams import fit_stream
from memjax.training import calibrate

__all__ = ["MemoryNetworkClassifier"]

# The first examples of a stream, which set a threshold that is "auto".
_CALIBRATION_EXAMPLES = 1000

# Examples of one matrix product in learning. Blocks begin at its multiples whatever the batches.
_BLOCK = 256

# Rows that are asked at a time, filled up: one compilation for any number of them, and no row's
# answer is rounded otherwise for those beside it.
_QUERIES = 64


class MemoryNetworkClassifier(ClassifierMixin, BaseEstimator):
    r"""Memories that vote, learned in one pass over the rows in their order.

    A row of features is learned by one ``MemoryLayer`` as it is, at its own scale, as
    nearest-neighbour methods do; images are learned by ``memory_network`` or ``columnar_network``.
    Nothing is shuffled and no row is seen twice.

    ``partial_fit`` in any batches gives what one ``fit`` of the same rows in the same order gives,
    to the last bit: blocks of 256 rows are cut where ``fit`` cuts them. The rows after the last
    whole block, and the first 1,000 while a threshold "auto" waits for them, are held back. Asked
    meanwhile, the estimator answers as one that has learned them too, from a copy.

    Labels may be integers, strings or anything else that sorts; see ``unlabelled`` for rows that
    have none. Where no memory has a vote, all classes are equally likely and the answer is the
    first. Evidence below 0, which a columnar network may give, counts as 0. Sample weights are not
    supported.

    Args:
        n_neighbors: how many memories vote, under scikit-learn's name for it.
        network: "memory", or "columnar" for a network with depth, which takes images.
        image_shape: (H, W, channels) of rows that are flattened images; None for rows of features,
            and for X of [N, H, W] or [N, H, W, channels], which say it themselves. Integer images
            are read on the scale 0 to 255, floating-point images as they are; a columnar network
            expects 0 to 1.
        capacity: K, memories a bank has room for.
        novelty_threshold: distance above which a row is stored; "auto" estimates it from the first
            1,000 rows, or as many as there are: see ``MemoryLayer.calibrate``.
        plasticity_floor: least step size of a winner, 0 to 1.
        distance: "squared_euclidean", "cosine" or "manhattan".
        supervised_growth: whether a wrong vote is stored as well.
        on_full: "adapt", "replace" or "ignore", for a surprise when the bank is full.
        encoder: of images: "edges", "pixels", "blur" or "on_off".
        size: "small", "medium" or "large", of a columnar network; it uses this and ``is_mirrored``
            only, besides the shape of the images.
        is_mirrored: whether a columnar network sees every image in the mirror as well.
        unlabelled: -1: rows with this label are unlabelled; None: no row is. "auto" is -1, unless
            all labels are -1 or 1, which are then two classes. With labels that are strings, y is
            an array of objects.

    Attributes:
        classes_: [C], the labels in their order.
        n_features_in_: D, numbers in a row, or in an image.
        feature_names_in_: [D], only if X had names that are strings.
        image_shape_: (H, W, channels), None for rows of features.
        origin_: float64 [D], the first row, from which features are measured; it keeps small
            differences between large numbers in float32. 0 for cosine distance and images.
        network_, params_, state_: what the other functions of memjax take. Prototypes of features
            are relative to ``origin_``.
        num_memories_: memories in use.

    Raises:
        ValueError, TypeError: from ``fit`` and ``partial_fit``, a parameter that is out of its
            range, or rows or labels that do not fit.

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
            ValueError: no row is labelled; or see the class.
        """
        X, y = self._validated(X, y, is_first=True)
        check_classification_targets(y[~_is_marked("y", y)])
        return self._learn(X, y, self._classes("y", y))

    def partial_fit(self, X: Any, y: Any, classes: Any = None) -> Self:
        """Go on learning with the rows X; also after ``fit``.

        A columnar network solves its readout in every call that learns a whole block, so its
        batches are better large.

        Args:
            X: as in ``fit``.
            y: [n] labels.
            classes: all labels that there will be; needed in the first call. A -1 among them is
                taken as in y.

        Returns:
            The estimator.

        Raises:
            ValueError: the classes are missing in the first call, or others than they were, or y
                has a label that is none of them; or see the class.
        """
        is_first = not hasattr(self, "classes_")
        if is_first and classes is None:
            raise ValueError("classes: expected all labels in the first partial_fit, got None.")
        X, y = self._validated(X, y, is_first)
        found = None if classes is None else self._classes("classes", classes)
        if is_first:
            return self._learn(X, y, found)
        if found is not None and found.tolist() != self.classes_.tolist():
            raise ValueError(
                f"classes: expected those of the first call, {self.classes_.tolist()}, "
                f"got {found.tolist()}."
            )
        return self._learn(X, y)

    def predict(self, X: Any) -> np.ndarray:
        """Return the most likely class of each row, [N] of ``classes_``."""
        likely = np.argmax(self.predict_proba(X), axis=1)
        return self.classes_[likely]

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the evidence for each class, float64 [N, C]; each row sums to 1.

        It is the share of the votes, not a calibrated probability.
        """
        evidence = np.maximum(self._asked(evaluation.predict_proba, X).astype(np.float64), 0)
        whole = evidence.sum(axis=1, keepdims=True)
        uniform = np.full_like(evidence, 1 / evidence.shape[1])
        return np.divide(evidence, whole, out=uniform, where=whole > 0)

    def explain(self, X: Any) -> evaluation.Explanation:
        """Return the memories that voted on each row, the nearest first.

        Returns:
            ``memories``, ``distances`` and ``weights`` as ``memjax.explain`` gives them, each
            [N, M, k] for M banks (one, except for colour images), and ``labels``, a masked array of
            the classes they vote for; masked where a memory has no vote, or a bank has no more.

        Raises:
            ValueError: the network is columnar.
        """
        found = self._asked(evaluation.explain, X)
        labels = np.ma.array(self.classes_[found.labels], mask=found.labels == UNLABELLED)
        return found._replace(labels=labels)

    def novelty_score(self, X: Any) -> np.ndarray:
        """Return how new each row is, float32 [N]: above 1 it is new; see ``memjax.novelty_score``.

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
        """Its numbers, the threshold among them."""
        check_is_fitted(self)
        return self._stream.settled()[0]

    @property
    def state_(self) -> Any:
        """What it has learned from all rows so far."""
        check_is_fitted(self)
        return self._stream.settled()[1]

    @property
    def num_memories_(self) -> int:
        """Memories in use."""
        return evaluation.num_memories(self.network_, self.state_)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags

    def _validated(self, X: Any, y: Any = "no_validation", is_first: bool = False) -> Any:
        """Return X as [N, D], and y if there is one; X of the first call decides its layout."""
        check_unmasked("X", X)
        check_unmasked("y", y)
        X, image_shape = _flattened(X)
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

    def _classes(self, name: str, labels: Any) -> np.ndarray:
        """Return the classes among labels, in their order."""
        check_choice("unlabelled", self.unlabelled, ("auto", UNLABELLED, None))
        try:
            labels = np.asarray(labels)
            is_marked = _is_marked(name, labels)
            classes = np.unique(labels[~is_marked])
            is_class = self.unlabelled is None or (
                self.unlabelled == "auto" and classes.tolist() == [1]
            )
            if is_class:
                classes = np.unique(labels)
            set(classes.tolist())  # labels are found again by their hash
        except (TypeError, ValueError):
            raise TypeError(
                f"{name}: expected labels of one kind that sorts, got {type(labels).__name__}."
            ) from None
        if not classes.size:
            raise ValueError(f"{name}: expected at least one class, got none.")
        return classes

    def _learn(self, X: np.ndarray, y: np.ndarray, classes: np.ndarray | None = None) -> Self:
        """Learn rows; with classes, as the first of a new stream."""
        indices = self._indices(y, self.classes_ if classes is None else classes)
        if classes is not None:
            network, params = self._network(X.shape[1], len(classes))
            is_shifted = self.image_shape_ is None and self.distance != "cosine"
            self.classes_ = classes
            self.origin_ = X[0].copy() if is_shifted else np.zeros(X.shape[1])
            self._stream = _Stream(network, params)
        self._stream.learn(self._inputs(X), indices)
        return self

    def _network(self, num_features: int, num_classes: int) -> tuple[Layer, Any]:
        """Return the network that the parameters speak of, and its params."""
        check_choice("network", self.network, ("memory", "columnar"))
        shape = self.image_shape_
        if shape is not None and math.prod(shape) != num_features:
            raise ValueError(
                f"X: expected {math.prod(shape)} numbers a row, as image_shape says, "
                f"got {num_features}."
            )
        if self.network == "columnar":
            if shape is None:
                raise ValueError(
                    "image_shape: expected (H, W, channels) of the images that a columnar network "
                    "takes, got None with rows of features."
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
        # Scaled here as an encoder would, so that batches of integers and of floats can be joined.
        scale = 255 if X.dtype.kind in "iu" else 1
        return (inputs / np.float32(scale)).reshape(-1, *self.image_shape_)

    def _indices(self, y: np.ndarray, classes: np.ndarray) -> np.ndarray:
        """Return the place of each label among the classes, int32 [N]; -1 for an unlabelled row."""
        indices = {label: index for index, label in enumerate(classes.tolist())}
        if self.unlabelled is not None:
            indices.setdefault(-1, UNLABELLED)
        found = [
            indices.get(label) if isinstance(label, Hashable) else None for label in y.tolist()
        ]
        if None in found:
            unknown = y.tolist()[found.index(None)]
            raise ValueError(f"y: expected labels among {list(indices)}, got {shorten(unknown)}.")
        return np.array(found, np.int32)

    def _asked(self, function: Callable[..., Any], X: Any) -> Any:
        """Apply a function of ``memjax.evaluation`` to rows."""
        check_is_fitted(self)
        inputs = self._inputs(self._validated(X))
        missing = max(_QUERIES - len(inputs), 0)
        filled = np.pad(inputs, [(0, missing)] + [(0, 0)] * (inputs.ndim - 1))
        result = function(self.network_, self.params_, self.state_, filled, _QUERIES)
        return jax.tree.map(lambda rows: rows[: len(inputs)], result)


@dataclasses.dataclass
class _Stream:
    """A network that learns a stream which may stop anywhere, and go on."""

    network: Layer
    params: Any  # "auto" is still to be estimated

    def __post_init__(self):
        check_params(self.network, self.params, may_be_unset=True)
        self._state = self.network.init(jax.random.key(0))  # after whole blocks
        self._held = (  # examples that it has not learned yet
            np.zeros((0, *self.network.input_shape), np.float32),
            np.zeros(0, np.int32),
        )
        self._settled: Any = None

    def __getstate__(self):
        # What is settled can be made again.
        return self.__dict__ | {"_settled": None}

    def learn(self, inputs: np.ndarray, labels: np.ndarray) -> None:
        """Learn examples, or hold them back."""
        self._settled = None
        inputs = np.concatenate([self._held[0], inputs])
        labels = np.concatenate([self._held[1], labels])
        self._held = inputs, labels
        least = _CALIBRATION_EXAMPLES if self._is_waiting() else _BLOCK
        if len(labels) < least:
            return
        self.params = self._calibrated()
        num_whole = len(labels) // _BLOCK * _BLOCK
        self._state = self._learned(self.params, inputs[:num_whole], labels[:num_whole])
        self._held = inputs[num_whole:].copy(), labels[num_whole:].copy()

    def settled(self) -> tuple[Any, Any]:
        """Return the params and the state after all examples; the stream goes on without them."""
        if self._settled is None:
            params = self._calibrated()
            self._settled = params, self._learned(params, *self._held)
        return self._settled

    def _is_waiting(self) -> bool:
        return has_unset(self.params)

    def _calibrated(self) -> Any:
        if not self._is_waiting():
            return self.params
        first = (rows[:_CALIBRATION_EXAMPLES] for rows in self._held)
        return calibrate(self.network, self.params, *first)

    def _learned(self, params: Any, inputs: np.ndarray, labels: np.ndarray) -> Any:
        starts = range(0, len(labels), _BLOCK)
        blocks = ((inputs[i : i + _BLOCK], labels[i : i + _BLOCK]) for i in starts)
        state, _ = fit_stream(self.network, params, self._state, blocks, _BLOCK)
        return state


def _flattened(X: Any) -> tuple[Any, tuple[int, int, int] | None]:
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


def _is_marked(name: str, labels: np.ndarray) -> np.ndarray:
    """Return where labels are -1, bool [N]; strings never are."""
    if labels.dtype.kind not in "biufOUS":
        raise TypeError(f"{name}: expected numbers, strings or objects, got {labels.dtype}.")
    return labels == UNLABELLED if labels.dtype.kind not in "US" else np.zeros(labels.shape, bool)
