"""The command: a run end to end, its record and pictures, questions to it, and mistakes."""

import contextlib
import html.parser
import io
import itertools
import json
import os
import pty
import re
import select
import shutil
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from commands import leave_pictures_empty

import memjax
from memjax import checkpoint, datasets

for package in ("orbax.checkpoint", "PIL", "sklearn", "tqdm", "tyro"):
    pytest.importorskip(package)
figure = pytest.importorskip("matplotlib.figure")
cli = pytest.importorskip("memjax.command.cli")
main, parse = cli.main, cli.parse

COMMAND = [sys.executable, "-m", "memjax"]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
SMALL = ["--capacity", "60", "--limit", "300", "--encoder", "pixels"]
PICTURES = {"memories.png", "growth.png", "confusion.png"}
FILES = {"record.json", "SHA256SUMS", "network", "memories.npz", "report.html", *PICTURES}
PARTS = ("start", "load", "compile", "fit", "evaluate", "save", "draw")
SECONDS = [f"{part}_seconds" for part in PARTS]
KEYS = {
    "dataset",
    "network",
    "encoder",
    "capacity",
    "num_memories",
    "num_train",
    "num_test",
    "seed",
    "test_split",
    "test_accuracy",
    "prequential_accuracy",
    "novelty_threshold",
    *SECONDS,
    "total_seconds",
    "peak_memory_bytes",
    "state_digest",
    "device",
    "versions",
}


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """A cache of decoded arrays that no other session shares."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEMJAX_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield


@contextlib.contextmanager
def empty_pictures() -> Iterator[None]:
    """Leave the pictures of a run empty: drawing them takes longer than a small run does."""
    with pytest.MonkeyPatch.context() as patch:
        leave_pictures_empty(patch)
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> tuple[Path, str]:
    """A small run, and what the command printed."""
    out = tmp_path_factory.mktemp("finished") / "deeper" / "run"
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), empty_pictures():
        main(["fit", "digits", *SMALL, "--out", str(out)])
    return out, printed.getvalue()


@pytest.fixture
def run(finished, tmp_path, monkeypatch) -> Path:
    """A copy of the small run, as ``run`` in the working directory."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(finished[0], tmp_path / "run")
    return Path("run")


@pytest.fixture
def without_pictures():
    with empty_pictures():
        yield


def contents(folder: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


def record_of(run: Path) -> dict[str, Any]:
    return json.loads((run / "record.json").read_text())


def is_png(path: Path) -> bool:
    return path.read_bytes().startswith(b"\x89PNG\r\n") and path.stat().st_size > 2000


def save_image(path: str | Path, image: np.ndarray) -> None:
    from PIL import Image

    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image.squeeze()).save(path)


