"""One table of every public layer and ready-made network, with inputs to try it on."""

from typing import Any, NamedTuple

import jax
import numpy as np

import memjax

KEY = jax.random.key(0)
NUM_EXAMPLES = 24


class Case(NamedTuple):
    """A layer to try, and its numbers."""

    layer: memjax.Layer
    params: Any

    @property
    def xs(self) -> np.ndarray:
        """Random inputs [N, *input_shape], float32, some of them near to one another."""
        generator = np.random.default_rng(1)
        shape = self.layer.input_shape
        centres = generator.random((4, *shape))
        noise = generator.random((NUM_EXAMPLES, *shape))
        return (0.8 * centres[np.arange(NUM_EXAMPLES) % 4] + 0.2 * noise).astype(np.float32)

    @property
    def labels(self) -> np.ndarray:
        """Labels int32 [N] of 3 classes, the last one unlabelled."""
        return np.append(np.arange(NUM_EXAMPLES - 1) % 4 % 3, -1).astype(np.int32)

    @property
    def state(self) -> Any:
        """The state of a layer that has seen nothing."""
        return self.layer.init(KEY)

    def learn(self) -> Any:
        """The state after one pass, in blocks of 8."""
        return memjax.fit(self.layer, self.params, self.state, self.xs, self.labels, 8)[0]


def _case(layer: memjax.Layer, *values: Any, **numbers: Any) -> Case:
    return Case(layer, layer.params(*values, **numbers) if numbers or values else _default(layer))


def _default(layer: memjax.Layer) -> Any:
    return layer.default_params()


GREY, COLOUR = (6, 6, 1), (6, 6, 3)
BANK = memjax.MemoryLayer(5, num_classes=3, capacity=8)
EYE = memjax.Columns(
    GREY, 3, places=2, capacity=4, fixations=2, reach=2, dimensions=4, square_root=True
)
NEAR, EARLY = {"novelty_threshold": 0.05}, {"blank_contrast": 0.0, "decorrelation_period": 6.0}

CASES = {
    "pixels": _case(memjax.Pixels(GREY)),
    "blur": _case(memjax.Blur(COLOUR, grid=3)),
    "on_off": _case(memjax.OnOff(GREY)),
    "edges": _case(memjax.OrientedEdges(COLOUR, is_split_by_channel=True, grid=3)),
    "map": _case(memjax.FeatureMap(memjax.OrientedEdges(GREY, grid=3))),
    "grey": _case(memjax.Grey(COLOUR)),
    "bank": _case(BANK, **NEAR),
    "bank, replace": _case(memjax.MemoryLayer(5, 3, 6, on_full="replace"), 0.0),
    "bank, cosine": _case(memjax.MemoryLayer(5, 3, 8, distance=memjax.cosine), 0.01),
    "bank, activations": _case(memjax.MemoryLayer(5, 3, 8, output="activations"), 0.05),
    "columns with an eye": _case(EYE, **EARLY),
    "columns, triangle": _case(memjax.Columns(GREY, 3, 2, 4, response="triangle"), **EARLY),
    "columns, two-sided": _case(memjax.Columns(GREY, 3, 2, 4, response="two-sided"), **EARLY),
    "decorrelation": _case(memjax.Decorrelation(5, 3), decorrelation_period=6.0),
    "random projection": _case(memjax.RandomProjection(5, 3)),
    "standardisation": _case(memjax.Standardisation((0.5,) * 5, (0.25, 0.5, 1.0, 2.0, 4.0))),
    "exemplars": _case(memjax.Exemplars(5, capacity=6)),
    "exemplars, mixed": _case(memjax.Exemplars(5, capacity=6, num_mixed=7)),
    "vote readout": _case(memjax.VoteReadout(5, 3)),
    "delta readout": _case(memjax.DeltaReadout(5, 3)),
    "ridge readout": _case(memjax.RidgeReadout(5, 3)),
    "chain": Case(
        memjax.Chain((memjax.Reshape(GREY, (36,)), memjax.RidgeReadout(36, 3))),
        ((), memjax.RidgeReadout(36, 3).params()),
    ),
    "vote": Case(memjax.Vote((BANK, BANK)), (BANK.params(0.05), BANK.params(0.1))),
    "concatenate": Case(memjax.Concatenate((BANK, BANK)), (BANK.params(0.05), BANK.params(0.1))),
    "memory network": Case(
        *memjax.memory_network(GREY, 3, capacity=8, **NEAR)  # type: ignore[arg-type]
    ),
    "memory network for colour": Case(
        *memjax.memory_network(COLOUR, 3, capacity=8, **NEAR)  # type: ignore[arg-type]
    ),
    "memory network for features": Case(
        *memjax.memory_network((5,), 3, capacity=8, **NEAR)  # type: ignore[arg-type]
    ),
    "mirrored": Case(
        memjax.Mirrored(memjax.memory_network(GREY, 3, capacity=8)[0]),
        memjax.memory_network(GREY, 3, capacity=8, **NEAR)[1],  # type: ignore[arg-type]
    ),
    "columnar network": Case(*memjax.columnar_network((8, 8, 1), 3, size="small")),
}
"""Every public layer, and every ready-made network that is small enough."""
