"""Memory Networks in JAX: visual learning in one pass, without backpropagation or convolution.

The names here are enough to build, train, keep and ask a network; ``memjax.datasets``,
``memjax.sklearn``, ``memjax.plotting`` and ``memjax.cli`` are imported on their own, since they
need what the ``all`` extra installs.
"""

from memjax import (
    checkpoint,
    checks,
    columns,
    composition,
    decorrelation,
    distances,
    encoders,
    evaluation,
    exemplars,
    memory,
    networks,
    readouts,
    sharding,
    training,
    types,
)
from memjax.columns import Columns as Columns
from memjax.columns import Fixations as Fixations
from memjax.composition import Chain as Chain
from memjax.composition import Mirrored as Mirrored
from memjax.composition import Same as Same
from memjax.composition import SideBySide as SideBySide
from memjax.composition import Vote as Vote
from memjax.decorrelation import Decorrelation as Decorrelation
from memjax.decorrelation import RandomProjection as RandomProjection
from memjax.distances import cosine as cosine
from memjax.distances import manhattan as manhattan
from memjax.distances import squared_euclidean as squared_euclidean
from memjax.encoders import Blur as Blur
from memjax.encoders import FeatureMap as FeatureMap
from memjax.encoders import OnOff as OnOff
from memjax.encoders import OrientedEdges as OrientedEdges
from memjax.encoders import Pixels as Pixels
from memjax.evaluation import evaluate as evaluate
from memjax.evaluation import explain as explain
from memjax.evaluation import novelty_score as novelty_score
from memjax.evaluation import predict as predict
from memjax.evaluation import predict_proba as predict_proba
from memjax.exemplars import Exemplars as Exemplars
from memjax.memory import MemoryLayer as MemoryLayer
from memjax.networks import columnar_network as columnar_network
from memjax.networks import memory_network as memory_network
from memjax.networks import replace_params as replace_params
from memjax.readouts import DeltaReadout as DeltaReadout
from memjax.readouts import RidgeReadout as RidgeReadout
from memjax.readouts import VoteReadout as VoteReadout
from memjax.training import calibrate as calibrate
from memjax.training import fit as fit
from memjax.training import fit_stream as fit_stream
from memjax.types import Layer as Layer

__all__ = [
    "Blur",
    "Chain",
    "Columns",
    "Decorrelation",
    "DeltaReadout",
    "Exemplars",
    "FeatureMap",
    "Fixations",
    "Layer",
    "MemoryLayer",
    "Mirrored",
    "OnOff",
    "OrientedEdges",
    "Pixels",
    "RandomProjection",
    "RidgeReadout",
    "Same",
    "SideBySide",
    "Vote",
    "VoteReadout",
    "calibrate",
    "checkpoint",
    "checks",
    "columnar_network",
    "columns",
    "composition",
    "cosine",
    "decorrelation",
    "distances",
    "encoders",
    "evaluate",
    "evaluation",
    "exemplars",
    "explain",
    "fit",
    "fit_stream",
    "manhattan",
    "memory",
    "memory_network",
    "networks",
    "novelty_score",
    "predict",
    "predict_proba",
    "readouts",
    "replace_params",
    "sharding",
    "squared_euclidean",
    "training",
    "types",
]

__version__ = "0.1.0"
