"""Build the page of ``memjax demo`` for where there is no server: draw/index.html of these pages.

Its memories are learned when the documentation is built, from scikit-learn's digits, and written
into a script. The modules of the page are put into one script too: a browser loads no modules from
disk.
"""

import base64
import json
import re
from pathlib import Path

import numpy as np
from mkdocs.structure.files import File

import memjax
from memjax import demo

_STATIC = Path(demo.__file__).parent / "static"
# Each imports from those before it.
_MODULES = ("ink", "image", "paper", "show", "wall", "bank", "page")
_IMPORT = re.compile(r'^import (\{.*?\}|\* as \w+) from "\./(\w+)\.js";$', re.MULTILINE | re.DOTALL)
_EXPORT = re.compile(r"^export (?:async )?(?:function|class|const) (\w+)", re.MULTILINE)


def on_files(files, config, **_):
    """Add the files of the page; for MkDocs."""
    for name, content in page_files().items():
        files.append(File.generated(config, f"draw/{name}", content=content))
    return files


def page_files() -> dict[str, str]:
    """Return the contents of the files of the page, by name."""
    page = (_STATIC / "page.html").read_text()
    module = '<script type="module" src="page.js"></script>'
    assert module in page
    scripts = [f'<script defer src="{name}.js"></script>' for name in ("memories", "page")]
    return {
        "index.html": page.replace(module, "\n".join(scripts)),
        "style.css": (_STATIC / "style.css").read_text(),
        "memories.js": f"window.BANK = {json.dumps(exported_bank(), ensure_ascii=False)};\n",
        "page.js": _bundle(),
    }


def exported_bank(num_examples: int = 1198) -> dict:
    """Return a bank that has learned digits from their pixels, in numbers that JavaScript reads."""
    digits = memjax.datasets.load("digits", "train")
    images, labels = digits.images[:num_examples], digits.labels[:num_examples]
    network, params = memjax.memory_network((8, 8, 1), digits.num_classes, encoder="pixels")
    params, state, _ = memjax.learn(network, params, images, labels)
    bank = state[1]
    size = int(bank.size)
    stored = np.asarray(bank.stored_at)[:size]
    arrays = {
        "prototypes": bank.prototypes[:size],
        "counts": bank.counts[:size],
        "averaged": bank.averaged[:size],
        "votes": bank.votes[:size],
        "distanceCounts": bank.distance_counts,
        "pictures": images[stored],
    }
    return {
        "about": f"{num_examples:,} of scikit-learn's digits, which have 8 by 8 pixels",
        "names": digits.class_names,
        "shape": (8, 8, 1),
        "numSeen": int(bank.num_seen),
        "course": {"stretch": 0, "shares": [], "whole": None},
        "params": {
            "noveltyThreshold": float(params[1].novelty_threshold),
            "plasticityFloor": float(params[1].plasticity_floor),
            "numNeighbours": network.layers[1].num_neighbours,
            "numClasses": 32,  # as the demo has room for
        },
        "base64": {
            name: base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()
            for name, array in arrays.items()
        },
    }


def _bundle() -> str:
    """Return one script with all modules, each in a function of its own."""
    parts = []
    for name in _MODULES:
        file = (
            Path(__file__).parent / "bank_in_page.js" if name == "bank" else _STATIC / f"{name}.js"
        )
        text = file.read_text()
        exported = ", ".join(_EXPORT.findall(text))
        text = re.sub(r"^export ", "", _IMPORT.sub(_as_constant, text), flags=re.MULTILINE)
        parts.append(f"const {name}Module = (() => {{\n{text}\nreturn {{ {exported} }};\n}})();\n")
    return '"use strict";\n' + "\n".join(parts)


def _as_constant(found: re.Match) -> str:
    names, module = found.groups()
    return f"const {names.removeprefix('* as ')} = {module}Module;"
