"""The life of a run: who may write it, what ends it, and that nothing is lost then."""

import contextlib
import itertools
import json
import multiprocessing
import os
import pwd
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from commands import leave_pictures_empty, run_command

for package in ("orbax.checkpoint", "PIL", "sklearn", "tqdm", "tyro"):
    pytest.importorskip(package)
figure = pytest.importorskip("matplotlib.figure")
cli = pytest.importorskip("memjax.command.cli")
from memjax.command import _claims, _signals  # noqa: E402

COMMAND = [sys.executable, "-m", "memjax"]
SMALL = ["--capacity", "60", "--limit", "300", "--encoder", "pixels"]
CHECKPOINTED = [*SMALL, "--block-size", "16", "--checkpoint-every", "40"]
LOCK = _claims.LOCK_FILE
STATUS = {signal.SIGKILL: -9, signal.SIGTERM: 143, signal.SIGINT: 130}


@pytest.fixture(scope="module", autouse=True)
def environment(tmp_path_factory) -> Iterator[dict[str, str]]:
    """What the commands of this file share: compiled programs, and that they hear SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield os.environ | {
        "PYTHONPATH": str(Path(__file__).parents[1]),
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path_factory.mktemp("compiled")),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "0",
    }
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch) -> Path:
    """A working directory of the test's own, where pictures are empty."""
    monkeypatch.chdir(tmp_path)
    leave_pictures_empty(monkeypatch)
    return tmp_path


def is_one_line(text: str) -> bool:
    return re.fullmatch(r"memjax: [^\n]+\n", text) is not None


@pytest.fixture
def begun() -> Path:
    """The folder of a run whose process was killed before it learned anything."""
    options = cli.Fit(**{"checkpoint_every": 40, "limit": 300, "block_size": 16, "capacity": 60})
    with cli.runs.begin([Path("run")], options, "memjax fit"):
        pass
    return Path("run")


# One process writes a run.


def test_a_run_that_another_process_writes_is_refused_by_its_number(begun):
    with contextlib.closing(Held(_claims.claim_begun(begun))):
        for arguments in (["fit", "--resume", "run"], ["fit", "digits", "--out", "other"]):
            if "--out" in arguments:
                _claims.claim_new([Path("other")])
            status, out, err = run_command(*arguments)
            assert (status, out) == (2, "") and is_one_line(err)
            assert re.search(rf"(run|other) is being written by process {os.getpid()} on ", err)
    assert not (begun / LOCK).exists()


class Held:
    """A claim that is released when it is closed."""

    def __init__(self, claim: _claims.Claim):
        self.close = claim.release


def hold(claim: _claims.Claim, connection: Any) -> None:
    """Hold a claim in another process until the connection ends."""
    connection.send(claim.run)
    connection.recv()


def test_a_claim_is_held_until_the_last_process_that_has_it_has_ended(begun):
    claim = _claims.claim_begun(begun)
    context = multiprocessing.get_context("spawn")
    mine, other = context.Pipe()
    process = context.Process(target=hold, args=(claim, other))
    process.start()
    assert mine.recv() == begun
    os.close(claim._lock)  # as the kernel does when this process is killed
    with pytest.raises(_claims.TakenError, match=f"by process {os.getpid()} on"):
        _claims.claim_begun(begun)
    process.kill()
    process.join()
    _claims.claim_begun(begun).release()


def test_of_many_that_claim_one_name_at_once_one_gets_it():
    barrier, claims, refused = threading.Barrier(12), [], []

    def claim():
        barrier.wait()
        try:
            claims.append(_claims.claim_new([Path("runs/one")]))
        except _claims.TakenError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=claim) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(claims) == 1 and len(refused) == 11
    assert all("--out: runs/one is being written by" in error for error in refused)
    claims[0].settle()
    claims[0].release()
    assert os.listdir("runs/one") == [] and os.listdir("runs") == ["one"]


def test_runs_that_begin_in_one_second_have_names_of_their_own(monkeypatch):
    monkeypatch.setattr(time, "strftime", lambda _: "20260101-000000")
    for _ in range(3):
        assert run_command("fit", "digits", *SMALL)[0] == 0
    name = "digits-memory-20260101-000000"
    assert sorted(os.listdir("runs")) == [name, f"{name}-2", f"{name}-3"]


