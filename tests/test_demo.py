"""The page of ``memjax demo``: its steps, its session, and what its addresses let through."""

import asyncio
import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest
from commands import run_command

import memjax
from memjax import checkpoint, evaluation
from memjax.command import _runs as runs
from memjax.demo import _beginnings, _knowledge, _session, _steps

pytest.importorskip("orbax.checkpoint")
_app = pytest.importorskip("memjax.demo._app", reason="the page needs starlette and uvicorn")

STATIC = Path(_app.__file__).parent / "static"


@pytest.fixture(scope="module")
def known(images, labels) -> _knowledge.Knowledge:
    """Three classes of small images, with room for more."""
    network, params = memjax.memory_network((6, 6, 1), 3, capacity=100, encoder="pixels")
    params, state, _ = memjax.learn(network, params, images, labels)
    first = _knowledge.Knowledge(network, params, state, ("a", "b", "c"), {}, "images", None)
    numbers = _knowledge.banks(first).numbers.tolist()
    pictures = {number: _knowledge.picture(images[number]) for number in numbers}
    return _knowledge.with_room(first._replace(pictures=pictures))


@pytest.fixture(scope="module")
def new() -> np.ndarray:
    """40 images that are unlike all that was learned, and unlike each other."""
    return np.random.default_rng(8).integers(0, 256, (40, 6, 6, 1), np.uint8)


def session_of(knowledge: Any) -> _session.Session:
    session = _session.Session(lambda: knowledge)
    deadline = time.monotonic() + 60
    while True:
        try:
            assert session.now
            return session
        except _session.NotReadyError:
            assert time.monotonic() < deadline
            time.sleep(0.02)


def answers(known: _knowledge.Knowledge, images: np.ndarray) -> np.ndarray:
    return memjax.predict(known.network, known.params, known.state, images)


def test_room_for_more_changes_no_answer(known, images):
    assert known.network.output_shape == (32,)
    plain = _knowledge.without_room(known)
    assert plain[0].output_shape == (3,)
    shares = memjax.predict_proba(known.network, known.params, known.state, images)
    np.testing.assert_allclose(shares[:, :3], memjax.predict_proba(*plain, images), atol=1e-6)


def test_one_drawing_teaches_a_new_class_and_changes_no_other_memory(known, new):
    after, said = _steps.teach(known, new[0], "  star ")
    assert said == "“star”: 1 stored, 0 others changed."
    assert after.names == ("a", "b", "c", "star")
    before, now = _knowledge.banks(known), _knowledge.banks(after)
    assert len(now.rows) == len(before.rows) + 1
    for one, other in zip(before, now, strict=True):
        np.testing.assert_array_equal(one, other[:-1])
    answer = _steps.answer(after, new[0])
    assert answer["label"] == 3
    assert answer["voters"][0]["label"] == 3
    assert answer["novelty"] < _steps.answer(known, new[0])["novelty"]


def test_teaching_is_what_resize_and_fit_do(known, new):
    after, _ = _steps.teach(known, new[0], "star")
    network, params, state = memjax.resize(*_knowledge.without_room(known), num_classes=4)
    state, _ = memjax.fit(network, params, state, new[:1], np.array([3]))
    assert checkpoint.state_digest(_knowledge.without_room(after)[2]) == checkpoint.state_digest(
        state
    )


def test_what_a_lesson_says_is_what_it_did(known, images, labels):
    for image, label in zip(images[:12], labels[:12], strict=True):
        after, said = _steps.teach(known, image, known.names[(label + 1) % 3])
        before, now = known.state[1], after.state[1]
        is_changed = np.any(before.votes != now.votes, axis=1)
        stored = int(now.size) - int(before.size)
        assert f": {stored} stored, {is_changed.sum() - stored} " in said


@pytest.mark.parametrize("name", ["", "  ", "x" * 41, "a\0b", 7, None, ["a"]])
def test_a_class_needs_a_name_that_can_be_shown(known, new, name):
    with pytest.raises(ValueError, match="name"):
        _steps.teach(known, new[0], name)


def test_a_name_is_that_of_the_class_whatever_its_case(known, new):
    after, _ = _steps.teach(known, new[0], "Stern")
    assert _steps.teach(after, new[1], "STERN")[0].names == after.names


