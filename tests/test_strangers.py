"""Folders that a stranger wrote, and disks that fail: nothing is lost, silent, or let in."""

import contextlib
import hashlib
import io
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from commands import leave_pictures_empty

import memjax
from memjax import _saved, checkpoint
from memjax.base import walk
from memjax.checkpoint import CheckpointError
from memjax.params import like
from tests.contracts import CASES, KEY

for package in ("orbax.checkpoint", "tyro", "matplotlib.figure", "sklearn"):
    pytest.importorskip(package)
ts = pytest.importorskip("tensorstore")
cli = pytest.importorskip("memjax.command.cli")

OLD_RUNS = Path(__file__).parent / "old_runs"
BANK = memjax.MemoryLayer(num_features=3, num_classes=2, capacity=6)
PARAMS = BANK.params(novelty_threshold=0.1)
XS = np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32)
LABELS = np.arange(12) % 2


@pytest.fixture(autouse=True)
def in_time():
    """Nothing here may wait for a pipe, or take long because a file asks for it."""

    def end(*_):
        raise TimeoutError("it took more than four minutes")

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(240)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="module")
def learned() -> Any:
    """The state of a bank that has learned."""
    return memjax.fit(BANK, PARAMS, BANK.init(KEY), XS, LABELS)[0]


@pytest.fixture
def folder(learned, tmp_path) -> Path:
    """A saved bank."""
    return checkpoint.save(tmp_path / "saved", BANK, PARAMS, learned)


def sign(folder: Path) -> None:
    """Write the sums anew, as a stranger would."""
    without = {"SHA256SUMS", "_CHECKPOINT_METADATA", "commit_success.txt"}
    files = [file for file in folder.rglob("*") if file.is_file() and file.name not in without]
    lines = [
        f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.relative_to(folder)}\n"
        for file in files
    ]
    (folder / "SHA256SUMS").write_text("".join(lines))


def refused(function: Callable[[], Any], says: str, error: Any = CheckpointError) -> None:
    """Assert that a call ends with one printable sentence."""
    with pytest.raises(error, match=says) as caught:
        function()
    sentence = str(caught.value)
    assert sentence.isprintable() and sentence.endswith(".") and len(sentence) < 1000


def edit(file: Path, **entries: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | entries))


# Values that no layer can have learned.


def check(layer: Any, params: Any, state: Any) -> None:
    for part in walk(layer, params, state):
        part.layer.check_values(part.state)


@pytest.mark.parametrize(
    "name",
    [
        *("bank", "columns with an eye", "columns, triangle", "decorrelation", "random projection"),
        *("exemplars", "vote readout", "delta readout", "ridge readout", "mirrored"),
    ],
)
def test_every_layer_answers_for_the_values_of_its_state(name):
    case = CASES[name]
    state = jax.tree.map(np.asarray, case.learn())
    check(case.layer, case.params, state)
    check(case.layer, case.params, jax.tree.map(np.asarray, case.state))
    leaves, structure = jax.tree.flatten(state)
    for index, (path, leaf) in enumerate(jax.tree_util.tree_leaves_with_path(state)):
        if leaf.dtype == np.int32 and "rule" in jax.tree_util.keystr(path):
            continue  # What a rule of optax counts is its own affair.
        for value in (-5,) if leaf.dtype == np.int32 else (np.nan, np.inf, -np.inf):
            bad = leaf.copy()
            bad.flat[-1] = value
            changed = jax.tree.unflatten(structure, [*leaves[:index], bad, *leaves[index + 1 :]])
            with pytest.raises(ValueError, match=rf"^\w+.*: expected .*, got .*{value}"):
                check(case.layer, case.params, changed)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"size": 7}, r"size: expected finite numbers from 0 to 6, got 7"),
        ({"size": -5}, r"size: .* got -5"),
        ({"size": 0}, "prototypes of free rows: .* from 0 to 0"),
        ({"num_seen": 1}, "size: expected finite numbers from 0 to 1"),
        ({"stored_at": np.full(6, 13, np.int32)}, "stored_at: .* from 0 to 12, got 13"),
        ({"votes": np.full((6, 2), -1, np.int32)}, "votes: .* got -1"),
        ({"votes": np.full((6, 2), 100, np.int32)}, "counts, less the votes"),
        ({"counts": np.zeros(6, np.int32)}, "counts of the memories in use: .* got 0"),
        ({"prototypes": np.full((6, 3), np.nan, np.float32)}, "prototypes: .* got nan"),
    ],
)
def test_values_that_a_bank_cannot_have_are_refused_when_they_are_restored(
    change, says, learned, tmp_path
):
    change = {
        name: jnp.asarray(value, getattr(learned, name).dtype) for name, value in change.items()
    }
    state = learned._replace(**change)
    path = checkpoint.save(tmp_path / "saved", BANK, PARAMS, state)
    for network in (None, BANK):
        refused(lambda network=network: checkpoint.restore(path, network), f"MemoryLayer.{says}")
    refused(lambda: checkpoint.check(path), says)
    checkpoint.save_latest(tmp_path / "stream", BANK, PARAMS, state, {"num_seen": 12})
    empty = BANK.init(KEY)
    refused(
        lambda: checkpoint.restore_latest(tmp_path / "stream", BANK, PARAMS, empty, ["num_seen"]),
        says,
    )


