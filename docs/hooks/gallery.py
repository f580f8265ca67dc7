"""Run the programs of the gallery, and put the pictures that they write onto its page.

As with the notebooks, they run with the library as it is when the documentation is built. So a
picture cannot show what the library no longer draws, and a program that fails, fails the build.
"""

import functools
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

_PAGE = "gallery.md"
_SECTION = re.compile(r"^## (?P<title>.*?)$.*?^```python\n(?P<program>.*?)^```\n", re.M | re.S)
_MARK = "<!-- thumbnails -->"
_RUN = "import runpy, sys; [runpy.run_path(program) for program in sys.argv[1:]]"


def on_files(files, config, **_):
    """Run the programs, and add their pictures to the files; called by MkDocs."""
    text = files.get_file_from_path(_PAGE).content_string
    for name, content in pictures(programs(text)).items():
        files.append(File.generated(config, f"gallery/{name}", content=content))
    return files


def on_page_markdown(markdown: str, page, **_) -> str:
    """Show each picture below its program, and a thumbnail of each at the top."""
    if page.file.src_uri != _PAGE:
        return markdown
    names = list(pictures(programs(markdown)))
    titles = [section["title"] for section in _SECTION.finditer(markdown)]
    anchors = [title.lower().replace(" ", "-") for title in titles]
    thumbnails = "\n".join(
        f"[![{title}](gallery/{name}){{ .whole }}](#{anchor}){{ .thumbnail }}"
        for title, name, anchor in zip(titles, names, anchors, strict=True)
    )
    left = iter(zip(titles, names, strict=True))

    def with_picture(section: re.Match[str]) -> str:
        title, name = next(left)
        return f"{section[0]}\n![{title}: made by the code above.](gallery/{name})\n"

    grid = f'<div class="thumbnails" markdown>\n{thumbnails}\n</div>'
    return _SECTION.sub(with_picture, markdown).replace(_MARK, grid)


def programs(text: str) -> tuple[str, ...]:
    """Return the programs of the page, one for each section."""
    return tuple(section["program"] for section in _SECTION.finditer(text))


@functools.cache  # `mkdocs serve` builds again and again
def pictures(programs: tuple[str, ...]) -> dict[str, bytes]:
    """Return the picture that each program writes, by name, in their order."""
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for number, program in enumerate(programs):
            files.append(Path(folder) / f"{number}.py")
            files[-1].write_text(program)
        ended = subprocess.run(
            [sys.executable, "-c", _RUN, *files], cwd=folder, capture_output=True, text=True
        )
        if ended.returncode:
            raise PluginError(f"{_PAGE}: a program fails:\n{ended.stderr}")
        written = [re.findall(r'"([\w-]+\.(?:png|gif))"', program) for program in programs]
        return {name: (Path(folder) / name).read_bytes() for (name,) in written}