@pytest.mark.long
def test_the_command_learns_digits_end_to_end(tmp_path):
    ended = subprocess.run(
        [*COMMAND, "fit", "digits", "--out", "run"],
        cwd=tmp_path,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert os.listdir(tmp_path) == ["run"]
    run = tmp_path / "run"
    assert set(os.listdir(run)) == FILES
    assert all(is_png(picture) for picture in run.glob("*.png"))

    record = record_of(run)
    assert record.keys() >= KEYS
    assert record["command"] == "memjax fit digits --out run"
    assert record["test_accuracy"] >= 0.97
    assert 0.9 < record["prequential_accuracy"] < 1
    assert (record["num_train"], record["num_test"]) == (1198, 599)
    assert (record["dataset"], record["network"], record["encoder"], record["test_split"]) == (
        *("digits", "memory", "edges"),
        "test",
    )
    assert (record["capacity"], record["seed"]) == (3000, 0)
    assert 10 < record["num_memories"] < 1198
    assert 0 < record["novelty_threshold"] < 2
    assert 1e8 < record["peak_memory_bytes"] < 1e11
    assert record["versions"]["jax"] == jax.__version__
    parts = [record[part] for part in SECONDS]
    assert all(part > 0 for part in parts)
    assert sum(parts) == pytest.approx(record["total_seconds"]) and record["total_seconds"] < 300
    printed = re.findall(r"^ +\w+  ([\d.]+) s$", ended.stdout, re.M)
    assert list(map(float, printed)) == pytest.approx(parts, abs=0.005)

    accuracy, memories = f"{100 * record['test_accuracy']:.2f} %", f"{record['num_memories']:,}"
    assert re.search(rf"test accuracy +{accuracy}\n", ended.stdout)
    assert re.search(rf" memories +{memories}\n", ended.stdout)
    assert re.search(r"written to +run\n", ended.stdout)


def test_the_network_of_a_run_is_the_one_that_its_record_describes(finished):
    run, printed = finished
    record = record_of(run)
    network, params, state = checkpoint.restore(run / "network")
    assert checkpoint.state_digest(state) == record["state_digest"]
    assert memjax.num_memories(network, state) == record["num_memories"]
    assert float(params[1].novelty_threshold) == record["novelty_threshold"]
    assert jax.tree.leaves(state)[0].shape == (record["capacity"], 64) == (60, 64)
    test = datasets.load("digits", "test")
    result = memjax.evaluate(network, params, state, test.images, test.labels)
    assert result.accuracy == record["test_accuracy"] > 0.5
    assert f"{100 * result.accuracy:.2f} %" in printed


def test_a_run_is_what_the_library_does_with_the_same_calls(finished):
    train = datasets.load("digits", seed=0)
    images, labels = train.images[:300], train.labels[:300]
    network, params = memjax.memory_network((8, 8, 1), 10, capacity=60, encoder="pixels")
    params = memjax.training.calibrate(network, params, images, labels)
    start = network.init(jax.random.key(0))
    state, infos = memjax.fit(network, params, start, images, labels)
    record = record_of(finished[0])
    assert checkpoint.state_digest(state) == record["state_digest"]
    # An empty network has no answer to the first example; from then on it always has one.
    hits = np.asarray(infos.predicted)[1:] == labels[1:]
    assert record["prequential_accuracy"] == pytest.approx(np.mean(hits))


def test_the_same_seed_gives_the_same_state_and_another_seed_another(
    finished, without_pictures, capsys, tmp_path
):
    main(["fit", "digits", *SMALL, "--json", "--out", str(tmp_path / "again")])
    printed = capsys.readouterr()
    again = json.loads(printed.out)
    assert printed.err == ""
    assert again == record_of(tmp_path / "again") and again.keys() >= KEYS
    first = record_of(finished[0])
    assert again["state_digest"] == first["state_digest"]
    for name in ("num_memories", "test_accuracy", "prequential_accuracy", "novelty_threshold"):
        assert again[name] == first[name]

    main(["fit", "digits", *SMALL, "--json", "--seed", "1", "--out", str(tmp_path / "other")])
    other = json.loads(capsys.readouterr().out)
    assert other["seed"] == 1
    assert other["state_digest"] != first["state_digest"]


@pytest.mark.parametrize("block_size", ["7", "2000000000"])
def test_the_block_size_changes_no_result(block_size, finished, without_pictures, capsys, tmp_path):
    out = str(tmp_path / "run")
    main(["fit", "digits", *SMALL, "--json", "--block-size", block_size, "--out", out])
    record, first = json.loads(capsys.readouterr().out), record_of(finished[0])
    for name in ("num_memories", "test_accuracy", "prequential_accuracy", "num_train"):
        assert record[name] == first[name]


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (0, None),
        (3, "no answer  to 3 of 599 test images"),
        (599, "no answer  to any of 599 test images: it has learned from too few"),
    ],
)
def test_what_had_no_answer_is_said(number, said, run, capsys):
    record = record_of(run)
    assert record["num_unanswered"] == 0 and record["num_test"] == 599
    cli.print_record(record | {"num_unanswered": number}, run)
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert [line for line in lines if line.startswith("no answer")] == [said] * (said is not None)