def test_numbers_out_of_their_range_are_refused_when_they_are_restored(
    learned, tmp_path, monkeypatch
):
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "check_params", lambda *_, **__: None)
        path = checkpoint.save(
            tmp_path / "saved", BANK, PARAMS._replace(plasticity_floor=np.float32(2)), learned
        )
    refused(lambda: checkpoint.restore(path), "plasticity_floor: expected a number from 0 to 1")


@pytest.mark.parametrize("leaf", ["abc", "float32", np.float32, None, object(), np.array(["a"])])
def test_a_leaf_that_is_no_array_is_an_error_of_one_sentence(leaf, learned, tmp_path):
    layer = memjax.Decorrelation(3, 2)
    params, state = layer.params(), layer.init(KEY)
    for network, numbers, wrong in (
        (BANK, PARAMS, learned._replace(size=leaf)),
        (layer, params, state._replace(sums=state.sums._replace(number=leaf))),
    ):
        refusal = partial(refused, says="state", error=(TypeError, ValueError))
        refusal(partial(checkpoint.save, tmp_path / "saved", network, numbers, wrong))
        refusal(partial(memjax.fit, network, numbers, wrong, XS, LABELS))
        refusal(partial(memjax.predict, network, numbers, wrong, XS))
    if leaf is not None:  # which is no leaf, but nothing
        refused(lambda: checkpoint.state_digest({"a": leaf}), r"state\['a'\]: expected", TypeError)


# What surrounds the arrays.


def nested(depth: int) -> memjax.Layer:
    layer: memjax.Layer = memjax.Reshape((3,))
    for _ in range(depth):
        layer = memjax.Chain((layer,))
    return layer


def test_layers_inside_one_another_come_back_or_are_refused(tmp_path):
    params: Any = ()
    for _ in range(29):
        params = (params,)
    path = checkpoint.save(tmp_path / "saved", nested(29), params, params)
    assert checkpoint.restore(path)[0] == nested(29)
    for depth in (30, 40, 400, 4000):
        refused(
            lambda depth=depth: nested(depth),
            "Chain: expected at most 30 layers inside one another, got more.",
            ValueError,
        )
    assert os.listdir(tmp_path) == ["saved"]


def chains(depth: int) -> str:
    text = '{"name": "memjax:Reshape", "fields": {"shape": [3]}}'
    for _ in range(depth):
        text = '{"name": "memjax:Chain", "fields": {"layers": [' + text + "]}}"
    return text


def many(number: int) -> str:
    return json.dumps(
        {"name": "memjax:Chain", "fields": {"layers": [json.loads(chains(0))] * number}}
    )


@pytest.mark.parametrize(
    ("network", "says"),
    [
        (chains(40), "30 inside one another"),
        (chains(5000), "too many things inside one another"),
        (many(600), "at most 500 layers"),
        ("[" * 5000 + "]" * 5000, "too many things|inside one another"),
        ('{"a":' * 5000 + "1" + "}" * 5000, "too many things|inside one another"),
        (f'"{"x" * 2**21}"', "expected at most 1,048,576 bytes"),
        (
            '{"name": "\\u001b[2J' + "x" * 5000 + '"}',
            r"'\?\[2Jx* is not part|is not part of memjax",
        ),
        ("9" * 5000, "cannot be read as a network"),
    ],
    ids=["chains", "deep chains", "many", "lists", "objects", "long", "control", "digits"],
)
def test_a_description_that_is_made_to_hurt_is_refused(network, says, folder):
    (folder / "network.json").write_text('{"format": 2, "counts": {}, "network": ' + network + "}")
    sign(folder)
    refused(lambda: checkpoint.restore(folder), says)


