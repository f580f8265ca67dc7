"""The page of ``memjax demo`` in a real browser: drawn on, taught, undone, and made to forget."""

import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.request import urlopen

import numpy as np
import pytest
import strokes

import memjax
from memjax import datasets

for package in ("starlette", "uvicorn", "tyro", "orbax.checkpoint"):
    pytest.importorskip(package)
playwright = pytest.importorskip("playwright.sync_api", reason="needs the package playwright")
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(BROWSER is None, reason="there is no Chromium on the path"),
]

STAR = [(0.5, 0.1), (0.62, 0.38), (0.93, 0.4), (0.68, 0.6), (0.78, 0.9), (0.5, 0.72)]
STAR += [(0.22, 0.9), (0.32, 0.6), (0.07, 0.4), (0.38, 0.38), (0.5, 0.1)]
OTHER_STAR = [(0.52, 0.14), (0.6, 0.4), (0.9, 0.38), (0.66, 0.58), (0.76, 0.92), (0.5, 0.75)]
OTHER_STAR += [(0.2, 0.88), (0.33, 0.58), (0.1, 0.42), (0.4, 0.4), (0.52, 0.14)]
SEVEN = [(0.3, 0.2), (0.5, 0.19), (0.7, 0.2), (0.66, 0.35), (0.58, 0.55), (0.5, 0.85)]


class Served(NamedTuple):
    url: str
    process: subprocess.Popen
    seconds: float


def serve(folder: Path, *arguments: str) -> Generator[Served]:
    """The command itself, in a process of its own."""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-m", "memjax", "demo", "--folder", str(folder), *arguments]
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    try:
        found = re.search(r"http://127\.0\.0\.1:\d+/\S+/", process.stdout.readline())
        assert found
        yield Served(found.group(), process, time.perf_counter() - start)
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(20)
        finally:
            process.kill()
            process.stdout.close()


@pytest.fixture(scope="module")
def served(tmp_path_factory) -> Iterator[Served]:
    name = "mnist" if datasets.is_prepared("mnist") else "digits"
    yield from serve(tmp_path_factory.mktemp("demo") / "runs", "--dataset", name)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    quiet = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"]
    with playwright.sync_playwright() as running:
        yield running.chromium.launch(executable_path=BROWSER, args=quiet)


def open_page(browser: Any, served: Served, **options: Any) -> Any:
    page = browser.new_page(**({"viewport": {"width": 1400, "height": 1000}} | options))
    page.said = []
    page.on("console", lambda message: page.said.append(message.text))
    page.on("pageerror", lambda error: page.said.append(str(error)))
    page.goto(served.url)
    page.wait_for_selector("body[data-ready]", timeout=120_000)
    return page


@pytest.fixture
def page(browser, served) -> Iterator[Any]:
    """A page whose state is undone at the end; nothing may be said on its console."""
    page = open_page(browser, served)
    digest = digest_of(page)
    yield page
    page.evaluate("""async () => {
        const bank = await import('./bank.js');
        while ((await bank.overview(0)).undo) await bank.undo();
    }""")
    assert digest_of(page) == digest
    assert page.said == []
    page.close()


def wait(page: Any, condition: str) -> None:
    """Wait for a condition in JavaScript. The page's policy forbids Playwright's own way."""
    names = """const at = (id) => document.getElementById(id).textContent;
        const NOTHING = '\u2013'; """
    deadline = time.monotonic() + 60
    while not page.evaluate(f"(() => {{ {names} return {condition}; }})()"):
        assert time.monotonic() < deadline, condition
        page.wait_for_timeout(20)


def draw(page: Any, *lines: list[tuple[float, float]]) -> str:
    """Draw strokes with the mouse, and return the answer."""
    page.click("#clear")
    box = page.locator("#paper").bounding_box()
    for line in lines:
        points = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in line]
        page.mouse.move(*points[0])
        page.mouse.down()
        for point in points[1:]:
            page.mouse.move(*point)
        page.mouse.up()
    wait(page, "document.body.dataset.asking === 'no'")
    return page.inner_text("#label")


