"""Streams that are broken off and begun again: they end as if they had never stopped."""

import itertools
import os
import random
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import memjax
from memjax import checkpoint
from memjax.checkpoint import CheckpointError, state_digest
from memjax.composition import Chain
from memjax.memory import MemoryLayer
from memjax.params import replace_params
from memjax.readouts import RidgeReadout
from memjax.streams import Tally
from memjax.vision.encoders import Pixels

pytest.importorskip("orbax.checkpoint")

KEY = jax.random.key(0)
ROOT = Path(__file__).parents[1]

BANK = MemoryLayer(36, 3, 20, output="activations")
NETWORK = Chain((Pixels((6, 6, 1)), BANK, RidgeReadout(20, 3)))
PARAMS = ((), BANK.params(novelty_threshold=0.02), NETWORK.layers[2].default_params())


class Killed(BaseException):
    """Stands for the end of a process."""


def learn(folder: Path | None, stream: Any, stop_at: int | None = None, **options: Any) -> Any:
    """Learn in blocks of 8 with a checkpoint every 16 examples; end at ``stop_at`` if it is met."""

    def stop(state, infos, tally):
        if tally.num_seen == stop_at:
            raise Killed

    options = {"block_size": 8, "checkpoint_every": 16, "callbacks": [stop], **options}
    network = options.pop("network", NETWORK)
    return memjax.fit_stream(
        network,
        options.pop("params", PARAMS),
        network.init(KEY),
        stream,
        checkpoint_dir=folder,
        **options,
    )


def batches(images: np.ndarray, labels: np.ndarray, size: int = 7):
    for start in range(0, len(labels), size):
        yield images[start : start + size], labels[start : start + size]


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def stopped(images, labels, tmp_path) -> Path:
    """The checkpoints of a stream that was stopped after 40 examples, the latest one after 32."""
    folder = tmp_path / "checkpoints"
    with pytest.raises(Killed):
        learn(folder, batches(images, labels), stop_at=40)
    assert names(folder) == ["examples_000000000000016", "examples_000000000000032"]
    return folder


@pytest.mark.parametrize(
    "consolidate_at",
    [
        pytest.param((), id="at the end", marks=pytest.mark.long),
        pytest.param((10, 20, 40), id="on the way"),
    ],
)
def test_a_stream_broken_off_at_any_block_ends_with_the_bits_of_one_that_was_not(
    consolidate_at, images, labels, tmp_path
):
    plan = {"consolidate_at": consolidate_at}
    whole, whole_tally = learn(None, batches(images, labels), **plan)
    assert whole_tally.num_seen == 60
    assert (whole_tally.num_asked > 0) == (consolidate_at != ())
    for stop_at in (8, 24, 60):
        folder = tmp_path / str(stop_at)
        with pytest.raises(Killed):
            learn(folder, batches(images, labels), stop_at, **plan)
        # Other batches make no difference.
        state, tally = learn(folder, batches(images, labels, 13), **plan)
        assert state_digest(state) == state_digest(whole)
        assert tally == whole_tally


def test_the_folder_of_checkpoints_is_made_with_those_above_it(images, labels, tmp_path):
    learn(tmp_path / "some" / "folder", batches(images, labels))
    assert len(names(tmp_path / "some" / "folder")) == 2


def test_a_stream_that_has_ended_ends_the_same_again_and_goes_on_when_it_has_grown(
    images, labels, tmp_path
):
    first, _ = learn(tmp_path, batches(images[:52], labels[:52]))
    again, _ = learn(tmp_path, batches(images[:52], labels[:52]))
    assert state_digest(again) == state_digest(first)
    grown, tally = learn(tmp_path, batches(images, labels))
    assert state_digest(grown) == state_digest(learn(None, batches(images, labels))[0])
    assert tally.num_seen == 60


def test_two_checkpoints_are_kept_unless_one_says_otherwise(tmp_path):
    state = NETWORK.init(KEY)
    for num_seen in (16, 32, 48):
        checkpoint.save_latest(tmp_path, NETWORK, PARAMS, state, {"num_seen": num_seen})
    assert [int(name[-3:]) for name in names(tmp_path)] == [32, 48]


def test_only_full_blocks_are_in_checkpoints_and_so_many_are_kept(images, labels, tmp_path):
    options = {"checkpoint_every": 10, "keep": 3}
    learn(tmp_path, batches(images, labels), **options)
    # 60 is reached by half a block, which the next run may find continued.
    assert names(tmp_path) == [f"examples_{number:015d}" for number in (32, 40, 56)]
    network, _, state = checkpoint.restore(tmp_path / names(tmp_path)[-1] / "network")
    assert network == NETWORK and state[1].num_seen == 56


