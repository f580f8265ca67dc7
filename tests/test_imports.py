"""The rooms of the house: who may import whom, and what `import memjax` brings along."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import memjax

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "memjax"

# Each line may import from the lines above it only. docs/design.md prints this order.
ORDER = """
_text                                      text that a terminal may show
_checks                                    the sentences of errors
_files                                     files that anyone may have written, and their sums
_kept_images                               images that memories were stored from, in a file
_places, params                            where a user's arrays lie; numbers declared once
_entry, _numerics                          the door of a layer; arithmetic
_decorrelation                             the sums of a decorrelation
_panels                                    a symmetric matrix in panels, and its solve
_novelty                                   how far what was learned was from its memory
base                                       the one abstraction: the layer
devices, distances                         where arrays lie; how unlike two patterns are
memory._state                              what a bank holds
memory._rule                               what one example does to a bank
memory._table                              the distances of a block
memory._recall                             the nearest memories, and how they vote
memory._sharded                            the same over devices
memory.layer                               the layer
memory.edit                                memories added, removed and put together
memory                                     its public names
composition, projections, exemplars        layers of layers; layers between the others
readouts, vision.encoders, vision.mirror   from activity to classes; layers that look at images
vision._eye                                what a place sees, as the eye moves
vision.columns                             what places learn of it
vision                                     its public names
networks                                   ready-made networks
_description, _orbax                       a network in words; arrays in files
_saved                                     what a saved folder holds, checked
evaluation, checkpoint                     asking a network; keeping it
training                                   learning arrays
streams                                    learning streams
datasets                                   where images come from
sklearn, plotting                          around a trained network
demo                                       the page of the demo
command                                    the command
__main__                                   python -m memjax
"""
RANK = {
    name.strip(): rank
    for rank, line in enumerate(ORDER.strip().splitlines())
    for name in re.split(r"\s{2,}", line)[0].split(",")
}
PACKAGES = ("datasets", "sklearn", "plotting", "demo", "command")  # without an order of their own
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def room(name: str) -> str:
    """The room of a module: the package where only the package has a rank."""
    while name not in RANK and "." in name:
        name = name.rpartition(".")[0]
    return name


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def modules_imported(path: Path) -> set[str]:
    """The modules of memjax that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            package, _, rest = name.partition(".")
            if package != "memjax":
                continue
            while rest and not module_exists(rest):
                rest = rest.rpartition(".")[0]
            found.add(rest)
    return found


def module_exists(name: str) -> bool:
    place = PACKAGE.joinpath(*name.split("."))
    return place.with_suffix(".py").is_file() or (place / "__init__.py").is_file()


def python(code: str) -> str:
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return run.stdout.strip()


@pytest.mark.parametrize("path", FILES, ids=map(name_of, FILES))
def test_a_file_imports_from_rooms_before_its_own_only(path):
    mine = room(name_of(path))
    assert mine in RANK, f"give {name_of(path)} a place in the order"
    for name in modules_imported(path):
        if name == "" or mine == "memjax":
            continue  # the version, say
        assert room(name) in RANK, f"{name_of(path)} imports {name}"
        is_same = room(name) == mine and mine in PACKAGES
        assert is_same or RANK[room(name)] < RANK[mine], f"{name_of(path)} imports {name}"


def test_the_rooms_of_a_package_without_an_order_of_its_own_make_no_circle():
    for package in PACKAGES:
        files = {name_of(path): path for path in FILES if room(name_of(path)) == package}
        arrows = {name: modules_imported(path) & set(files) for name, path in files.items()}
        while arrows:
            free = [name for name, to in arrows.items() if not to & set(arrows)]
            assert free, f"a circle among {sorted(arrows)}"
            for name in free:
                del arrows[name]


def test_the_search_for_imports_finds_them():
    networks = modules_imported(PACKAGE / "networks.py")
    assert {"_checks", "distances", "memory", "base", "vision.columns"} <= networks


def test_the_design_page_prints_the_order():
    assert ORDER.strip() in (ROOT / "docs" / "design.md").read_text()


def test_only_the_base_walks_over_kinds_of_layers():
    """General rooms let layers answer for themselves; they do not ask what a layer is."""
    kinds = {"Chain", "Concatenate", "Vote", "Mirrored", "MemoryLayer", "Exemplars"}
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "isinstance":
                names = {leaf.id for leaf in ast.walk(node.args[1]) if isinstance(leaf, ast.Name)}
                assert not names & kinds, f"{name_of(path)}:{node.lineno}"


def test_importing_memjax_brings_none_of_what_an_extra_installs():
    heavy = {
        "tensorflow_datasets",
        "matplotlib",
        "orbax",
        "sklearn",
        "tqdm",
        "tyro",
        "PIL",
        "tensorflow",
        "torch",
    }
    loaded = python("import sys, memjax; print(*{name.split('.')[0] for name in sys.modules})")
    assert "memjax" in loaded.split()
    assert heavy.isdisjoint(loaded.split())


def test_importing_memjax_starts_no_device():
    code = "import memjax, jax._src.xla_bridge as b; print(b.backends_are_initialized())"
    assert python(code) == "False"


def test_every_public_name_is_there():
    for name in memjax.__all__:
        assert hasattr(memjax, name), name


def test_modules_that_need_an_extra_are_loaded_when_they_are_first_used():
    code = "import sys, memjax; print('memjax.plotting' in sys.modules, memjax.plotting.__name__)"
    assert python(code) == "False memjax.plotting"
    with pytest.raises(AttributeError, match="'memjax' has no attribute 'plots'"):
        _ = memjax.plots  # type: ignore[attr-defined]


def test_importing_memjax_takes_little_longer_than_importing_jax():
    code = """if True:
        import time
        start = time.perf_counter()
        import jax
        middle = time.perf_counter()
        import memjax
        print(middle - start, time.perf_counter() - start)
    """
    runs = [[float(word) for word in python(code).split()] for _ in range(5)]
    # The fastest of each: what else the machine does slows down single runs.
    alone, both = (min(times) for times in zip(*runs, strict=True))
    assert both <= 1.35 * alone