def do(page: Any, action: Any) -> str:
    """Take a step, and return what the page says of it."""
    for place in ("said", "failed"):
        page.evaluate(f"document.getElementById('{place}').textContent = ''")
    action()
    wait(page, "at('said') || at('failed')")
    wait(page, "document.body.dataset.asking === 'no'")
    return page.inner_text("#said") or page.inner_text("#failed")


def teach(page: Any, name: str) -> str:
    page.fill("#name", name)
    return do(page, lambda: page.click("#teach-button"))


def digest_of(page: Any) -> str:
    return page.evaluate("fetch('digest').then((answer) => answer.text())")


def test_a_seven_that_is_drawn_is_answered_by_sevens(page):
    assert draw(page, SEVEN) == "7"
    voters = page.locator("#voter-list li")
    assert 1 <= voters.count() <= 10
    assert "7" in voters.first.inner_text()
    seen = page.evaluate(
        "(() => { const c = document.getElementById('seen');"
        "return [c.width, Math.max(...c.getContext('2d').getImageData(0, 0, c.width, c.height).data"
        ".filter((_, i) => i % 4 === 0))] })()"
    )
    assert seen[0] in (8, 28) and seen[1] > 200
    # The digits of 8 pixels are of other hands, which write a seven otherwise.
    assert seen[0] == 8 or page.inner_text("#novelty") in ("familiar", "unusual")


def test_the_answer_follows_while_one_draws(page):
    box = page.locator("#paper").bounding_box()
    page.click("#clear")
    page.mouse.move(box["x"] + 100, box["y"] + 60)
    page.mouse.down()
    page.mouse.move(box["x"] + 100, box["y"] + 250, steps=5)
    wait(page, "at('label') !== NOTHING")
    page.mouse.up()


def test_a_star_is_taught_by_one_drawing_forgotten_and_given_back(page):
    before = [draw(page, SEVEN), draw(page, STAR)]
    assert "star" not in before
    assert teach(page, "star") == "“star”: 1 stored, 0 others changed."
    assert page.inner_text("#label") == "star"
    taught = digest_of(page)
    assert draw(page, OTHER_STAR) == "star"
    assert draw(page, SEVEN) == before[0]
    said = do(page, lambda: page.get_by_role("button", name="Forget the class star").click())
    assert said.startswith("“star” is forgotten: 1 memory removed.")
    assert page.get_by_role("button", name="Forget the class star").count() == 0
    assert [draw(page, SEVEN), draw(page, STAR)] == before
    do(page, lambda: page.click("#undo"))
    assert digest_of(page) == taught
    assert draw(page, OTHER_STAR) == "star"


def test_a_memory_is_chosen_and_forgotten(page):
    count = page.inner_text("#counts")
    tile = page.locator(".tiles button").first
    serial = tile.get_attribute("data-serial")
    tile.focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.dataset.serial") != serial
    page.keyboard.press("Enter")
    assert do(page, lambda: page.click("#memory-forget")).startswith("1 memory removed")
    assert page.inner_text("#counts") != count


def test_everything_is_done_by_the_keyboard_alone(page):
    page.focus("#paper")
    for key in ["ArrowUp"] * 4 + [" "] + ["ArrowDown"] * 8 + [" "]:
        page.keyboard.press(key)
    wait(page, "at('spoken')")
    assert page.inner_text("#label") == "1"
    page.focus("#name")
    page.keyboard.type("post")
    assert "“post”" in do(page, lambda: page.keyboard.press("Enter"))
    page.focus("#paper")
    page.keyboard.press("Escape")
    wait(page, "at('label') === NOTHING")


def test_mistakes_get_a_sentence_and_the_page_lives_on(page):
    page.click("#clear")
    assert "Draw something first" in do(page, lambda: page.click("#teach-button"))
    draw(page, SEVEN)
    assert teach(page, "   ") == "A class needs a name."
    file = {"name": "x.png", "mimeType": "image/png", "buffer": b"no image"}
    page.set_input_files("#file", file)
    wait(page, "at('failed').includes('image')")
    assert draw(page, SEVEN) == "7"