def test_a_class_that_is_forgotten_leaves_all_other_answers_as_they_were(known, new, images):
    taught, _ = _steps.teach(known, new[0], "star")
    after, said = _steps.forget_class(taught, "star")
    assert said.startswith(
        "“star” is forgotten: 1 memory removed. All other memories are as before."
    )
    for one, other in zip(_knowledge.banks(known), _knowledge.banks(after), strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(answers(after, images), answers(known, images))
    assert _steps.answer(after, new[0])["label"] != 3
    with pytest.raises(ValueError, match="nothing to forget"):
        _steps.forget_class(after, "star")
    with pytest.raises(ValueError, match="no class “moon”"):
        _steps.forget_class(after, "moon")


def test_forgetting_says_which_memories_keep_a_trace(known, images, labels):
    """An example of another class that is counted by a memory stays in its pattern."""
    for image, label in zip(images, labels, strict=True):
        after, said = _steps.teach(known, image, known.names[(label + 1) % 3])
        if ": 0 stored, 1 " in said:
            break
    name = known.names[(label + 1) % 3]
    votes = after.state[1].votes
    column = after.names.index(name)
    traces = int(np.sum((votes[:, column] > 0) & (np.argmax(votes, axis=1) != column)))
    assert traces
    _, said = _steps.forget_class(after, name)
    assert re.search(rf"\b{traces} memor(y|ies) of other classes", said)


def test_a_single_memory_is_forgotten_by_its_picture(known, images):
    found = _knowledge.banks(known)
    for row in (0, len(found.rows) // 2, len(found.rows) - 1):
        serial = known.pictures[int(found.numbers[row])].serial
        after, said = _steps.forget_memory(known, serial)
        assert said.startswith("1 memory removed")
        left = _knowledge.banks(after)
        np.testing.assert_array_equal(left.prototypes, np.delete(found.prototypes, row, 0))
        assert serial not in {picture.serial for picture in after.pictures.values()}
        with pytest.raises(ValueError, match="no longer there"):
            _steps.forget_memory(after, serial)


def test_every_memory_keeps_the_picture_that_it_was_stored_from(known, new):
    """Whatever is taught, forgotten and taught again: a memory of one example is its picture."""
    after = known
    for index in range(6):
        after, _ = _steps.teach(after, new[index], f"class {index % 4}")
    after, _ = _steps.forget_class(after, "class 1")
    after, _ = _steps.forget_memory(after, next(iter(after.pictures.values())).serial)
    after, _ = _steps.teach(after, new[7], "class 1")
    found = _knowledge.banks(after)
    assert set(after.pictures) == set(found.numbers.tolist())
    encoder = after.network.layers[0]  # type: ignore[attr-defined]
    alone = np.flatnonzero(found.counts == 1)
    assert len(alone) > 5
    for row in alone:
        pixels = after.pictures[int(found.numbers[row])].pixels
        np.testing.assert_allclose(encoder.recall((), (), pixels), found.prototypes[row], atol=1e-6)


def test_the_network_grows_by_as_many_classes_as_are_named(known, new):
    after = known
    for index in range(35):
        after, said = _steps.teach(after, new[index], f"class {index}")
        assert ": 1 stored, 0 others changed." in said
    assert len(after.names) == 38
    assert after.network.output_shape == (64,)
    assert answers(after, new[:35]).tolist() == list(range(3, 38))


def test_a_full_bank_grows_before_it_is_taught(known, new):
    network, params, state = memjax.resize(
        *known[:3], capacity=int(evaluation.num_memories(known.network, known.state))
    )
    full = known._replace(network=network, params=params, state=state)
    after, said = _steps.teach(full, new[0], "star")
    assert ": 1 stored, 0 others changed." in said
    assert memjax.num_memories(after.network, after.state) == len(full.pictures) + 1


def test_undo_restores_the_very_state(known, new):
    session = session_of(known)
    digests, versions = [session.digest()], [session.now.version]
    steps = [
        lambda k: _steps.teach(k, new[0], "star"),
        lambda k: _steps.teach(k, new[1], "star"),
        lambda k: _steps.forget_class(k, "a"),
        lambda k: (_steps.empty(k), "empty"),
    ]
    for index, step in enumerate(steps):
        session.step(f"step {index}", step)
        digests.append(session.digest())
        versions.append(session.now.version)
    assert len(set(digests)) == 5
    for index in (3, 2, 1, 0):
        assert session.overview(0)["undo"] == f"step {index}"
        assert session.undo()["said"] == f"Undone: step {index}."
        assert session.digest() == digests[index]
        versions.append(session.now.version)
    assert versions == sorted(set(versions))  # a tab can tell that something has changed
    assert session.now.knowledge is known
    with pytest.raises(ValueError, match="nothing to undo"):
        session.undo()


def test_a_step_that_fails_changes_nothing(known, new):
    session = session_of(known)
    before = session.now
    with pytest.raises(ValueError, match="name"):
        session.step("teaching", lambda k: _steps.teach(k, new[0], ""))
    assert session.now is before


def test_twenty_that_teach_at_once_lose_nothing(known, new):
    session = session_of(known)

    def teach(index):
        title = f"teaching {index}"
        session.step(title, lambda k: _steps.teach(k, new[index], f"class {index}"))

    threads = [threading.Thread(target=teach, args=(index,)) for index in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    after = session.now.knowledge
    assert sorted(after.names[3:]) == sorted(f"class {index}" for index in range(20))
    found = [after.names[label] for label in answers(after, new[:20])]
    assert found == [f"class {index}" for index in range(20)]
    for _ in range(20):
        session.undo()
    assert session.now.knowledge is known


@pytest.mark.long
def test_a_stream_that_is_played_is_learned_as_fit_learns_it():
    source = _knowledge.Source("digits", "train", 0)
    train = _beginnings.load_source(source)
    network, params = memjax.memory_network((8, 8, 1), 10, capacity=200)
    params = memjax.calibrate(network, params, train.images[:200], train.labels[:200])
    state = network.init(jax.random.key(0))
    empty = _knowledge.Knowledge(network, params, state, train.class_names, {}, "nothing", source)
    session = session_of(_knowledge.with_room(empty))
    session.play(True)
    deadline = time.monotonic() + 30
    while session.now.knowledge.position < 50 and time.monotonic() < deadline:
        time.sleep(0.02)
    session.play(False)
    now = session.now.knowledge
    assert now.position >= 50
    rows = slice(now.position)
    whole, infos = memjax.fit(
        now.network, now.params, now.network.init(jax.random.key(0)),
        train.images[rows], train.labels[rows], block_size=10,
    )  # fmt: skip
    assert checkpoint.state_digest(whole) == session.digest()
    np.testing.assert_array_equal(now.hits, np.asarray(infos.predicted) == train.labels[rows])
    session.undo()
    assert session.now.knowledge.position == 0
    session.close()


def test_a_saved_run_is_read_by_the_page_and_by_python(known, new, tmp_path):
    taught, _ = _steps.teach(known, new[0], "star")
    _beginnings.save_run(taught, tmp_path / "deeper" / "run")
    network, params, state, record = runs.load(tmp_path / "deeper" / "run")
    assert record["class_names"] == ["a", "b", "c", "star"]
    status, out, err = run_command("check", str(tmp_path / "deeper" / "run"), "--json")
    assert (status, json.loads(out)["is_whole"], err) == (0, True, "")
    assert memjax.predict(network, params, state, new[:1]).tolist() == [3]
    loaded = _beginnings.open_run(tmp_path / "deeper" / "run", (network, params, state, record))
    assert checkpoint.state_digest(loaded.state) == checkpoint.state_digest(taught.state)
    assert set(loaded.pictures) == set(taught.pictures)
    for number, picture in taught.pictures.items():
        np.testing.assert_array_equal(loaded.pictures[number].pixels, picture.pixels)
    assert [path.name for path in tmp_path.iterdir()] == ["deeper"]
    with pytest.raises(FileExistsError, match="already"):
        _beginnings.save_run(taught, tmp_path / "deeper" / "run")


def test_a_run_without_images_shows_those_that_it_learned_or_sketches(known, tmp_path):
    digits = memjax.datasets.load("digits", "train", seed=4)
    network, params = memjax.memory_network((8, 8, 1), 10, capacity=50)
    params, state, _ = memjax.learn(network, params, digits.images[:100], digits.labels[:100])
    record = {"class_names": digits.class_names, "dataset": "digits", "seed": 4}
    found = _beginnings.open_run(tmp_path, (network, params, state, record))
    for number, picture in found.pictures.items():
        np.testing.assert_array_equal(picture.pixels, digits.images[number])
    unknown = record | {"dataset": "a folder of mine"}
    found = _beginnings.open_run(tmp_path, (network, params, state, unknown))
    assert found.source is None
    shapes = {picture.pixels.shape for picture in found.pictures.values()}
    assert len(found.pictures) == 50 and shapes == {(8, 8, 1)}


@pytest.mark.long
def test_colours_are_taught_in_all_banks_and_forgotten_by_class(new):
    images = np.random.default_rng(0).integers(0, 256, (31, 16, 16, 3), np.uint8)
    network, params = memjax.memory_network((16, 16, 3), 2, capacity=40, encoder="pixels")
    params, state, _ = memjax.learn(network, params, images[:30], np.arange(30) % 2)
    record = {"class_names": ["a", "b"]}
    known = _beginnings.open_run(Path("no such folder"), (network, params, state, record))
    after, said = _steps.teach(known, images[30], "star")
    assert said == "“star”: 3 stored, 0 others changed."
    answer = _steps.answer(after, images[30])
    assert answer["label"] == 2
    assert len({voter["memory"] for voter in answer["voters"]}) == len(answer["voters"])
    with pytest.raises(ValueError, match="forget a class"):
        _steps.forget_memory(after, answer["voters"][0]["memory"])
    _, said = _steps.forget_class(after, "star")
    assert "3 memories removed" in said


def test_a_network_without_memories_can_be_asked_and_says_that_it_cannot_be_taught(new):
    network, params = memjax.columnar_network((8, 8, 1), 2, size="small")
    state = network.init(jax.random.key(0))
    record = {"class_names": ["a", "b"]}
    known = _beginnings.open_run(Path("no such folder"), (network, params, state, record))
    image = np.zeros((8, 8, 1), np.uint8)
    assert _steps.answer(known, image)["voters"] == []
    with pytest.raises(ValueError, match="cannot teach it"):
        _steps.teach(known, image, "star")


class Answer(NamedTuple):
    """What an address answered."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclasses.dataclass
class Client:
    """Asks an ASGI application directly."""

    app: Any
    token: str = "a-token"

    def __call__(
        self,
        address: str,
        body: Any = None,
        token: str | None = None,
        **headers: str,
    ) -> Answer:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        path, _, query = address.partition("?")
        given = {"host": "127.0.0.1:8000"} | headers
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "GET" if body is None else "POST",
            "scheme": "http",
            "path": f"/{self.token if token is None else token}/{path}",
            "query_string": query.encode(),
            "headers": [(name.encode(), value.encode()) for name, value in given.items()],
        }
        parts = [{"type": "http.request", "body": content, "more_body": False}]
        sent = []

        async def receive():
            return parts.pop() if parts else {"type": "http.disconnect"}

        async def send(message):
            sent.append(message)

        asyncio.run(self.app(scope, receive, send))
        found = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        whole = b"".join(message.get("body", b"") for message in sent[1:])
        return Answer(sent[0]["status"], found, whole)


@pytest.fixture
def client(known, tmp_path) -> Client:
    site = _app.Site(session_of(known), tmp_path / "runs", runs.load)
    return Client(site.app("a-token", "127.0.0.1"))


def test_a_page_answers_teaches_forgets_and_undoes(client, new):
    bank = client("bank?version=0").json
    digest = client("digest").json
    image = new[0].tobytes()
    assert client("teach", {"image": image.hex(), "name": "<b>star</b>"}).json["said"] == (
        "“<b>star</b>”: 1 stored, 0 others changed."
    )
    answer = client("answer", image).json
    names = client(f"bank?version={bank['version']}").json["names"]
    assert names[answer["label"]] == "<b>star</b>"
    (serial,) = {voter["memory"] for voter in answer["voters"] if voter["label"] == 3}
    assert client("pictures", {"serials": [serial, 10**9]}).body == image + bytes(36)
    assert client("forget", {"memory": serial}).status == 200
    assert client("answer", image).json["label"] != 3
    for _ in range(2):
        client("undo", {})
    assert client("digest").json == digest
    assert client(f"bank?version={client('bank').json['version']}").json.keys() == {
        "version",
        "plays",
    }


def test_a_page_saves_and_loads_in_its_folder_only(client, new, tmp_path):
    client("teach", {"image": new[0].tobytes().hex(), "name": "star"})
    assert client("save", {"name": "with star"}).status == 200
    assert client("undo", {}).status == 200
    assert client("runs").json["names"] == ["with star"]
    assert client("load", {"name": "with star"}).status == 200
    assert "star" in client("bank").json["names"]
    for name in ("../out", "a/b", "/out", "..", ".", "", ".hidden", "a\0", "x" * 101, 5, None):
        assert client("save", {"name": name}).status == 400
        assert client("load", {"name": name}).status == 400
    assert client("load", {"name": "not there"}).status == 400
    assert client("save", {"name": "with star"}).status == 400
    assert [path.name for path in tmp_path.rglob("*") if path.parent.name == "runs"] == [
        "with star"
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


@pytest.mark.parametrize(
    ("address", "body", "status"),
    [
        ("answer", b"too short", 400),
        ("answer", b"x" * (2 << 20), 413),
        ("answer", b"", 400),
        ("teach", b"no json", 400),
        ("teach", [], 400),
        ("teach", {}, 400),
        ("teach", {"image": "zz", "name": "a"}, 400),
        ("teach", {"image": "00" * 36}, 400),
        ("teach", {"image": "00" * 36, "name": "x" * 1000}, 400),
        ("teach", {"image": 3, "name": "x"}, 400),
        ("teach", b"\xff\xfe", 400),
        ("forget", {}, 400),
        ("forget", {"memory": "x"}, 400),
        ("forget", {"memory": [1]}, 400),
        ("forget", {"name": {}}, 400),
        ("pictures", {"serials": "all"}, 400),
        ("pictures", {"serials": [[]]}, 400),
        ("pictures", {"serials": [0] * 100_000}, 400),
        ("play", {"on": True}, 400),
        ("undo", {}, 400),
        ("bank?version=-1", None, 400),
        ("bank?version=²", None, 400),
        ("example", None, 400),
    ],
)
def test_bad_input_gets_a_sentence_and_the_page_lives_on(client, new, address, body, status):
    found = client(address, body)
    assert found.status == status
    assert re.fullmatch(r"[A-Z“a-z].*\.", found.json["error"])
    assert client("answer", new[0].tobytes()).status == 200


def test_only_the_page_itself_is_let_in(client):
    assert client("").status == 200
    assert client("", token="another").status == 404
    assert client("", token="").status == 404
    assert client("bank", token="töken").status == 404
    assert client("", host="localhost:8000").status == 200
    for host in ("evil.example", "evil.example:8000", "127.0.0.1.evil.example", "10.0.0.1:80", ""):
        assert client("bank", host=host).status == 421
    for origin in (
        "http://evil.example",
        "null",
        "http://127.0.0.1:9999",
        "https://127.0.0.1:8000",
    ):
        assert client("undo", {}, origin=origin).status == 403
    assert client("undo", {}, origin="http://127.0.0.1:8000").json["error"].startswith("There is")


def test_every_answer_forbids_what_the_page_does_not_need(client):
    for found in (client(""), client("bank"), client("", token="another"), client("page.js")):
        policy = found.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "script-src 'self'" in policy
        assert "unsafe" not in policy
        assert found.headers["referrer-policy"] == "no-referrer"
        assert found.headers["x-content-type-options"] == "nosniff"


def test_a_page_asks_nothing_of_another_host_and_writes_no_markup():
    files = [path for path in STATIC.iterdir() if path.suffix in (".html", ".css", ".js")]
    assert len(files) >= 8
    for path in files:
        text = path.read_text()
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text), path
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", text)


def test_a_page_says_that_the_network_is_still_learned_or_could_not_be():
    goes_on = threading.Event()
    failing = threading.excepthook
    threading.excepthook = lambda _: None
    try:

        def begin():
            goes_on.wait(10)
            raise ValueError("no such thing.")

        session = _session.Session(begin)
        client = Client(_app.Site(session, Path("runs"), runs.load).app("a-token", "127.0.0.1"))
        assert client("bank").json == {"version": 0, "failure": None}
        assert client("answer", b"x").status == 503
        goes_on.set()
        deadline = time.monotonic() + 10
        while client("bank").json["failure"] is None and time.monotonic() < deadline:
            time.sleep(0.01)
        assert "no such thing" in client("answer", b"x").json["error"]
    finally:
        threading.excepthook = failing


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_page_in_one_line(number, tmp_path):
    """Also while a thread compiles."""
    process = subprocess.Popen(
        [sys.executable, "-m", "memjax", "demo", "--dataset", "digits"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(memjax.__file__).parents[1])},
    )
    assert process.stdout is not None
    assert "http://127.0.0.1" in process.stdout.readline()
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert re.fullmatch(r"memjax: [^\n]+\.\n", err)


@pytest.mark.long
def test_held_out_digits_are_familiar_and_clothes_were_never_seen(mnist):
    script = (STATIC / "show.js").read_text()
    unusual, never_seen = (
        float(re.search(rf"const {name} = ([\d.]+);", script)[1])  # type: ignore[index]
        for name in ("UNUSUAL", "NEVER_SEEN")
    )
    learned, held_out, clothes = (
        memjax.datasets.load(name, split)
        for name, split in (
            ("mnist", "train_without_validation"),
            ("mnist", "validation"),
            ("fashion_mnist", "validation"),
        )
    )
    network, params = memjax.memory_network((28, 28, 1), 10)
    params, state, _ = memjax.learn(network, params, learned.images[:5000], learned.labels[:5000])
    ask = partial(memjax.novelty_score, network, params, state)
    assert np.mean(ask(held_out.images[:3000]) < unusual) > 0.95
    assert np.mean(ask(held_out.images[:3000]) >= never_seen) < 0.01
    assert np.mean(ask(clothes.images[:3000]) >= never_seen) > 0.99
