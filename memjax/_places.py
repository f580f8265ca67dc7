"""Where arrays lie in a user's program: meshes with explicit axes, and the inside of shard_map.

Under both JAX asks of every operation how its result lies. A layer is written without a word of it:
at its door the axes of explicit meshes become automatic, and what varies over devices is marked.
"""

from collections.abc import Callable
from typing import Any

import jax
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec, auto_axes


def in_auto_mesh(
    function: Callable[..., Any], places: Callable[[Callable[..., Any]], Any], *arguments: Any
) -> Any:
    """Return ``function(*arguments)``, computed with automatic axes if a mesh has explicit ones.

    Args:
        function: from arrays to arrays.
        places: is given ``place``, from a leaf of the arguments, or None, to how it lies; returns
            how the result of the function lies, as a prefix of its pytree.
        *arguments: pytrees of arrays.
    """
    shardings = (_sharding(leaf) for leaf in jax.tree.leaves(arguments))
    meshes = (sharding.mesh for sharding in shardings if sharding is not None)
    mesh = next((mesh for mesh in meshes if AxisType.Explicit in mesh.axis_types), None)
    if mesh is None:
        return function(*arguments)

    def place(leaf=None, axes=None):
        sharding = _sharding(leaf)
        spec = PartitionSpec() if sharding is None or sharding.mesh.empty else sharding.spec
        return NamedSharding(mesh, spec if axes is None else PartitionSpec(*spec[:axes]))

    return auto_axes(function, out_sharding=places(place))(*arguments)


def _sharding(leaf: Any) -> Any:
    return None if leaf is None else getattr(jax.typeof(leaf), "sharding", None)


def vary_alike(*trees: Any) -> Any:
    """Return pytrees whose leaves all vary over those devices that one of them varies over.

    Inside of ``jax.shard_map`` the carry of a loop must vary over as many axes before it as after.
    """
    axes = frozenset().union(*(_axes(leaf) for leaf in jax.tree.leaves(trees)))
    if not axes:
        return trees
    return jax.tree.map(lambda leaf: _vary(leaf, axes), trees)


def vary_as(reference: jax.Array, tree: Any) -> Any:
    """Return a pytree whose leaves vary over the devices that a reference varies over."""
    axes = _axes(reference)
    return jax.tree.map(lambda leaf: _vary(leaf, axes), tree) if axes else tree


def _axes(leaf: Any) -> frozenset[Any]:
    kind = jax.typeof(leaf)
    # jax 0.10 keeps them in a type of their own; before it they were an attribute.
    manual = getattr(kind, "manual_axis_type", None)
    return getattr(kind, "vma", frozenset()) if manual is None else manual.varying


def _vary(leaf: Any, axes: frozenset[Any]) -> Any:
    missing = tuple(axes - _axes(leaf))
    if not missing:
        return leaf
    if cast := getattr(lax, "pcast", None):
        return cast(leaf, missing, to="varying")
    return lax.pvary(leaf, missing)  # type: ignore[attr-defined]  # before jax 0.8
