"""Run the notebooks (docs/notebooks/*.py, in the percent format) and show them as pages.

They run with the library as it is when the documentation is built, so a page cannot show what the
library no longer does, and a cell that fails, fails the build. Beside each page stands the
notebook with its outputs, for Jupyter.
"""

import base64
import functools
import logging
from pathlib import PurePosixPath

import jupytext
import nbformat
from mkdocs.structure.files import File
from nbclient import NotebookClient
from traitlets.config import Config

_log = logging.getLogger("mkdocs.hooks.notebooks")


class _Notebook(File):
    """A file that is a page although it is not Markdown; links lead to it by its name."""

    def is_documentation_page(self) -> bool:
        return True


def on_files(files, config, **_):
    """Run every notebook, and add its figures and its executed form to the files; for MkDocs."""
    for file in list(files):
        if not PurePosixPath(file.src_uri).match("notebooks/*.py"):
            continue
        files.remove(file)
        page = _Notebook(file.src_uri, file.src_dir, file.dest_dir, file.use_directory_urls)
        files.append(page)
        notebook = _executed(page.content_string)
        page.content_string, figures = _markdown(notebook, page.name)
        beside = figures | {f"{page.name}.ipynb": nbformat.writes(notebook)}
        for name, content in beside.items():
            files.append(File.generated(config, f"notebooks/{name}", content=content))
    return files


@functools.cache  # `mkdocs serve` builds again and again
def _executed(source: str) -> nbformat.NotebookNode:
    notebook = jupytext.reads(source, fmt="py:percent")
    NotebookClient(
        notebook,
        kernel_name="python3",
        timeout=300,
        coalesce_streams=True,
        config=Config({"KernelManager": {"transport": "ipc"}}),  # opens no port
    ).execute()
    return notebook


def _markdown(notebook: nbformat.NotebookNode, name: str) -> tuple[str, dict[str, bytes]]:
    """Return a page, and the figures on it by their file names."""
    parts, figures = [], {}
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
            continue
        parts.append(f"```python\n{cell.source}\n```")
        for output in cell.outputs:
            if output.get("name") == "stderr":
                _log.warning("%s: a cell complains: %s", name, output.text)
            elif output.output_type == "stream":
                parts.append(f"```text\n{output.text.rstrip()}\n```")
            elif "image/png" in output.data:
                figure = f"{name}-{len(figures) + 1}.png"
                figures[figure] = base64.b64decode(output.data["image/png"])
                parts.append(f"![Figure made by the code above.]({figure})")
            else:
                parts.append(f"```text\n{output.data['text/plain']}\n```")
    parts.append(f"[This notebook with its outputs]({name}.ipynb), for Jupyter.")
    return "\n\n".join(parts), figures