def test_a_name_of_a_version_reaches_no_terminal(folder):
    edit(folder / "network.json", format=7, memjax="\x1b[2J" + "x" * 10**5)
    refused(lambda: checkpoint.restore(folder), "expected format 2, got that of memjax")


def test_counts_of_a_stream_are_whole_numbers(tmp_path, learned):
    checkpoint.save_latest(tmp_path, BANK, PARAMS, learned, {"num_seen": 12})
    (folder,) = tmp_path.glob("*/network")
    for count in (-3, 1.5, "12", None, True):
        edit(folder / "network.json", counts={"num_seen": count})
        sign(folder)
        refused(
            lambda: checkpoint.restore_latest(tmp_path, BANK, PARAMS, learned, ["num_seen"]),
            "num_seen: expected a whole number",
        )


def test_a_long_description_of_arrays_is_not_read(folder):
    with (folder / "_METADATA").open("a") as file:
        file.truncate(2**25)
    sign(folder)
    refused(lambda: checkpoint.restore(folder), "_METADATA: expected at most 16,777,216 bytes")


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def device(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def link(path: Path) -> None:
    content = path.read_bytes()
    path.unlink()
    outside = Path(os.environ["OUTSIDE"]) / path.name
    outside.write_bytes(content)
    path.symlink_to(outside)


def directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def endless(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


@pytest.mark.parametrize("replace", [pipe, device, link, directory, endless])
@pytest.mark.parametrize("what", ["network.json", "SHA256SUMS", "manifest.ocdbt", "d/*", "new"])
def test_what_is_no_file_of_the_folder_is_not_opened(replace, what, folder, tmp_path, monkeypatch):
    (tmp_path / "outside").mkdir()
    monkeypatch.setenv("OUTSIDE", str(tmp_path / "outside"))
    if what == "new":
        (folder / "new").write_text("mine")
        sign(folder)
    (file,) = folder.glob(what)
    replace(file)
    says = f"{file.name}|folder with a network.json|is not as it was saved"
    refused(lambda: checkpoint.restore(folder), says)
    refused(lambda: checkpoint.check(folder), says)


def test_a_folder_that_leads_out_is_not_followed(folder, tmp_path):
    (folder / "d").rename(tmp_path / "d")
    (folder / "d").symlink_to(tmp_path / "d")
    refused(lambda: checkpoint.restore(folder), "saved/d: expected a file of the folder")


def test_a_link_to_the_folder_is_the_folder(folder, learned, tmp_path):
    (tmp_path / "latest").symlink_to(folder)
    found = checkpoint.restore(tmp_path / "latest")[2]
    assert checkpoint.state_digest(found) == checkpoint.state_digest(learned)


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "/etc/passwd", "d/../../x", "../saved/network.json"]
)
def test_sums_name_files_of_the_folder_only(name, folder):
    sums = folder / "SHA256SUMS"
    sums.write_text(sums.read_text() + f"{'0' * 64}  {name}\n")
    refused(lambda: checkpoint.restore(folder), "SHA256SUMS: expected names of files in the folder")


def test_a_description_may_be_as_long_as_it_is_said(folder):
    file = folder / "network.json"
    file.write_text(file.read_text().ljust(2**20))
    sign(folder)
    assert checkpoint.restore(folder)[0] == BANK
    file.write_text(file.read_text() + " ")
    sign(folder)
    refused(lambda: checkpoint.restore(folder), "network.json: expected at most 1,048,576 bytes")


def test_long_sums_are_not_read(folder):
    (folder / "SHA256SUMS").write_text(f"{'0' * 64}  x\n" * 20_000)
    refused(lambda: checkpoint.restore(folder), "SHA256SUMS: expected at most 1,048,576 bytes")


