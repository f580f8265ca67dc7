"""What an experiment on costs records, and what its table and its figure show."""

import json

import pytest

from experiments import energy

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    folder = tmp_path_factory.mktemp("energy")
    energy.main(["--quick", "--out", str(folder)])
    found = [json.loads(file.read_text()) for file in folder.iterdir()]
    return {record["network"]: record for record in found}


def test_backpropagation_costs_about_three_answers(records):
    record = records["MLP by backprop"]
    share = record["learned_in_blocks"]["operations"] / record["recalled"]["operations"]
    assert 2 < share < 4


def test_the_whole_dataset_is_its_lessons_its_passes_and_the_solve(records):
    record = records["columnar small"]
    number = 2500
    assert record["solve_operations"] == number**3 / 3 + 2 * number**2 * 10
    lessons = record["num_train"] * record["learned_in_blocks"]["operations"]
    assert energy.whole_dataset(record) == lessons + record["solve_operations"]
    # In blocks the readout's sums are read once for all.
    assert record["learned_alone"]["bytes"] > 5 * record["learned_in_blocks"]["bytes"]
    again = energy.whole_dataset({**record, "passes": 2}) - energy.whole_dataset(record)
    assert again == pytest.approx(lessons)


def test_the_table_and_the_figure_show_every_network(records):
    rows = energy.table(list(records.values())).splitlines()
    assert len({row.count("|") for row in rows}) == 1 and len(rows) == 2 + len(records)
    (place,) = energy.figure(list(records.values()), "digits").axes
    drawn = {line.get_label(): line.get_xdata()[0] for line in place.get_lines()}
    assert drawn["MLP by backprop, 10 passes"] == pytest.approx(
        10 * records["MLP by backprop"]["learned_in_blocks"]["operations"]
    )
