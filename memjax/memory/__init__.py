"""Banks of memories: the layer, and the same over several devices."""

from memjax.memory.layer import MemoryLayer as MemoryLayer
from memjax.memory.layer import MemoryParams as MemoryParams
from memjax.memory.layer import MemoryState as MemoryState