def test_a_run_that_is_whole_is_never_lost_to_a_folder_that_came_meanwhile():
    claim = _claims.claim_new([Path("run")])
    (claim.folder / "record.json").write_text("{}")
    Path("run").mkdir()
    Path("run/notes.txt").write_text("mine")
    with pytest.raises(_claims.TakenError, match=r"run: cannot be written .*is in incomplete\.run"):
        claim.finish()
    claim.release()
    assert Path("run/notes.txt").read_text() == "mine"
    _claims.claim_new([Path("next")]).release()
    assert os.listdir("incomplete.run") == ["record.json"]


def test_what_a_killed_process_left_is_cleared_away_and_what_another_has_is_not(environment):
    code = "import sys, time, pathlib; from memjax.command import _claims as c; "
    code += "claim = c.claim_new([pathlib.Path('runs/gone')]); "
    code += "(claim.folder / 'network').mkdir(); print('held', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=-1) as process:
        assert process.stdout is not None and process.stdout.readline() == b"held\n"
        Path("runs/incomplete.notes").mkdir()
        Path("runs/incomplete.notes/mine").write_text("mine")
        _claims.claim_new([Path("runs/first")]).release()
        assert Path("runs/incomplete.gone/network").is_dir()  # its process lives
        process.kill()
    assert run_command("fit", "digits", *SMALL, "--out", "runs/next")[0] == 0
    assert sorted(os.listdir("runs")) == ["incomplete.notes", "next"]
    assert Path("runs/incomplete.notes/mine").read_text() == "mine"


def test_what_a_killed_process_left_in_a_run_is_cleared_away(begun):
    (begun / "incomplete.abc" / "network").mkdir(parents=True)
    (begun / "incomplete.answers.npz").write_text("half")
    (begun / LOCK).write_text("process 1 on another")
    assert run_command("fit", "--resume", "run")[0] == 0
    assert not [name for name in os.listdir("run") if name.startswith("incomplete")]
    assert not (begun / LOCK).exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--out", "/proc/run"], "/proc/incomplete.run: cannot be written"),
        (["--out", "file/run"], "file: cannot be written|file/incomplete.run: cannot be written"),
        (["--out", "a" * 250], "cannot be written .File name too long"),
        (["--out", "incomplete.run"], "a name that does not begin with 'incomplete.'"),
    ],
)
def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_learned(
    arguments, says, monkeypatch
):
    Path("file").write_text("mine")
    monkeypatch.setattr(cli.datasets, "load", lambda *_, **__: pytest.fail("it is loading"))
    status, out, err = run_command("fit", "digits", *SMALL, *arguments)
    assert (status, out, os.listdir()) == (2, "", ["file"])
    assert is_one_line(err) and re.search(says, err)


def test_a_run_is_not_gone_on_with_where_nothing_can_be_written(begun, monkeypatch):
    def fail(*_, **__):
        raise PermissionError(13, "Permission denied", "run/x")

    monkeypatch.setattr(cli.datasets, "load", lambda *_, **__: pytest.fail("it is loading"))
    monkeypatch.setattr(_claims.tempfile, "TemporaryDirectory", fail)
    assert (
        "run/x: cannot be written (Permission denied)" in run_command("fit", "--resume", "run")[2]
    )
    assert os.listdir("run") == ["options.json"]


# What ends it.

PHASES = """
import os, signal, sys, time
from memjax import datasets, evaluation, plotting, training
from memjax.command import cli

def signalled(target, name, when, pause, numbers):
    real, calls = getattr(target, name), 0
    def call(*arguments, **options):
        nonlocal calls
        calls += 1
        if calls == when:
            for number in numbers:
                os.kill(os.getpid(), number)
                time.sleep(0.2)
            time.sleep(pause)
        return real(*arguments, **options)
    setattr(target, name, call)

target, name, when, pause, *numbers = sys.argv[1].split()
signalled(eval(target), name, int(when), float(pause), list(map(int, numbers)))
cli.main(sys.argv[2:])
"""


