"""Saving a network whole and restoring it: a folder of JSON and Orbax arrays, no pickle."""

import functools
import hashlib
import json
import math
import os
import shutil
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Sharding

from memjax._checks import check_kind, check_number
from memjax._description import build, describe, known_parts
from memjax.base import Layer
from memjax.devices import gather_to_host
from memjax.params import as_float32, like

__all__ = [
    "CheckpointError",
    "restore",
    "restore_latest",
    "save",
    "save_latest",
    "state_digest",
]

_FORMAT = 2
_NETWORK_FILE = "network.json"
_SUMS_FILE = "SHA256SUMS"  # `sha256sum --check` reads it
# Orbax writes the others after the sums, and reads nothing of a network from them.
_WITHOUT_SUM = {_SUMS_FILE, "_CHECKPOINT_METADATA", "commit_success.txt"}
_NETWORK_FOLDER = "network"  # of a checkpoint of a stream


class CheckpointError(RuntimeError):
    """A folder that holds no network, another network, or a damaged one."""


def save(path: str | os.PathLike[str], network: Layer, params: Any, state: Any) -> Path:
    """Save a network, its numbers and what it has learned in a new folder.

    The folder appears whole or not at all. An array is written from the devices that it lies on.
    Where these belong to several processes, every process must call this.

    Args:
        path: a folder that does not exist yet.
        network: made of dataclasses, whose fields are numbers, strings, tuples, layers, distances,
            and classes and functions that stand at the top level of a module. A field with
            ``metadata={"saved": False}`` is left out.
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
    path = _absolute("path", path)

    def write(ocp: Any, handler: Any, arrays: Any, options: Any) -> None:
        with ocp.Checkpointer(handler, multiprocessing_options=options) as checkpointer:
            checkpointer.save(path, args=arrays)

    _write(path, network, params, state, {}, write)
    return path


def restore(
    path: str | os.PathLike[str], network: Layer | None = None, layers: Iterable[Any] = ()
) -> tuple[Layer, Any, Any]:
    """Restore what ``save`` wrote: the network, its params and its state.

    Nothing is imported by a name that stands in a file. Only the layers of memjax are built, its
    distances and its ``adam``, what ``layers`` names, and what ``network`` is made of.

    Args:
        path: the folder.
        network: the network that is expected there; by default, whatever is. It is returned, and
            the arrays are laid on its devices.
        layers: classes and functions of other modules that the saved network is made of, such as
            your own layers, or ``optax.sgd`` as the rule of a readout.

    Raises:
        CheckpointError: the folder holds no network, another one, a damaged one, or one with
            classes or functions that are not known; the sentence names the file or the array.

    Example:
        >>> import tempfile, optax
        >>> from memjax.readouts import DeltaReadout
        >>> readout = DeltaReadout(num_features=2, num_classes=2, rule=optax.sgd)
        >>> params, state = readout.default_params(), readout.init(jax.random.key(0))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = save(Path(folder) / "trained", readout, params, state)
        ...     restore(path, layers=[optax.sgd])[0] == restore(path, readout)[0] == readout
        True
    """
    path = _absolute("path", path)
    if network is not None:
        check_kind("network", network, Layer, "a memjax layer")
    found, expected, _ = _read_network(path, network, layers)
    shardings = {}
    if network is not None and network != found:  # It says where its arrays lie; no file does.
        shardings = _shardings(network.init(jax.random.key(0)))
    params, state = _read_arrays(path, expected, shardings)
    return found if network is None else network, params, state


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
        folder: of this stream alone; each checkpoint is a folder in it.
        network: as for ``save``.
        params: its numbers.
        state: what it has learned.
        counts: whole numbers to keep with it, among them ``num_seen``, the examples learned, which
            names the checkpoint.
        keep: how many checkpoints are left, this one included.

    Returns:
        The folder in the checkpoint that ``restore`` reads.

    Raises:
        FileExistsError, TypeError, ValueError: as for ``save``.
    """
    folder = _absolute("folder", folder)

    def write(ocp: Any, handler: Any, arrays: Any, options: Any) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        manager_options = ocp.CheckpointManagerOptions(
            max_to_keep=keep,
            step_name_format=_step_names(),
            create=False,
            cleanup_tmp_directories=True,  # what a killed process left
            enable_async_checkpointing=False,
            lightweight_initialize=True,  # times of the others are not read
            multiprocessing_options=options,
        )
        handlers = {_NETWORK_FOLDER: handler}
        with ocp.CheckpointManager(
            folder, None, manager_options, item_handlers=handlers
        ) as manager:
            items = ocp.args.Composite(**{_NETWORK_FOLDER: arrays})
            manager.save(counts["num_seen"], args=items, force=True)

    path = folder / _step_names().build_name(counts["num_seen"])
    _write(path, network, params, state, counts, write)
    return path / _NETWORK_FOLDER


