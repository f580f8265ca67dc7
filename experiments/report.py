"""Put all evidence on one page, made from the records alone.

    python -m experiments.report [--out FILE]
    python -m experiments.report --table NAME
    python -m experiments.report --write

The first command builds one HTML page with everything inside: for every experiment with records
its question, its figure, its table, and where each record comes from. The second prints the table
of one experiment in Markdown. The third puts these tables into README and the pages of the
documentation, between ``<!-- table: NAME -->`` and ``<!-- end -->``, and draws the pictures there.
The same records make the same bytes.
"""

import argparse
import base64
import hashlib
import html
import inspect
import io
import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

from markdown import markdown

from experiments import (
    ablation,
    columnar,
    continual,
    deformed,
    drift,
    endless,
    energy,
    few_shot,
    merge,
    one_shot,
    order,
    paper,
    pareto,
    peers,
    robust,
    rule,
    scale,
    soak,
    speed,
    trust,
)
from experiments.records import markdown_table

EXPERIMENTS = {
    experiment.__name__.removeprefix("experiments."): experiment
    for experiment in (
        paper,
        pareto,
        peers,
        columnar,
        deformed,
        few_shot,
        one_shot,
        continual,
        drift,
        order,
        merge,
        robust,
        trust,
        rule,
        ablation,
        energy,
        speed,
        scale,
        endless,
        soak,
    )
}
"""The experiments by name, in the order of the page."""

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
"""Where tables may stand."""

PICTURES = {
    name: ROOT / "docs" / "images" / file
    for name, file in {
        "pareto": "evidence.png",
        "columnar": "sizes.png",
        "speed": "speed.png",
        "scale": "scale.png",
        "trust": "trust.png",
    }.items()
}
"""The pictures in README and the documentation, by the experiment that draws them."""

MARKED = re.compile(r"<!-- table: (\S+) -->\n(.*?)<!-- end -->", re.DOTALL)

_ABOUT = """
memjax is a JAX library of Memory Networks: neurons that store and adjust memories learn to see in
one pass over the data, without backpropagation and without convolution. It reconstructs the
network of Ruiz and Gupta, *Memory Networks: Towards Fully Biologically Plausible Learning*, 2024,
arXiv 2409.17282.

This whole page is made from the records in `experiments/results`, and each record names the command
that measured it. Click the head of a column to sort its table.
"""


def page() -> str:
    """Return the page in HTML. It loads nothing else."""
    measured = {name: each.records() for name, each in EXPERIMENTS.items()}
    measured = {name: records for name, records in measured.items() if records}
    contents = "\n".join(
        f'<li><a href="#{name}">{_question(EXPERIMENTS[name])}</a></li>' for name in measured
    )
    sections = "\n".join(map(_section, measured, measured.values()))
    style, script = (Path(__file__).with_suffix(end).read_text() for end in (".css", ".js"))
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>memjax: the evidence</title>
<style>
{style}</style>
</head>
<body>
<header>
<h1>memjax: the evidence</h1>
{markdown(_ABOUT)}
<nav aria-label="Experiments">
<ol>
{contents}
</ol>
</nav>
</header>
<main>
{sections}
</main>
<script>
{script}</script>
</body>
</html>
"""


def digest(records: list[dict[str, Any]]) -> str:
    """Return a hash by which these records are known."""
    return hashlib.sha256(json.dumps(records, sort_keys=True).encode()).hexdigest()


def seeds_of(part: Any) -> set[int]:
    """Return all values with the name "seed" in a record, or in a part of one.

    Example:
        >>> sorted(seeds_of({"runs": [{"seed": 1}, {"seed": 0}]}))
        [0, 1]
    """
    if isinstance(part, dict):
        own = {part["seed"]} if "seed" in part else set()
        return own.union(*map(seeds_of, part.values()))
    return set().union(*map(seeds_of, part)) if isinstance(part, list) else set()


def with_tables(text: str) -> str:
    """Return a page of Markdown with the tables of the records between its markers.

    Raises:
        ValueError: a marker names no experiment.
    """
    return MARKED.sub(lambda marked: _marked(marked[1]), text)


def write() -> None:
    """Put the tables into README and the documentation, and draw the pictures there."""
    for file in PAGES:
        file.write_text(with_tables(file.read_text()))
    for name, file in PICTURES.items():
        records = EXPERIMENTS[name].records()
        about = {"Records": digest(records), "Software": None}
        EXPERIMENTS[name].figure(records).savefig(file, dpi=120, metadata=about)


def _marked(name: str) -> str:
    if name not in EXPERIMENTS:
        known = ", ".join(EXPERIMENTS)
        raise ValueError(f"a marker must name a table, one of {known}; got {name!r}")
    return f"<!-- table: {name} -->\n{_table(name)}\n<!-- end -->"


def _table(name: str) -> str:
    experiment = EXPERIMENTS[name]
    return experiment.table(experiment.records())


def _question(experiment: ModuleType) -> str:
    line, _, _ = (experiment.__doc__ or "").partition("\n")
    return html.escape(line.removesuffix("."))


def _section(name: str, records: list[dict[str, Any]]) -> str:
    experiment = EXPERIMENTS[name]
    _, _, text = inspect.cleandoc(experiment.__doc__ or "").partition("\n")
    return f"""<section id="{name}">
<h2>{_question(experiment)}</h2>
{markdown(text)}
<figure class="scroll" role="region" aria-label="Figure: {name}" tabindex="0">
<img alt="What the table below says, drawn" src="{_drawn(experiment.figure(records))}">
</figure>
{_scrolled(f"Table: {name}", experiment.table(records))}
<details>
<summary>Where it comes from: commands, seeds, devices, packages ({len(records)} records)</summary>
{_scrolled(f"Records: {name}", _origins(records))}
</details>
</section>"""


def _drawn(figure: Any) -> str:
    """Return a figure as a data address: an SVG that the styles of the page do not reach."""
    from matplotlib import rc_context

    picture = io.BytesIO()
    with rc_context({"svg.hashsalt": "memjax"}):
        figure.savefig(picture, format="svg", metadata={"Date": None})
    return f"data:image/svg+xml;base64,{base64.b64encode(picture.getvalue()).decode()}"


def _scrolled(label: str, table: str) -> str:
    return f"""<div class="scroll" role="region" aria-label="{label}" tabindex="0">
{markdown(table, extensions=["tables"])}
</div>"""


def _origins(records: list[dict[str, Any]]) -> str:
    return markdown_table(
        {
            "command": f"`{record['command']}`",
            "seeds": ", ".join(map(str, sorted(seeds_of(record)))),
            "device": record["device"],
            "packages": ", ".join(f"{name} {each}" for name, each in record["versions"].items()),
        }
        for record in records
    )


def main(arguments: list[str] | None = None) -> None:
    """Build the page, print one table, or write all tables into the documentation."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--out",
        type=Path,
        default=Path("report.html"),
        metavar="FILE",
        help="build the page as FILE",
    )
    what.add_argument(
        "--table", choices=tuple(EXPERIMENTS), metavar="NAME", help="print this table"
    )
    what.add_argument(
        "--write", action="store_true", help="write the tables and pictures of the documentation"
    )
    chosen = parser.parse_args(arguments)
    if chosen.table:
        print(_table(chosen.table))
    elif chosen.write:
        write()
    else:
        chosen.out.write_text(page())


if __name__ == "__main__":
    main()
