"""The page of ``memjax demo``: draw, see who votes, teach a class with one drawing, forget it.

All tabs share one ``Session`` of immutable ``Knowledge``. The page is made of the files in
``static``, and asks nothing of another host.
"""

from memjax.demo._beginnings import learn_first
from memjax.demo._server import serve
from memjax.demo._steps import answer

__all__ = ["answer", "learn_first", "serve"]