def restore_latest(
    folder: str | os.PathLike[str], network: Layer, params: Any, state: Any, names: Iterable[str]
) -> tuple[Any, dict[str, int]] | None:
    """Restore the state and the counts that ``save_latest`` saved last; None where there are none.

    A checkpoint that was still being written when its process ended does not count.

    Args:
        folder: as for ``save_latest``; it need not exist.
        network: the network that is expected there.
        params: the params that are expected there.
        state: one whose arrays lie on the devices where the restored ones shall lie.
        names: those of the counts.

    Raises:
        CheckpointError: the latest checkpoint is damaged, or is that of another network, of other
            params or counts; the sentence names the file or the array. Nothing is changed on disk.
    """
    folder = _absolute("folder", folder)
    if folder.exists() and not folder.is_dir():
        raise CheckpointError(f"{folder}: expected a folder of checkpoints, got a file.")
    if not (steps := list(_step_names().find_all(folder)) if folder.exists() else []):
        return None
    path = Path(max(steps, key=lambda step: step.step).path) / _NETWORK_FOLDER
    _, expected, counts = _read_network(path, network, ())
    if missing := sorted(set(names) - set(counts)):
        raise CheckpointError(f"{path / _NETWORK_FILE}: expected the count {missing[0]}.")
    saved_params, state = _read_arrays(path, expected, _shardings(state))
    for (name, saved), (_, given) in zip(_leaves(saved_params), _leaves(params), strict=True):
        if (found := np.float32(saved)) != (wanted := np.float32(given)):
            raise CheckpointError(f"{path}: expected {name} to be {wanted!s}, got {found!s}.")
    return state, {name: int(counts[name]) for name in names}


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


@functools.cache
def _orbax() -> tuple[Any, Any, Any]:
    """Return Orbax, our handler for it, and the class of the arguments that the handler takes."""
    try:
        import orbax.checkpoint as ocp
    except ImportError as error:
        raise ImportError(
            "Saving a network needs the package orbax-checkpoint: pip install 'memjax[all]'"
        ) from error

    class Handler(ocp.PyTreeCheckpointHandler):
        """Writes the description beside the arrays, and the sums of all files, before a commit."""

        def __init__(self, description: str = "", **options: Any):
            super().__init__(use_zarr3=True, **options)
            self._description = description

        def finalize(self, directory: Any) -> None:
            super().finalize(directory)
            folder = Path(directory)
            (folder / _NETWORK_FILE).write_text(self._description)
            lines = [f"{digest}  {name}\n" for name, digest in _sums(folder).items()]
            (folder / _SUMS_FILE).write_text("".join(lines))
            for part in (*folder.rglob("*"), folder):
                _sync(part)

    class Arguments(ocp.args.PyTreeSave):
        pass

    ocp.args.register_with_handler(Handler, for_save=True, for_restore=True)(Arguments)
    return ocp, Handler, Arguments


@functools.cache
def _step_names() -> Any:
    """Return how Orbax names the checkpoints of a stream: by the examples that were learned."""
    name_format = _orbax()[0].path.step.standard_name_format
    return name_format(step_prefix="examples", step_format_fixed_length=15)


def _write(
    path: Path,
    network: Layer,
    params: Any,
    state: Any,
    counts: dict[str, int],
    write: Callable[[Any, Any, Any, Any], None],
) -> None:
    """Check what is to be saved, and write it with Orbax, its handler, arguments and options."""
    if path.exists():
        raise FileExistsError(f"path: expected a folder that does not exist yet, got {path}.")
    check_kind("network", network, Layer, "a memjax layer")
    description = {"format": _FORMAT, "memjax": version("memjax"), "counts": counts}
    description["network"] = describe(network)
    for name, number in _leaves(params):
        check_number(name, number, -math.inf)
    params = jax.tree.map(as_float32, params)
    arrays = {name: _as_array(name, leaf) for name, leaf in _leaves(params, state)}
    if problem := _misfit(dict(_leaves(*like(network))), arrays):
        raise ValueError(f"params, state: {problem}.")
    is_of_all = not all(getattr(leaf, "is_fully_addressable", True) for leaf in arrays.values())
    if jax.process_index() > 0 and not is_of_all:
        return  # The first process has all there is, and writes it alone.
    ocp, handler, arguments = _orbax()
    alone = {"active_processes": {0}, "barrier_sync_key_prefix": "alone"}
    options = ocp.options.MultiprocessingOptions(**({} if is_of_all else alone))
    handler = handler(json.dumps(description, indent=1) + "\n", multiprocessing_options=options)
    try:
        # Orbax saves no empty dictionary, and a network without arrays has none.
        write(ocp, handler, arguments(arrays or {"none": np.zeros(1)}), options)
    except BaseException:
        unfinished = path.with_name(path.name + ocp.path.atomicity.TMP_DIR_SUFFIX)
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