def test_an_image_is_dropped_and_pasted(page):
    script = """async () => {
        const canvas = Object.assign(document.createElement('canvas'), {width: 90, height: 60});
        const context = canvas.getContext('2d');
        context.fillStyle = 'white';
        context.fillRect(0, 0, 90, 60);
        context.fillStyle = 'black';
        context.fillRect(42, 8, 6, 44);
        const blob = await new Promise((done) => canvas.toBlob(done));
        const transfer = new DataTransfer();
        transfer.items.add(new File([blob], 'one.png', {type: 'image/png'}));
        document.dispatchEvent(EVENT);
    }"""
    for kind, field in (("DragEvent", "dataTransfer"), ("ClipboardEvent", "clipboardData")):
        page.click("#clear")
        name = "drop" if kind == "DragEvent" else "paste"
        made = f"new {kind}('{name}', {{{field}: transfer, cancelable: true}})"
        page.evaluate(script.replace("EVENT", made))
        wait(page, "at('label') !== NOTHING")
        # Dark lines on a light ground are inverted: what was learned is light on dark.
        assert page.inner_text("#label") == "1"


def test_a_name_is_shown_as_it_is_written(page):
    draw(page, STAR)
    name = "<img src=x onerror=alert(1)>"
    teach(page, name)
    assert page.inner_text("#label") == name
    assert page.locator("main img").count() == 0


def test_the_stream_plays_and_is_undone_as_one_step(page):
    digest, count = digest_of(page), page.inner_text("#counts")
    do(page, lambda: page.click("#play"))
    wait(page, f"at('counts') !== '{count}'")
    do(page, lambda: page.click("#play"))
    assert digest_of(page) != digest
    assert do(page, lambda: page.click("#undo")) == "Undone: the stream."
    assert digest_of(page) == digest


def test_what_is_saved_is_loaded_again(page):
    draw(page, STAR)
    teach(page, "star")
    digest = digest_of(page)
    page.click("#keep")
    page.fill("#save-name", "a star")
    assert do(page, lambda: page.keyboard.press("Enter")).startswith("Saved as ")
    do(page, lambda: page.click("#undo"))
    page.click("#keep")
    page.select_option("#load-name", "a star")
    assert do(page, lambda: page.click("#load button")) == "Loaded a star."
    assert digest_of(page) == digest
    assert draw(page, OTHER_STAR) == "star"


def test_twenty_tabs_that_teach_at_once_lose_nothing(page, browser, served):
    tabs = [open_page(browser, served) for _ in range(20)]
    images = np.random.default_rng(0).integers(0, 256, (20, 28 * 28), np.uint8)
    size = page.evaluate("document.getElementById('seen').width") ** 2
    script = """([pixels, name]) => {
        window.done = import('./bank.js').then((bank) => bank.teach(pixels, name));
    }"""
    for index, tab in enumerate(tabs):
        tab.evaluate(script, [images[index, :size].tolist(), f"tab {index}"])
    said = [tab.evaluate("window.done")["said"] for tab in tabs]
    assert said == [f"“tab {index}”: 1 stored, 0 others changed." for index in range(20)]
    names = json.loads(page.evaluate("fetch('bank').then((answer) => answer.text())"))["names"]
    assert set(names) >= {f"tab {index}" for index in range(20)}
    for tab in tabs:
        assert tab.said == []
        tab.close()
    page.bring_to_front()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_all_without_scrolling_sideways(browser, served, scheme):
    page = open_page(
        browser, served, viewport={"width": 390, "height": 844}, color_scheme=scheme, has_touch=True
    )
    assert draw(page, SEVEN) == "7"
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.said == []
    page.close()


def test_eighteen_of_twenty_digits_that_others_wrote_are_answered_right(page):
    """Digits of MNIST's test split, thinned to lines and drawn by the mouse."""
    if page.evaluate("document.getElementById('seen').width") != 28:
        pytest.skip("the page has not learned MNIST")
    test = datasets.load("mnist", "test", seed=0)
    right = 0
    for image, label in zip(test.images[:20], test.labels[:20], strict=True):
        lines = strokes.trace(image[..., 0])
        right += draw(page, *lines) == str(label)
    assert right >= 18


def test_a_command_that_is_interrupted_ends_quietly(tmp_path):
    command = serve(tmp_path, "--dataset", "digits")
    url, process, _ = next(command)
    urlopen(url, timeout=20).close()
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130
    command.close()


