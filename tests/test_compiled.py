"""Compiled programs are kept for the next command, where nobody else can change them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

compiled = pytest.importorskip("memjax.command._compiled")
ROOT = Path(__file__).parents[1]


@pytest.fixture
def found(tmp_path, monkeypatch):
    """Where JAX keeps programs after the call, for a user whose cache is empty."""
    names = (
        "jax_compilation_cache_dir",
        "jax_enable_compilation_cache",
        "jax_persistent_cache_min_compile_time_secs",
    )
    before = {name: getattr(jax.config, name) for name in names}
    monkeypatch.delenv("MEMJAX_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    jax.config.update("jax_compilation_cache_dir", None)

    def call():
        compiled.keep_compiled()
        return getattr(jax.config, names[0])

    yield call
    for name, value in before.items():
        jax.config.update(name, value)


def folder_in(cache: Path) -> Path:
    (folder,) = (cache / "memjax").glob("compiled-*")
    return folder


def test_programs_are_kept_in_a_folder_of_the_user_alone(found, tmp_path):
    assert found() == str(folder_in(tmp_path))
    assert folder_in(tmp_path).stat().st_mode & 0o777 == 0o700


def test_a_folder_that_others_can_write_to_or_a_link_is_not_used(found, tmp_path):
    found()
    folder = folder_in(tmp_path)
    for mode in (0o770, 0o702):
        jax.config.update("jax_compilation_cache_dir", None)
        folder.chmod(mode)
        assert found() is None
    folder.rmdir()
    (tmp_path / "elsewhere").mkdir()
    folder.symlink_to(tmp_path / "elsewhere")
    assert found() is None


def test_the_choice_of_the_user_stays(found, tmp_path, monkeypatch):
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "own"))
    assert found() == str(tmp_path / "own")
    jax.config.update("jax_compilation_cache_dir", None)
    jax.config.update("jax_enable_compilation_cache", False)
    assert found() is None


def test_without_a_folder_that_can_be_made_the_command_works(found, tmp_path):
    (tmp_path / "memjax").write_text("in the way")
    assert found() is None


def test_what_was_read_longest_ago_makes_room(tmp_path):
    for index in range(4):
        (tmp_path / str(index)).write_bytes(bytes(10))
        os.utime(tmp_path / str(index), (100 - index, 0))
    (tmp_path / "empty").touch()
    compiled.remove_oldest(tmp_path, 25)
    assert sorted(os.listdir(tmp_path)) == ["0", "1"]


@pytest.mark.long
def test_a_second_command_reads_what_the_first_has_compiled(tmp_path):
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_", "MEMJAX_"))}
    environment |= {"XDG_CACHE_HOME": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT)}
    digests, programs = [], []
    for name in ("first", "second"):
        command = ["fit", "digits", "--limit", "300", "--out", str(tmp_path / name)]
        ended = subprocess.run(
            [sys.executable, "-m", "memjax", *command],
            env=environment,
            capture_output=True,
            text=True,
            timeout=200,
        )
        assert (ended.returncode, ended.stderr) == (0, "")
        digests.append(json.loads((tmp_path / name / "record.json").read_text())["state_digest"])
        files = folder_in(tmp_path / "cache").glob("*-cache")
        programs.append({file.name: file.stat().st_mtime_ns for file in files})
    assert digests[0] == digests[1]
    # One that compiles in a moment may be kept by the second alone.
    assert len(programs[0]) > 3 and programs[0].items() <= programs[1].items()
