"""The page of a run: one file of HTML with everything inside, which needs no script."""

import base64
import html
import io
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from memjax import evaluation
from memjax.base import Layer
from memjax.command._talk import SECONDS, percent
from memjax.datasets import Dataset
from memjax.evaluation import Evaluation, Explanation
from memjax.plotting._images import as_rgb, banks_of, look_of
from memjax.plotting._pictures import colours_of, evidence_of

_MOST_ASKED = 2000  # images of the test
_MOST_MISTAKES = 12
_MOST_SURPRISING = 24
_FIGURES = {
    "memories.png": ("Memories", "What the network remembers, by label."),
    "film.gif": ("Film", "How the memories filled up."),
    "growth.png": ("Growth", "The memories, and the accuracy before learning, over the stream."),
    "confusion.png": ("Confusion", "How often each label got each answer."),
}


class Asked(NamedTuple):
    """Images of the test that were asked again, for the reasons of the answers."""

    images: np.ndarray  # [n, H, W, channels]
    labels: np.ndarray  # int32 [n]
    answers: np.ndarray  # int32 [n]
    num_mistakes: int  # of the whole test
    explanation: Explanation | None  # None for a network whose answers have no such reasons


def ask(network: Layer, params: Any, state: Any, test: Dataset, result: Evaluation) -> Asked:
    """Ask for the memories behind answers: to all mistakes first, and to 2,000 images at most.

    Of several processes each asks for its own part of the test.
    """
    predicted = np.asarray(result.predicted)
    chosen = np.argsort(predicted == test.labels, kind="stable")[:_MOST_ASKED]
    images, explanation = test.images[chosen], None
    if network.banks(params, state):
        explanation = evaluation.explain(network, params, state, images)
    num_mistakes = int(result.confusion.sum() - np.trace(result.confusion))
    return Asked(images, test.labels[chosen], predicted[chosen], num_mistakes, explanation)


def write_report(
    folder: Path,
    network: Layer,
    state: Any,
    record: dict[str, Any],
    asked: Asked | None,
    images: Any,
) -> None:
    """Write ``report.html`` into a folder with the figures of a run."""
    names = [*map(str, record["class_names"]), "no answer"]  # an answer of -1 is the last
    sections = [_numbers(record)]
    if asked is not None:
        sections += [_mistakes(network, state, asked, images, names), _surprises(asked, names)]
    sections += [
        *(_figure(folder / file, *about) for file, about in _FIGURES.items()),
        _details(record),
    ]
    title = (
        f"{record['dataset']}: {percent(record['test_accuracy'])} of {record['num_test']:,} right"
    )
    page = _PAGE.format(
        style=_STYLE,
        title=html.escape(title),
        command=html.escape(record["command"]),
        sections="\n".join(filter(None, sections)),
    )
    (folder / "report.html").write_text(page, encoding="utf-8")


def _numbers(record: dict[str, Any]) -> str:
    numbers = {
        f"{record['test_split']} accuracy": percent(record["test_accuracy"]),
        "accuracy before learning": percent(record["prequential_accuracy"]),
        "memories": f"{record['num_memories']:,}",
        "examples learned": f"{record['num_train']:,}",
    }
    tiles = (
        f"<div><dt>{html.escape(name)}</dt><dd>{number}</dd></div>"
        for name, number in numbers.items()
    )
    seconds = (f"{name} {record[key]:.1f} s" for key, name in SECONDS.items() if key in record)
    return f"<section><dl>{''.join(tiles)}</dl><p>{', '.join(seconds)}</p></section>"


def _mistakes(network: Layer, state: Any, asked: Asked, images: Any, names: list[str]) -> str:
    wrong = np.flatnonzero(asked.labels != asked.answers).tolist()
    reasons = {}
    if asked.explanation is not None:
        banks = banks_of(network, state)
        for index in wrong:
            one = Explanation(*(part[index : index + 1] for part in asked.explanation))
            reasons[index] = banks, one, *evidence_of(banks, one)
        # The surest are the most telling.
        wrong.sort(key=lambda index: -reasons[index][-1].max())
    cards = [
        _mistake(asked, index, names, _voters(reasons[index], images, names) if reasons else "")
        for index in wrong[:_MOST_MISTAKES]
    ]
    about = f"{len(cards)} of {asked.num_mistakes:,}"
    about += ", the surest first, each with the memories that voted." if reasons else "."
    return _section("Mistakes", about, f'<div class="cards">{"".join(cards)}</div>')


def _mistake(asked: Asked, index: int, names: list[str], voters: str) -> str:
    label, answer = (
        html.escape(names[asked.labels[index]]),
        html.escape(names[asked.answers[index]]),
    )
    picture = _picture(asked.images[index], f"an image of {label}", "asked")
    return f"""<article>{picture}<p>answered <b>{answer}</b><br>is {label}</p>{voters}</article>"""


