"""Layers that look at images: fixed encoders, columns with an eye, and the mirror."""

from memjax.vision.columns import Columns, ColumnsParams, ColumnsState
from memjax.vision.encoders import Blur, Encoder, FeatureMap, Grey, OnOff, OrientedEdges, Pixels
from memjax.vision.mirror import Mirrored

__all__ = [
    "Blur",
    "Columns",
    "ColumnsParams",
    "ColumnsState",
    "Encoder",
    "FeatureMap",
    "Grey",
    "Mirrored",
    "OnOff",
    "OrientedEdges",
    "Pixels",
]