def _sync(path: Path) -> None:
    """Wait until a file or a folder is on the disk: its name must not outlive a power cut alone."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _absolute(name: str, path: Any) -> Path:
    check_kind(name, path, (str, os.PathLike), "the path of a folder")
    return Path(path).absolute()


def _as_array(name: str, leaf: Any) -> Any:
    """Return an array that lies over several devices as it is, any other as a NumPy array."""
    if isinstance(leaf, jax.Array):
        # Where there are several processes, Orbax refuses an array that one of them has whole.
        is_whole = leaf.is_fully_addressable and jax.process_count() > 1
        if len(leaf.sharding.device_set) > 1 and not is_whole:
            return leaf
    try:
        return np.asarray(leaf)
    except TypeError:
        raise TypeError(f"{name}: expected an array, got {type(leaf).__name__}.") from None


def _leaves(*trees: Any) -> list[tuple[str, Any]]:
    """Return (name, leaf) of every array of params and then of a state, such as state/1/votes."""
    return [
        ("/".join((prefix, *(jax.tree_util.keystr((key,), simple=True) for key in path))), leaf)
        for prefix, tree in zip(("params", "state"), trees, strict=False)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    ]


def _shardings(state: Any) -> dict[str, Sharding]:
    """Return where the arrays of a state lie, by name."""
    leaves = _leaves((), state)
    return {name: leaf.sharding for name, leaf in leaves if isinstance(leaf, jax.Array)}


def _misfit(expected: dict[str, Any], arrays: dict[str, Any]) -> str:
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


def _read_network(
    path: Path, network: Layer | None, layers: Iterable[Any]
) -> tuple[Layer, tuple[Any, Any], dict[str, int]]:
    """Return the network of a folder, the shapes of its params and state, and the counts."""
    known = known_parts(network, layers)
    file = path / _NETWORK_FILE
    if not file.is_file():
        raise CheckpointError(f"path: expected a folder with a {_NETWORK_FILE}, got {path}.")
    try:
        description = json.loads(file.read_text())
        if (form := description.get("format")) == _FORMAT:
            _check_sums(path)
            found = build(description["network"], known)
            check_kind("network", found, Layer, "a layer")
            expected = like(found)
    except CheckpointError:
        raise
    except Exception as error:  # A layer raises whatever its fields lead it to.
        raise CheckpointError(f"{file}: cannot be read as a network ({_first(error)}).") from error
    if form != _FORMAT:
        writer = description.get("memjax", "0.1")
        raise CheckpointError(f"{file}: expected format {_FORMAT}, got that of memjax {writer}.")
    if network is not None and describe(network) != describe(found):
        raise CheckpointError(f"network: expected {network}, and {path} holds {found}.")
    return found, expected, description["counts"]


def _read_arrays(path: Path, expected: tuple[Any, Any], shardings: dict[str, Sharding]) -> Any:
    """Return the params and the state of a folder, laid on devices by ``shardings``."""
    ocp, handler, _ = _orbax()
    wanted = dict(_leaves(*expected))
    # What lies over several devices is read from the disk for each of them.
    places = {
        name: ocp.ArrayRestoreArgs(sharding=shardings[name])
        if name in shardings and len(shardings[name].device_set) > 1
        else ocp.RestoreArgs(restore_type=np.ndarray)
        for name in wanted
    }
    try:
        arrays = handler().metadata(path).tree
        arrays.pop("none", None)
        problem = _misfit(wanted, arrays)
        if wanted and not problem:
            arrays = handler().restore(path, args=ocp.args.PyTreeRestore(restore_args=places))
    except Exception as error:  # Orbax and its storage raise whatever the damage leads them to.
        raise CheckpointError(f"{path}: the arrays cannot be read ({_first(error)}).") from error
    if problem:
        raise CheckpointError(f"{path}: {problem}.")
    leaves = [jax.device_put(arrays[name], shardings.get(name)) for name in wanted]
    return jax.tree.unflatten(jax.tree.structure(expected), leaves)


def _first(error: Exception) -> str:
    return str(error).partition("\n")[0].rstrip(".")


def _check_sums(path: Path) -> None:
    """Raise unless the files are those that were saved: Orbax does not check the arrays."""
    if not (path / _SUMS_FILE).is_file():
        raise CheckpointError(f"{path}: expected the file {_SUMS_FILE}, found none.")
    lines = (path / _SUMS_FILE).read_bytes().decode(errors="replace").splitlines()
    saved = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    found = _sums(path)
    for name in sorted(saved | found):
        if saved.get(name) != found.get(name):
            raise CheckpointError(f"{path / name}: is not as it was saved, by the {_SUMS_FILE}.")


def _sums(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file that is to have one, by name."""
    sums = {}
    for file in sorted(folder.rglob("*")):
        if file.is_file() and file.name not in _WITHOUT_SUM:
            with file.open("rb") as content:
                digest = hashlib.file_digest(content, "sha256").hexdigest()
            sums[file.relative_to(folder).as_posix()] = digest
    return sums
