"""Memory Networks in JAX: visual learning in one pass, without backpropagation or convolution.

The names here are enough to build, train, keep and ask a network. The modules ``memjax.datasets``,
``memjax.plotting`` and ``memjax.sklearn`` need packages that an extra installs, and are loaded when
they are first used.
"""

__version__ = "0.2.0"

import importlib
from typing import TYPE_CHECKING, Any

from memjax.command import _signals

if _signals.is_the_command():
    _signals.watch_to_the_end()  # The imports below take seconds, and Ctrl-C ends them as well.

from memjax.base import Layer
from memjax.checkpoint import restore, save
from memjax.composition import Chain, Concatenate, Reshape, Vote
from memjax.devices import shard
from memjax.distances import cosine, manhattan, squared_euclidean
from memjax.evaluation import (
    evaluate,
    explain,
    novelty_score,
    num_memories,
    predict,
    predict_proba,
)
from memjax.exemplars import Exemplars
from memjax.memory import MemoryLayer, forget, merge, resize
from memjax.networks import columnar_network, memory_network
from memjax.params import find_params, replace_params
from memjax.projections import Decorrelation, RandomProjection, Standardisation
from memjax.readouts import DeltaReadout, RidgeReadout, VoteReadout
from memjax.streams import fit_stream
from memjax.training import calibrate, fit, learn
from memjax.vision import Blur, Columns, FeatureMap, Grey, Mirrored, OnOff, OrientedEdges, Pixels

if TYPE_CHECKING:
    from memjax import datasets, plotting, sklearn

__all__ = [
    "Blur",
    "Chain",
    "Columns",
    "Concatenate",
    "Decorrelation",
    "DeltaReadout",
    "Exemplars",
    "FeatureMap",
    "Grey",
    "Layer",
    "MemoryLayer",
    "Mirrored",
    "OnOff",
    "OrientedEdges",
    "Pixels",
    "RandomProjection",
    "Reshape",
    "RidgeReadout",
    "Standardisation",
    "Vote",
    "VoteReadout",
    "calibrate",
    "columnar_network",
    "cosine",
    "datasets",
    "evaluate",
    "explain",
    "find_params",
    "fit",
    "fit_stream",
    "forget",
    "learn",
    "manhattan",
    "memory_network",
    "merge",
    "novelty_score",
    "num_memories",
    "plotting",
    "predict",
    "predict_proba",
    "replace_params",
    "resize",
    "restore",
    "save",
    "shard",
    "sklearn",
    "squared_euclidean",
]


def __getattr__(name: str) -> Any:
    if name in ("datasets", "plotting", "sklearn"):
        return importlib.import_module(f"memjax.{name}")
    raise AttributeError(f"module 'memjax' has no attribute {name!r}")
