"""What the documentation prints runs as it is printed."""

import os
import re
import subprocess
import sys
from pathlib import Path

import griffe
import pytest

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


@pytest.mark.long
@pytest.mark.parametrize(
    "page", [*filter(program, PAGES)], ids=lambda page: str(page.relative_to(ROOT))
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


def test_every_module_has_an_api_page():
    modules = {path.stem for path in (ROOT / "memjax").glob("*.py")} - {"__init__"}
    pages = {path.stem for path in (ROOT / "docs" / "api").glob("*.md")} - {"index"}
    assert pages == modules


def test_every_public_name_is_on_an_api_page():
    reader = griffe.load_extensions(f"{ROOT / 'docs/hooks/docstrings.py'}:Docstrings")
    package = griffe.load("memjax", search_paths=[ROOT], extensions=reader)
    for name, module in package.modules.items():
        page = (ROOT / "docs" / "api" / f"{name}.md").read_text()
        assert f"::: memjax.{name}\n" in page
        chosen = re.search(r"members: \[(.*)\]", page)
        assert module.exports, f"memjax.{name} does not say what is public"
        for public in map(str, module.exports):
            # mkdocstrings leaves out what has no docstring, and what a page does not choose.
            assert module[public].has_docstring or "show_if_no_docstring: true" in page, public
            assert chosen is None or public in chosen[1].split(", "), public


def test_the_table_of_the_api_names_everything_that_memjax_gives():
    table = (ROOT / "docs" / "api" / "index.md").read_text()
    modules = {path.stem for path in (ROOT / "memjax").glob("*.py")}
    for name in memjax.__all__:
        assert f"({name}.md)" in table if name in modules else f"`{name}`" in table, name


def test_every_link_between_pages_leads_somewhere():
    for page in PAGES:
        prose = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.S | re.M)
        for link in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", prose):
            assert (page.parent / link).exists(), f"{page.relative_to(ROOT)} links to {link}"
