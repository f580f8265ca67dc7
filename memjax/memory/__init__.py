"""Banks of memories that learn in one pass."""

from memjax.memory._state import MemoryParams, MemoryState, voted_labels
from memjax.memory.edit import forget, merge, resize
from memjax.memory.layer import MemoryLayer

__all__ = [
    "MemoryLayer",
    "MemoryParams",
    "MemoryState",
    "forget",
    "merge",
    "resize",
    "voted_labels",
]
