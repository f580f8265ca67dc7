"""Learning from a stream, which may be endless or larger than memory."""

import contextlib
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from memjax import checkpoint
from memjax._checks import (
    Spread,
    as_iterator,
    check_kind,
    check_number,
    check_positive,
    check_scalar,
    check_shape,
    import_package,
)
from memjax.base import UNLABELLED, Layer, check_state
from memjax.evaluation import first_rows, num_memories
from memjax.params import settle_params
from memjax.training import CALIBRATION_EXAMPLES, check_examples

__all__ = ["Batches", "Callback", "Tally", "fit_stream"]


class Tally(NamedTuple):
    """What was counted over a stream."""

    num_seen: int = 0  # examples that were learned
    num_asked: int = 0  # labelled ones among them, from the first that got an answer on
    num_right: int = 0  # those of them that were answered right before they were learned

    @property
    def prequential_accuracy(self) -> float:
        """The share of right answers before learning, from the network's first answer on."""
        return self.num_right / max(self.num_asked, 1)


Batches = Iterable[tuple[Any, Any]]
"""Pairs of images [n, *network.input_shape] and labels [n], n at least 1."""

Callback = Callable[[Any, Any, Tally], bool | None]
"""Is called with the state, the infos of a block's examples and the tally so far.

If it returns True, learning ends after this block."""


def fit_stream(
    network: Layer,
    params: Any,
    state: Any,
    stream: Batches | Callable[[int], Batches],
    block_size: int = 256,
    *,
    consolidate_at: Iterable[int] = (),
    callbacks: Sequence[Callback] = (),
    progress: bool | int = False,
    checkpoint_dir: str | os.PathLike[str] | None = None,
    checkpoint_every: int = 10_000,
    keep: int = 2,
) -> tuple[Any, Tally]:
    """Learn from a stream of batches, which may be endless or larger than memory.

    The stream is read once. Its batches are cut and joined to blocks of one size, so there is one
    compilation whatever their sizes, and the result is that of ``fit`` on all rows in their order.
    The dtype of an image says its scale, so images of another dtype begin a new block.

    With a ``checkpoint_dir`` the process may be killed at any moment. Called again in the same way,
    it takes up the latest checkpoint, leaves out the examples that were learned, and ends with the
    same bits as if it had never been stopped.

    Args:
        network: a layer or a network of layers.
        params: its numbers, none of them "auto".
        state: what it has learned so far; not used where there is a checkpoint to go on from.
        stream: batches; or a function that is given the number of examples learned before and
            returns the batches that follow them, where that is cheaper than reading them again.
        block_size: examples that one matrix product serves.
        consolidate_at: ascending numbers of examples. After the block that reaches one the network
            is consolidated, so that a readout that solves has answers before the end.
        callbacks: functions called after each block with the state, which is good until they
            return, with the infos of the block's examples as NumPy arrays, and with the tally. If
            one returns True, learning ends here, with a checkpoint if there is a
            ``checkpoint_dir``. Where several processes learn together, it must do so in all of
            them after the same block.
        progress: whether to show a bar; a number says how many examples the stream has.
        checkpoint_dir: a folder for this stream alone.
        checkpoint_every: examples from one checkpoint to the next. It is written after the block
            that completes them. The last examples, which do not fill a block, are in none.
        keep: how many checkpoints are kept.

    Returns:
        The new state, consolidated, and the tally of the whole stream.

    Raises:
        ValueError, TypeError: an argument or a batch has another shape, dtype or range than the
            network takes, or the stream has fewer examples than were learned before.
        CheckpointError: the latest checkpoint is damaged, or belongs to something else.

    Example:
        >>> import numpy as np
        >>> from memjax.networks import memory_network
        >>> network, params = memory_network((8, 8, 1), 10, capacity=64, novelty_threshold=0.5)
        >>> batches = ((np.full((7, 8, 8, 1), i, np.uint8), np.full(7, i)) for i in range(1, 10))
        >>> state = network.init(jax.random.key(0))
        >>> state, tally = fit_stream(network, params, state, batches, block_size=16)
        >>> tally.num_seen
        63
    """
    check_kind("network", network, Layer, "a memjax layer")
    check_positive("block_size", block_size)
    check_positive("checkpoint_every", checkpoint_every)
    check_positive("keep", keep)
    times = as_iterator("consolidate_at", consolidate_at, "ascending numbers of examples")
    callbacks = tuple(as_iterator("callbacks", callbacks, "functions"))
    for callback in callbacks:
        check_kind("callbacks", callback, Callable, "functions")
    if not isinstance(progress, bool):
        check_scalar("progress", progress, 0)
    params = settle_params(network, params)
    tally = Tally()
    if checkpoint_dir is not None:
        state, tally = _resume(checkpoint_dir, network, params, state, block_size)
    check_state(network, state)
    state = jax.tree.map(jnp.array, state)  # a copy, whose buffers may be given up block by block
    next_time = _next_after(tally.num_seen, times)
    batches = _unread(stream, tally.num_seen, network)
    with _progress_bar(network, progress, tally.num_seen) as show:
        for images, labels, is_rest in _blocks(batches, block_size):
            length = len(labels)
            missing = block_size - length
            state, infos = learn_block(
                network,
                params,
                state,
                np.pad(images, [(0, missing)] + [(0, 0)] * (images.ndim - 1)),
                np.pad(labels, (0, missing)),
                jnp.asarray(length, jnp.int32),
            )
            infos = jax.tree.map(partial(first_rows, num_rows=length), infos)
            before, tally = tally, _count(tally, infos, labels)
            if next_time <= tally.num_seen:
                state = _consolidate(network, params, state)
                next_time = _next_after(tally.num_seen, times)
            answers = [callback(state, infos, tally) for callback in (*callbacks, show)]
            is_last = any(isinstance(answer, bool | np.bool_) and answer for answer in answers)
            is_due = is_last or (
                tally.num_seen // checkpoint_every > before.num_seen // checkpoint_every
            )
            if checkpoint_dir is not None and is_due and not is_rest:
                counts = tally._asdict() | {"block_size": block_size}
                checkpoint.save_latest(checkpoint_dir, network, params, state, counts, keep)
            if is_last:
                break
    return _consolidate(network, params, state), tally


