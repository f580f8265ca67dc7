"""Saving a network whole and restoring it: a folder of JSON and Orbax arrays, no pickle."""

import dataclasses
import hashlib
import json
import math
import os
import re
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from memjax._checks import check_kind, check_number
from memjax.base import Layer
from memjax.devices import gather_to_host
from memjax.distances import DISTANCES, Distance
from memjax.params import as_float32, like

__all__ = [
    "CheckpointError",
    "restore",
    "restore_latest",
    "save",
    "save_latest",
    "state_digest",
]

_NETWORK_FILE = "network.json"
_ARRAYS_FOLDER = "arrays"
_SUMS_FILE = "SHA256SUMS"  # of the files of the arrays; `sha256sum --check` reads it
_INCOMPLETE = "incomplete."  # how the name of a folder begins that is being written or removed
_LATEST = "examples-{:015d}"  # a checkpoint of a stream, by the examples that were learned
_COUNTS = "counts"  # where a checkpoint of a stream keeps its counts, beside params and state


class CheckpointError(RuntimeError):
    """A folder that holds no network, another network, or a damaged one."""


def save(path: str | os.PathLike[str], network: Layer, params: Any, state: Any) -> Path:
    """Save a network, its numbers and what it has learned in a new folder.

    The folder appears whole or not at all: it is written beside its place and then renamed.

    Args:
        path: a folder that does not exist yet.
        network: made of dataclass layers whose fields are numbers, strings, tuples, distances and
            layers.
        params: its numbers.
        state: what it has learned.

    Returns:
        The folder.

    Raises:
        FileExistsError: the folder exists; nothing is overwritten.
        TypeError, ValueError: the network cannot be described, or params or state are not its own.

    Example:
        >>> import tempfile
        >>> from memjax.networks import memory_network
        >>> network, params = memory_network((8, 8, 1), 10, capacity=9, novelty_threshold=0.5)
        >>> state = network.init(jax.random.key(0))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     restored, _, _ = restore(save(Path(folder) / "trained", network, params, state))
        >>> restored == network
        True
    """
    return _save(_absolute("path", path), network, params, state, {})


def restore(path: str | os.PathLike[str], network: Layer | None = None) -> tuple[Layer, Any, Any]:
    """Restore what ``save`` wrote: the network, its params and its state.

    Args:
        path: the folder.
        network: the network that is expected there; by default, whatever is. Layers of your own
            must be imported before they can be restored.

    Raises:
        CheckpointError: the folder holds no network, another one, or a damaged one; the sentence
            names the file or the array.
    """
    path = _absolute("path", path)
    if network is not None:
        check_kind("network", network, Layer, "a memjax layer")
    found, expected = _read_network(path, network)
    params, state = _read(path, expected)
    return found, params, state


def save_latest(
    folder: str | os.PathLike[str],
    network: Layer,
    params: Any,
    state: Any,
    counts: dict[str, int],
    keep: int = 2,
) -> Path:
    """Save how far a stream was learned, and remove all but the latest checkpoints of it.

    Args:
        folder: of this stream alone; each checkpoint is a folder in it, which ``restore`` reads.
        network: as for ``save``.
        params: its numbers.
        state: what it has learned.
        counts: whole numbers to keep with it, among them ``num_seen``, the examples learned, which
            names the checkpoint.
        keep: how many checkpoints are left, this one included.

    Returns:
        The folder of the checkpoint.

    Raises:
        FileExistsError, TypeError, ValueError: as for ``save``.
    """
    folder = _absolute("folder", folder)
    if jax.process_index() == 0:
        _remove(list(folder.glob(f"{_INCOMPLETE}*")))  # what a killed process left
    path = _save(
        folder / _LATEST.format(counts["num_seen"]),
        network,
        params,
        state,
        {name: np.asarray(count, np.int64) for name, count in counts.items()},
    )
    if jax.process_index() == 0:
        _remove(_checkpoints(folder)[:-keep])
    return path


def restore_latest(
    folder: str | os.PathLike[str], network: Layer, params: Any, names: Iterable[str]
) -> tuple[Any, dict[str, int]] | None:
    """Restore the state and the counts that ``save_latest`` saved last; None where there are none.

    A checkpoint that was still being written when its process ended does not count.

    Args:
        folder: as for ``save_latest``; it need not exist.
        network: the network that is expected there.
        params: the params that are expected there.
        names: those of the counts.

    Raises:
        CheckpointError: the latest checkpoint is damaged, or is that of another network, of other
            params or counts; the sentence names the file or the array. Nothing is changed on disk.
    """
    folder = _absolute("folder", folder)
    if folder.exists() and not folder.is_dir():
        raise CheckpointError(f"{folder}: expected a folder of checkpoints, got a file.")
    if not (paths := _checkpoints(folder)):
        return None
    path = paths[-1]
    _, wanted = _read_network(path, network)
    counts = {name: np.zeros((), np.int64) for name in names}
    saved_params, state, counts = _read(path, (*wanted, counts))
    for (name, saved), (_, given) in zip(_leaves(saved_params), _leaves(params), strict=True):
        if (found := np.float32(saved)) != (expected := np.float32(given)):
            raise CheckpointError(f"{path}: expected {name} to be {expected!s}, got {found!s}.")
    return state, {name: int(count) for name, count in counts.items()}