def test_the_validation_split_is_not_trained_on(without_pictures, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small = ["--capacity", "30", "--encoder", "pixels"]
    main(["fit", "digits", *small, "--test-split", "validation"])
    assert "validation accuracy" in capsys.readouterr().out
    (run,) = Path("runs").iterdir()
    assert re.fullmatch(r"digits-memory-\d{8}-\d{6}", run.name)
    record = record_of(run)
    assert record["test_split"] == "validation"
    assert (record["num_train"], record["num_test"]) == (998, 200)


def test_settings_reach_the_network(without_pictures, capsys, tmp_path):
    options = "--capacity 5 --limit 40 --encoder blur --novelty-threshold 0.25"
    options += " --no-supervised-growth --on-full replace --neighbours 2"
    main(["fit", "digits", *options.split(), "--json", "--out", str(tmp_path / "a run")])
    record = json.loads(capsys.readouterr().out)
    network, params, _ = checkpoint.restore(tmp_path / "a run" / "network")
    expected, expected_params = memjax.memory_network(
        *((8, 8, 1), 10),
        capacity=5,
        encoder="blur",
        novelty_threshold=0.25,
        supervised_growth=False,
        on_full="replace",
        num_neighbours=2,
    )
    assert network == expected
    assert params == expected_params
    assert record["command"] == (f"memjax fit digits {options} --json --out '{tmp_path / 'a run'}'")
    assert (record["on_full"], record["neighbours"], record["supervised_growth"]) == (
        *("replace", 2),
        False,
    )
    assert (record["novelty_threshold"], record["num_train"]) == (0.25, 40)


def test_evaluate_repeats_the_accuracy_of_the_record(run, capsys):
    record = record_of(run)
    before = contents(Path())
    main(["evaluate", "run", "digits", "--json"])
    answer = json.loads(capsys.readouterr().out)
    assert answer == {
        "run": "run",
        "dataset": "digits",
        "test_split": "test",
        "num_test": 599,
        "test_accuracy": record["test_accuracy"],
    }
    main(["evaluate", "run", "digits"])
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert lines[0] == f"digits test: {100 * record['test_accuracy']:.2f} % of 599"
    assert [line.split()[0] for line in lines[1:]] == [str(digit) for digit in range(10)]
    shares = [re.fullmatch(r"\s+\d +([\d.]+) % of (\d+)", line) for line in lines[1:]]
    totals = [(float(share[1]) / 100, int(share[2])) for share in shares if share]
    assert sum(total for _, total in totals) == 599
    right = sum(share * total for share, total in totals)
    assert right / 599 == pytest.approx(record["test_accuracy"], abs=1e-3)
    assert (printed.err, contents(Path())) == ("", before)


def test_evaluate_takes_another_split_and_a_limit(run, capsys):
    command = ["evaluate", "run", "digits", "--test-split", "validation", "--limit", "50"]
    main([*command, "--json"])
    answer = json.loads(capsys.readouterr().out)
    assert (answer["test_split"], answer["num_test"]) == ("validation", 50)
    images, labels = datasets.load("digits", "validation")[:2]
    network = checkpoint.restore(run / "network")
    assert answer["test_accuracy"] == memjax.evaluate(*network, images[:50], labels[:50]).accuracy


def test_predict_answers_as_the_library_and_draws_why(run, capsys):
    test = datasets.load("digits", "test")
    files = ["a.png", "b.png", "c.bmp"]
    for file, image in zip(files, test.images, strict=False):
        save_image(file, image)
    main(["predict", "run", *files, "--json"])
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    network = checkpoint.restore(run / "network")
    evidence = memjax.predict_proba(*network, test.images[:3])
    novelty = memjax.novelty_score(*network, test.images[:3])
    assert [answer["image"] for answer in answers] == files
    assert [answer["label"] for answer in answers] == [str(row.argmax()) for row in evidence]
    assert [answer["confidence"] for answer in answers] == pytest.approx(evidence.max(axis=1))
    assert [answer["novelty_score"] for answer in answers] == pytest.approx(novelty)
    pictures = [f"run/predictions/{name}-why.png" for name in "abc"]
    assert [answer["why"] for answer in answers] == pictures
    assert all(is_png(Path(picture)) for picture in pictures)
    assert {path.name for path in Path("run/predictions").iterdir()} == {
        f"{name}-why.png" for name in "abc"
    }


def test_predict_prints_a_line_an_image_and_keeps_images_of_one_name_apart(run, capsys):
    first, second = datasets.load("digits", "test").images[:2]
    save_image("one/digit.png", first)
    save_image("two/digit.png", second)
    main(["predict", "run", "one/digit.png", "two/digit.png", "--out", "deep/why"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["one/digit.png", "two/digit.png"]
    pictures = [Path(line.rpartition("why: ")[2]) for line in lines]
    assert {path.parent for path in pictures} == {Path("deep/why")}
    assert all(is_png(path) for path in pictures)
    assert pictures[0].read_bytes() != pictures[1].read_bytes()
    assert not Path("run/predictions").exists()


def test_predict_reads_colour_images_as_grey_where_the_network_is(run, capsys):
    image = datasets.load("digits", "test").images[0]
    save_image("grey.png", image)
    save_image("colour.png", np.repeat(image, 3, axis=2))
    main(["predict", "run", "grey.png", "colour.png", "--json"])
    grey, colour = map(json.loads, capsys.readouterr().out.splitlines())
    for name in ("label", "confidence", "novelty_score"):
        assert grey[name] == colour[name]


def test_a_network_that_nothing_voted_in_gives_no_answer(run, capsys):
    network, params = memjax.memory_network(
        (8, 8, 1), 10, capacity=3, encoder="pixels", novelty_threshold=1
    )
    shutil.rmtree(run / "network")
    checkpoint.save(run / "network", network, params, network.init(jax.random.key(0)))
    save_image("digit.png", np.zeros((8, 8), np.uint8))
    main(["predict", "run", "digit.png", "--json"])
    answer = json.loads(capsys.readouterr().out)
    assert (answer["label"], answer["confidence"], answer["novelty_score"]) == (None, 0, 1)
    main(["predict", "run", "digit.png"])
    assert "digit.png: no answer" in capsys.readouterr().out


@pytest.fixture
def place(run) -> Path:
    """A working directory with all that a mistake can be made with."""
    Path("taken").mkdir()
    Path("taken/notes.txt").write_text("mine")
    Path("file").write_text("no image, no folder")
    save_image("digit.png", np.zeros((8, 8), np.uint8))
    save_image("cut.png", np.random.default_rng(0).integers(0, 256, (8, 8), np.uint8))
    cut(Path("cut.png"))
    save_image("large.png", np.zeros((28, 28), np.uint8))
    shutil.copytree(run, "other-size")
    shutil.rmtree("other-size/network")
    network, params = memjax.memory_network((6, 6, 1), 10, capacity=3, novelty_threshold=1)
    checkpoint.save("other-size/network", network, params, network.init(jax.random.key(0)))
    return Path()


def refusal(capfd, arguments: list[str]) -> str:
    """What the command prints of a mistake; it must end with status 2 and write nothing."""
    before = contents(Path())
    capfd.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    printed = capfd.readouterr()
    assert ended.value.code == 2
    assert printed.out == ""
    assert contents(Path()) == before
    return printed.err


def assert_refuses(capfd, arguments: list[str], says: str) -> None:
    """Assert that the command ends with status 2 and one sentence, and writes nothing."""
    printed = refusal(capfd, arguments)
    assert re.fullmatch(r"memjax: [^\n]+\n", printed)
    assert re.search(says, printed)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("learn digits", "learn"),
        ("fit digits --speed 3", "--speed"),
        ("fit digits --capacity", "--capacity"),
        ("fit digits --capacity many", "--capacity.*many"),
        ("fit digits --capacity 2.5", "--capacity.*2.5"),
        ("fit digits --novelty-threshold low", "--novelty-threshold.*low"),
        ("fit digits --encoder ears", "ears.*edges"),
        ("fit digits --on-full explode", "explode.*adapt"),
        ("fit digits --test-split train", "train.*validation"),
        ("evaluate", "run"),
        ("evaluate run", "DATASET|dataset"),
    ],
)
def test_words_that_are_no_command_or_option_are_named(arguments, says, place, capfd):
    # It is printed in a box, which breaks lines.
    printed = refusal(capfd, arguments.split())
    assert re.search(says, " ".join(printed.replace("│", " ").split()))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("fit letters", "digits.*cifar10.*got 'letters'"),
        ("fit mnits", r"tfds:NAME.*got 'mnits' .did you mean mnist\?.\."),
        ("evaluate run letters", "digits.*got 'letters'"),
        ("fit digits --grey", "--grey: does not belong to the dataset digits"),
        ("fit digits --image-size 9", "--image-size: does not belong to the dataset digits"),
        ("fit taken --out new", "taken: expected folders of images"),
        ("fit file --out new", "file: expected a folder of images, or a file that ends in"),
        ("fit taken --image-size 0", "image_size: expected a positive integer"),
        ("fit taken --image-size 3x", "--image-size: expected a size such as 28 or 48x64, got 3x"),
        ("fit taken --background blue", "background: expected .*got 'blue'"),
        ("fit taken --test-share 1", "--test-share: expected a number from 0 to 0.9, got 1"),
        ("fit digits --capacity 0", "--capacity: expected a positive integer, got 0"),
        ("fit digits --capacity 2147483648", "--capacity: expected less than 2147483648"),
        ("fit digits --neighbours 0", "--neighbours: expected a positive integer, got 0"),
        ("fit digits --block-size 0", "--block-size: expected a positive integer, got 0"),
        ("fit digits --limit 0", "--limit: expected a positive integer, got 0"),
        ("fit digits --limit -5", "--limit: expected a positive integer, got -5"),
        ("fit digits --novelty-threshold nan", "--novelty-threshold: expected a number .*nan"),
        ("fit digits --novelty-threshold -0.1", "--novelty-threshold: .*from 0.*got -0.1"),
        ("fit digits --seed -1", "--seed: expected a whole number .*got -1"),
        ("fit digits --seed -1 --out new/folder", "--seed: expected a whole number .*got -1"),
        ("fit digits --seed 1180591620717411303424", "--seed: expected a whole number"),
        ("fit digits --out taken", "--out: expected a folder that does not exist yet, got taken"),
        ("fit digits --out file", "--out: expected a folder that does not exist yet, got file"),
        ("fit digits --out file/run --limit 20", "file"),
        ("fit digits --checkpoint-every 0", "--checkpoint-every: expected a positive integer"),
        (
            "fit digits --checkpoint-every 9 --checkpoint-keep 0",
            "--checkpoint-keep: expected a pos",
        ),
        ("fit digits --checkpoint-keep 3", "--checkpoint-keep: needs --checkpoint-every"),
        ("fit --resume nowhere", "--resume: expected a run begun with .* got nowhere"),
        ("fit --resume taken", "--resume: expected a run begun with .* got taken"),
        ("evaluate nowhere digits", r"run: expected the folder of a run .*got nowhere"),
        ("evaluate taken digits", r"run: expected the folder of a run .*got taken"),
        ("evaluate file digits", r"run: expected the folder of a run .*got file"),
        ("evaluate run digits --limit 0", "--limit: expected a positive integer, got 0"),
        ("evaluate other-size digits", r"images: expected \[N, 6, 6, 1\], got \[599, 8, 8, 1\]"),
        ("predict run", "images: expected at least one"),
        ("predict nowhere digit.png", r"run: expected the folder of a run .*got nowhere"),
        ("predict run file", "file: is no PNG, JPEG"),
        ("predict run cut.png", "cut.png: cannot be read"),
        ("predict run nothing.png", r"nothing.png: cannot be read \(No such file"),
        ("predict run taken", "the folder taken holds none"),
        ("predict run digit.png --out file", "file"),
    ],
)
def test_a_mistake_ends_with_one_sentence_and_writes_nothing(arguments, says, place, capfd):
    assert_refuses(capfd, arguments.split(), says)


