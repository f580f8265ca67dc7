"""Several processes of one machine: joined while they work, and ended together."""

import contextlib
import functools
import itertools
import multiprocessing.connection
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import cast

import jax
import pytest
from jax.experimental import multihost_utils

from memjax.command import _signals, processes
from memjax.command.processes import run_in_processes


def tell(folder: Path) -> None:
    """Write how many processes there are into a file named by this one's place among them."""
    (folder / str(jax.process_index())).write_text(str(jax.process_count()))


def refuse(folder: Path) -> None:
    """Tell, and let the second process raise an error."""
    tell(folder)
    if jax.process_index() == 1:
        raise KeyError("no such memory")


def refuse_and_abort(folder: Path) -> None:
    """Refuse, and let the first process abort because of it, as JAX does when another is gone."""
    refuse(folder)
    while not (folder / "1").exists():
        time.sleep(0.001)
    os.abort()


def fail() -> None:
    """Raise an error."""
    raise KeyError("no such memory")


def test_processes_know_of_each_other(tmp_path):
    run_in_processes(functools.partial(tell, tmp_path), 2)
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {"0": "2", "1": "2"}


@pytest.mark.parametrize("work", [refuse, refuse_and_abort])
def test_an_error_in_one_of_them_is_told_in_its_words(work, tmp_path):
    with pytest.raises(ValueError, match="no such memory"):
        run_in_processes(functools.partial(work, tmp_path), 2)


def test_an_end_that_is_known_only_after_it_was_announced_is_told(monkeypatch):
    # The system closes what announces the end of a process before it tells how it ended.
    known = cast(property, BaseProcess.exitcode).fget
    assert known is not None
    announced = set()

    def late(process):
        if process in announced:
            process.join()
            return known(process)
        if multiprocessing.connection.wait([process.sentinel], timeout=0):
            announced.add(process)
        return None

    monkeypatch.setattr(BaseProcess, "exitcode", property(late))
    with pytest.raises(ValueError, match="no such memory"):
        run_in_processes(fail, 1)


@pytest.mark.parametrize(("number", "error"), [(0, ValueError), (1.5, TypeError)])
def test_a_number_of_processes_that_has_no_sense_is_refused(number, error):
    with pytest.raises(error, match="number"):
        run_in_processes(print, number)


def listening() -> set[str]:
    """The addresses at which this process listens, in hexadecimal as Linux has them."""
    mine = set()
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # the folder itself, which is closed by now
            mine.add(os.readlink(entry))
    lines = [
        line.split()
        for table in ("/proc/net/tcp", "/proc/net/tcp6")
        if Path(table).exists()
        for line in Path(table).read_text().splitlines()[1:]
    ]
    return {
        fields[1].partition(":")[0]
        for fields in lines
        if fields[3] == "0A" and f"socket:[{fields[9]}]" in mine
    }


def tell_where(folder: Path) -> None:
    """Write where this process listens, once it has worked together with the others."""
    multihost_utils.sync_global_devices("all are there")
    (folder / str(jax.process_index())).write_text(" ".join(sorted(listening())))
    multihost_utils.sync_global_devices("all have looked")


LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="Linux says who listens")
def test_they_listen_on_this_machine_only(tmp_path):
    run_in_processes(functools.partial(tell_where, tmp_path), 2)
    found = [set((tmp_path / name).read_text().split()) for name in "01"]
    assert all(found) and found[0] | found[1] <= LOOPBACK