def test_a_stream_of_changing_dtypes_is_gone_on_with_too(images, labels, tmp_path):
    def mixed():
        for index, (some, of_class) in enumerate(batches(images, labels, 5)):
            yield (some / np.float32(255) if index % 2 else some), of_class

    whole, whole_tally = learn(None, mixed())
    for stop_at, latest in ((25, 20), (45, 35), (60, 50)):
        folder = tmp_path / str(stop_at)
        with pytest.raises(Killed):
            learn(folder, mixed(), stop_at)
        # No block is full, but what follows in a stream that grows can never fill these.
        assert names(folder)[-1] == f"examples_{latest:015d}"
        state, tally = learn(folder, mixed())
        assert state_digest(state) == state_digest(whole)
        assert tally == whole_tally


def test_a_stream_that_is_a_function_is_asked_for_what_follows(stopped, images, labels):
    asked = []

    def stream(start):
        asked.append(start)
        return batches(images[start:], labels[start:])

    state, tally = learn(stopped, stream)
    assert asked == [32] and tally.num_seen == 60
    assert state_digest(state) == state_digest(learn(None, stream)[0])
    assert asked == [32, 0]


def test_a_stream_with_less_than_was_learned_is_refused(stopped, images, labels):
    with pytest.raises(ValueError, match=r"stream: expected the 32 examples .* got 31"):
        learn(stopped, batches(images[:31], labels[:31]))


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"network": Chain((Pixels((6, 6, 1)),)), "params": ((),)}, CheckpointError, "network: "),
        (
            {"params": replace_params(PARAMS, novelty_threshold=0.25)},
            CheckpointError,
            r"examples_0+32/network: expected params/1/novelty_threshold to be 0\.25, got 0\.02",
        ),
        ({"block_size": 16}, ValueError, "block_size: expected 8, as in the checkpoints in .*16"),
    ],
    ids=["network", "params", "block size"],
)
def test_checkpoints_of_something_else_are_refused_and_left_as_they_are(
    change, error, says, stopped, images, labels
):
    before = contents(stopped)
    with pytest.raises(error, match=says):
        learn(stopped, batches(images, labels), **change)
    assert contents(stopped) == before


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


@pytest.mark.parametrize("damage", [cut, Path.unlink])
@pytest.mark.parametrize("file", ["network.json", "manifest.ocdbt", "SHA256SUMS"])
def test_damage_to_the_latest_checkpoint_is_named_and_nothing_is_written(
    damage, file, stopped, images, labels
):
    damage(stopped / names(stopped)[-1] / "network" / file)
    before = contents(stopped)
    with pytest.raises(CheckpointError, match=f"examples_0+32.*{file}|{file}.*0+32"):
        learn(stopped, batches(images, labels))
    assert contents(stopped) == before


def test_without_the_damaged_checkpoint_the_one_before_is_gone_on_from(stopped, images, labels):
    shutil.rmtree(stopped / names(stopped)[-1])
    state, _ = learn(stopped, batches(images, labels))
    assert state_digest(state) == state_digest(learn(None, batches(images, labels))[0])


def test_a_checkpoint_without_a_count_is_refused_by_its_name(images, labels, tmp_path):
    # As `save` writes it, without counts.
    folder = tmp_path / "examples_000000000000032" / "network"
    checkpoint.save(folder, NETWORK, PARAMS, NETWORK.init(KEY))
    with pytest.raises(CheckpointError, match=r"32/network.*: expected the count block_size"):
        learn(tmp_path, batches(images, labels))


def test_nothing_is_written_over_a_checkpoint(stopped):
    before = contents(stopped)
    with pytest.raises(FileExistsError, match="expected a folder that does not exist yet"):
        checkpoint.save_latest(stopped, NETWORK, PARAMS, NETWORK.init(KEY), {"num_seen": 32})
    assert contents(stopped) == before


