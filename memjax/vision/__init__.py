"""Layers that look at images: fixed encoders, columns with an eye, and the mirror."""

from memjax.vision.columns import Columns as Columns
from memjax.vision.encoders import Blur as Blur
from memjax.vision.encoders import FeatureMap as FeatureMap
from memjax.vision.encoders import OnOff as OnOff
from memjax.vision.encoders import OrientedEdges as OrientedEdges
from memjax.vision.encoders import Pixels as Pixels
from memjax.vision.mirror import Mirrored as Mirrored