@pytest.mark.long
def test_they_do_so_whatever_the_name_of_the_machine_leads_to(tmp_path):
    (tmp_path / "hosts").write_text("127.0.0.1 localhost\n127.0.0.2 elsewhere\n")
    (tmp_path / "program.py").write_text(
        "import functools, pathlib\n"
        "from memjax.command.processes import run_in_processes\n"
        "from tests.test_processes import tell_where\n"
        "if __name__ == '__main__':\n"
        "    run_in_processes(functools.partial(tell_where, pathlib.Path('.')), 2)\n"
    )
    alone = ["unshare", "--user", "--map-root-user", "--mount", "--uts", "sh", "-c"]
    name = "mount --bind hosts /etc/hosts && hostname elsewhere"
    if shutil.which("unshare") is None or subprocess.run([*alone, name], cwd=tmp_path).returncode:
        pytest.skip("this machine gives nobody a name of one's own")
    subprocess.run(
        [*alone, f"{name} && {sys.executable} program.py"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
        check=True,
        timeout=200,
    )
    found = [set((tmp_path / name).read_text().split()) for name in "01"]
    assert all(found) and found[0] | found[1] <= LOOPBACK


@pytest.mark.parametrize("num_taken", [1, 2])
def test_a_port_that_is_taken_is_tried_again_with_another_and_named_at_last(
    num_taken, monkeypatch, tmp_path
):
    others = [socket.create_server(("127.0.0.1", 0)) for _ in range(num_taken)]
    addresses = [f"127.0.0.1:{other.getsockname()[1]}" for other in others]
    free = processes._free_address()
    to_give = iter([*addresses, free])
    monkeypatch.setattr(processes, "_free_address", lambda: next(to_give))
    monkeypatch.setattr(processes, "_PORTS", 2)
    work = functools.partial(tell, tmp_path)
    if num_taken == 1:
        assert run_in_processes(work, 1)
        assert os.listdir(tmp_path) == ["0"]
    else:
        with pytest.raises(ChildProcessError, match=f"a free port, got {addresses[-1]}, which"):
            run_in_processes(work, 1)
        assert list(to_give) == [free]
    for other in others:
        other.close()


def wait_together(folder: Path) -> None:
    """Tell the number of this process, and work until it is stopped."""
    (folder / str(jax.process_index())).write_text(str(os.getpid()))
    for step in itertools.count():
        multihost_utils.sync_global_devices("again")
        if multihost_utils.reached_preemption_sync_point(step):
            (folder / f"{jax.process_index()} ended").write_text(str(step))
            # As a checkpoint does: the first to leave takes the service of JAX with it.
            multihost_utils.sync_global_devices("ended")
            raise _signals.Interrupted(signal.SIGTERM)


def number_of(folder: Path, index: int) -> int:
    """The number of a process, once it has told it."""
    while not (file := folder / str(index)).exists() or not file.read_text():
        time.sleep(0.01)
    return int(file.read_text())


@pytest.mark.long
@pytest.mark.parametrize("index", [0, 1])
def test_one_that_is_stopped_is_noticed_after_a_while(index, monkeypatch, tmp_path):
    monkeypatch.setattr(processes, "_PATIENCE", 8.0)

    def stop():
        os.kill(number_of(tmp_path, index), signal.SIGSTOP)

    threading.Thread(target=stop, daemon=True).start()
    with pytest.raises(ChildProcessError, match=f"process {index} of 2 has been silent for 8 sec"):
        run_in_processes(functools.partial(wait_together, tmp_path), 2)
    for name in "01":
        with pytest.raises(ProcessLookupError):
            os.kill(number_of(tmp_path, int(name)), 0)


def test_all_of_them_end_after_the_same_step_when_they_are_to_stop(tmp_path):
    def is_to_stop():
        return (tmp_path / "0").exists() and (tmp_path / "1").exists()

    assert not run_in_processes(functools.partial(wait_together, tmp_path), 2, is_to_stop)
    ended = [(tmp_path / f"{index} ended").read_text() for index in "01"]
    assert ended[0] == ended[1]


def test_those_that_are_still_beginning_end_as_well():
    assert not run_in_processes(print, 2, lambda: True)


def ignored() -> None:
    """Fail unless SIGINT does not reach this process."""
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.1)


def test_ctrl_c_does_not_reach_them():
    assert run_in_processes(ignored, 1)
