"""A classifier for scikit-learn: a memjax network behind ``fit``, ``partial_fit`` and ``predict``.

It needs scikit-learn: ``pip install 'memjax[cli]'``.
"""

import math
import threading
from collections.abc import Callable, Sequence
from copy import copy
from functools import partial, wraps
from typing import Any, NamedTuple, Self

import jax
import numpy as np
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from memjax import evaluation
from memjax._checks import check_image_shape, check_positive, check_unmasked, warn
from memjax.base import UNLABELLED, Layer
from memjax.sklearn._networks import build_network
from memjax.sklearn._stream import BLOCK_SIZE, HeldStream, Learned, filled
from memjax.sklearn._validation import (
    MOST_ROWS,
    check_magnitude,
    check_scale,
    find_classes,
    find_indices,
    find_narrow,
    find_new_classes,
    find_repeats,
    find_scale,
    first_classes,
    flatten_images,
    is_dropped,
    is_minus_one,
)
from memjax.sklearn._warnings import find_forgotten, find_uneven
from memjax.training import CALIBRATION_EXAMPLES

__all__ = ["MemoryNetworkClassifier"]

# Rows are asked in batches of this size, filled up. So there is one compilation for any number of
# rows, and the rounding of an answer does not depend on the rows beside it.
_BATCH_SIZE = 64

# Classes that there is room for at first, if they are not told.
_FIRST_CLASSES = 16


class _Moment(NamedTuple):
    """What an answer rests on: the estimator between two calls that change it."""

    network: Layer
    learned: Learned
    stream: HeldStream  # of which only is used what never changes
    classes: np.ndarray  # [C], in the order of the network
    order: np.ndarray  # [C], their places in ascending order
    image_shape: tuple[int, int, int] | None
    scale: int


def _alone(method: Callable[..., Any]) -> Any:
    """Return a method that waits until no other thread is in one: its estimator changes as one."""

    @wraps(method)
    def locked(estimator, *args, **kwargs):
        with estimator._lock:
            return method(estimator, *args, **kwargs)

    return locked


