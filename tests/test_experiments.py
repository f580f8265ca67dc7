"""The experiments run, and README carries what their records say."""

import json
from pathlib import Path

import pytest

from experiments import ablation, columnar, continual, paper, speed

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "experiments" / "results"


@pytest.mark.parametrize(
    ("experiment", "page"),
    [(paper, "README.md"), (columnar, "README.md"), (continual, "docs/continual.md")],
    ids=["paper", "columnar", "continual"],
)
def test_a_page_carries_the_table_that_the_records_make(experiment, page):
    name = experiment.__name__.split(".")[-1]
    printed = experiment.table(json.loads((RESULTS / f"{name}.json").read_text()))
    assert f"<!-- table: {name} -->\n{printed}\n<!-- end -->" in (ROOT / page).read_text()


@pytest.mark.parametrize("dataset", ["mnist", "cifar10"])
def test_the_ablation_page_carries_the_tables_that_the_records_make(dataset):
    records = json.loads((RESULTS / "ablation.json").read_text())
    printed = ablation.table(records, dataset)
    page = (ROOT / "docs" / "ablation.md").read_text()
    assert f"<!-- table: {dataset} -->\n{printed}\n<!-- end -->" in page


def test_an_ablation_row_records_what_it_measured(mnist):
    del mnist  # needed on disk only
    record = ablation.measure("mnist", "columns", num_train=600, num_test=400)
    assert record["neurons"] == 2500 and record["num_memories"] <= 2500
    assert record["accuracy"]["ridge"] > 0.7 and record["accuracy"]["vote"] > 0.3
    # The drives are the greatest product: 25 places, 100 memories of 81 pixels.
    assert record["operations"] > 2 * 25 * 100 * 81


def test_a_columnar_record_keeps_those_of_other_commands(tmp_path, monkeypatch):
    file = tmp_path / "columnar.json"
    file.write_text((RESULTS / "columnar.json").read_text())
    before = json.loads(file.read_text())
    record = before[0] | {"mean_accuracy": 0.5}
    monkeypatch.setattr(columnar, "measure", lambda *_: record)
    columnar.main(["--dataset", record["dataset"], "--size", record["size"], "--json", str(file)])
    assert json.loads(file.read_text()) == [record, *before[1:]]


def test_the_continual_experiment_tests_every_task_so_far(tmp_path):
    file = tmp_path / "record.json"
    arguments = ["--dataset", "digits", "--only", "memory", "--seeds", "1", "--json", str(file)]
    continual.main(arguments)
    (record,) = json.loads(file.read_text())
    (run,) = record["runs"]
    matrix = run["accuracy_matrix"]
    assert [len(row) for row in matrix] == [1, 2, 3, 4, 5]
    assert run["average_accuracy"] == pytest.approx(sum(matrix[-1]) / 5)
    assert run["average_accuracy"] > 0.9
    forgotten = [max(row[j] for row in matrix[j:]) - matrix[-1][j] for j in range(4)]
    assert run["forgetting"] == pytest.approx(sum(forgotten) / 4)


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
