"""The soak: a round of it loses nothing, and what is lost would be counted."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from experiments import soak


@pytest.mark.long
def test_a_short_soak_loses_nothing(tmp_path):
    subprocess.run(
        [sys.executable, "-m", "experiments.soak", "--quick", "--seed", "3", "--out", tmp_path],
        cwd=Path(__file__).parents[1],
        check=True,
        timeout=500,
    )
    record = json.loads((tmp_path / "0-minutes.json").read_text())
    assert record["num_lost"] == 0 and record["lost"] == []
    assert record["num_runs"] == 1 and record["num_commands"] >= 6
    assert len(soak.table([record]).splitlines()) == 3
    (place,) = soak.figure([record]).axes
    assert len(place.patches) == 5


class Quiet(soak.Soak):
    """A soak that has begun no run."""

    def __init__(self, folder: Path):
        self.folder, self.counts, self.lost = folder, soak.Counter(), []
        self.environment = dict(os.environ)


def test_what_is_lost_is_counted(tmp_path):
    quiet = Quiet(tmp_path)

    def end(code: str, *may_end_with: int) -> None:
        process = subprocess.Popen(
            [sys.executable, "-c", code, "fit"], stdout=-1, stderr=-1, text=True
        )
        quiet.end(process, may_end_with)

    end("pass", 0)
    end("import sys; sys.exit('one line')", 1)
    assert quiet.lost == []
    end("import sys; sys.exit(3)", 0)
    end("import sys; sys.exit('two\\nlines')", 1)
    end("import sys; sys.exit(1)", 1)
    end("import sys; print('warning', file=sys.stderr)", 0)
    assert len(quiet.lost) == 4
