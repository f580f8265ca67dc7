"""Saving a network whole and restoring it: a folder of JSON and Orbax arrays, no pickle."""

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Sharding

from memjax import __version__
from memjax._checks import check_kind
from memjax._description import describe
from memjax._orbax import (
    NETWORK_FILE,
    load_orbax,
    quiet,
    reason_of_system,
    removed_if_it_fails,
    step_names,
)
from memjax._saved import (
    FORMAT,
    CheckpointError,
    leaves_of,
    num_bytes,
    read_arrays,
    read_network,
)
from memjax.base import Layer, check_state, walk
from memjax.devices import gather_to_host
from memjax.params import as_float32, check_params

__all__ = [
    "CheckpointError",
    "check",
    "restore",
    "restore_latest",
    "save",
    "save_latest",
    "state_digest",
]

_STREAM_ITEM = "network"  # the folder of a network in a checkpoint of a stream


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
        OSError: the folder cannot be written, for example because the disk is full. Nothing of it
            is left.

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
            classes or functions that are not known; the sentence names the file or the array. So
            it does where an array has values that the layer cannot have learned, such as a NaN, and
            where a network that is not given asks for far more room than its files have bytes.

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
    found = read_network(path, network, layers)
    shardings = {}
    if network is not None and network != found.network:
        # It says where its arrays lie; no file does.
        shardings = _shardings(network.init(jax.random.key(0)))
    params, state = read_arrays(path, found, shardings, network is not None)
    return found.network if network is None else network, params, state


def check(path: str | os.PathLike[str], layers: Iterable[Any] = ()) -> dict[str, str]:
    """Check what ``save`` wrote as a whole, as ``restore`` does, and say what was checked.

    Args:
        path: the folder.
        layers: as for ``restore``.

    Returns:
        What was checked, and what was found there, both in words.

    Raises:
        CheckpointError: as for ``restore``.

    Example:
        >>> import tempfile
        >>> from memjax.memory import MemoryLayer
        >>> layer = MemoryLayer(num_features=2, num_classes=2, capacity=4)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     state = layer.init(jax.random.key(0))
        ...     check(save(Path(folder) / "saved", layer, layer.params(), state))["network"]
        'MemoryLayer'
    """
    path = _absolute("path", path)
    found = read_network(path, None, layers)
    params, state = read_arrays(path, found, {}, False)
    names = [type(part.layer).__name__ for part in walk(found.network, params, state)]
    leaves = leaves_of(params, state)
    return {
        "format": f"{FORMAT}, written by memjax {found.writer}",
        "sums": f"{len(found.files)} files are as they were saved",
        "network": ", ".join(names),
        "arrays": f"{len(leaves)}, {num_bytes(leaves):,} bytes, as the network shapes them",
        "values": "all in their ranges",
        "digest": state_digest(state),
    }


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
    described = read_network(path, network, ())
    if missing := sorted(set(names) - set(described.counts)):
        raise CheckpointError(f"{path / NETWORK_FILE}: expected the count {missing[0]}.")
    saved_params, state = read_arrays(path, described, _shardings(state), True)
    given = leaves_of(params)
    for name, saved in leaves_of(saved_params).items():
        if (found := np.float32(saved)) != (wanted := np.float32(given[name])):
            raise CheckpointError(f"{path}: expected {name} to be {wanted!s}, got {found!s}.")
    return state, {name: described.counts[name] for name in names}


def state_digest(state: Any) -> str:
    """Return the SHA-256 of all learned arrays, in hexadecimal.

    Leaf by leaf in the order of ``jax.tree_util.tree_leaves_with_path``: the path as text, dtype,
    shape, then the bytes in C order, little-endian. Equal digests mean bit-identical states.

    Raises:
        TypeError: a leaf is no array of numbers.

    Example:
        >>> state_digest({"a": np.zeros(3)}) == state_digest({"a": np.zeros(3)})
        True
    """
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        array = gather_to_host(leaf)
        if array.dtype.kind in "OSU":
            name = f"state{jax.tree_util.keystr(path)}"
            raise TypeError(f"{name}: expected an array of numbers, got {type(leaf).__name__}.")
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
    description = {"format": FORMAT, "memjax": __version__, "counts": counts}
    description["network"] = describe(network)
    check_params(network, params, may_be_unset=True)
    check_state(network, state)
    leaves = leaves_of(jax.tree.map(as_float32, params), state)
    arrays = {name: _as_array(leaf) for name, leaf in leaves.items()}
    is_shared = not all(getattr(leaf, "is_fully_addressable", True) for leaf in arrays.values())
    if jax.process_index() > 0 and not is_shared:
        return  # The first process has all there is, and writes it alone.
    ocp, handler, arguments = load_orbax()
    alone = {"active_processes": {0}, "barrier_sync_key_prefix": "alone"}
    options = ocp.options.MultiprocessingOptions(**({} if is_shared else alone))
    handler = handler(json.dumps(description, indent=1) + "\n", multiprocessing_options=options)
    made = [parent for parent in path.parents if not parent.exists()]
    unfinished = path.with_name(path.name + ocp.path.atomicity.TMP_DIR_SUFFIX)
    try:
        with quiet(), removed_if_it_fails(unfinished):
            # Orbax saves no empty dictionary, and a network without arrays has none.
            write(ocp, handler, arguments(arrays or {"none": np.zeros(1)}), options)
    except BaseException as error:
        for parent in made:
            with contextlib.suppress(OSError):  # it is not empty, or was never made
                parent.rmdir()
        if isinstance(error, OSError | ValueError | RuntimeError):  # as Orbax's storage raises them
            number, reason = reason_of_system(error)
            failure = OSError(
                f"{path}: cannot be written ({reason}), and nothing of it is left; make room, or "
                "choose a folder that may be written."
            )
            failure.errno = number
            raise failure from error
        raise


def _absolute(name: str, path: Any) -> Path:
    check_kind(name, path, (str, os.PathLike), "the path of a folder")
    return Path(path).absolute()


def _as_array(leaf: Any) -> Any:
    """Return an array that lies over several devices as it is, any other as a NumPy array."""
    leaf = jnp.asarray(leaf)
    # Where there are several processes, Orbax refuses an array that one of them has whole.
    is_whole = leaf.is_fully_addressable and jax.process_count() > 1
    return np.asarray(leaf) if is_whole or len(leaf.sharding.device_set) == 1 else leaf


def _shardings(state: Any) -> dict[str, Sharding]:
    """Return where the arrays of a state lie, by name."""
    leaves = leaves_of((), state).items()
    return {name: leaf.sharding for name, leaf in leaves if isinstance(leaf, jax.Array)}