def ask_for(folder: Path, capacity: int, piece: int | None = None) -> None:
    """Let a saved bank say that it has another capacity, its arrays too, which stay empty."""
    text = (folder / "network.json").read_text()
    (folder / "network.json").write_text(text.replace('"capacity": 6', f'"capacity": {capacity}'))
    store = ts.KvStore.open({"driver": "ocdbt", "base": f"file://{folder}/"}).result()
    for key in store.list().result():
        if not key.endswith(b"zarr.json"):
            continue
        entry = json.loads(store.read(key).result().value)
        if entry["shape"][:1] == [6]:
            entry["shape"][0] = capacity
            if piece:
                entry["chunk_grid"]["configuration"]["chunk_shape"][0] = piece
                entry["codecs"][0]["configuration"]["chunk_shape"][0] = piece
            store.write(key, json.dumps(entry).encode()).result()
    edit(folder / "_METADATA", store_array_data_equal_to_fill_value=False)
    sign(folder)


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def test_a_small_folder_may_not_ask_for_much_room(folder):
    ask_for(folder, 60_000_000)
    before = peak_bytes()
    refused(
        lambda: checkpoint.restore(folder),
        r"its files have [\d,]+ bytes, and its network asks for 1,\d+,\d+,\d+; if you trust",
    )
    refused(lambda: checkpoint.check(folder), "asks for")
    assert peak_bytes() - before < 1e8


def test_a_network_that_is_named_may_be_of_any_size(folder, monkeypatch):
    monkeypatch.setattr(_saved, "_ANY_ROOM", 0)
    monkeypatch.setattr(_saved, "_MOST_COMPRESSED", 0)
    refused(lambda: checkpoint.restore(folder), "if you trust it, give the network with network=")
    assert checkpoint.restore(folder, BANK)[0] == BANK
    wrong: Any = "bank"
    refused(lambda: checkpoint.restore(folder, wrong), "network: expected a memjax", TypeError)


def test_a_piece_of_an_array_is_no_longer_than_the_array(folder):
    ask_for(folder, 6, piece=500_000_000)
    before = peak_bytes()
    refused(lambda: checkpoint.restore(folder, BANK), r"in pieces of at most \[6")
    assert peak_bytes() - before < 1e8


def test_a_bank_that_is_mostly_free_comes_back_without_being_named(tmp_path):
    bank = memjax.MemoryLayer(num_features=100, num_classes=2, capacity=300_000)
    path = checkpoint.save(tmp_path / "saved", bank, PARAMS, bank.init(KEY))
    assert checkpoint.restore(path)[0] == bank


@pytest.mark.parametrize("features", [2**16 + 1, 2**31 - 1])
def test_a_readout_of_any_size_is_described_at_once(features):
    _, state = like(memjax.RidgeReadout(features, 2))
    assert len(state.scatter) <= 64
    assert sum(panel.shape[1] for panel in state.scatter) == features
    assert state.scatter[-1].shape[0] == features


# A disk that fails.

FULL = """
import os, resource, shutil, sys
from pathlib import Path
import jax, numpy as np
import memjax
from memjax import checkpoint
layer = memjax.MemoryLayer(num_features=50, num_classes=2, capacity=40)
state, params = layer.init(jax.random.key(0)), layer.params(novelty_threshold=1)
_, most = resource.getrlimit(resource.RLIMIT_FSIZE)
whole = checkpoint.save("whole", layer, params, state)
step = int(sys.argv[1])
sizes = sorted({file.stat().st_size for file in whole.rglob("*") if file.is_file()})
checkpoint.save_latest("stream", layer, params, state, {"num_seen": 1})
before = sorted(map(str, Path().rglob("*")))
for room in (0, *(size - 1 for size in sizes[::-step])):
    for save in (
        lambda: checkpoint.save("new/folder/saved", layer, params, state),
        lambda: checkpoint.save_latest("stream", layer, params, state, {"num_seen": 2}).parent,
    ):
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, most))
        try:
            path = save()
        except OSError as error:
            print(error.errno, error)
        else:  # how long the longest file is differs from time to time
            shutil.rmtree(path.parents[1] if path.name == "saved" else path)
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
        assert sorted(map(str, Path().rglob("*"))) == before, room
checkpoint.restore(checkpoint.save("new/folder/saved", layer, params, state))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a limit of the length of files")
@pytest.mark.parametrize("step", [5, pytest.param(1, marks=pytest.mark.long)])
def test_a_disk_that_is_full_at_any_write_leaves_nothing_and_the_sentence_says_what_to_do(
    step, tmp_path
):
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    ended = subprocess.run(
        [sys.executable, "-c", FULL, str(step)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert ended.returncode == 0, ended.stderr
    assert "ERROR:absl" not in ended.stderr  # which Orbax writes, with a traceback
    lines = ended.stdout.splitlines()
    assert len(lines) >= 15 // step
    for line in lines:
        assert re.search(
            r"(saved|examples_0+2): cannot be written \(.+\), and nothing of it is", line
        )
        assert line.startswith("27 ") and "File too large" in line and "make room" in line


@pytest.mark.parametrize("place", ["file/saved", "/proc/saved"])
def test_a_folder_that_cannot_be_written_is_named(place, learned, tmp_path):
    (tmp_path / "file").write_text("mine")
    refused(
        lambda: checkpoint.save(tmp_path / place, BANK, PARAMS, learned),
        "saved: cannot be written .* choose a folder that may be written",
        OSError,
    )
    assert os.listdir(tmp_path) == ["file"]


# Runs.


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A small run."""

    place = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()):
        patch.setenv("MEMJAX_CACHE_DIR", str(place / "cache"))
        leave_pictures_empty(patch)
        options = ["--capacity", "9", "--limit", "40", "--encoder", "pixels"]
        cli.main(["fit", "digits", *options, "--out", str(place / "run")])
    return place / "run"


