"""A disk that is full at every single write: each is named, and nothing is lost."""

import contextlib
import json
import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import leave_pictures_empty, run_command

for package in ("orbax.checkpoint", "PIL", "sklearn", "tqdm", "tyro"):
    pytest.importorskip(package)
figure = pytest.importorskip("matplotlib.figure")
cli = pytest.importorskip("memjax.command.cli")

SMALL = ["--capacity", "60", "--limit", "300", "--encoder", "pixels", "--block-size", "50"]
CHECKPOINTED = [*SMALL, "--checkpoint-every", "100"]
FILES = {"record.json", "network", "memories.png", "growth.png", "confusion.png"}


def check_every_failure(options: list[str], full: contextlib.AbstractContextManager) -> bool:
    """Learn where writes fail, and check what is said and kept; return whether one has failed."""
    with full:
        status, out, err = run_command("fit", "digits", *options, "--out", "run")
    if status == 0:
        shutil.rmtree("run")
        return False
    assert (status, out) == (2, "")
    assert re.fullmatch(r"memjax: \S+: cannot be written \([^\n;]+\).*make room[^\n]*\n", err), err
    assert not list(Path().glob("incomplete.*"))
    if "--checkpoint-every" not in options:
        assert not Path("run").exists()
        return True
    if Path("run").exists():
        assert "; memjax fit --resume run " in err
        status, out, err = run_command("fit", "--resume", "run", "--json")
        assert (status, err) == (0, "")
        assert json.loads(out)["state_digest"] == check_every_failure.digest  # type: ignore
        assert set(os.listdir("run")) >= FILES
        assert not {"checkpoints", "options.json", "answers.npz"} & set(os.listdir("run"))
        shutil.rmtree("run")
    return True


TESTS = Path(__file__).parent
# JAX would complain of its own cache, which cannot be written either.
ENVIRONMENT = {name: value for name, value in os.environ.items() if "COMPILATION_CACHE" not in name}
ENVIRONMENT |= {"PYTHONPATH": os.pathsep.join(map(str, (TESTS.parent, TESTS)))}


def prepare(folder: str) -> None:
    """Go to a folder, leave pictures empty, and learn once where nothing fails."""
    os.chdir(folder)
    leave_pictures_empty(pytest.MonkeyPatch())
    status, out, _ = run_command("fit", "digits", *CHECKPOINTED, "--out", "whole", "--json")
    assert status == 0
    check_every_failure.digest = json.loads(out)["state_digest"]  # type: ignore[attr-defined]
    shutil.rmtree("whole")


@contextlib.contextmanager
def only(num_pages: int) -> Iterator[None]:
    """Leave this many pages of the disk, and no more, in the block."""
    with open("filler", "wb", buffering=0) as filler:
        room = os.statvfs(".")
        for _ in range(max(room.f_bavail - num_pages, 0)):
            filler.write(bytes(room.f_frsize))
    try:
        yield
    finally:
        os.unlink("filler")


@contextlib.contextmanager
def only_files(number: int) -> Iterator[None]:
    """Let this many more files be made, and no more, in the block."""
    os.mkdir("fillers")
    for index in range(max(os.statvfs(".").f_favail - number, 0)):
        open(f"fillers/{index}", "w").close()
    try:
        yield
    finally:
        shutil.rmtree("fillers")


@contextlib.contextmanager
def only_short_files(num_bytes: int) -> Iterator[None]:
    """Let no file grow longer than this many bytes in the block."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def until_none_fails(options: list[str], full, step: int = 1) -> int:
    """Leave ever more until nothing fails; return how many have failed."""
    number = 0
    while check_every_failure(options, full(number * step)):
        number += 1
    return number


def fill_the_disk(folder: str) -> None:
    """What the long test does in a process whose disk is its own."""
    prepare(folder)
    # A page more or less at a time: every write meets the end of the disk.
    assert until_none_fails(CHECKPOINTED, only) > 30
    assert until_none_fails(SMALL, only) > 15
    assert until_none_fails(CHECKPOINTED, only_files) > 20
    assert until_none_fails(SMALL, only_files) > 10


@pytest.mark.long
def test_a_disk_that_is_full_at_any_write_is_said_and_costs_nothing(tmp_path):
    alone = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    mount = "mount -t tmpfs -o size=2m,nr_inodes=200 none disk"
    (tmp_path / "disk").mkdir()
    if shutil.which("unshare") is None or subprocess.run([*alone, mount], cwd=tmp_path).returncode:
        pytest.skip("this machine gives nobody a disk of one's own")
    program = "from tests.test_full_disk import fill_the_disk; fill_the_disk('disk')"
    ended = subprocess.run(
        [*alone, f'{mount} && "{sys.executable}" -W error -c "{program}"'],
        cwd=tmp_path,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=550,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


def limit_files(folder: str) -> None:
    """What the quick test does in a process whose files may not be long."""
    prepare(folder)
    lengths = [0, 30, 300, 600, 1000, 2000]
    failed = [check_every_failure(CHECKPOINTED, only_short_files(length)) for length in lengths]
    assert sum(failed) >= 4
    assert check_every_failure(SMALL, only_short_files(600))
    assert not check_every_failure(CHECKPOINTED, only_short_files(10**6))


def test_a_file_that_may_not_grow_is_named_and_nothing_is_lost(tmp_path):
    program = f"from tests.test_full_disk import limit_files; limit_files({str(tmp_path)!r})"
    ended = subprocess.run(
        [sys.executable, "-c", program],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