def removed(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def emptied(path: Path) -> None:
    path.write_text("")


def replaced(text: str):
    def replace(path: Path) -> None:
        path.write_text(text)

    return replace


@pytest.mark.parametrize("command", ["evaluate run digits", "predict run digit.png"])
@pytest.mark.parametrize(
    ("damage", "what", "says"),
    [
        (removed, "record.json", "expected the folder of a run with a record.json"),
        (cut, "record.json", "record.json: cannot be read as JSON"),
        (emptied, "record.json", "record.json: cannot be read as JSON"),
        (replaced("{}"), "record.json", "record.json: expected a record with class_names"),
        (replaced("[]"), "record.json", "record.json: expected a record with class_names"),
        (replaced('{"class_names": "0123"}'), "record.json", "one for each .* 10 classes"),
        (replaced('{"class_names": ["0"]}'), "record.json", "one for each .* 10 classes"),
        (removed, "network", r"expected a folder with a network\.json, got .*run/network"),
        (cut, "network/network.json", "network.json: cannot be read as a network"),
        (replaced("{}"), "network/network.json", "network.json: expected format"),
        (removed, "network/d", "network/d/.* is not as it was saved"),
        (cut, "network/manifest.ocdbt", "manifest.ocdbt: is not as it was saved"),
        (removed, "network/manifest.ocdbt", "manifest.ocdbt: is not as it was saved"),
        (removed, "network/SHA256SUMS", "SHA256SUMS"),
    ],
)
def test_a_damaged_run_is_refused_in_one_sentence(damage, what, says, command, place, capfd):
    damage(place / "run" / what)
    assert_refuses(capfd, command.split(), says)


def test_the_command_says_a_mistake_without_a_traceback(place):
    for file in Path("run/network/d").rglob("*"):
        if file.is_file():
            cut(file)
    before = contents(place)
    ended = subprocess.run(
        [*COMMAND, "evaluate", "run", "digits"],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (ended.returncode, ended.stdout) == (2, "")
    assert re.fullmatch(
        r"memjax: [^\n]*run/network/d/[^\n]* is not as it was saved[^\n]*\n", ended.stderr
    )
    assert contents(place) == before


@pytest.mark.parametrize(
    "error",
    [
        OSError("no space\n  left"),
        MemoryError("no space left"),
        jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: no space left\nfor 9 bytes"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_fit_that_breaks_off_leaves_nothing(
    error, monkeypatch, tmp_path, without_pictures, capfd
):
    monkeypatch.chdir(tmp_path)

    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr(cli.checkpoint, "save", fail)
    assert_refuses(capfd, ["fit", "digits", *SMALL, "--out", "run"], "no space left")


CHECKPOINTED = [*SMALL, "--block-size", "16", "--checkpoint-every", "40"]


class Killed(BaseException):
    """Stands for the end of a process."""


def begin_and_kill(monkeypatch, target: Any, name: str, when: Callable[..., bool]) -> None:
    """Begin a run in ``run``, and end it before the call of a function of which ``when`` is true.

    ``when`` is given the number of the call, from 1 on, and the arguments.
    """
    real, numbers = getattr(target, name), itertools.count(1)

    def call(*arguments: Any, **options: Any) -> Any:
        if when(next(numbers), *arguments):
            raise Killed
        return real(*arguments, **options)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(target, name, call)
        main(["fit", "digits", *CHECKPOINTED, "--out", "run"])


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> dict[str, Any]:
    """The record of a run with checkpoints that was never stopped."""
    run = tmp_path_factory.mktemp("uninterrupted") / "run"
    with empty_pictures(), contextlib.redirect_stdout(io.StringIO()):
        main(["fit", "digits", *CHECKPOINTED, "--out", str(run)])
    assert set(os.listdir(run)) == FILES
    assert record_of(run)["resumed_at"] == 0
    return record_of(run)


@pytest.mark.long
@pytest.mark.parametrize(
    ("target", "name", "when", "resumed_at"),
    [
        (memjax.evaluation, "memories_added", lambda number, *_: number == 1, 0),
        (memjax.evaluation, "memories_added", lambda number, *_: number == 17, 240),
        (checkpoint, "save_latest", lambda number, *_: number == 3, 80),
        (memjax.plotting, "confusion", lambda *_: True, 288),
        (os, "replace", lambda _, source, to: Path(to).name == "record.json", 288),
    ],
    ids=["first block", "last blocks", "when it saves", "when it draws", "when it ends"],
)
def test_a_run_that_was_killed_ends_as_one_that_was_not(
    target, name, when, resumed_at, uninterrupted, without_pictures, monkeypatch, tmp_path, capsys
):
    monkeypatch.chdir(tmp_path)
    begin_and_kill(monkeypatch, target, name, when)
    assert not Path("run/record.json").exists()
    drawn = []
    monkeypatch.setattr(
        memjax.plotting, "growth", lambda *given: drawn.append(given) or figure.Figure((1, 1))
    )
    main(["fit", "--resume", "run", "--json"])
    record = json.loads(capsys.readouterr().out)
    assert record == record_of(Path("run"))
    assert set(os.listdir("run")) == FILES
    same = ("state_digest", "prequential_accuracy", "num_train", "num_memories", "test_accuracy")
    for key in same:
        assert record[key] == uninterrupted[key]
    assert record["resumed_at"] == resumed_at
    images, numbers = datasets.load("digits").images, np.load("run/memories.npz")["numbers"]
    assert (np.load("run/memories.npz")["images"] == images[numbers]).all()
    assert record["command"].endswith("--checkpoint-every 40 --out run")
    ((infos, labels),) = drawn
    hits = np.asarray(infos.predicted)[1:] == labels[1:]
    assert np.mean(hits) == pytest.approx(record["prequential_accuracy"])
    assert memjax.evaluation.memories_added(infos).sum() == record["num_memories"]


@pytest.fixture
def unfinished(monkeypatch, tmp_path, without_pictures) -> Path:
    """The folder of a run that was killed after 240 examples."""
    monkeypatch.chdir(tmp_path)
    begin_and_kill(
        monkeypatch, memjax.evaluation, "memories_added", lambda number, *_: number == 17
    )
    return Path("run")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("fit --resume run --capacity 61", "--capacity: run was begun with 60, got 61"),
        ("fit mnist --resume run", "--dataset: run was begun with digits, got mnist"),
        ("fit digits --out run", "--out: run has not ended; memjax fit --resume run goes on"),
        ("evaluate run digits", "run: expected the folder of a run with a record.json"),
    ],
)
def test_a_run_that_has_not_ended_is_gone_on_with_and_nothing_else(
    arguments, says, unfinished, capfd
):
    assert_refuses(capfd, arguments.split(), says)


@pytest.mark.parametrize(
    ("damage", "what", "says"),
    [
        (emptied, "options.json", "options.json: cannot be read as JSON"),
        (replaced("[]"), "options.json", "options.json: cannot be read as the options of a run"),
        (replaced('{"command": ""}'), "options.json", "options.json: cannot be read .*'options'"),
        (
            replaced('{"command": "", "options": {"colour": 3}}'),
            "options.json",
            "options.json: cannot be read .*'colour'",
        ),
        (
            replaced('{"command": "", "options": {"capacity": "many"}}'),
            "options.json",
            "options.json: cannot be read .*--capacity: expected a positive integer, got 'many'",
        ),
        (cut, "checkpoints/*240/network/network.json", "network.json: cannot be read as a network"),
        (cut, "checkpoints/*240/network/manifest.ocdbt", "manifest.ocdbt: is not as it was saved"),
    ],
)
def test_a_damaged_run_is_not_gone_on_with(damage, what, says, unfinished, capfd):
    (file,) = unfinished.glob(what)
    damage(file)
    assert_refuses(capfd, ["fit", "--resume", "run"], says)


def test_a_run_that_has_ended_is_left_as_it_is(run, capsys):
    before = contents(run)
    main(["fit", "--resume", "run", "--json"])
    assert json.loads(capsys.readouterr().out) == record_of(run)
    main(["fit", "--resume", "run"])
    assert re.search(r"written to +run\n", capsys.readouterr().out)
    assert contents(run) == before


def test_an_end_that_was_cut_off_after_the_record_came_is_completed(unfinished, finished, capsys):
    shutil.copy(finished[0] / "record.json", "run")
    main(["fit", "--resume", "run"])
    assert os.listdir("run") == ["record.json"]


@pytest.mark.long
def test_the_command_killed_and_resumed_ends_with_the_digest_of_one_never_stopped(
    uninterrupted, tmp_path
):
    arguments = [*COMMAND, "fit", "digits", *CHECKPOINTED, "--out", "run"]
    process = subprocess.Popen(arguments, cwd=tmp_path, env=ENVIRONMENT)
    while not list(tmp_path.glob("run/checkpoints/examples_*[0-9]")):
        assert process.poll() is None
        time.sleep(0.001)
    process.kill()
    assert process.wait() == -9
    assert not (tmp_path / "run" / "record.json").exists()
    ended = subprocess.run(
        [*COMMAND, "fit", "--resume", "run"], cwd=tmp_path, env=ENVIRONMENT, timeout=300
    )
    assert ended.returncode == 0
    record = record_of(tmp_path / "run")
    assert record["resumed_at"] > 0
    assert record["state_digest"] == uninterrupted["state_digest"]
    assert set(os.listdir(tmp_path / "run")) == FILES


@pytest.mark.parametrize("arguments", [[], ["--help"], ["fit", "--help"], ["predict", "--help"]])
def test_help_is_no_mistake_and_ends_with_three_examples(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    printed = capsys.readouterr()
    assert ended.value.code in (0, None) and printed.err == ""
    _, examples = printed.out.split("\nexamples:\n")
    lines = [line.split("  ")[1] for line in examples.splitlines()]
    assert [line.split()[1] for line in lines] == ["fit", "evaluate", "predict"]
    for line in lines:
        parse(line.split()[1:])


def test_the_options_of_fit_are_told_in_groups(capsys):
    with pytest.raises(SystemExit):
        main(["fit", "--help"])
    text = capsys.readouterr().out
    # What stands below each title of a box.
    titles = r"^\W*((?:data|network|run) options)\W*$"
    _, *parts = re.split(titles, text, flags=re.M)
    assert parts[::2] == ["data options", "network options", "run options"]
    for part, flags in zip(
        parts[1::2],
        (
            "--seed --limit --test-split",
            "--network --encoder --capacity --mirror",
            "--block-size --checkpoint-every --film --out --resume --processes --json",
        ),
        strict=True,
    ):
        for flag in flags.split():
            assert re.search(rf"{flag}\b", part), flag


def test_python_m_memjax_tells_the_version(tmp_path):
    ended = subprocess.run(
        [*COMMAND, "--version"], env=ENVIRONMENT, capture_output=True, text=True, timeout=300
    )
    assert (ended.stdout, ended.stderr) == (f"memjax {memjax.__version__}\n", "")


def terminal(arguments: list[str], folder: Path) -> Iterator[tuple[float, str]]:
    """What the command writes to a terminal, each piece with the seconds since the beginning."""
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (40, 100))
    started = time.monotonic()
    process = subprocess.Popen(
        [*COMMAND, *arguments], cwd=folder, env=ENVIRONMENT, stdout=slave, stderr=slave
    )
    os.close(slave)
    try:
        with contextlib.suppress(OSError):  # the end of a terminal
            while select.select([master], [], [], 120)[0] and (text := os.read(master, 9999)):
                yield time.monotonic() - started, text.decode()
        assert process.wait(60) == 0
    finally:
        process.kill()
        os.close(master)


@pytest.mark.long
def test_on_a_terminal_the_command_is_never_silent_for_five_seconds(tmp_path):
    pieces = list(terminal(["fit", "digits", "--out", "run"], tmp_path))
    times = [0, *(time for time, _ in pieces)]
    assert max(np.diff(times)) < 5
    text = "".join(piece for _, piece in pieces)
    shown = [line.rstrip("\x1b[K") for line in re.split(r"[\r\n]+", text)]
    doing = list(dict.fromkeys(line.partition(",")[0] for line in shown if ", " in line))
    assert text.startswith("starting")
    assert doing == [
        *("loading digits", "compiling", "learning"),
        *("testing", "saving", "drawing"),
    ]
    assert any(
        re.search(r"^learning, 1,198 of 1,198 examples, \d+ memories, ", line) for line in shown
    )
    assert max(map(len, shown)) < 100  # else a line could not be written over
    parts = {name: float(number) for name, number in re.findall(r" +(\w+)  ([\d.]+) s\r", text)}
    assert parts.pop("command") == pytest.approx(sum(parts.values()), abs=0.05)


def test_on_a_terminal_a_test_is_announced_and_what_came_of_it_stands_alone(run):
    text = "".join(piece for _, piece in terminal(["evaluate", "run", "digits"], Path()))
    assert all(f"\r{doing}, " in text for doing in ("loading run", "loading digits", "testing"))
    # All that was said on the way is wiped off.
    assert text.rpartition("\r\x1b[K")[2].startswith("digits test: ")


def test_nothing_is_said_of_the_way_where_json_is_asked_for(tmp_path):
    arguments = ["fit", "digits", *SMALL, "--json", "--out", "run"]
    text = "".join(piece for _, piece in terminal(arguments, tmp_path))
    assert json.loads(text) == record_of(tmp_path / "run")


def test_digits_need_no_tensorflow_datasets(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    monkeypatch.setitem(sys.modules, "array_record", None)
    with empty_pictures(), contextlib.redirect_stdout(io.StringIO()):
        main(["fit", "digits", *SMALL, "--out", str(tmp_path / "run")])
    assert record_of(tmp_path / "run")["num_test"] == 599


class Page(html.parser.HTMLParser):
    """The parts of a page: its text, its tags, and what it asks of others."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[str] = []
        self.sources: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.text += "\n"
        given = dict(attrs)
        assert not any(name.startswith("on") for name in given)
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]
        assert tag != "img" or given["alt"]

    def handle_data(self, data):
        self.text += data


def test_the_page_of_a_run_holds_everything(tmp_path):
    run = tmp_path / "run"
    with contextlib.redirect_stdout(io.StringIO()):
        main(["fit", "digits", *SMALL, "--film", "--out", str(run)])
    assert set(os.listdir(run)) == FILES | {"film.gif"}
    assert (run / "film.gif").read_bytes().startswith(b"GIF89a")
    record, page = record_of(run), Page((run / "report.html").read_text())
    assert all(source.startswith("data:image/") for source in page.sources)
    assert not {"script", "link", "iframe"} & set(page.tags)
    accuracy = f"{100 * record['test_accuracy']:.2f} %"
    wrong = round((1 - record["test_accuracy"]) * record["num_test"])
    for text in (
        f"digits: {accuracy} of 599 right",
        f"{record['num_memories']:,}",
        f"12 of {wrong}, the surest first",
        "Most surprising",
        "Memories",
        "Film",
        "Growth",
        "Confusion",
    ):
        assert text in page.text, text
    assert page.tags.count("article") == 12
    # The shares of the voters on each mistake.
    shares = re.findall(r"(\d+) %", page.text.partition("Mistakes")[2].partition("Most")[0])
    assert sum(map(int, shares)) == pytest.approx(12 * 100, abs=12 * 4)


def test_text_from_data_is_text_on_the_page(tmp_path, monkeypatch):
    real = datasets.load

    def load(*arguments, **options):
        names = tuple(f"<script>&{digit}" for digit in range(10))
        return real(*arguments, **options)._replace(class_names=names)

    monkeypatch.setattr(datasets, "load", load)
    with contextlib.redirect_stdout(io.StringIO()), empty_pictures():
        main(["fit", "digits", *SMALL, "--out", str(tmp_path / "<b>run")])
    page = Page((tmp_path / "<b>run" / "report.html").read_text())
    assert not {"script", "b>run"} & set(page.tags)
    assert "<script>&3" in page.text and "<b>run" in page.text


@pytest.mark.parametrize("damage", [cut, emptied, replaced("PK")])
def test_damaged_images_of_memories_are_named(damage, place, capfd):
    damage(place / "run" / "memories.npz")
    assert_refuses(
        capfd, ["predict", "run", "digit.png"], "memories.npz: cannot be read as the images"
    )


def test_a_run_without_images_of_memories_is_asked_as_before(place, capsys):
    Path("run/memories.npz").unlink()
    main(["predict", "run", "digit.png"])
    assert is_png(Path("run/predictions/digit-why.png"))


def test_the_version_is_printed(capsys):
    main(["--version"])
    assert capsys.readouterr().out == f"memjax {memjax.__version__}\n"


@pytest.mark.long
def test_real_mnist_is_learned_from_six_thousand_digits(without_pictures, capsys, tmp_path):
    folder = os.environ.get("TFDS_DATA_DIR")
    if not folder or not (Path(folder) / "mnist").is_dir():
        pytest.skip("real MNIST: TFDS_DATA_DIR does not name a folder that holds it")
    options = ["--limit", "6000", "--test-split", "validation", "--json"]
    main(["fit", "mnist", *options, "--out", str(tmp_path / "run")])
    record = json.loads(capsys.readouterr().out)
    assert (record["num_train"], record["num_test"]) == (6000, 10000)
    assert record["test_accuracy"] >= 0.96


def test_a_columnar_network_is_fitted_evaluated_and_asked(tmp_path, capsys):
    run = tmp_path / "run"
    arguments = ["--network", "columnar", "--size", "small", "--limit", "400", "--out", str(run)]
    main(["fit", "digits", *arguments, "--json"])
    record = json.loads(capsys.readouterr().out)
    assert record["network"] == "columnar" and record["size"] == "small"
    assert 0 < record["num_memories"] <= record["capacity"] == 2500
    assert record["test_accuracy"] > 0.8
    assert set(os.listdir(run)) == FILES - {"memories.npz"}
    page = Page((run / "report.html").read_text())
    assert "Mistakes" in page.text and "Most surprising" not in page.text
    main(["evaluate", str(run), "digits", "--json"])
    again = json.loads(capsys.readouterr().out)["test_accuracy"]
    assert again == pytest.approx(record["test_accuracy"])
    digits = datasets.load("digits", "test").images[:20]
    for index, image in enumerate(digits):
        save_image(tmp_path / "digits" / f"{index:02}.png", image)
        save_image(tmp_path / "inverted" / f"{index:02}.png", 255 - image)
    main(
        ["predict", str(run), *(str(tmp_path / name) for name in ("digits", "inverted")), "--json"]
    )
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    told = [[answer["label"] for answer in part] for part in (answers[:20], answers[20:])]
    assert np.mean(np.array(told[0]) == told[1]) >= 0.9
    assert set(told[0]) <= set(record["class_names"])


@pytest.mark.long
def test_a_network_that_learned_from_too_few_says_so(without_pictures, tmp_path, capsys):
    from PIL import Image

    for index in range(24):  # Columns for colour images speak after 40 images.
        pixels = np.random.default_rng(index).integers(0, 256, (16, 16, 3), np.uint8)
        file = tmp_path / "photos" / "ab"[index % 2] / f"{index}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(file)
    small = ["--network", "columnar", "--size", "small"]
    main(["fit", str(tmp_path / "photos"), *small, "--out", str(tmp_path / "run")])
    said = capsys.readouterr().out
    record = record_of(tmp_path / "run")
    number = record["num_test"]
    assert record["num_unanswered"] == number > 0
    assert f"no answer  to any of {number} test images: it has learned from too few\n" in said


@pytest.mark.parametrize(
    "arguments",
    [
        ["--network", "columnar", "--capacity", "9"],
        ["--network", "columnar", "--film"],
        ["--size", "small"],
        ["--mirror"],
    ],
    ids=["capacity-of-columnar", "film-of-columnar", "size-of-memory", "mirror-of-memory"],
)
def test_an_option_of_the_other_network_is_refused(arguments, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["fit", "digits", *arguments, "--out", str(tmp_path / "run")])
    assert ended.value.code == 2
    assert "does not belong to --network" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
