"""Matplotlib figures of what a network remembers, how it grew, how it answers and what it costs.

Every function returns a ``Figure`` of its own and touches no global state; save it with
``figure.savefig(path)``. The figures are about six inches wide, so their text can be read on a
phone. They need matplotlib: ``pip install 'memjax[cli]'``.
"""

from memjax.plotting._charts import accuracy_matrix, growth, pareto
from memjax.plotting._confusion import confusion
from memjax.plotting._images import stored_images
from memjax.plotting._memories import film, memories
from memjax.plotting._pictures import columns, why

__all__ = [
    "accuracy_matrix",
    "columns",
    "confusion",
    "film",
    "growth",
    "memories",
    "pareto",
    "stored_images",
    "why",
]