def test_a_file_is_no_folder_of_checkpoints(images, labels, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(CheckpointError, match="file: expected a folder of checkpoints, got a file"):
        learn(tmp_path / "file", batches(images, labels))


def test_a_stream_of_an_older_version_is_refused_and_not_begun_again(images, labels, tmp_path):
    (tmp_path / "old" / "examples-000000000000032").mkdir(parents=True)
    with pytest.raises(CheckpointError, match=r"expected a checkpoint of memjax 0\.2"):
        learn(tmp_path / "old", batches(images, labels))


@pytest.mark.parametrize("number", [40, 48])  # one that is written again, and one that is not
def test_what_a_killed_process_was_writing_is_ignored_and_cleared_away(
    number, stopped, images, labels
):
    # A folder has its last name when it is whole.
    unfinished = stopped / f"examples_0000000000000{number}.orbax-checkpoint-tmp"
    shutil.copytree(stopped / names(stopped)[-1], unfinished)
    learn(stopped, batches(images, labels))
    assert names(stopped) == ["examples_000000000000032", "examples_000000000000048"]


def test_what_a_killed_process_was_removing_is_never_the_latest_and_is_cleared_away(
    stopped, images, labels
):
    removed = stopped / "examples_000000000000008"
    shutil.copytree(stopped / names(stopped)[-1], removed)
    for half in ("network.json", "manifest.ocdbt"):
        (removed / "network" / half).unlink()
    learn(stopped, batches(images, labels))
    assert names(stopped) == ["examples_000000000000032", "examples_000000000000048"]


def test_files_that_only_orbax_reads_may_be_damaged(stopped, images, labels, capfd):
    for name in names(stopped):
        (stopped / name / "_CHECKPOINT_METADATA").write_bytes(b"\xff{")
        (stopped / name / "commit_success.txt").unlink()
    state, _ = learn(stopped, batches(images, labels))
    assert state_digest(state) == state_digest(learn(None, batches(images, labels))[0])
    assert capfd.readouterr() == ("", "")


def test_a_checkpoint_that_cannot_be_written_costs_none_of_the_others(
    stopped, images, labels, monkeypatch
):
    def fail(*_, **__):
        raise OSError("no space left")

    before = contents(stopped)
    with monkeypatch.context() as patch, pytest.raises(OSError, match="no space left"):
        patch.setattr(Path, "write_text", fail)
        learn(stopped, batches(images, labels))
    assert contents(stopped) == before
    state, _ = learn(stopped, batches(images, labels))
    assert state_digest(state) == state_digest(learn(None, batches(images, labels))[0])


def test_a_callback_that_looks_at_the_state_changes_nothing(images, labels):
    digests = []
    state, _ = learn(
        None,
        batches(images, labels),
        callbacks=[lambda state, infos, tally: digests.append(state_digest(state))],
    )
    assert len(set(digests)) == 8
    assert state_digest(state) == state_digest(learn(None, batches(images, labels))[0])


def test_a_callback_that_returns_true_ends_the_stream_after_its_block_with_a_checkpoint(
    images, labels, tmp_path
):
    def is_enough(state, infos, tally):
        return tally.num_seen == 24

    state, tally = learn(tmp_path, batches(images, labels), callbacks=[is_enough])
    # One that is due comes every 16.
    assert names(tmp_path) == ["examples_000000000000016", "examples_000000000000024"]
    assert tally.num_seen == 24 and state[1].num_seen == 24
    whole, _ = learn(None, batches(images, labels))
    resumed, tally = learn(tmp_path, batches(images, labels), callbacks=[lambda *_: None])
    assert state_digest(resumed) == state_digest(whole) and tally.num_seen == 60


@pytest.mark.parametrize(
    ("answer", "num_seen"), [(False, 60), (None, 60), (1, 60), ("no", 60), (np.True_, 8)]
)
def test_only_true_ends_a_stream(answer, num_seen, images, labels):
    _, tally = learn(None, batches(images, labels), callbacks=[lambda *_: answer])
    assert tally.num_seen == num_seen


def test_a_callback_ends_a_stream_that_has_no_end(images, labels):
    stream = itertools.cycle([(images, labels)])
    _, tally = learn(None, stream, callbacks=[lambda state, infos, tally: tally.num_seen >= 100])
    assert tally.num_seen == 104


def test_consolidating_on_the_way_gives_answers_and_changes_no_sums(images, labels):
    answered = []

    def note(state, infos, tally):
        answered.append((infos.predicted >= 0).all())

    state, tally = learn(
        None, batches(images, labels), consolidate_at=iter((9, 24, 25)), callbacks=[note]
    )
    assert answered == [False, False, *[True] * 6]
    assert (tally.num_seen, tally.num_asked) == (60, 44)
    assert state_digest(state) == state_digest(learn(None, batches(images, labels))[0])


@pytest.mark.parametrize("block_size", [1, 8, 60])
def test_the_tally_counts_labelled_examples_from_the_first_answer_on(block_size, images, labels):
    network, params = memjax.memory_network(
        (6, 6, 1), 3, capacity=20, encoder="pixels", novelty_threshold=0.02
    )
    some = np.where(np.isin(np.arange(60), (0, 1, 2, 5, 40)), -1, labels)
    _, infos = memjax.fit(network, params, network.init(KEY), images, some)
    _, tally = learn(None, [(images, some)], network=network, params=params, block_size=block_size)
    predicted = np.asarray(infos.predicted)
    asked = np.flatnonzero(some >= 0)
    asked = asked[np.argmax(predicted[asked] >= 0) :]
    assert tally == Tally(60, len(asked), int(np.sum(predicted[asked] == some[asked])))
    assert 0 < tally.prequential_accuracy < 1
    assert tally.num_asked < 55


@pytest.mark.parametrize(("progress", "total"), [(60, "60.0/60.0"), (True, "60.0 examples")])
def test_the_bar_shows_examples_memories_and_prequential_accuracy(
    progress, total, images, labels, capsys
):
    pytest.importorskip("tqdm")
    state, tally = learn(None, batches(images, labels), progress=progress, consolidate_at=(16,))
    printed = capsys.readouterr()
    last = printed.err.split("\r")[-1]
    assert printed.out == "" and total in last and "examples/s" in last
    assert f"memories={state[1].size}" in last
    assert f"prequential={tally.prequential_accuracy:.3f}" in last


def test_a_stream_is_quiet_unless_a_bar_is_asked_for(images, labels, tmp_path, capfd):
    learn(tmp_path, batches(images, labels))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["checkpoint_every", "keep"])