class MemoryNetworkClassifier(ClassifierMixin, BaseEstimator):
    """Memories that vote, learned in one pass over the rows in their order.

    Rows of features are learned by one ``MemoryLayer`` as they are, at their own scale, as
    nearest-neighbour methods do. Images are learned by ``memory_network`` or ``columnar_network``.
    Nothing is shuffled, and no row is seen twice. The mathematics is that of these networks.

    ``partial_fit`` in batches of any sizes gives what one ``fit`` of the same rows in the same
    order gives. For that it holds back the rows after the last whole block of 64 rows, and the
    first 1,000 rows while the origin or a threshold "auto" waits for them. An estimator that is
    asked meanwhile answers as if it had learned them too. While it waits, it estimates the origin
    and the threshold again whenever the rows have grown by an eighth.

    Several threads may learn and ask at a time. Calls that learn follow one another, and an answer
    is that of the moment before or after such a call. So are attributes and copies.

    Labels may be integers, strings or anything else that sorts; for rows without a label see
    ``unlabelled``. Where no memory has a vote, all classes are equally likely and the answer is the
    first class. Evidence below 0, which a columnar network may give, counts as 0.

    It warns of features that tell nothing apart, of a feature that drowns the others, of rows too
    far away for float32, and of classes for which no memory votes, or too few of a full bank.
    Parameters that the chosen network does not use must keep their defaults.

    Args:
        n_neighbors: how many memories vote (the name is scikit-learn's). ``set_params`` changes
            it after ``fit`` too.
        network: "memory", or "columnar" for a network with depth, which takes images.
        image_shape: (H, W, channels), if the rows are flattened images. None for rows of features,
            and for X of [N, H, W] or [N, H, W, channels], which has the shape in it. Integer images
            are divided by the least of 1, 16, 255 and 65535 that the first call does not exceed,
            and later integers above it are refused. Floating-point images are read as they are; a
            columnar network expects 0 to 1.
        capacity: K, the most memories that a bank holds.
        novelty_threshold: the distance above which a row is stored. "auto" estimates it from the
            first 1,000 rows, or from all rows if there are fewer: see ``MemoryLayer.calibrate``.
        plasticity_floor: the least step size of a winner, 0 to 1.
        distance: "squared_euclidean", "cosine" or "manhattan".
        supervised_growth: whether a mistake that comes again, or whose label is rare, is stored
            too.
        on_full: what happens to a surprise when the bank is full: "adapt", "replace" or "ignore".
        encoder: of images: "edges", "pixels", "blur" or "on_off".
        size: of a columnar network, one of ``networks.SIZES``. Besides ``size``, such a network
            uses only ``is_mirrored``, the shape of the images and what is said of labels.
        is_mirrored: whether a columnar network also sees the mirror image of every image.
        unlabelled: -1: rows with this label have no label. None: every row has a label. "auto" is
            -1, with a warning, unless all labels are -1 or 1; then these are two classes. To mix -1
            with labels that are strings, give y as an array of objects.
        class_weight: None, or a dict from classes to weights, 1 where it names none. They are
            rounded to whole numbers and multiply the sample weights. "balanced", for ``fit`` only,
            is the number of rows of the largest class over that of a class.

    Attributes:
        classes_: [C], the labels in their order.
        n_features_in_: D, how many numbers a row or an image has.
        feature_names_in_: [D], only if X had names that are strings.
        image_shape_: (H, W, channels), None for rows of features.
        origin_: float64 [D], the median of the first 1,000 rows. Features are measured from it, so
            that small differences between large numbers survive in float32. It is 0 for cosine
            distance and for images.
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

    n_features_in_: int

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
        class_weight: dict[Any, float] | str | None = None,
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
        self.class_weight = class_weight

    @_alone
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Forget everything and learn the rows X in their order.

        Args:
            X: [N, D] features or flattened images, or images [N, H, W] or [N, H, W, channels].
                A sparse matrix of features is made dense, some thousand rows at a time.
            y: [N] labels.
            sample_weight: [N] whole numbers: a row of weight w is learned w times in a row, and one
                of weight 0 is left out. None is 1.

        Returns:
            The estimator.

        Raises:
            ValueError, TypeError: no row has a label; for the rest see the class.
        """
        X, y = self._validated(X, y, is_first=True)
        check_classification_targets(y[~is_minus_one("y", y)])
        classes = find_classes("y", y, self.unlabelled)
        repeats = find_repeats(y, sample_weight, self.class_weight, classes)
        if fault := find_narrow(X, None):
            raise ValueError(fault)
        self._begin(X, y, repeats, classes, is_growing=False)
        rows, labels = self._stream.held
        if self._stream.is_waiting:
            self._warn_of_scale(rows)
        num_held = np.bincount(labels[labels >= 0], minlength=len(classes))
        self._warn_of_classes(self._stream.settled(), self._stream.num_met + num_held)
        return self

    @_alone
    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Self:
        """Go on learning with the rows X, after ``partial_fit`` or ``fit``.

        A columnar network solves its readout again when it is asked.

        Args:
            X: as in ``fit``.
            y: [n] labels.
            classes: all labels that there will be. A -1 among them means what it means in y. If the
                first call has None, a label that is new becomes a class; each one compiles anew.
            sample_weight: as in ``fit``.

        Returns:
            The estimator.

        Raises:
            ValueError, TypeError: the classes differ from those of the first call, y has a label
                that is none of them, or ``class_weight`` is "balanced", for which all labels must
                be known; for the rest see the class.
        """
        is_first = not self.__sklearn_is_fitted__()
        if isinstance(self.class_weight, str):
            raise ValueError(
                'class_weight: expected None or a dict in partial_fit, as "balanced" needs all '
                f"labels, got {self.class_weight!r}."
            )
        X, y = self._validated(X, y, is_first)
        given = None if classes is None else find_classes("classes", classes, self.unlabelled)
        is_growing = given is None if is_first else self._is_growing
        repeats = find_repeats(y, sample_weight, self.class_weight, None if is_growing else given)
        if is_growing:
            check_classification_targets(y)
        fault = self._check_apart(X, is_first)
        if is_first:
            first = first_classes(y, self.unlabelled) if given is None else given
            self._begin(X, y, repeats, first, is_growing)
        elif given is not None and given.tolist() != self.classes_.tolist():
            raise ValueError(
                f"classes: expected those of the first call, {self.classes_.tolist()}, "
                f"got {given.tolist()}."
            )
        else:
            self._learn(X, y, repeats)
        if given is not None:
            self._warn_of_dropped(np.asarray(classes))
        self._warn_once(fault)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Return the most likely class of each row, [N] of ``classes_``."""
        moment, shares = self._shares(X)
        return moment.classes[moment.order[np.argmax(shares, axis=1)]]

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the share of the votes for each class, float64 [N, C]; each row sums to 1.

        The shares are not calibrated probabilities.
        """
        return self._shares(X)[1]

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
        moment, found = self._asked(evaluation.explain, X)
        labels = np.ma.array(moment.classes[found.labels], mask=found.labels == UNLABELLED)
        return found._replace(labels=labels)

    def kneighbors(
        self, X: Any, n_neighbors: int | None = None, return_distance: bool = True
    ) -> Any:
        """Return the memories nearest to each row, the nearest first.

        Args:
            X: [N, D] or images, as in ``fit``.
            n_neighbors: k, how many are asked for; None is the parameter ``n_neighbors``.
            return_distance: whether the distances are returned too.

        Returns:
            Distances float32 [N, k], as ``MemoryLayer`` defines them, and indices int32 [N, k],
            or only the indices. ``state_.prototypes`` has the memories.

        Raises:
            ValueError: there are fewer memories, or the network has no bank or several.
        """
        check_is_fitted(self)
        number = self.n_neighbors if n_neighbors is None else n_neighbors
        check_positive("n_neighbors", number)
        moment, found = self._asked(evaluation.explain, X, number)
        if found.memories.shape[1] > 1:
            raise ValueError(
                "network: expected one with one bank of memories, got one with "
                f"{found.memories.shape[1]}; explain tells the memories of each."
            )
        most = evaluation.num_memories(moment.network, moment.learned.state)
        if number > most:
            raise ValueError(f"n_neighbors: expected at most the {most} memories, got {number}.")
        memories, distances = found.memories[:, 0], found.distances[:, 0]
        return (distances, memories) if return_distance else memories

    def novelty_score(self, X: Any) -> np.ndarray:
        """Return how new each row is, float32 [N], from 0, familiar, to 1, farther than all before.

        It is the share of the learned rows that were nearer to their memory. See
        ``memjax.novelty_score``.
        """
        return self._asked(evaluation.novelty_score, X)[1]

    @property
    @_alone
    def classes_(self) -> np.ndarray:
        """The labels in their order, [C]."""
        check_is_fitted(self)
        return self._labels[self._order]

    @property
    @_alone
    def network_(self) -> Layer:
        """The memjax network."""
        check_is_fitted(self)
        if self.n_neighbors != self._chosen["n_neighbors"]:
            chosen = self._chosen | {"n_neighbors": self.n_neighbors}
            network, _ = self._network(chosen, len(self._stream.num_met))
            self._stream.replace_network(network)
            self._chosen = chosen
        return self._stream.network

    @property
    @_alone
    def origin_(self) -> np.ndarray:
        """What features are measured from, float64 [D]."""
        check_is_fitted(self)
        origin = self._stream.settled().origin
        return np.broadcast_to(origin, math.prod(self._stream.network.input_shape))

    @property
    @_alone
    def params_(self) -> Any:
        """The numbers of the network, the threshold among them."""
        check_is_fitted(self)
        return self._stream.settled().params

    @property
    @_alone
    def state_(self) -> Any:
        """What the network has learned from all rows so far."""
        check_is_fitted(self)
        return self._stream.settled().state

    @property
    @_alone
    def num_memories_(self) -> int:
        """How many memories are in use."""
        return evaluation.num_memories(self.network_, self.state_)

    @property
    def _lock(self) -> Any:
        """What a thread holds while it changes the estimator, or looks what to answer from."""
        return self.__dict__.setdefault("_made_lock", threading.RLock())

    @_alone
    def __getstate__(self):
        state = dict(vars(self))
        del state["_made_lock"]
        if "_stream" in state:
            # As they are now: what changes of a stream is given another value, never written.
            state |= {"_stream": copy(self._stream), "_warned": set(self._warned)}
        return state

    def __sklearn_is_fitted__(self):
        return hasattr(self, "_stream")

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.input_tags.sparse = True
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
        checked = validate_data(self, X, y, reset=is_first, dtype=dtype, accept_sparse="csr")
        rows = checked[0] if isinstance(checked, tuple) else checked
        check_magnitude("X", rows)
        return checked

    def _check_apart(self, X: Any, is_first: bool) -> str | None:
        """Raise if the rows of a stream hardly differ; return the sentence while they are few."""
        if not is_first and not self._stream.is_waiting:
            return None
        held = None if is_first else self._stream.held[0]
        fault = find_narrow(X, held)
        if fault and X.shape[0] + (0 if held is None else len(held)) >= BLOCK_SIZE:
            raise ValueError(fault)
        return fault  # they may be its quiet beginning

    def _first_image_shape(self, found: tuple[int, int, int] | None) -> Any:
        """Return the (H, W, channels) that the parameter and the first images agree on, or None."""
        if self.image_shape is None:
            return found
        check_image_shape(self.image_shape)
        expected = tuple(self.image_shape)
        if found not in (None, expected):
            raise ValueError(f"X: expected images {expected}, as image_shape says, got {found}.")
        return expected

    def _begin(
        self, X: Any, y: np.ndarray, repeats: np.ndarray, classes: np.ndarray, is_growing: bool
    ) -> None:
        """Learn the first rows of a new stream."""
        shape, chosen = self.image_shape_, self.get_params(deep=False)
        if shape is not None and math.prod(shape) != X.shape[1]:
            raise ValueError(
                f"X: expected {math.prod(shape)} numbers in each row, as image_shape says, "
                f"got {X.shape[1]}."
            )
        if not repeats.any():
            raise ValueError("sample_weight: expected a positive weight, got only zeros.")
        network, params = self._network(chosen, len(classes))
        if not is_growing:
            find_indices(y, classes, self.unlabelled)  # raises before anything is changed
        is_measured = shape is None and chosen["distance"] != "cosine"
        self._stream = HeldStream(network, params, is_measured)
        self._chosen, self._is_growing, self._scale = chosen, is_growing, find_scale(X)
        self._labels, self._order = classes, np.argsort(classes, kind="stable")
        self._warned: set[str] = set()
        self._learn(X, y, repeats)

    def _learn(self, X: Any, y: np.ndarray, repeats: np.ndarray) -> None:
        """Learn rows, each as often as it is repeated."""
        if self._is_growing:  # all is checked before anything is changed
            find_new_classes(y, self._labels, self.unlabelled)
        else:
            find_indices(y, self._labels, self.unlabelled)
        check_scale(X, self._scale)
        self._warn_of_dropped(y)
        if (repeats != 1).any():
            chosen = np.repeat(np.arange(len(y)), repeats)
            X, y = X[chosen], y[chosen]
        is_image = self.image_shape_ is not None
        start = 0
        while start < len(y):
            num_rows = len(y) if is_image else MOST_ROWS
            if self._is_growing and len(find_new_classes(y[start:], self._labels, self.unlabelled)):
                # Each block is learned with the classes that have appeared by its end.
                num_rows = self._stream.num_missing
            stop = start + num_rows
            rows = _dense(X[start:stop], self.image_shape_, self._scale)
            self._learn_some(rows, y[start:stop])
            start = stop

    def _learn_some(self, rows: np.ndarray, y: np.ndarray) -> None:
        """Learn dense rows whose labels all become classes now, if classes may grow."""
        stream = self._stream
        if self._is_growing:
            new = find_new_classes(y, self._labels, self.unlabelled)
            if len(new):
                self._labels = np.concatenate([self._labels, new])
                self._order = np.argsort(self._labels, kind="stable")
            # The first classes share a program. What is learned for good knows no more than come.
            num_classes = len(self._labels)
            if stream.is_waiting and stream.num_missing > len(y):
                num_classes = max(_FIRST_CLASSES, 1 << (num_classes - 1).bit_length())
            if num_classes != len(stream.num_met):
                network, _ = self._network(self._chosen, num_classes)
                stream.replace_network(network)
        if stream.is_waiting and stream.num_missing <= len(y):
            self._warn_of_scale(np.concatenate([stream.held[0], rows]))
        known = stream.known
        stream.learn(rows, find_indices(y, self._labels, self.unlabelled))
        if stream.known is not known:
            self._warn_of_classes(stream.known, stream.num_met)
        if stream.is_too_far and self._chosen["novelty_threshold"] == "auto":
            self._warn_once(
                "X: rows lie so far from origin_ that float32 hardly tells near ones apart; fit "
                "anew, or subtract what the features have drifted to."
            )

    def _warn_of_dropped(self, labels: np.ndarray) -> None:
        if is_dropped(labels, self._labels, self.unlabelled):
            self._warn_once(
                "y: -1 is taken for rows without a label; set unlabelled=None if it is a class, "
                "or unlabelled=-1 if it is not."
            )

    def _warn_of_scale(self, rows: np.ndarray) -> None:
        if self.image_shape_ is None:
            self._warn_once(find_uneven(rows[:CALIBRATION_EXAMPLES]))

    def _warn_of_classes(self, known: Learned, num_met: np.ndarray) -> None:
        self._warn_once(find_forgotten(self._stream.network, known, num_met, self._labels))

    def _warn_once(self, sentence: str | None) -> None:
        """Warn, unless a warning of this kind was given since the first row."""
        if sentence is not None and (kind := sentence[:20]) not in self._warned:
            self._warned.add(kind)
            warn(sentence)

    def _network(self, chosen: dict[str, Any], num_classes: int) -> tuple[Layer, Any]:
        defaults = type(self)().get_params(deep=False)
        return build_network(chosen, defaults, self.image_shape_, self.n_features_in_, num_classes)

    def _shares(self, X: Any) -> tuple[_Moment, np.ndarray]:
        """Return the share of the votes for each class in ascending order, [N, C]."""
        moment, evidence = self._asked(evaluation.predict_proba, X)
        evidence = np.maximum(evidence[:, moment.order].astype(np.float64), 0)
        whole = evidence.sum(axis=1, keepdims=True)
        uniform = np.full_like(evidence, 1 / evidence.shape[1])
        return moment, np.divide(evidence, whole, out=uniform, where=whole > 0)

    def _asked(
        self, function: Callable[..., Any], X: Any, n_neighbors: int | None = None
    ) -> tuple[_Moment, Any]:
        """Apply a function of ``memjax.evaluation`` to rows; return also the moment it was for."""
        X, moment = self._moment(X, n_neighbors)
        network, learned = moment.network, moment.learned
        results = []
        for start in range(0, X.shape[0], MOST_ROWS):
            rows = _dense(X[start : start + MOST_ROWS], moment.image_shape, moment.scale)
            inputs = moment.stream.inputs(rows, learned.origin)
            asked = filled(inputs, max(_BATCH_SIZE, len(inputs)))
            result = function(network, learned.params, learned.state, asked, _BATCH_SIZE)
            own = partial(evaluation.first_rows, num_rows=len(inputs))
            results.append(jax.tree.map(own, result))
        return moment, jax.tree.map(lambda *parts: np.concatenate(parts), *results)

    @_alone
    def _moment(self, X: Any, n_neighbors: int | None) -> tuple[Any, _Moment]:
        """Return checked rows, and what the answers to them rest on."""
        check_is_fitted(self)
        X = self._validated(X)
        check_scale(X, self._scale)
        if n_neighbors is None:
            network = self.network_
        else:
            chosen = self._chosen | {"n_neighbors": n_neighbors}
            network, _ = self._network(chosen, len(self._stream.num_met))
        stream, kind = self._stream, (self.image_shape_, self._scale)
        return X, _Moment(network, stream.settled(), stream, self._labels, self._order, *kind)


def _dense(X: Any, image_shape: tuple[int, int, int] | None, scale: int) -> np.ndarray:
    """Return rows as the stream takes them: dense features as they are, images as float32."""
    if issparse(X):
        X = X.toarray()
    if image_shape is None:
        return X
    scale = scale if X.dtype.kind in "iu" else 1
    return (X.astype(np.float32) / np.float32(scale)).reshape(-1, *image_shape)