def _resume(
    checkpoint_dir: Any, network: Layer, params: Any, state: Any, block_size: int
) -> tuple[Any, Tally]:
    """Return the state and the tally of the latest checkpoint; without one, those to begin with."""
    names = (*Tally._fields, "block_size")
    found = checkpoint.restore_latest(checkpoint_dir, network, params, state, names)
    if found is None:
        return state, Tally()
    state, counts = found
    if (expected := counts.pop("block_size")) != block_size:
        # Another size means the same, but rounds otherwise.
        raise ValueError(
            f"block_size: expected {expected}, as in the checkpoints in {checkpoint_dir}, "
            f"got {block_size}."
        )
    return state, Tally(**counts)


def _next_after(number: int, ascending: Iterator[int]) -> float:
    """Return the next of some numbers that is greater; infinity where there is none."""
    for found in ascending:
        check_number("consolidate_at", found, 0)
        check_shape("consolidate_at", found, ())
        if found > number:
            return found
    return math.inf


def _unread(
    stream: Batches | Callable[[int], Batches], num_learned: int, network: Layer
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the batches of a stream, checked, without the examples that were learned before."""
    batches = stream(num_learned) if callable(stream) else stream
    to_skip = 0 if callable(stream) else num_learned
    for images, labels in _checked(batches, network, is_whole=to_skip == num_learned):
        if to_skip < len(labels):
            yield images[to_skip:], labels[to_skip:]
        to_skip = max(to_skip - len(labels), 0)
    if to_skip:
        raise ValueError(
            f"stream: expected the {num_learned} examples that the checkpoint has learned, and "
            f"more, got {num_learned - to_skip}."
        )


def _checked(
    batches: Batches, network: Layer, is_whole: bool
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield batches, checked, with the dtypes that the network would make of them.

    A batch may hold nothing but tiny numbers, and a stream may begin with some. How far rows lie
    apart is judged by those that a number "auto" is estimated from, if the stream is whole.
    """
    dtype = np.float32 if len(network.input_shape) == 1 else None
    spread, num_read = Spread("images"), 0
    for batch in as_iterator("stream", batches, "batches, or a function that returns them"):
        if not isinstance(batch, tuple | list) or len(batch) != 2:
            raise TypeError(
                f"stream: expected pairs of images and labels, got {type(batch).__name__}."
            )
        images, labels = batch
        check_examples(network, images, labels)
        num_read += len(labels)
        if is_whole:
            spread.add(images)
        if num_read >= CALIBRATION_EXAMPLES:
            spread.check()
        dtype_in_jax = jax.dtypes.canonicalize_dtype(images.dtype)
        yield np.asarray(images, dtype or dtype_in_jax), np.asarray(labels, np.int32)
    spread.check()


def _blocks(
    batches: Iterable[tuple[np.ndarray, np.ndarray]], block_size: int
) -> Iterator[tuple[np.ndarray, np.ndarray, bool]]:
    """Cut and join batches to blocks of one size, and say of each whether it is a rest at the end.

    A block is shorter if it is that rest, or if images of another dtype follow: joined with them,
    it would take their dtype, which says the scale of an image.
    """
    waiting: list[tuple[np.ndarray, np.ndarray]] = []
    num_waiting = 0
    for images, labels in batches:
        if waiting and waiting[0][0].dtype != images.dtype:
            yield *_join(waiting), False
            waiting, num_waiting = [], 0
        # Copies: a stream may fill one buffer again and again.
        waiting.append((images.copy(), labels.copy()))
        num_waiting += len(labels)
        if num_waiting < block_size:
            continue
        images, labels = _join(waiting)
        num_waiting = len(labels) % block_size
        num_full = len(labels) - num_waiting
        for start in range(0, num_full, block_size):
            rows = slice(start, start + block_size)
            yield images[rows], labels[rows], False
        waiting = [(images[num_full:], labels[num_full:])] if num_waiting else []
    if waiting:
        yield *_join(waiting), True


def _join(batches: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    images, labels = zip(*batches, strict=True)
    return np.concatenate(images), np.concatenate(labels)


def _count(tally: Tally, infos: Any, labels: np.ndarray) -> Tally:
    """Return the tally after one more block; layers that give no answers are never asked."""
    is_asked = labels >= 0
    predicted = getattr(infos, "predicted", np.full(len(labels), UNLABELLED))
    if not tally.num_asked:
        is_asked &= np.logical_or.accumulate(is_asked & (predicted >= 0))
    return Tally(
        tally.num_seen + len(labels),
        tally.num_asked + int(is_asked.sum()),
        tally.num_right + int((is_asked & (predicted == labels)).sum()),
    )


@contextlib.contextmanager
def _progress_bar(network: Layer, progress: bool | int, num_seen: int) -> Iterator[Callback]:
    """Yield the callback of a bar that begins at ``num_seen``."""
    if progress is False:
        yield lambda state, infos, tally: None
        return
    tqdm = import_package("tqdm", "progress").tqdm
    total = None if progress is True else progress
    with tqdm(total=total, initial=num_seen, unit=" examples", unit_scale=True) as bar:

        def show(state: Any, infos: Any, tally: Tally) -> None:
            bar.set_postfix(
                memories=num_memories(network, state),
                prequential=f"{tally.prequential_accuracy:.3f}",
                refresh=False,
            )
            bar.update(tally.num_seen - bar.n)

        yield show


@partial(jax.jit, static_argnames="network", donate_argnames="state")
def learn_block(network, params, state, images, labels, length):
    """Return the state, which is given up, after one block, and the infos."""
    state, _, infos = network.step_block(params, state, images, labels, length)
    return state, infos


@partial(jax.jit, static_argnames="network", donate_argnames="state")
def _consolidate(network, params, state):
    return network.consolidate(params, state)
