"""Which process writes a run: one at a time, and the kernel knows when it has gone.

A run is written in a folder whose name begins with ``incomplete.``, and gets its own name when it
is whole; a run with checkpoints gets it at once. Who writes it holds a lock on a file in it.
"""

import contextlib
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Iterable, Iterator
from multiprocessing.reduction import DupFd
from pathlib import Path
from typing import Any

from memjax._files import is_same, take_lock
from memjax.command._writing import writing

INCOMPLETE = "incomplete."  # how the name of a folder begins while it is written
LOCK_FILE = "memjax.lock"  # what lies beside it is a run's, and may be cleared away
# Seconds for a process that only clears away what another one left, or that is about to end since
# the one that had started it was killed.
_PATIENCE = 3.0


class TakenError(ValueError):
    """The folder of a run exists, or another process writes it."""


class Claim:
    """The right to write a run; a process that is given it holds it until it ends.

    Args:
        run: the folder that the run has in the end.
        folder: the folder that it has until then, which may be the same.
        lock: the descriptor of the locked file in it.
    """

    def __init__(self, run: Path, folder: Path, lock: int):
        self.run, self.folder, self._lock = run, folder, lock

    def __reduce__(self) -> Any:
        return _take_over, (self.run, self.folder, DupFd(self._lock))

    def sign(self) -> None:
        """Write who holds the claim into the file of the lock."""
        os.ftruncate(self._lock, 0)
        os.write(self._lock, f"process {os.getpid()} on {socket.gethostname()}\n".encode())

    @contextlib.contextmanager
    def released_on_error(self) -> Iterator[None]:
        """Release the claim if the block raises an error."""
        try:
            yield
        except BaseException:
            self.release()
            raise

    def settle(self) -> None:
        """Give the run its name; a folder that has it by now is not written over."""
        self.folder.rename(self.run)
        self.folder = self.run

    def finish(self) -> None:
        """Give a run that is whole its name, if it has not got it yet, and let it go."""
        if self.folder != self.run:
            try:
                self.settle()
            except OSError as error:
                (self.folder / LOCK_FILE).unlink()  # so that nobody clears it away
                raise TakenError(
                    f"{self.run}: cannot be written ({error.strerror}); the run is in "
                    f"{self.folder}."
                ) from None
        (self.folder / LOCK_FILE).unlink()

    def release(self) -> None:
        """Let other processes write the run, and remove what has not got its name."""
        for folder in {self.folder, self.run}:
            file = folder / LOCK_FILE
            if not is_same(file, self._lock):
                continue  # it is finished, or another process has begun again
            if folder == self.run:
                file.unlink(missing_ok=True)
            else:
                _remove(folder)
        os.close(self._lock)


def claim_new(runs: Iterable[Path]) -> Claim:
    """Claim the first of some folders that neither exists nor is being written.

    Raises:
        TakenError: there is none; the message is about the last of them.
        OSError: it cannot be written.
    """
    error = TakenError("--out: expected the name of a folder.")
    for run in runs:
        try:
            return _claim_new(run)
        except TakenError as taken:
            error = taken
    raise error


def _claim_new(run: Path) -> Claim:
    if os.path.lexists(run):
        raise _taken(run)
    if run.name.startswith(INCOMPLETE):
        raise ValueError(
            f"--out: expected a name that does not begin with {INCOMPLETE!r}, got {run}."
        )
    folder = run.with_name(INCOMPLETE + run.name)
    with writing(folder):
        run.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(run.parent)
        try:
            claim = Claim(run, folder, _lock(folder, f"--out: {run}", is_new=True))
        except OSError:
            with contextlib.suppress(OSError):  # it is not empty, or was never made
                folder.rmdir()
            raise
        with claim.released_on_error():
            claim.sign()
            _clear(folder)
    if os.path.lexists(run):  # Another process was faster.
        claim.release()
        raise _taken(run)
    return claim


def claim_begun(run: Path) -> Claim:
    """Claim the folder of a run that has begun.

    Raises:
        TakenError: another process writes it.
        OSError: it cannot be written.
    """
    with writing(run):
        _remove_abandoned(run.parent)
        claim = Claim(run, run, _lock(run, f"--resume: {run}", is_new=False))
        with claim.released_on_error():
            claim.sign()
            for path in run.glob(f"{INCOMPLETE}*"):
                _delete(path)
            with tempfile.TemporaryDirectory(dir=run, prefix=INCOMPLETE):
                pass  # It can be written.
    return claim


def _taken(run: Path) -> TakenError:
    return TakenError(f"--out: expected a folder that does not exist yet, got {run}.")


def _lock(folder: Path, what: str, is_new: bool) -> int:
    """Return the descriptor of a folder's locked file; a new folder is made."""
    file, deadline = folder / LOCK_FILE, time.monotonic() + _PATIENCE
    while True:
        missing = None
        try:
            if is_new:
                with contextlib.suppress(FileExistsError):
                    folder.mkdir()
            is_ours = not is_new or file.exists() or not any(folder.iterdir())
            if is_ours and (lock := _try_to_lock(file)) is not None:
                return lock
        except FileNotFoundError as error:  # Perhaps it was cleared away just now.
            missing = error
        if time.monotonic() > deadline:
            if missing is not None:
                raise missing
            if is_new and not file.exists():
                raise TakenError(f"{what} needs the name {folder}, which is taken.")
            raise TakenError(f"{what} is being written by {_owner(file)}.")
        time.sleep(0.05)


def _try_to_lock(file: Path) -> int | None:
    """Return the descriptor of a file that is locked, None where another process has it."""
    lock = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        if take_lock(lock, file):
            return lock
    except BaseException:
        os.close(lock)
        raise
    os.close(lock)
    return None


def _owner(file: Path) -> str:
    """Return what the process that holds a lock has written into its file."""
    with contextlib.suppress(OSError):
        return file.read_text(errors="replace").strip() or "another process"
    return "another process"


def _remove_abandoned(runs: Path) -> None:
    """Remove what processes left that were killed, and leave what has no lock of ours."""
    for folder in runs.glob(f"{INCOMPLETE}*"):
        file = folder / LOCK_FILE
        with contextlib.suppress(OSError):
            if file.is_file() and (lock := _try_to_lock(file)) is not None:
                _remove(folder)
                os.close(lock)


def _remove(folder: Path) -> None:
    """Remove a folder whose lock is held; what cannot be removed keeps the lock's file."""
    for _ in range(20):
        _clear(folder)
        if os.listdir(folder) == [LOCK_FILE]:
            break
        time.sleep(0.05)  # for a thread of Orbax that still writes when a save has failed
    if os.listdir(folder) == [LOCK_FILE]:
        (folder / LOCK_FILE).unlink()
        with contextlib.suppress(OSError):  # another process has begun again in it
            folder.rmdir()


def _clear(folder: Path) -> None:
    """Remove all that is in a folder but the file of its lock."""
    for path in folder.iterdir():
        if path.name != LOCK_FILE:
            _delete(path)


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _take_over(run: Path, folder: Path, lock: Any) -> Claim:
    """Return the claim of the process that started this one."""
    return Claim(run, folder, lock.detach())