def ended_by(environment, moment: str, *arguments: str) -> tuple[int, str]:
    """The status and the words of a command that is sent signals at some moment."""
    (Path.cwd() / "phases.py").write_text(PHASES)
    ended = subprocess.run(
        [sys.executable, "phases.py", moment, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert ended.stdout == ""
    os.unlink("phases.py")
    return ended.returncode, ended.stderr


LATE = "memjax fit --resume run goes on after 288 examples"


@pytest.mark.parametrize(
    ("moment", "status", "kept"),
    [
        ("datasets load 1 60 2", 130, "interrupted; memjax fit --resume run begins it again"),
        (
            "evaluation memories_added 9 0 15",  # It goes on to the end of the block.
            143,
            "stopped by SIGTERM; memjax fit --resume run goes on after 144 examples",
        ),
        pytest.param(
            *("plotting growth 1 60 15", 143, f"stopped by SIGTERM; {LATE}"),
            marks=pytest.mark.long,
        ),
        # The second one ends it at once, at the last checkpoint before.
        (
            "evaluation memories_added 9 60 2 2",
            130,
            "interrupted; memjax fit --resume run goes on after 128 examples",
        ),
    ],
    ids=["loading", "learning", "drawing", "twice"],
)
def test_a_signal_ends_a_run_with_one_line_and_what_it_has_is_gone_on_with(
    moment, status, kept, environment, uninterrupted
):
    ended, err = ended_by(environment, moment, "fit", "digits", *CHECKPOINTED, "--out", "run")
    assert (ended, err) == (status, f"memjax: {kept}.\n")
    assert os.listdir() == ["run"]
    status, out, err = run_command("fit", "--resume", "run", "--json")
    assert (status, err) == (0, "")
    assert json.loads(out)["state_digest"] == uninterrupted


@pytest.mark.parametrize(
    "moment", ["training calibrate 1 60 2", "evaluation evaluate_parts 1 60 15"]
)
def test_a_signal_ends_a_run_without_checkpoints_and_nothing_of_it_is_left(moment, environment):
    status, err = ended_by(environment, moment, "fit", "digits", *SMALL, "--out", "run")
    assert status == 128 + int(moment.split()[-1])
    way = "nothing is kept; with --checkpoint-every a run can go on"
    assert is_one_line(err) and err.endswith(f"; {way}.\n")
    assert os.listdir() == []


def wait_until_it_is_watched(process: subprocess.Popen[Any]) -> None:
    """Wait until a command has its handler of SIGTERM; the start of Python itself is not ours."""
    while process.poll() is None:
        status = Path(f"/proc/{process.pid}/status").read_text()
        if int(status.partition("SigCgt:")[2].split()[0], 16) >> (signal.SIGTERM - 1) & 1:
            return
        time.sleep(0.001)
    pytest.fail(f"it ended with status {process.returncode}")


def test_a_signal_ends_the_command_while_it_is_importing(environment):
    with subprocess.Popen([*COMMAND, "fit", "digits"], env=environment, stderr=-1) as process:
        wait_until_it_is_watched(process)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert is_one_line(err.decode()) and err.startswith(b"memjax: interrupted")


def test_a_program_of_a_user_has_its_signals_for_itself(environment):
    code = "import signal, memjax; print(signal.getsignal(signal.SIGINT).__name__)"
    for arguments in (["-c", code, "memjax"], ["-c", code]):
        printed = subprocess.check_output([sys.executable, *arguments], env=environment)
        assert printed == b"default_int_handler\n"


def test_the_command_gives_the_signals_back():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    assert run_command("--version")[0] == 0
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    assert signal.set_wakeup_fd(-1) == -1


@pytest.mark.parametrize(
    ("argv", "orig", "expected"),
    [
        (["-m", "fit"], ["python", "-X", "dev", "-m", "memjax", "fit"], True),
        (["-m", "fit"], ["python", "-mmemjax", "fit"], True),
        (["/bin/memjax", "fit"], ["python", "/bin/memjax", "fit"], True),
        (["-m", "memjax"], ["python", "-m", "pytest", "memjax"], False),
        (["-c", "memjax"], ["python", "-c", "import memjax", "memjax"], False),
        # A process that multiprocessing has started for the command:
        (["/bin/memjax", "fit", "x"], ["python", "-c", "spawn_main()", "--fork"], False),
        ([""], ["python"], False),
    ],
)
def test_only_the_command_itself_is_watched_from_its_first_import(
    argv, orig, expected, monkeypatch
):
    monkeypatch.setattr(sys, "argv", argv)
    monkeypatch.setattr(sys, "orig_argv", orig)
    assert _signals.is_the_command() == expected


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> str:
    """The digest of the run with checkpoints that was never stopped."""
    run = tmp_path_factory.mktemp("uninterrupted") / "run"
    with pytest.MonkeyPatch.context() as patch:
        leave_pictures_empty(patch)
        status, out, _ = run_command("fit", "digits", *CHECKPOINTED, "--out", str(run), "--json")
    assert status == 0
    return json.loads(out)["state_digest"]


# What it says.


def no_constant(name: str) -> None:
    pytest.fail(f"{name} is not JSON")


def test_infinity_is_a_string_in_every_record_and_read_back(monkeypatch):
    options = [*CHECKPOINTED, "--novelty-threshold", "inf", "--out", "run"]
    kept = []
    real = cli.runs.learn
    monkeypatch.setattr(
        cli.runs, "learn", lambda *given: kept.append(Path("run/options.json").read_text())
    )
    with pytest.raises(ValueError, match=r"record\.json"):
        cli._fit(cli.parse(["fit", "digits", *options]), ["fit"])
    assert json.loads(kept[0], parse_constant=no_constant)["options"]["novelty_threshold"] == "inf"
    monkeypatch.setattr(cli.runs, "learn", real)
    status, out, err = run_command("fit", "digits", *options[:-2], "--resume", "run", "--json")
    assert (status, err) == (0, "")
    record = json.loads(out, parse_constant=no_constant)
    assert record == json.loads(Path("run/record.json").read_text(), parse_constant=no_constant)
    assert record["novelty_threshold"] == "inf"


STEERS = "new\nline\x1b[31m"


def test_a_name_that_steers_a_terminal_is_shown_with_escapes():
    escaped = r"new\nline\x1b[31m"
    status, out, err = run_command("fit", "digits", *SMALL, "--out", STEERS)
    assert (status, err) == (0, "") and f"written to  {escaped}\n" in out
    for arguments in (
        ["fit", "digits", "--out", STEERS],
        ["evaluate", f"{STEERS}/none", "digits"],
        ["fit", STEERS],
        ["fit", "digits", "--encoder", STEERS],
        [STEERS],
    ):
        status, out, err = run_command(*arguments)
        assert (status, out) == (2, "") and "\x1b" not in err
        assert escaped in err


def test_a_name_that_is_not_utf_8_is_refused_before_anything_is_learned(monkeypatch):
    monkeypatch.setattr(cli.datasets, "load", lambda *_, **__: pytest.fail("it is loading"))
    name = os.fsdecode(b"bad\xff")
    os.mkdir(name)
    for arguments in (
        ["fit", "digits", "--out", f"{name}/run"],
        ["fit", "--resume", name],
        ["evaluate", name, "digits"],
    ):
        status, out, err = run_command(*arguments)
        assert (status, out) == (2, "") and is_one_line(err)
        assert "expected a name in UTF-8" in err and r"bad\udcff" in err
    os.chdir(name)
    assert "--out: expected a name in UTF-8" in run_command("fit", "digits")[2]
    assert os.listdir() == []


def test_a_missing_home_is_one_sentence(monkeypatch):
    def nobody(_):
        raise KeyError("no such user")

    for name in ("HOME", "MEMJAX_CACHE_DIR", "XDG_CACHE_HOME", "TFDS_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    status, out, err = run_command("fit", "mnist", "--out", "run")
    assert (status, out, os.listdir()) == (2, "", [])
    assert is_one_line(err) and "set HOME" in err


def test_an_output_that_cannot_be_printed_is_said(environment):
    with open("/dev/full", "w") as full:
        ended = subprocess.run(
            [*COMMAND, "--version"], env=environment, stdout=full, stderr=-1, timeout=100
        )
    assert ended.returncode == 2
    assert ended.stderr.startswith(b"memjax: standard output: cannot be written (No space left")
    assert ended.stderr.count(b"\n") == 1


# What is lost: nothing.


@pytest.mark.long
def test_answers_that_were_damaged_or_are_missing_are_named(environment):
    ended_by(environment, "evaluation memories_added 9 0 15", "fit", "digits", *CHECKPOINTED,
             "--out", "run")  # fmt: skip
    answers = Path("run/answers.npz")
    content = answers.read_bytes()
    for damaged in (content[:-40], content[:300] + b"!" + content[301:], b""):
        answers.write_bytes(damaged)
        status, _, err = run_command("fit", "--resume", "run")
        assert status == 2 and is_one_line(err) and "answers.npz: cannot be read as answers" in err
    answers.unlink()
    assert (
        "answers.npz: expected the answers to 144 examples"
        in run_command("fit", "--resume", "run")[2]
    )
    answers.write_bytes(content)
    assert run_command("fit", "--resume", "run")[0] == 0


@pytest.mark.long
def test_two_that_go_on_with_one_run_at_once_do_not_meet(environment, uninterrupted):
    ended_by(environment, "evaluation memories_added 9 0 15", "fit", "digits", *CHECKPOINTED,
             "--out", "run")  # fmt: skip
    for _ in range(3):
        shutil.copytree("run", "copy")
        both = [
            subprocess.Popen(
                [*COMMAND, "fit", "--resume", "copy", "--json"],
                env=environment,
                stdout=-1,
                stderr=-1,
                text=True,
            )
            for _ in range(2)
        ]
        printed = [process.communicate(timeout=200) for process in both]
        statuses = sorted(process.returncode for process in both)
        assert statuses in ([0, 2], [0, 0])  # The second may come when the first has ended.
        for process, (out, err) in zip(both, printed, strict=True):
            if process.returncode:
                assert is_one_line(err) and "copy is being written by process" in err
            else:
                assert json.loads(out)["state_digest"] == uninterrupted
        assert {"record.json", "network"} <= set(os.listdir("copy"))
        assert not {LOCK, "checkpoints", "options.json"} & set(os.listdir("copy"))
        shutil.rmtree("copy")


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("moment", ["when they begin", "when they learn"])
def test_a_signal_to_all_processes_of_a_run_ends_it_with_one_line(moment, number, environment):
    options = ["--capacity", "60", "--encoder", "pixels", "--block-size", "16"]
    options += ["--checkpoint-every", "200"]
    process = subprocess.Popen(
        [*COMMAND, "fit", "digits", *options, "--processes", "2", "--out", "run"],
        env=environment,
        stdout=-1,
        stderr=-1,
        text=True,
        start_new_session=True,
    )
    awaited = {"when they begin": "run/options.json", "when they learn": "run/answers.npz"}[moment]
    while not Path(awaited).exists():
        assert process.poll() is None
        time.sleep(0.001)
    time.sleep(0.5 if moment == "when they begin" else 0)
    os.killpg(process.pid, number)
    out, err = process.communicate(timeout=500)
    assert (process.returncode, out) == (STATUS[number], "")
    assert is_one_line(err) and "; memjax fit --resume run " in err
    status, resumed, _ = run_command("fit", "--resume", "run", "--json")
    assert status == 0
    status, whole, _ = run_command("fit", "digits", *options, "--out", "whole", "--json")
    assert json.loads(resumed)["state_digest"] == json.loads(whole)["state_digest"]


@pytest.mark.long
def test_a_run_ended_at_forty_random_moments_ends_with_the_digest_of_one_never_stopped(
    environment,
):
    options = ["--capacity", "60", "--encoder", "pixels", "--block-size", "8"]
    options += ["--checkpoint-every", "200", "--out", "run"]

    def begin(*arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*COMMAND, "fit", *arguments], env=environment, stdout=-1, stderr=-1, text=True
        )

    def whole() -> tuple[str, float]:
        started = time.monotonic()
        process = begin("digits", *options, "--json")
        out, err = process.communicate(timeout=200)
        assert (process.returncode, err) == (0, "")
        shutil.rmtree("run")
        return json.loads(out)["state_digest"], time.monotonic() - started

    whole()  # compiles
    expected, seconds = whole()
    moments = random.Random(0)
    ends, num_ended = [], 0
    numbers = itertools.cycle([signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
    for number in itertools.islice(numbers, 40):
        is_new = not Path("run").exists()
        process = begin("digits", *options) if is_new else begin("--resume", "run")
        wait_until_it_is_watched(process)
        # Half of them later, when it is learning, testing, drawing and ending.
        earliest = moments.choice([0, seconds / 2])
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(moments.uniform(earliest, seconds))
        process.send_signal(number)
        out, err = process.communicate(timeout=200)
        ends.append((number.name, process.returncode, err))
        if process.returncode == 0:
            assert not err and "written to" in out
        else:
            assert process.returncode == STATUS[number], err
            assert (err == "") if number == signal.SIGKILL else is_one_line(err)
        if Path("run/record.json").exists():
            out, err = begin("--resume", "run", "--json").communicate(timeout=200)
            assert (json.loads(out)["state_digest"], err) == (expected, "")
            assert not {LOCK, "checkpoints", "options.json"} & set(os.listdir("run"))
            num_ended += 1
            shutil.rmtree("run")
    if Path("run").exists():
        out, _ = begin("--resume", "run", "--json").communicate(timeout=200)
        assert json.loads(out)["state_digest"] == expected
        num_ended += 1
    print(num_ended, "runs ended after", ends)
    assert num_ended >= 3 and sum(status != 0 for _, status, _ in ends) >= 20
    _claims.claim_new([Path("next")]).release()  # clears away what was left
    assert set(os.listdir()) <= {"run"}