def state_digest(state: Any) -> str:
    """Return the SHA-256 of all learned arrays, in hexadecimal.

    Leaf by leaf in the order of ``jax.tree_util.tree_leaves_with_path``: the path as text, dtype,
    shape, then the bytes in C order, little-endian. Equal digests mean bit-identical states.

    Example:
        >>> state_digest({"a": np.zeros(3)}) == state_digest({"a": np.zeros(3)})
        True
    """
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        array = gather_to_host(leaf)
        array = array.astype(array.dtype.newbyteorder("<"), order="C")
        digest.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape};".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _save(path: Path, network: Layer, params: Any, state: Any, counts: dict[str, Any]) -> Path:
    if path.exists():
        raise FileExistsError(f"path: expected a folder that does not exist yet, got {path}.")
    check_kind("network", network, Layer, "a memjax layer")
    description = json.dumps(_describe(network), indent=1)
    for name, number in _leaves(params):
        check_number(name, number, -math.inf)
    params = jax.tree.map(as_float32, params)
    arrays = {name: _as_array(name, leaf) for name, leaf in _leaves(params, state, counts)}
    if problem := _misfit(dict(_leaves(*like(network), counts)), arrays):
        raise ValueError(f"params, state: {problem}.")
    if jax.process_index() > 0:
        return path  # All have gathered the arrays, and the first writes them.
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=_INCOMPLETE) as folder:
        unfinished = Path(folder) / path.name
        unfinished.mkdir()
        (unfinished / _NETWORK_FILE).write_text(description + "\n")
        with _checkpointer() as checkpointer:
            # Orbax saves no empty dictionary, and a network without arrays has none.
            checkpointer.save(unfinished / _ARRAYS_FOLDER, arrays or {"none": np.zeros(1)})
        _write_sums(unfinished)
        # Its name must not outlive a power cut that its content does not.
        for part in (*unfinished.rglob("*"), unfinished):
            _sync(part)
        os.replace(unfinished, path)
        _sync(path.parent)
    return path


def _absolute(name: str, path: Any) -> Path:
    check_kind(name, path, (str, os.PathLike), "the path of a folder")
    return Path(path).absolute()


def _as_array(name: str, leaf: Any) -> np.ndarray:
    try:
        return gather_to_host(leaf)
    except TypeError:
        raise TypeError(f"{name}: expected an array, got {type(leaf).__name__}.") from None


def _sync(path: Path) -> None:
    """Wait until a file or a folder is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _checkpoints(folder: Path) -> list[Path]:
    """Return the whole checkpoints of a stream, the latest last."""
    return sorted(path for path in folder.glob("*") if re.fullmatch(r"examples-\d{15}", path.name))


def _remove(folders: Iterable[Path]) -> None:
    """Remove folders; one that is only half removed is not taken for a checkpoint."""
    for folder in folders:
        if not folder.name.startswith(_INCOMPLETE):
            folder = folder.rename(folder.with_name(_INCOMPLETE + folder.name))
        shutil.rmtree(folder)


def _read_network(path: Path, network: Layer | None) -> tuple[Layer, tuple[Any, Any]]:
    """Return the network of a folder, and the shapes and dtypes of its params and state."""
    file = path / _NETWORK_FILE
    if not file.is_file():
        raise CheckpointError(f"path: expected a folder with a {_NETWORK_FILE}, got {path}.")
    try:
        found = _build(json.loads(file.read_text()))
        if not isinstance(found, Layer):
            raise TypeError(f"a layer was expected, not {type(found).__name__}")
        expected = like(found)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(f"{file}: cannot be read as a network ({error}).") from error
    # How memories lie over devices is no part of a network, and no file says it.
    if network is not None and _describe(network) != _describe(found):
        raise CheckpointError(f"network: expected {network}, and {path} holds {found}.")
    return found, expected


def _read(path: Path, expected: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the params, the state and, where they are expected, the counts of a folder."""
    wanted = dict(_leaves(*expected))
    arrays = _read_arrays(path)
    counted = {name for name in arrays if name.startswith(f"{_COUNTS}/")}
    if len(expected) == 2:
        arrays = {name: array for name, array in arrays.items() if name not in counted}
    if problem := _misfit(wanted, arrays if wanted else {}):
        raise CheckpointError(f"{path}: {problem}.")
    leaves = [
        arrays[name] if name in counted else jax.numpy.asarray(arrays[name]) for name in wanted
    ]
    return jax.tree.unflatten(jax.tree.structure(expected), leaves)


