"""The package: what is built from the checkout works where there is no checkout."""

import os
import re
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path

import pytest

import memjax

ROOT = Path(__file__).parents[1]


def run(*command: str | Path, cwd: Path) -> str:
    """Return what a command prints; it must not see the checkout by way of PYTHONPATH."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    ended = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """A folder with the sdist, and with the wheel that was built from it."""
    for package in ("build", "hatchling"):
        pytest.importorskip(package, reason=f"building needs the package {package}")
    folder = tmp_path_factory.mktemp("built")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    return folder


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory) -> Path:
    """The programs of a new environment with the wheel and the packages of this environment."""
    environment = tmp_path_factory.mktemp("installed")
    run(sys.executable, "-m", "venv", environment, cwd=environment)
    (wheel,) = built.glob("*.whl")
    programs = environment / "bin"
    run(programs / "python", "-m", "pip", "install", "--no-deps", "--no-index", wheel, cwd=built)
    (packages,) = environment.glob("lib/*/site-packages")
    others = [path for path in sys.path if path.endswith("-packages")]
    (packages / "others.pth").write_text("\n".join(others))
    # Digits come with scikit-learn: they must not need what only the other datasets need.
    (packages / "tensorflow_datasets.py").write_text("raise ImportError")
    return programs


@pytest.mark.long
def test_the_wheel_holds_the_package_and_nothing_else(built):
    (wheel,) = built.glob("*.whl")
    assert wheel.name.startswith(f"memjax-{memjax.__version__}-")
    names = set(zipfile.ZipFile(wheel).namelist())
    paths = [*ROOT.glob("memjax/**/*.py"), *ROOT.glob("memjax/demo/static/*")]
    expected = {path.relative_to(ROOT).as_posix() for path in paths}
    assert {name for name in names if name.startswith("memjax/")} == expected | {"memjax/py.typed"}
    assert {name.split("/")[0] for name in names} == {
        "memjax",
        f"memjax-{memjax.__version__}.dist-info",
    }


@pytest.mark.long
def test_the_sdist_holds_the_tests_and_what_they_read(built):
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {member.name.partition("/")[2] for member in archive}
    assert {path.relative_to(ROOT).as_posix() for path in ROOT.glob("tests/*.py")} <= names
    assert {name.split("/")[0] for name in names} == {
        ".gitignore",
        "CITATION.cff",
        "LICENSE",
        "PKG-INFO",
        "README.md",
        "docs",
        "experiments",
        "memjax",
        "mkdocs.yml",
        "pyproject.toml",
        "tests",
    }
    assert sdist.stat().st_size < 2e6


@pytest.mark.long
def test_the_installed_command_learns_digits_outside_the_checkout(installed, tmp_path):
    where = run(installed / "python", "-c", "import memjax; print(memjax.__file__)", cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(installed.parent)
    printed = run(
        installed / "memjax", "fit", "digits", "--limit", "200", "--out", "run", cwd=tmp_path
    )
    assert re.search(r"examples learned +200\n", printed)
    assert (tmp_path / "run" / "record.json").is_file()


@pytest.mark.long
def test_a_notebook_runs_from_the_wheel_within_a_minute(installed, tmp_path):
    notebook = ROOT / "docs" / "notebooks" / "one-pass-over-digits.py"
    started = time.monotonic()
    printed = run(installed / "python", notebook, cwd=tmp_path)
    assert time.monotonic() - started < 60
    assert float(re.findall(r"^accuracy ([\d.]+)$", printed, re.M)[0]) > 0.95


@pytest.mark.long
def test_the_installed_command_tells_its_version(installed, tmp_path):
    for command in ([installed / "memjax"], [installed / "python", "-m", "memjax"]):
        assert run(*command, "--version", cwd=tmp_path) == f"memjax {memjax.__version__}\n"


def test_the_citation_names_the_version():
    assert f"\nversion: {memjax.__version__}\n" in (ROOT / "CITATION.cff").read_text()