def test_a_number_of_checkpoints_must_be_positive(name, images, labels, tmp_path):
    with pytest.raises(ValueError, match=f"{name}: expected a positive integer, got 0"):
        learn(tmp_path, batches(images, labels), **{name: 0})
    assert names(tmp_path) == []


PROGRAM = """
import sys
import numpy as np
from memjax import checkpoint
from tests.test_resume import learn

def stream():
    generator = np.random.default_rng(3)
    pictures = generator.integers(0, 200, (3, 6, 6, 1))
    while True:
        labels = generator.integers(0, 3, generator.integers(1, 30))
        noise = generator.integers(0, 56, (len(labels), 6, 6, 1))
        yield (pictures[labels] + noise).astype(np.uint8), labels

def until(number):
    seen = 0
    for images, labels in stream():
        yield images[: number - seen], labels[: number - seen]
        seen += len(labels)
        if seen >= number:
            return

def say(state, infos, tally):
    print(tally.num_seen, flush=True)

state, tally = learn(
    sys.argv[1], until(2005), checkpoint_every=32, consolidate_at=(100, 1000), callbacks=[say]
)
print(checkpoint.state_digest(state), *tally)
"""


@pytest.mark.long
def test_a_process_killed_at_twenty_random_moments_ends_with_the_digest_of_one_never_stopped(
    tmp_path,
):
    (tmp_path / "program.py").write_text(PROGRAM)
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        # Compiled once for all of the processes, to save time.
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "0",
    }

    def begin(folder: str) -> subprocess.Popen[str]:
        command = [sys.executable, "program.py", folder]
        return subprocess.Popen(
            command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True
        )

    def last_line(folder: str) -> str:
        output, _ = begin(folder).communicate(timeout=300)
        return output.splitlines()[-1]

    expected = last_line("whole")
    assert re.fullmatch(r"[0-9a-f]{64} 2005 \d+ \d+", expected)

    moments = random.Random(0)
    begun_at, num_cut_off = [], 0
    for kill in range(20):
        process = begin("stopped")
        assert process.stdout is not None
        begun_at.append(int(process.stdout.readline()) - 8)
        for _ in range(moments.randrange(12)):
            assert process.stdout.readline()
        if kill % 2:
            time.sleep(moments.uniform(0, 0.1))
        else:
            while not list((tmp_path / "stopped").glob("*-tmp")):
                assert process.poll() is None
        process.kill()
        process.communicate()
        assert process.returncode == -9
        num_cut_off += bool(list((tmp_path / "stopped").glob("*-tmp")))
    assert begun_at == sorted(begun_at) and len(set(begun_at)) > 10 and begun_at[-1] < 2000
    assert num_cut_off >= 5
    assert last_line("stopped") == expected
    assert not list((tmp_path / "stopped").glob("*-tmp"))
