"""Many learners in one compiled call, each with its own order of the same encoded images.

A fixed encoder gives an image the same features in every sweep. So the images are encoded once, the
learners share the table of features, and a stream is an order of its rows.
"""

import dataclasses
import math
import os
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, PartitionSpec

import memjax
from memjax.datasets import Dataset
from memjax.training import CALIBRATION_EXAMPLES

_BATCH = 500


@dataclasses.dataclass(frozen=True)
class Rows(memjax.base.FixedLayer):
    """A layer that looks up a row: in goes an index, out comes that row of its state.

    Attributes:
        num_rows: N.
        row_shape: of one row; the state is the table [N, *row_shape].

    Example:
        >>> print(Rows(2, (2,)).recall((), jnp.array([[1, 2], [3, 4]]), jnp.int32(1)))
        [3 4]
    """

    num_rows: int
    row_shape: tuple[int, ...]

    @property
    def input_shape(self) -> tuple[int, ...]:
        """An index."""
        return ()

    @property
    def output_shape(self) -> tuple[int, ...]:
        """A row."""
        return self.row_shape

    def init(self, key):
        """Return an empty table."""
        del key
        return jnp.zeros((self.num_rows, *self.row_shape), jnp.float32)

    def recall(self, params, state, x):
        """Return row ``x``."""
        del params
        return state[x]


class Examples(NamedTuple):
    """Encoded images and their labels."""

    features: jax.Array  # float32 [N, *what the bank takes]
    labels: jax.Array  # int32 [N]


def encode(encoder: memjax.Layer, data: Dataset) -> Examples:
    """Return a dataset as a layer without params or state encodes it."""
    batches = range(0, len(data.labels), _BATCH)
    parts = [_recall(encoder, data.images[start : start + _BATCH]) for start in batches]
    return Examples(jnp.concatenate(parts), jnp.asarray(data.labels))


def encode_first(encoder: memjax.Layer, data: Dataset, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the features and the labels of the first images of a dataset, on the host."""
    first = data._replace(images=data.images[:most], labels=data.labels[:most])
    features, labels = encode(encoder, first)
    return np.asarray(features), np.asarray(labels)


@partial(jax.jit, static_argnums=0)
def _recall(encoder, images):
    return encoder.recall_block((), (), images)


def orders(num_examples: int, seeds: int) -> np.ndarray:
    """Return random stream orders int32 [seeds, N], from seeds 0 to ``seeds - 1``."""
    generators = map(np.random.default_rng, range(seeds))
    return np.stack([each.permutation(num_examples) for each in generators]).astype(np.int32)


def calibrate(bank: memjax.Layer, params: Any, examples: Examples, order: jax.Array) -> Any:
    """Return ``params`` calibrated on the first examples of an order int32 [N]."""
    first = order[:CALIBRATION_EXAMPLES]
    return memjax.calibrate(bank, params, examples.features[first], examples.labels[first])


def times_threshold(params: Any, multiple: jax.Array) -> Any:
    """Return ``params`` with every novelty threshold multiplied by a number; inf for no threshold.

    Example:
        >>> _, params = memjax.memory_network((8, 8, 1), 10, novelty_threshold=0.5)
        >>> memjax.find_params(times_threshold(params, 2.0), "novelty_threshold")
        (Array(1., dtype=float32),)
    """

    def scale(node):
        if not hasattr(node, "novelty_threshold"):
            return node
        return node._replace(novelty_threshold=multiple * node.novelty_threshold)

    return jax.tree.map(scale, params, is_leaf=lambda node: hasattr(node, "novelty_threshold"))


def fit(bank: memjax.Layer, params: Any, examples: Examples, order: jax.Array) -> Any:
    """Return the state of a bank that learned every example once, in an order int32 [N].

    No features are copied in a sweep over orders: the stream is the order itself.
    """
    network = memjax.Chain((Rows(len(examples.labels), examples.features.shape[1:]), bank))
    state = examples.features, bank.init(jax.random.key(0))
    (_, state), _ = memjax.fit(network, ((), params), state, order, examples.labels[order])
    return state


def accuracy(bank: memjax.Layer, params: Any, state: Any, examples: Examples) -> jax.Array:
    """Return the share float32 [] of examples that a bank answers right."""
    features, labels = examples
    missing = -len(labels) % _BATCH
    padded = jnp.pad(features, [(0, missing)] + [(0, 0)] * (features.ndim - 1))

    def answer(xs):
        return jnp.argmax(bank.recall_block(params, state, xs), axis=1)

    answers = jax.lax.map(answer, padded.reshape(-1, _BATCH, *features.shape[1:]))
    return jnp.mean((answers.ravel()[: len(labels)] == labels).astype(jnp.float32))


def each(function: Callable[[Any], Any], members: Any) -> Any:
    """Return ``function`` of every member of a sweep, a pytree of arrays [S, ...], as [S, ...].

    The members are spread over as many devices as divide S. Each device has its own share of them
    and waits for no other. On a CPU the learners of one device come one after another, which takes
    less memory than ``jax.vmap`` and the same time. Elsewhere sixteen learn side by side.
    """
    (num_members,) = {leaf.shape[0] for leaf in jax.tree.leaves(members)}
    mesh = mesh_of(num_members)
    at_once = None if jax.default_backend() == "cpu" else 16
    by_member = PartitionSpec("member")
    return jax.shard_map(
        lambda members: jax.lax.map(function, members, batch_size=at_once),
        mesh=mesh,
        in_specs=by_member,
        out_specs=by_member,
        check_vma=False,
    )(members)


def mesh_of(num_members: int) -> Mesh:
    """Return a mesh with the axis "member", of as many devices as divide the members."""
    devices = jax.devices()[: math.gcd(num_members, jax.device_count())]
    return jax.make_mesh((len(devices),), ("member",), axis_types=(AxisType.Auto,), devices=devices)


def use_all_cores() -> None:
    """Make every core of the CPU a device, so that a sweep can spread its members over them.

    Call it before anything that asks JAX for a device. A single learner takes about as long as with
    one device: on two cores sixteen fits, one after another, took 1.05 s, and 1.06 s with one.
    """
    jax.config.update("jax_num_cpu_devices", os.cpu_count())