def _voters(reason: tuple[Any, ...], images: Any, names: list[str]) -> str:
    """Return the memories that voted on one image, each framed in the colour of its label."""
    banks, one, shares, evidence = reason
    colours, rows = colours_of(evidence), []
    for bank, *votes in zip(banks, one.memories[0], one.labels[0], shares, strict=True):
        figures = []
        for memory, label, share in zip(*votes, strict=True):
            if share > 0:
                name = html.escape(names[label])
                picture = _picture(look_of(bank, memory, images), f"a memory of {name}", "voter")
                colour = colours.get(int(label), "#888")
                figures.append(
                    f'<figure style="--frame:{colour}">{picture}'
                    f"<figcaption>{name}<br>{100 * share:.0f} %</figcaption></figure>"
                )
        rows.append(f'<div class="voters">{"".join(figures)}</div>')
    return "".join(rows)


def _surprises(asked: Asked, names: list[str]) -> str:
    if asked.explanation is None:
        return ""
    nearest = asked.explanation.distances[:, :, 0]
    # Banks may measure on different scales.
    surprise = (nearest / np.maximum(np.median(nearest, axis=0), 1e-9)).mean(axis=1)
    figures = []
    for index in np.argsort(-surprise, kind="stable")[:_MOST_SURPRISING]:
        label, answer = (html.escape(names[row[index]]) for row in (asked.labels, asked.answers))
        picture = _picture(asked.images[index], f"an image of {label}", "voter")
        verdict = "" if label == answer else f"<br>answered<br>{answer}"
        figures.append(f"<figure>{picture}<figcaption>{label}{verdict}</figcaption></figure>")
    about = f"Of {len(nearest):,} images of the test, those farthest from all memories."
    return _section("Most surprising", about, f'<div class="voters">{"".join(figures)}</div>')


def _figure(file: Path, name: str, about: str) -> str:
    if not file.is_file():
        return ""
    source = _data(file.suffix[1:], file.read_bytes())
    return _section(name, about, f'<img class="figure" alt="{about}" src="{source}">')


def _details(record: dict[str, Any]) -> str:
    rows = "".join(
        f"<tr><th>{html.escape(name)}</th><td>{html.escape(str(value))}</td></tr>"
        for name, value in record.items()
    )
    return f"<details><summary>The record</summary><table>{rows}</table></details>"


def _section(name: str, about: str, content: str) -> str:
    return f"<section><h2>{name}</h2><p>{about}</p>{content}</section>"


def _picture(image: np.ndarray, name: str, kind: str) -> str:
    from PIL import Image

    written = io.BytesIO()
    Image.fromarray(as_rgb(image)).save(written, "PNG")
    return f'<img class="{kind}" alt="{name}" src="{_data("png", written.getvalue())}">'


def _data(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


_STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #57606a; --page: #fff; --card: #f3f5f7;
  --line: #d5dbe1; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ec; --soft: #a3adb8; --page: #14171a; --card: #1f2429; --line: #39424a; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 72rem; padding: 1rem; background: var(--page); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: .5rem 0; }
h2 { font-size: 1.2rem; margin: 2rem 0 0; }
section > p, header p { color: var(--soft); margin: 0 0 .75rem; }
code { overflow-wrap: anywhere; }
dl { display: grid; gap: .5rem; grid-template-columns: repeat(auto-fill, minmax(9.5rem, 1fr)); }
dl div, article { background: var(--card); border-radius: .4rem; padding: .6rem .8rem; }
dt { color: var(--soft); font-size: .85rem; }
dd { font-size: 1.25rem; margin: 0; }
img { image-rendering: pixelated; }
.cards { display: grid; gap: .75rem;
  grid-template-columns: repeat(auto-fill, minmax(min(21rem, 100%), 1fr)); }
article { display: flex; flex-wrap: wrap; align-items: center; gap: .75rem; min-width: 0; }
article p { margin: 0; line-height: 1.3; }
.asked { width: 4.5rem; }
.voters { display: flex; flex-wrap: wrap; gap: .3rem; }
.voter { width: 100%; }
figure { margin: 0; width: 2.6rem; }
figure .voter { border: 3px solid var(--frame, transparent); display: block; }
section > .voters figure { width: 4rem; }
figcaption { font-size: .75rem; line-height: 1.2; overflow: hidden; text-align: center;
  text-overflow: ellipsis; white-space: nowrap; }
.figure { background: #fff; border-radius: .4rem; height: auto; image-rendering: auto;
  max-width: min(100%, 60rem); padding: .4rem; }
details { margin: 2rem 0; }
summary { cursor: pointer; }
table { border-collapse: collapse; margin-top: .5rem; width: 100%; }
th, td { border-top: 1px solid var(--line); font-size: .85rem; overflow-wrap: anywhere;
  padding: .3rem .5rem .3rem 0; text-align: left; vertical-align: top; }
th { font-weight: normal; color: var(--soft); min-width: 8rem; }
"""

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
<header><h1>{title}</h1><p><code>{command}</code></p></header>
<main>
{sections}
</main>
</html>
"""
