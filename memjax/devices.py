"""Where arrays lie: a mesh of devices for memories, and gathering to the host."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh

from memjax._checks import check_kind
from memjax.base import Layer

__all__ = ["MEMORY_AXIS", "gather_to_host", "memory_mesh", "shard"]

MEMORY_AXIS = "memory"
"""The one axis of a mesh that memories lie along."""


def memory_mesh(devices: Sequence[Any] | None = None) -> Mesh:
    """Return a mesh with one axis, "memory", over devices; by default all, of all processes."""
    devices = jax.devices() if devices is None else devices
    return jax.make_mesh(
        (len(devices),), (MEMORY_AXIS,), axis_types=(AxisType.Auto,), devices=devices
    )


def shard(network: Layer, mesh: Mesh) -> Layer:
    """Return a network whose memories lie over the devices of a mesh.

    It has the params and the state of the network given, learns the same memories and gives the
    same answers. What ``init`` returns lies over the devices already. Any other state is laid there
    when it is first used.

    Args:
        network: one that holds a ``MemoryLayer``, or layers of your own that override ``shard``.
        mesh: what ``memory_mesh`` returns.

    Raises:
        ValueError: it holds no memories that can be laid so, or their number is no multiple of the
            number of devices.

    Example:
        >>> import memjax
        >>> network, params = memjax.memory_network((8, 8, 1), num_classes=10, capacity=64)
        >>> shard(network, memory_mesh()) == network
        False
    """
    check_kind("network", network, Layer, "a memjax layer")
    placed = network.shard(mesh)
    if placed == network:
        raise ValueError(
            "network: expected one with memories to lay over devices, got one without "
            f"({type(network).__name__})."
        )
    return placed


def gather_to_host(tree: Any) -> Any:
    """Return a pytree of arrays as NumPy arrays, gathered from all devices of all processes.

    Every process must call it, and gets them all.

    Example:
        >>> gather_to_host({"a": jax.numpy.ones(2)})
        {'a': array([1., 1.], dtype=float32)}
    """

    def gather(leaf):
        if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
            leaf = multihost_utils.process_allgather(leaf, tiled=True)
        return np.asarray(leaf)

    return jax.tree.map(gather, tree)
