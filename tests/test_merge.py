"""The experiment on learning in parts, and what it records."""

import json

import pytest

from experiments import merge

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    folder = tmp_path_factory.mktemp("merge")
    merge.main(["--quick", "--out", str(folder)])
    return [json.loads(file.read_text()) for file in sorted(folder.iterdir())]


def test_one_part_is_what_a_single_pass_learns_and_eight_parts_know_more_than_one(records):
    one, eight = records
    assert (one["num_parts"], eight["num_parts"]) == (1, 8)
    for run in one["runs"]:
        assert run["accuracy"] == run["accuracy_of_first_part"]
        assert run["num_memories"] == run["num_memories_of_parts"]
    for run in eight["runs"]:
        assert run["accuracy"] > run["accuracy_of_first_part"]
        assert run["num_memories"] <= run["num_memories_of_parts"]


def test_the_table_and_the_figure_have_every_number_of_parts(records):
    assert [row.split(" | ")[1] for row in merge.table(records).split("\n")[2:]] == ["1", "8"]
    merged, alone = merge.figure(records).axes[0].lines
    assert list(merged.get_xdata()) == list(alone.get_xdata()) == [1, 8]
    assert merged.get_ydata()[1] > alone.get_ydata()[1]
