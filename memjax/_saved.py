"""What a saved folder holds: read, and checked before it is believed.

Each check comes before what it protects: that of the description before a network is built of it,
that of the arrays' shapes before room is made for them, that of their values before any answer.
"""

import contextlib
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Sharding

from memjax._checks import check_kind, check_whole
from memjax._description import build, describe, known_parts
from memjax._files import (
    SUMS_FILE,
    check_inside,
    check_sums,
    read_json,
    read_sums,
    reason_of,
)
from memjax._orbax import NETWORK_FILE, files_with_sums, load_orbax
from memjax._text import printable
from memjax.base import Layer, walk
from memjax.params import check_params, like

FORMAT = 2
_ANY_ROOM = 2**26  # bytes
_MOST_COMPRESSED = 16
_MOST_DESCRIBED = 2**24  # bytes of a file that describes arrays; about 200 for each


class CheckpointError(RuntimeError):
    """A folder that holds no network, another network, or a damaged one."""


CheckpointError.__module__ = "memjax.checkpoint"


class Described(NamedTuple):
    """A network as a folder describes it."""

    network: Layer
    expected: tuple[Any, Any]  # its params and state, as shapes
    counts: dict[str, int]
    writer: str  # the version of memjax
    files: dict[str, int]  # the bytes of each


def read_network(path: Path, network: Layer | None, layers: Iterable[Any]) -> Described:
    """Return the network of a folder whose files are as they were saved."""
    known = known_parts(network, layers)
    file = path / NETWORK_FILE
    if not file.is_file():
        raise CheckpointError(f"path: expected a folder with a {NETWORK_FILE}, got {path}.")
    with _damage():
        check_inside(path, NETWORK_FILE)
        description = read_json(file, "a network")
        # A layer raises whatever its fields lead it to.
        with _errors_named(f"{file}: cannot be read as a network"):
            writer = printable(str(description.get("memjax", "0.1")))[:20]
            if description.get("format") != FORMAT:
                raise CheckpointError(
                    f"{file}: expected format {FORMAT}, got that of memjax {writer}."
                )
        if not (path / SUMS_FILE).is_file():
            raise CheckpointError(f"{path}: expected the file {SUMS_FILE}, found none.")
        files = files_with_sums(path)
        for name, length in files.items():
            # All but the data, which Orbax keeps in folders of this name, is read at once.
            if length > _MOST_DESCRIBED and Path(name).parent.name != "d":
                raise ValueError(f"{path / name}: expected at most {_MOST_DESCRIBED:,} bytes.")
        check_sums(path, {*read_sums(path), *files})
        with _errors_named(f"{file}: cannot be read as a network"):
            found = build(description["network"], known)
            check_kind("network", found, Layer, "a layer")
            expected = like(found)
            counts = description["counts"]
            for name, count in counts.items():
                check_whole(name, count)
    if network is not None and describe(network) != describe(found):
        raise CheckpointError(
            f"network: expected {network}, and {path} holds {printable(str(found), 300)}."
        )
    return Described(found, expected, counts, writer, files)


def read_arrays(
    path: Path, found: Described, shardings: dict[str, Sharding], is_expected: bool
) -> tuple[Any, Any]:
    """Return the params and the state of a folder.

    Args:
        path: the folder.
        found: what it describes.
        shardings: how arrays are laid on devices, by name.
        is_expected: whether the caller has named the network, and so its size.
    """
    ocp, handler, _ = load_orbax()
    wanted = leaves_of(*found.expected)
    # What lies over several devices is read from the disk for each of them.
    places = {
        name: ocp.ArrayRestoreArgs(sharding=shardings[name])
        if name in shardings and len(shardings[name].device_set) > 1
        else ocp.RestoreArgs(restore_type=np.ndarray)
        for name in wanted
    }
    # Orbax and its storage raise whatever the damage leads them to.
    with _errors_named(f"{path}: the arrays cannot be read"):
        saved = handler().metadata(path).tree
        saved.pop("none", None)
        _check_shapes(path, wanted, saved)
        if not is_expected:
            _check_room(path, wanted, found.files)
        arguments = ocp.args.PyTreeRestore(restore_args=places)
        arrays = handler().restore(path, args=arguments) if wanted else {}
    tree = jax.tree.structure(found.expected)
    params, state = jax.tree.unflatten(tree, [arrays[name] for name in wanted])
    with _damage(f"{path}: "):
        check_params(found.network, params, may_be_unset=True)
        for part in walk(found.network, params, state):
            part.layer.check_values(part.state)
    leaves = [jax.device_put(arrays[name], shardings.get(name)) for name in wanted]
    return jax.tree.unflatten(tree, leaves)


def leaves_of(*trees: Any) -> dict[str, Any]:
    """Return the leaves of params and then of a state by name, such as ``state/1/votes``."""
    return {
        "/".join((prefix, *(jax.tree_util.keystr((key,), simple=True) for key in path))): leaf
        for prefix, tree in zip(("params", "state"), trees, strict=False)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def num_bytes(leaves: dict[str, Any]) -> int:
    """Return how many bytes some arrays have, of which the shapes are enough."""
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in leaves.values())


def _check_shapes(path: Path, expected: dict[str, Any], saved: dict[str, Any]) -> None:
    """Raise unless the arrays that were saved are those of the network, before they are read."""
    for name in sorted(set(expected) ^ set(saved)):
        what = "missing" if name in expected else "not part of the network"
        raise CheckpointError(f"{path}: the array {printable(name)} is {what}.")
    for name, leaf in expected.items():
        got = saved[name]
        if (got.shape, got.dtype) != (leaf.shape, leaf.dtype):
            raise CheckpointError(
                f"{path}: expected the array {name} to be {leaf.dtype}{list(leaf.shape)}, "
                f"got {got.dtype}{list(got.shape)}."
            )
        # A piece is decompressed whole, however little of it the array needs.
        piece = got.storage.chunk_shape if got.storage else None
        if piece and any(
            part > max(whole, 1) for part, whole in zip(piece, got.shape, strict=True)
        ):
            raise CheckpointError(
                f"{path}: expected the array {name} in pieces of at most {list(got.shape)}, "
                f"got {list(piece)}."
            )


def _check_room(path: Path, wanted: dict[str, Any], files: dict[str, int]) -> None:
    """Raise if arrays ask for more room than a folder of this length can have been saved from.

    Arrays are not compressed, so their bytes are in the files. Folders from before that was so may
    be shorter, but patterns do not get much shorter than a sixteenth, unless they are few.
    """
    length = sum(files.values())
    if (asked := num_bytes(wanted)) > _ANY_ROOM + _MOST_COMPRESSED * length:
        raise CheckpointError(
            f"{path}: its files have {length:,} bytes, and its network asks for {asked:,}; if you "
            "trust it, give the network with network=."
        )


@contextlib.contextmanager
def _damage(where: str = "") -> Iterator[None]:
    """Make a CheckpointError of what a check of files or values says, which names one of them."""
    try:
        yield
    except (ValueError, TypeError, OSError) as error:
        raise CheckpointError(f"{where}{error}") from error


@contextlib.contextmanager
def _errors_named(what: str) -> Iterator[None]:
    """Make a CheckpointError of any error."""
    try:
        yield
    except CheckpointError:
        raise
    except Exception as error:
        raise CheckpointError(f"{what} ({reason_of(error)}).") from error
