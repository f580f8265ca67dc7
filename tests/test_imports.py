"""The rooms of the house: who may import whom, and what `import memjax` brings along."""

import ast
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

import memjax

# Files import from rooms before their own only.
ROOMS = (
    ("types", "checks", "lazily", "machine"),
    ("processes",),
    ("distances", "encoders", "decorrelation", "exemplars"),
    ("blocks",),
    ("memory",),
    ("columns", "readouts", "composition"),
    ("networks", "sharding"),
    ("checkpoint", "evaluation"),
    ("training", "datasets"),
    ("sklearn",),
    ("plotting",),
    ("cli",),
    ("__init__",),
)
RANK = {name: rank for rank, room in enumerate(ROOMS) for name in room}
FILES = sorted(Path(str(memjax.__file__)).parent.glob("*.py"))


def imported(path: Path) -> set[str]:
    """The files of memjax that a file imports, anywhere in it."""
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
            if package == "memjax":
                found.add(rest.partition(".")[0] or "__init__")
    return found


def python(code: str) -> str:
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return run.stdout.strip()


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_a_file_imports_from_rooms_before_its_own_only(path):
    assert path.stem in RANK, f"give {path.name} a room"
    for name in imported(path):
        assert name in RANK, f"{path.name} imports {name}"
        assert RANK[name] < RANK[path.stem], f"{path.name} imports {name}"


def test_the_search_for_imports_finds_them():
    networks = next(path for path in FILES if path.stem == "networks")
    assert {"checks", "distances", "memory", "types"} <= imported(networks)


def test_importing_memjax_brings_none_of_what_the_extra_installs():
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
    for module in (
        memjax,
        memjax._checks,
        memjax.distances,
        memjax.vision.encoders,
        memjax.evaluation,
    ):
        for name in module.__all__:
            assert hasattr(module, name), f"{module.__name__}.{name}"


def test_importing_memjax_takes_little_longer_than_importing_jax():
    code = """if True:
        import time
        start = time.perf_counter()
        import jax
        middle = time.perf_counter()
        import memjax
        print((time.perf_counter() - start) / (middle - start))
    """
    assert statistics.median(float(python(code)) for _ in range(5)) <= 1.2