def _misfit(expected: dict[str, Any], arrays: dict[str, np.ndarray]) -> str:
    """Say what keeps ``arrays`` from being what is expected; nothing when nothing does."""
    if missing := sorted(set(expected) ^ set(arrays)):
        return f"the array {missing[0]} is " + (
            "missing" if missing[0] in expected else "not part of the network"
        )
    for name, leaf in expected.items():
        got = arrays[name]
        if (got.shape, got.dtype) != (leaf.shape, leaf.dtype):
            return (
                f"expected the array {name} to be {leaf.dtype}{list(leaf.shape)}, "
                f"got {got.dtype}{list(got.shape)}"
            )
    return ""


def _leaves(*trees: Any) -> list[tuple[str, Any]]:
    """Return (name, leaf) of every array; the name is the path, such as ``state/1/votes``.

    Args:
        *trees: params, then the state, then the counts, as far as they are given.
    """
    return [
        (prefix + "".join(f"/{_key(entry)}" for entry in path), leaf)
        for prefix, tree in zip(("params", "state", _COUNTS), trees, strict=False)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    ]


def _key(entry: Any) -> str:
    return jax.tree_util.keystr((entry,), simple=True)


def _write_sums(path: Path) -> None:
    lines = [f"{_sha256(path / name)}  {name}\n" for name in _array_files(path)]
    (path / _SUMS_FILE).write_text("".join(lines))


def _array_files(path: Path) -> list[str]:
    files = (file for file in (path / _ARRAYS_FOLDER).rglob("*") if file.is_file())
    return sorted(file.relative_to(path).as_posix() for file in files)


def _check_sums(path: Path) -> None:
    """Raise unless the files are those that were saved: Orbax notices some of the damage only."""
    if not (path / _SUMS_FILE).is_file():
        raise CheckpointError(f"{path}: expected the file {_SUMS_FILE}, found none.")
    lines = (path / _SUMS_FILE).read_bytes().decode(errors="replace").splitlines()
    digests = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    for name in _array_files(path):
        if name not in digests:
            raise CheckpointError(f"{path / _SUMS_FILE}: expected a line for {name}, found none.")
    for name, digest in digests.items():
        if not (path / name).is_file():
            raise CheckpointError(f"{path / name}: expected a file of the arrays, found none.")
        if _sha256(path / name) != digest:
            raise CheckpointError(f"{path / name}: is not as it was saved, its SHA-256 differs.")


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    folder = path / _ARRAYS_FOLDER
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: expected the network's arrays, found no such folder.")
    _check_sums(path)
    try:
        with _checkpointer() as checkpointer:
            return checkpointer.restore(folder)
    except Exception as error:  # Orbax and its storage raise whatever the damage leads them to.
        reason = str(error).partition("\n")[0]
        raise CheckpointError(f"{folder}: the arrays cannot be read ({reason}).") from error


def _checkpointer() -> Any:
    try:
        import orbax.checkpoint as ocp
    except ImportError as error:
        raise ImportError(
            "Saving a network needs the package orbax-checkpoint: pip install 'memjax[all]'"
        ) from error
    # Of several processes each reads, and the first writes, without waiting for the others.
    alone = ocp.options.MultiprocessingOptions(
        primary_host=jax.process_index(),
        active_processes={jax.process_index()},
        barrier_sync_key_prefix=f"process{jax.process_index()}",
    )
    handler = ocp.PyTreeCheckpointHandler(
        restore_concurrent_gb=8, use_ocdbt=True, use_zarr3=True, multiprocessing_options=alone
    )
    return ocp.Checkpointer(handler, multiprocessing_options=alone)


def _describe(value: Any) -> Any:
    """Return a layer, or a field of one, as JSON values."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Distance):
        if DISTANCES.get(value.name) != value:
            raise TypeError(f"network: expected a distance of memjax.distances, got {value}.")
        return {"kind": "Distance", "name": value.name}
    if isinstance(value, Layer):
        if not dataclasses.is_dataclass(value):
            raise TypeError(f"network: expected dataclass layers, got {type(value).__name__}.")
        fields = {
            f.name: _describe(getattr(value, f.name))
            for f in dataclasses.fields(value)
            if f.metadata.get("saved", True)
        }
        return {"kind": type(value).__name__, **fields}
    if isinstance(value, tuple):
        return [_describe(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(
        "network: expected fields of numbers, strings, tuples, distances and layers, "
        f"got {value!r}."
    )


def _build(description: Any) -> Any:
    """Return what ``_describe`` described."""
    if isinstance(description, list):
        return tuple(_build(item) for item in description)
    if not isinstance(description, dict):
        return description
    fields = {name: _build(value) for name, value in description.items()}
    kind = fields.pop("kind")
    if kind == "Distance":
        return DISTANCES[fields["name"]]
    layers = _layers(Layer)
    if kind not in layers:
        raise ValueError(f"no layer of the name {kind!r} is imported")
    return layers[kind](**fields)


def _layers(base: type) -> dict[str, type]:
    """Return every layer class that is imported, by name."""
    found = {}
    for kind in base.__subclasses__():
        found |= {kind.__name__: kind} | _layers(kind)
    return found
