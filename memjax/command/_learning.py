"""Learning in a run: its checkpoints, the answers on the way, and its end by a signal."""

import contextlib
import io
import math
import signal
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from memjax import evaluation, streams
from memjax.command import _signals
from memjax.command._talk import Talk
from memjax.command._writing import write_whole
from memjax.command.options import Settings
from memjax.datasets import Dataset
from memjax.datasets._source import batches
from memjax.streams import Tally

CHECKPOINTS_FOLDER = "checkpoints"
ANSWERS_FILE = "answers.npz"


class Answers:
    """The answer to each example, and how many memories it added: int32 [N, 2].

    They are kept beside the checkpoints, for the picture of the growth.

    Args:
        num_examples: N.
        file: where they are kept; None for a run without checkpoints.
        every: examples from one checkpoint to the next.
        is_to_stop: says after each block whether it shall be the last.
    """

    def __init__(
        self,
        num_examples: int,
        file: Path | None = None,
        every: int = 1,
        is_to_stop: Callable[[Tally], bool] = lambda _: False,
    ):
        self.rows = np.zeros((num_examples, 2), np.int32)
        self.num_new = 0  # learned by this process, not by the one that wrote the checkpoint
        self._file, self._every, self._is_to_stop = file, every, is_to_stop

    def __call__(self, _: Any, infos: Any, tally: Tally) -> bool:
        """Note the answers to a block; called by ``fit_stream`` after each."""
        length = len(infos.predicted)
        before = tally.num_seen - length
        rows = np.stack([infos.predicted, evaluation.memories_added(infos)], axis=1)
        self.rows[before : tally.num_seen] = rows
        self.num_new += length
        is_last = self._is_to_stop(tally)
        # A checkpoint is never there without them: it is written when this returns.
        if is_last or tally.num_seen // self._every > before // self._every:
            self._keep(tally.num_seen)
        return is_last

    def take_up(self, num_learned: int) -> None:
        """Read the answers to the examples that a checkpoint has learned."""
        file = self._file
        if not num_learned or file is None:
            return
        try:
            with file.open("rb") as opened, np.load(opened, allow_pickle=False) as kept:
                self.rows[:num_learned] = kept["rows"][:num_learned]
        except FileNotFoundError:
            raise ValueError(
                f"{file}: expected the answers to {num_learned} examples, found no file."
            ) from None
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise ValueError(f"{file}: cannot be read as answers ({error}).") from None

    def _keep(self, num_learned: int) -> None:
        if self._file is not None:
            content = io.BytesIO()
            np.savez(content, rows=self.rows[:num_learned])
            write_whole(self._file, content.getvalue())


def learn_stream(
    run: Path, settings: Settings, network: Any, params: Any, train: Dataset, talk: Talk
) -> tuple[Any, Tally, Answers]:
    """Learn all examples in their order, from the latest checkpoint on if there is one.

    Raises:
        Interrupted: a signal has ended it after a block, with a checkpoint.
    """
    number, is_first = len(train.labels), jax.process_index() == 0
    size, every = min(settings.block_size, number), settings.checkpoint_every
    batch_size = min(max(2**26 // math.prod(train.images.shape[1:]), 1), 2048)
    with _stop_between_blocks(size, every is not None) as is_to_stop:
        file = run / ANSWERS_FILE if every and is_first else None
        answers = Answers(number, file, every or number, is_to_stop)

        def unread(num_learned: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
            answers.take_up(num_learned)
            return batches(train.images, train.labels, batch_size, num_learned)

        state, tally = streams.fit_stream(
            network,
            params,
            network.init(jax.random.key(settings.seed)),
            unread,
            size,
            # A readout is consolidated on the way, so that it has answers before the end.
            consolidate_at=(number // 16, number // 4),
            callbacks=[answers, talk.counts(network, number)],
            checkpoint_dir=run / CHECKPOINTS_FOLDER if every else None,
            checkpoint_every=every or number,
            keep=settings.checkpoint_keep,
        )
    return state, tally, answers


@contextlib.contextmanager
def _stop_between_blocks(
    block_size: int, has_checkpoints: bool
) -> Iterator[Callable[[Tally], bool]]:
    """Yield what says after a block whether a signal shall end the run here; then raise so."""
    if not has_checkpoints:
        yield lambda _: False
    elif jax.process_count() > 1:
        stopped = False

        def is_to_stop(tally: Tally) -> bool:
            # JAX hears SIGTERM, and finds a block that no process has passed.
            nonlocal stopped
            block = -(-tally.num_seen // block_size)
            stopped = stopped or multihost_utils.reached_preemption_sync_point(block)
            return stopped

        yield is_to_stop
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # From now on it ends the process at once.
        if stopped:
            raise _signals.Interrupted(signal.SIGTERM)
    else:
        with _signals.postponed() as request:
            yield lambda _: bool(request.number)
        if request.number:
            raise _signals.Interrupted(request.number)