@pytest.fixture
def run(finished, tmp_path, monkeypatch) -> Path:
    """A copy of it in the working directory, and an image to ask it about."""
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OUTSIDE", str(tmp_path))
    shutil.copytree(finished, "run")
    Image.fromarray(np.zeros((8, 8), np.uint8)).save("digit.png")
    return Path("run")


def ask(capsys, *arguments: str) -> tuple[int, str, str]:
    """Run the command; return its status and what it printed."""
    capsys.readouterr()
    status: Any = 0
    try:
        cli.main(list(arguments))
    except SystemExit as ended:
        status = ended.code
    printed = capsys.readouterr()
    return status, printed.out, printed.err


def test_check_says_what_it_checked(run, capsys):
    status, out, err = ask(capsys, "check", "run")
    assert (status, err) == (0, "")
    lines = [re.split(r"\s{2,}", line.strip(), maxsplit=1) for line in out.splitlines()]
    names = ["SHA256SUMS of the run", "format", "sums", "network", "arrays", "values", "digest"]
    assert [name for name, _ in lines] == [*names, "class names", "record"]
    assert ["network", "Chain, Pixels, MemoryLayer"] in lines
    record = json.loads((run / "record.json").read_text())
    assert ["digest", record["state_digest"]] in lines
    status, out, err = ask(capsys, "check", "run", "--json")
    found = json.loads(out)
    assert (status, err, found["is_whole"], found["fault"]) == (0, "", True, None)
    assert list(found["checked"].items()) == [(name, text) for name, text in lines]
    assert ask(capsys, "check", "run/network")[0] == 0


def test_the_sums_of_a_run_are_those_of_sha256sum(run):
    if not shutil.which("sha256sum"):
        pytest.skip("no sha256sum")
    for place in (run, run / "network"):
        subprocess.run(
            ["sha256sum", "--check", "--quiet", "--strict", "SHA256SUMS"], cwd=place, check=True
        )


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_check_names_each_file_that_is_not_as_it_was(run, capsys):
    files = [file for file in run.rglob("*") if file.is_file()]
    files = [
        file for file in files if file.name not in ("_CHECKPOINT_METADATA", "commit_success.txt")
    ]
    assert len(files) > 10
    for file in files:
        content = file.read_bytes()
        for damage in (flip, Path.unlink):
            damage(file)
            status, _, err = ask(capsys, "check", "run")
            assert status == 1 and err.count("\n") == 1, file
            assert file.name in err or "is not as it was" in err
            file.write_bytes(content)
    status, out, err = ask(capsys, "check", "run", "--json")
    assert status == 0
    flip(run / "record.json")
    status, out, err = ask(capsys, "check", "run", "--json")
    assert (status, err, json.loads(out)["is_whole"]) == (1, "", False)
    assert "record.json: is not as it was saved" in json.loads(out)["fault"]


def test_a_run_without_a_record_is_not_whole(run, capsys):
    (run / "record.json").unlink()
    status, _, err = ask(capsys, "check", "run")
    assert status == 1 and "record.json: is not as it was saved" in err


