"""The experiments run, and README carries what their records say."""

import json
from pathlib import Path

import pytest

from experiments import columnar, paper, speed

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "experiments" / "results"


@pytest.mark.parametrize("name", ["paper", "columnar"])
def test_readme_carries_the_table_that_the_records_make(name):
    table = {"paper": paper.table, "columnar": columnar.table}[name]
    records = json.loads((RESULTS / f"{name}.json").read_text())
    printed = table(records)
    assert f"<!-- table: {name} -->\n{printed}\n<!-- end -->" in (ROOT / "README.md").read_text()


def test_the_paper_experiment_records_what_it_measured(tmp_path):
    file = tmp_path / "record.json"
    paper.main(["--only", "digits", "--seeds", "2", "--json", str(file)])
    (record,) = json.loads(file.read_text())
    accuracies = [run["accuracy"] for run in record["runs"]]
    assert record["mean_accuracy"] == pytest.approx(sum(accuracies) / 2)
    assert min(accuracies) > 0.95
    assert [run["seed"] for run in record["runs"]] == [0, 1]
    assert {run["num_test"] for run in record["runs"]} == {200}  # the validation split


def test_a_speed_row_counts_what_it_compares(mnist):
    del mnist  # needed on disk only
    row = speed.fit_exact(turns=1, num_examples=600, capacity=64)
    assert row.operations == 2 * 600 * 64 * 784
    assert row.seconds > 0 and row.reference_seconds > 0
    assert row.ratio == pytest.approx(row.seconds / row.reference_seconds)
    assert row.peak_memory_bytes > 4 * 64 * 784
