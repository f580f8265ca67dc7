"""Saving a network whole and restoring it: a folder of JSON and Orbax arrays, no pickle."""

import contextlib
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Sharding

from memjax import __version__
from memjax._checks import check_kind
from memjax._description import build, describe, known_parts
from memjax._orbax import (
    NETWORK_FILE,
    SUMS_FILE,
    damaged_file,
    load_orbax,
    quiet_threads,
    step_names,
)
from memjax.base import Layer, check_state
from memjax.devices import gather_to_host
from memjax.params import as_float32, check_params, like

__all__ = [
    "CheckpointError",
    "restore",
    "restore_latest",
    "save",
    "save_latest",
    "state_digest",
]

_FORMAT = 2
_STREAM_ITEM = "network"  # the folder of a network in a checkpoint of a stream


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
        OSError: the folder cannot be written, for instance since no space is left.
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

    Nothing is imported by a name that stands in a file. A network is built of the layers and the
    distances of memjax, ``memjax.readouts.adam``, ``layers``, and the parts of ``network``.

    Args:
        path: the folder.
        network: the network that is expected there; None takes any. If it is given, it is the one
            that is returned, and the arrays lie where its own would lie.
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
        FileExistsError, OSError, TypeError, ValueError: as for ``save``.
    """
    folder = _absolute("folder", folder)

    def write(ocp: Any, handler: Any, arrays: Any, options: Any) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        manager_options = ocp.CheckpointManagerOptions(
            max_to_keep=keep,
            step_name_format=step_names(),
            create=False,
            cleanup_tmp_directories=True,  # what a killed process left
            enable_async_checkpointing=False,
            lightweight_initialize=True,  # times of the others are not read
            multiprocessing_options=options,
        )
        handlers = {_STREAM_ITEM: handler}
        with ocp.CheckpointManager(
            folder, None, manager_options, item_handlers=handlers
        ) as manager:
            items = ocp.args.Composite(**{_STREAM_ITEM: arrays})
            manager.save(counts["num_seen"], args=items, force=True)

    path = folder / step_names().build_name(counts["num_seen"])
    _write(path, network, params, state, counts, write)
    return path / _STREAM_ITEM


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
    if old := sorted(folder.glob("examples-*")):
        raise CheckpointError(f"{old[0]}: expected a checkpoint of memjax 0.2, got one of 0.1.")
    latest_step = load_orbax()[0].path.step.latest_step_metadata
    if not folder.exists() or (latest := latest_step(folder, step_names())) is None:
        return None
    path = Path(latest.path) / _STREAM_ITEM
    _, expected, counts = _read_network(path, network, ())
    if missing := sorted(set(names) - set(counts)):
        raise CheckpointError(f"{path / NETWORK_FILE}: expected the count {missing[0]}.")
    saved_params, state = _read_arrays(path, expected, _shardings(state))
    given = _leaves(params)
    for name, saved in _leaves(saved_params).items():
        if (found := np.float32(saved)) != (wanted := np.float32(given[name])):
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
    description = {"format": _FORMAT, "memjax": __version__, "counts": counts}
    description["network"] = describe(network)
    check_params(network, params, may_be_unset=True)
    check_state(network, state)
    leaves = _leaves(jax.tree.map(as_float32, params), state)
    arrays = {name: _as_array(leaf) for name, leaf in leaves.items()}
    is_shared = not all(getattr(leaf, "is_fully_addressable", True) for leaf in arrays.values())
    if jax.process_index() > 0 and not is_shared:
        return  # The first process has all there is, and writes it alone.
    ocp, handler, arguments = load_orbax()
    alone = {"active_processes": {0}, "barrier_sync_key_prefix": "alone"}
    options = ocp.options.MultiprocessingOptions(**({} if is_shared else alone))
    handler = handler(json.dumps(description, indent=1) + "\n", multiprocessing_options=options)
    try:
        with quiet_threads():
            # Orbax saves no empty dictionary, and a network without arrays has none.
            write(ocp, handler, arguments(arrays or {"none": np.zeros(1)}), options)
    except BaseException as error:
        unfinished = path.with_name(path.name + ocp.path.atomicity.TMP_DIR_SUFFIX)
        shutil.rmtree(unfinished, ignore_errors=True)
        if isinstance(error, FileExistsError) or not isinstance(error, Exception):
            raise
        # Orbax and its storage say at length what the system refused.
        raise OSError(f"{path}: cannot be written ({_reason(error)}).") from error


def _reason(error: Exception) -> str:
    """Return in a few words why something could not be written: those of the system, if it did."""
    text = str(error)
    words = (os.strerror(code) for code in errno.errorcode)
    known = [word for word in words if text.endswith(word) or f": {word} [" in text]
    return max(known, key=len, default=text.partition("\n")[0].rstrip("."))


def _absolute(name: str, path: Any) -> Path:
    check_kind(name, path, (str, os.PathLike), "the path of a folder")
    return Path(path).absolute()


def _as_array(leaf: Any) -> Any:
    """Return an array that lies over several devices as it is, any other as a NumPy array."""
    leaf = jnp.asarray(leaf)
    # Where there are several processes, Orbax refuses an array that one of them has whole.
    is_whole = leaf.is_fully_addressable and jax.process_count() > 1
    return np.asarray(leaf) if is_whole or len(leaf.sharding.device_set) == 1 else leaf


def _leaves(*trees: Any) -> dict[str, Any]:
    """Return the leaves of params and then of a state by name, such as ``state/1/votes``."""
    return {
        "/".join((prefix, *(jax.tree_util.keystr((key,), simple=True) for key in path))): leaf
        for prefix, tree in zip(("params", "state"), trees, strict=False)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def _shardings(state: Any) -> dict[str, Sharding]:
    """Return where the arrays of a state lie, by name."""
    leaves = _leaves((), state).items()
    return {name: leaf.sharding for name, leaf in leaves if isinstance(leaf, jax.Array)}


def _read_network(
    path: Path, network: Layer | None, layers: Iterable[Any]
) -> tuple[Layer, tuple[Any, Any], dict[str, int]]:
    """Return the network of a folder, the shapes of its params and state, and the counts."""
    known = known_parts(network, layers)
    file = path / NETWORK_FILE
    if not file.is_file():
        raise CheckpointError(f"path: expected a folder with a {NETWORK_FILE}, got {path}.")
    # A layer raises whatever its fields lead it to.
    with _errors_named(f"{file}: cannot be read as a network"):
        description = json.loads(file.read_text())
        if description.get("format") != _FORMAT:
            writer = description.get("memjax", "0.1")
            raise CheckpointError(
                f"{file}: expected format {_FORMAT}, got that of memjax {writer}."
            )
        if not (path / SUMS_FILE).is_file():
            raise CheckpointError(f"{path}: expected the file {SUMS_FILE}, found none.")
        if damaged := damaged_file(path):
            raise CheckpointError(f"{damaged}: is not as it was saved, by the {SUMS_FILE}.")
        found = build(description["network"], known)
        check_kind("network", found, Layer, "a layer")
        expected = like(found)
    if network is not None and describe(network) != describe(found):
        raise CheckpointError(f"network: expected {network}, and {path} holds {found}.")
    return found, expected, description["counts"]


def _read_arrays(path: Path, expected: tuple[Any, Any], shardings: dict[str, Sharding]) -> Any:
    """Return the params and the state of a folder, laid on devices by ``shardings``."""
    ocp, handler, _ = load_orbax()
    wanted = _leaves(*expected)
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
        _check_arrays(path, wanted, saved)
        arguments = ocp.args.PyTreeRestore(restore_args=places)
        arrays = handler().restore(path, args=arguments) if wanted else {}
    leaves = [jax.device_put(arrays[name], shardings.get(name)) for name in wanted]
    return jax.tree.unflatten(jax.tree.structure(expected), leaves)


def _check_arrays(path: Path, expected: dict[str, Any], saved: dict[str, Any]) -> None:
    """Raise unless the arrays that were saved are those of the network, before they are read."""
    for name in sorted(set(expected) ^ set(saved)):
        what = "missing" if name in expected else "not part of the network"
        raise CheckpointError(f"{path}: the array {name} is {what}.")
    for name, leaf in expected.items():
        got = saved[name]
        if (got.shape, got.dtype) != (leaf.shape, leaf.dtype):
            raise CheckpointError(
                f"{path}: expected the array {name} to be {leaf.dtype}{list(leaf.shape)}, "
                f"got {got.dtype}{list(got.shape)}."
            )


@contextlib.contextmanager
def _errors_named(what: str) -> Iterator[None]:
    """Make a CheckpointError of any error."""
    try:
        yield
    except CheckpointError:
        raise
    except Exception as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        raise CheckpointError(f"{what} ({reason}).") from error