def test_check_of_what_is_no_run_is_a_mistake(run, capsys):
    Path("empty").mkdir()
    for name in ("nowhere", "empty", "digit.png"):
        status, out, err = ask(capsys, "check", name)
        assert (status, out) == (2, "")
        assert f"run: expected the folder of a run or of a saved network, got {name}" in err


def test_a_network_of_another_run_is_noticed_by_check(run, capsys):
    network, params, _ = checkpoint.restore(run / "network")
    shutil.rmtree(run / "network")
    checkpoint.save(run / "network", network, params, network.init(KEY))
    status, _, err = ask(capsys, "check", "run")
    assert status == 1 and "network/SHA256SUMS: is not as it was saved" in err
    names = ["network/SHA256SUMS", "record.json"]
    lines = [f"{hashlib.sha256((run / name).read_bytes()).hexdigest()}  {name}\n" for name in names]
    (run / "SHA256SUMS").write_text("".join(lines))
    status, _, err = ask(capsys, "check", "run")
    assert status == 1 and "by the state_digest" in err


def test_a_single_bit_of_a_record_is_noticed_before_an_answer(run, capsys):
    content = (run / "record.json").read_text()
    (run / "record.json").write_text(content.replace('"3"', '"8"'))
    for command in (["predict", "run", "digit.png"], ["fit", "--resume", "run"]):
        status, out, err = ask(capsys, *command)
        assert (status, out) == (2, "")
        assert "record.json: is not as it was saved, by the SHA256SUMS" in err


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("[" * 10_000 + "]" * 10_000, "record.json: cannot be read as JSON .too many things"),
        ('{"class_names": ' + "[" * 900 + "]" * 900 + "}", "too many things inside one another"),
        ('"' + "x" * 2**21 + '"', "record.json: expected at most 1,048,576 bytes"),
        ({"class_names": ["x" * 10**5] * 10}, "at most 255 characters"),
        ({"class_names": [3] * 10}, "at most 255 characters"),
    ],
    ids=["nested", "nested names", "long", "long names", "no names"],
)
def test_a_record_that_is_made_to_hurt_is_refused(content, says, run, capsys):
    record = json.loads((run / "record.json").read_text())
    text = content if isinstance(content, str) else json.dumps(record | content)
    (run / "record.json").write_text(text)
    sums = hashlib.sha256(text.encode()).hexdigest() + "  record.json\n"
    (run / "SHA256SUMS").write_text(sums)
    for command in ("predict run digit.png", "check run"):
        status, _, err = ask(capsys, *command.split())
        assert status == (1 if command.startswith("check") else 2)
        assert re.search(says, err) and err.strip().isprintable() and len(err) < 1000


@pytest.mark.parametrize("replace", [pipe, device, link, directory, endless])
@pytest.mark.parametrize("what", ["record.json", "SHA256SUMS"])
def test_what_is_no_file_of_a_run_is_not_opened(replace, what, run, capsys):
    replace(run / what)
    status, out, err = ask(capsys, "predict", "run", "digit.png")
    assert (status, out) == (2, "") and what in err
    assert ask(capsys, "check", "run")[0] == 1


def test_a_network_that_lies_outside_of_its_run_is_refused(run, capsys):
    (run / "network").rename("elsewhere")
    (run / "network").symlink_to(Path("elsewhere").absolute())
    status, _, err = ask(capsys, "predict", "run", "digit.png")
    assert status == 2 and "run/network: expected a file of the folder, got one outside" in err


@pytest.mark.parametrize("replace", [pipe, device, link, endless])
def test_pictures_are_drawn_in_the_run_and_nowhere_else(replace, run, capsys):
    (run / "predictions").mkdir()
    picture = run / "predictions" / "digit-why.png"
    picture.write_text("before")
    replace(picture)
    status, out, _ = ask(capsys, "predict", "run", "digit.png")
    assert status == 0 and "why: run/predictions/digit-2-why.png" in out
    assert (run / "predictions" / "digit-2-why.png").is_file()
    if replace is link:
        assert Path("digit-why.png").read_text() == "before"


def test_a_name_of_a_file_reaches_no_terminal(run, capsys):
    (run / "network" / "\x1b[2J").write_text("mine")
    for command in ("predict run digit.png", "check run"):
        assert ask(capsys, *command.split())[2].strip().isprintable()