def test_a_command_with_a_mistake_ends_with_a_sentence(tmp_path, served):
    port = re.search(r":(\d+)/", served.url)
    assert port
    for arguments, said in [([str(tmp_path)], "record.json"), (["--port", port[1]], "--port")]:
        ended = subprocess.run(
            [sys.executable, "-m", "memjax", "demo", *arguments],
            capture_output=True, text=True, timeout=60,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
        )  # fmt: skip
        assert ended.returncode == 2
        assert said in ended.stderr and "Traceback" not in ended.stderr


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> tuple[Path, dict[str, Any]]:
    """The page of the documentation, and the bank that is in it."""
    pytest.importorskip("mkdocs")
    file = Path(__file__).parents[1] / "docs" / "hooks" / "draw.py"
    spec = importlib.util.spec_from_file_location("draw", file)
    assert spec is not None and spec.loader is not None
    draw = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(draw)
    folder = tmp_path_factory.mktemp("draw")
    for name, content in draw.page_files().items():
        (folder / name).write_text(content)
    return folder / "index.html", draw.exported_bank()


def test_the_page_without_a_server_answers_as_python_does(browser, built):
    """The same drawings, lessons and forgetting give the same answers, from a file on disk."""
    file, _ = built
    page = open_page(browser, Served(file.as_uri(), None, 0.0))  # type: ignore[arg-type]
    digits = datasets.load("digits", "train")
    test = datasets.load("digits", "test")
    network, params = memjax.memory_network((8, 8, 1), 10, encoder="pixels")
    params, state, _ = memjax.learn(network, params, digits.images, digits.labels)
    network, params, state = memjax.resize(network, params, state, num_classes=32)

    def compare(state: Any) -> None:
        images = test.images[:40]
        asked = (
            "async (all) => Promise.all(all.map((one) => bankModule.answer(Uint8Array.from(one))))"
        )
        found = page.evaluate(asked, images.reshape(40, 64).tolist())
        expected = memjax.predict_proba(network, params, state, images)
        shares = np.zeros_like(expected)
        for row, answer in enumerate(found):
            for label, share in answer["evidence"]:
                shares[row, label] = share
        np.testing.assert_allclose(shares, expected, atol=2e-5)
        assert [answer["label"] for answer in found] == expected.argmax(axis=1).tolist()
        novelty = memjax.novelty_score(network, params, state, images)
        np.testing.assert_allclose([answer["novelty"] for answer in found], novelty, atol=2e-4)

    compare(state)
    lessons = [(test.images[100 + i], int(test.labels[100 + i])) for i in range(30)]
    lessons += [(test.images[i], 10) for i in range(3)] + [(test.images[5], 4), (test.images[6], 4)]
    tell = "([pixels, name]) => bankModule.teach(Uint8Array.from(pixels), name)"
    for image, label in lessons:
        before = memjax.num_memories(network, state)
        state, _ = memjax.fit(network, params, state, image[None], np.array([label]))
        name = digits.class_names[label] if label < 10 else "star"
        said = page.evaluate(tell, [image.ravel().tolist(), name])["said"]
        assert f": {memjax.num_memories(network, state) - before} stored" in said
    compare(state)
    page.evaluate("bankModule.forgetClass('3')")
    compare(memjax.forget(network, state, label=3))
    page.evaluate("bankModule.undo()")
    compare(state)
    assert page.said == []
    page.close()


def test_the_page_without_a_server_is_drawn_on_and_taught(browser, built):
    page = open_page(browser, Served(built[0].as_uri(), None, 0.0))  # type: ignore[arg-type]
    assert draw(page, SEVEN) == "7"
    draw(page, STAR)
    assert teach(page, "star") == "“star”: 1 stored, 0 others changed."
    assert draw(page, OTHER_STAR) == "star"
    do(page, lambda: page.get_by_role("button", name="Forget the class star").click())
    assert draw(page, OTHER_STAR) != "star"
    do(page, lambda: page.click("#undo"))
    assert draw(page, OTHER_STAR) == "star"
    assert page.said == []
    page.close()
