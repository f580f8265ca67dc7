"""Where arrays lie: a mesh of devices for memories, and gathering to the host."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh

__all__ = ["MEMORY_AXIS", "gather_to_host", "memory_mesh"]

MEMORY_AXIS = "memory"
"""The one axis of a mesh that memories lie along."""


def memory_mesh(devices: Sequence[Any] | None = None) -> Mesh:
    """Return a mesh with one axis, "memory", over devices; by default all, of all processes."""
    devices = jax.devices() if devices is None else devices
    return jax.make_mesh(
        (len(devices),), (MEMORY_AXIS,), axis_types=(AxisType.Auto,), devices=devices
    )


def gather_to_host(tree: Any) -> Any:
    """Return a pytree of arrays as NumPy arrays, gathered from all devices of all processes.

    Every process must call it, and gets them all.

    Example:
        >>> gather_to_host({"a": jnp.ones(2)})
        {'a': array([1., 1.], dtype=float32)}
    """

    def gather(leaf):
        if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
            leaf = multihost_utils.process_allgather(leaf, tiled=True)
        return np.asarray(leaf)

    return jax.tree.map(gather, tree)