def test_a_run_without_sums_is_read_with_one_notice_and_is_not_whole(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(OLD_RUNS / "before-0.2.0", "old")
    status, out, err = ask(capsys, "fit", "--resume", "old", "--json")
    record = json.loads(out)
    assert status == 0
    assert err == "memjax: old: has no SHA256SUMS, so its record.json is read unchecked.\n"
    # Its arrays are compressed, which those of today are not.
    assert checkpoint.state_digest(checkpoint.restore("old/network")[2]) == record["state_digest"]
    status, _, err = ask(capsys, "check", "old")
    assert status == 1 and "old/SHA256SUMS: expected a regular file, found none" in err


def test_a_run_of_memjax_0_1_is_refused_by_its_name(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name in ("0.1.0", "0.1.0-begun"):
        shutil.copytree(OLD_RUNS / name, name)
    refused(lambda: checkpoint.restore("0.1.0/network"), "got that of memjax 0.1")
    for command in ("predict 0.1.0 x.png", "evaluate 0.1.0 digits", "fit --resume 0.1.0-begun"):
        status, out, err = ask(capsys, *command.split())
        assert (status, out) == (2, "")
        assert re.fullmatch(
            r"memjax: [^\n]*expected format 2, got that of memjax 0\.1[^\n]*\n", err
        )
    for name in ("0.1.0", "0.1.0-begun"):
        assert ask(capsys, "check", name)[0] == 1


@pytest.fixture
def begun(tmp_path, monkeypatch) -> Path:
    """The folder of a run that has begun."""
    from memjax.command import _runs

    monkeypatch.chdir(tmp_path)
    with _runs.begin([Path("run")], cli.Fit(checkpoint_every=16, capacity=9), "memjax fit"):
        pass
    return Path("run")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"format": 3, "memjax": "9.1"}, "expected format 2, got that of memjax 9.1"),
        ({"format": None}, "expected format 2"),
        ({"command": "another"}, "is not as it was saved, by the sha256 in it"),
        ({"options": {"checkpoint_every": 16}}, "is not as it was saved"),
        ({"options": []}, "cannot be read as the options of a run"),
        ({"sha256": 0}, "is not as it was saved"),
    ],
)
def test_options_that_are_not_as_they_were_saved_are_refused(change, says, begun, capsys):
    edit(begun / "options.json", **change)
    for command in (["fit", "--resume", "run"], ["check", "run"]):
        status, out, err = ask(capsys, *command)
        assert status == (1 if command[0] == "check" else 2)
        assert out == "" and re.search(f"options.json: .*{says}", err)


@pytest.mark.parametrize("name", ["answers", "checkpoints", "network", "growth.png"])
def test_a_run_that_goes_on_writes_to_no_place_outside_of_it(name, begun, tmp_path, capsys):
    (tmp_path / "outside").write_text("mine")
    (begun / name).symlink_to(tmp_path / "outside")
    status, _, err = ask(capsys, "fit", "--resume", "run")
    assert status == 2 and f"run/{name}: expected a file of the folder" in err
    assert (tmp_path / "outside").read_text() == "mine"


def test_answers_that_are_a_pipe_make_nobody_wait(begun, capsys):
    os.mkfifo(begun / "answers.npz")
    status, _, err = ask(capsys, "fit", "--resume", "run")
    assert status == 2 and "run/answers.npz: expected a regular file" in err


def test_options_that_are_made_to_hurt_are_refused(begun, capsys):
    nested = '{"format": 2, "command": ' + "[" * 900 + "]" * 900 + ', "options": {}}'
    for text in ("[" * 10_000 + "]" * 10_000, nested, '"' + "x" * 2**21 + '"'):
        (begun / "options.json").write_text(text)
        status, _, err = ask(capsys, "fit", "--resume", "run")
        assert status == 2 and re.fullmatch(r"memjax: run/options.json: [^\n]+\n", err)


def test_check_of_a_run_that_has_begun_checks_its_options_and_checkpoints(begun, learned, capsys):
    place = begun / "checkpoints"
    checkpoint.save_latest(place, BANK, PARAMS, learned, {"num_seen": 12})
    status, out, err = ask(capsys, "check", "run")
    assert (status, err) == (0, "")
    assert "options" in out and "examples_000000000000012" in out
    (file,) = place.glob("*/network/network.json")
    flip(file)
    assert ask(capsys, "check", "run")[0] == 1
