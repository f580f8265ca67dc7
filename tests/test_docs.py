"""What the documentation prints runs as it is printed."""

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import griffe
import pytest
from mkdocs.exceptions import PluginError

import memjax

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.py"))
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *NOTEBOOKS]


def program(page: Path) -> str:
    """Return the Python of a page: its blocks, or the whole notebook."""
    text = page.read_text()
    if page in NOTEBOOKS:
        return text
    return "\n".join(re.findall(r"^```python\n(.*?)^```", text, re.S | re.M))


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, id=str(page.relative_to(ROOT)), marks=[pytest.mark.long] * (place > 0))
        for place, page in enumerate(filter(program, PAGES))
        if page.stem != "gallery"  # each of its programs runs by itself, below
    ],
)
def test_the_python_of_a_page_runs_as_one_program(page, tmp_path):
    (tmp_path / "page.py").write_text(program(page))
    result = subprocess.run(
        [sys.executable, "page.py"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr


@pytest.mark.long
def test_the_gallery_has_eight_pictures_each_of_a_short_program():
    gallery = runpy.run_path(str(ROOT / "docs" / "hooks" / "gallery.py"))
    text = (ROOT / "docs" / "gallery.md").read_text()
    programs = gallery["programs"](text)
    assert len(programs) == 8
    assert all(len(program.splitlines()) < 15 for program in programs)
    pictures = gallery["pictures"](programs)
    assert len(pictures) == 8
    for name, content in pictures.items():
        assert content.startswith(b"GIF8" if name.endswith(".gif") else b"\x89PNG"), name
    page = SimpleNamespace(file=SimpleNamespace(src_uri="gallery.md"))
    shown = gallery["on_page_markdown"](text, page)
    assert all(shown.count(f"](gallery/{name})") == 2 for name in pictures)


def rooms() -> set[str]:
    """Return the public modules and packages; private ones begin with an underscore."""
    files = [*(ROOT / "memjax").glob("*.py"), *(ROOT / "memjax").glob("*/__init__.py")]
    names = {path.parent.name if path.stem == "__init__" else path.stem for path in files}
    return {name for name in names if not name.startswith("_")} - {"memjax"}


def test_every_public_module_has_an_api_page():
    pages = {path.stem for path in (ROOT / "docs" / "api").glob("*.md")} - {"index"}
    assert pages == rooms()


def test_every_public_name_is_on_an_api_page():
    reader = griffe.load_extensions(f"{ROOT / 'docs/hooks/docstrings.py'}:Docstrings")
    package = griffe.load("memjax", search_paths=[ROOT], extensions=reader)
    for name in rooms() - {"command"}:  # its users write no Python
        module, page = package[name], (ROOT / "docs" / "api" / f"{name}.md").read_text()
        assert f"::: memjax.{name}\n" in page
        chosen = re.search(r"members: \[(.*)\]", page)
        assert module.exports, f"memjax.{name} does not say what is public"
        for public in map(str, module.exports):
            # mkdocstrings leaves out what has no docstring, and what a page does not choose.
            assert module[public].has_docstring, public
            assert chosen is None or public in chosen[1].split(", "), public


def test_the_table_of_the_api_names_everything_that_memjax_gives():
    table = (ROOT / "docs" / "api" / "index.md").read_text()
    for name in memjax.__all__:
        assert f"({name}.md)" in table if name in rooms() else f"`{name}`" in table, name


MADE = {"../draw/index.html"}  # by a hook, when the pages are built


def test_every_link_between_pages_leads_somewhere():
    for page in PAGES:
        prose = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.S | re.M)
        for link in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", prose):
            is_there = link in MADE or (page.parent / link).exists()
            assert is_there, f"{page.relative_to(ROOT)} links to {link}"


def shown(content: str) -> str:
    """Return what the documentation makes of a page's content."""
    hook = runpy.run_path(str(ROOT / "docs" / "hooks" / "mathml.py"))["on_page_content"]
    return hook(content, SimpleNamespace(file=SimpleNamespace(src_uri="page.md")))


def test_a_formula_is_shown_without_a_script():
    page = shown(r'<span class="arithmatex">\(\arg\min_k d_k &lt; \theta\)</span>')
    assert "<math>" in page
    assert "\\" not in page
    beside = r"<p>5 $ and <code>$x$ \alpha</code></p>"
    assert shown(beside) == beside


@pytest.mark.parametrize(
    "content",
    [r'<div class="arithmatex">\[\nosuch x\]</div>', "<p>each $x^2$</p>", r"<p>the rate \eta</p>"],
)
def test_a_formula_that_cannot_be_shown_fails_the_build(content):
    with pytest.raises(PluginError, match=r"page\.md: "):
        shown(content)
