"""What few-shot learning measures, and on which examples."""

import json

import numpy as np
import pytest

from experiments import few_shot

pytestmark = pytest.mark.long


def test_a_draw_is_the_first_examples_of_each_class_in_their_order():
    labels = np.random.default_rng(0).integers(0, 4, 200)
    rows = few_shot.first_of_each_class(labels, 7)
    assert (np.diff(rows) > 0).all()
    for label in range(4):
        assert rows[labels[rows] == label].tolist() == np.flatnonzero(labels == label)[:7].tolist()


def test_a_class_with_too_few_examples_is_an_error():
    with pytest.raises(ValueError, match=r"number: expected at most 1, .* got 2"):
        few_shot.first_of_each_class(np.array([0, 0, 1]), 2)


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    folder = tmp_path_factory.mktemp("few_shot")
    few_shot.main(["--quick", "--out", str(folder)])
    found = [json.loads(file.read_text()) for file in folder.iterdir()]
    return {record["method"]: record for record in found}


def test_every_method_learns_from_one_example_per_class(records):
    accuracy = {
        method: np.mean([run["accuracy"] for run in record["runs"]])
        for method, record in records.items()
    }
    assert set(accuracy) == {"memory", "1-NN", "CNN by backprop"}
    assert accuracy["memory"] > accuracy["1-NN"] > 0.5 and accuracy["CNN by backprop"] > 0.5
    assert [run["num_memories"] for run in records["memory"]["runs"]] == [10, 10]
    assert all(run["train_accuracy"] == 1 for run in records["CNN by backprop"]["runs"])


def test_the_table_has_a_row_per_method_and_a_column_per_number(records):
    more = {**records["1-NN"], "number": 1000, "runs": records["1-NN"]["runs"][:1]}
    header, _, first, second = few_shot.table([records["memory"], records["1-NN"], more]).split(
        "\n"
    )
    assert header == "| dataset | method | 1 | 1,000 |"
    assert first.startswith("| digits | memory | ") and first.endswith(" |  |")
    assert second.count("±") == 1  # one draw has no spread


def test_the_figure_draws_the_mean_of_each_method(records):
    drawn = few_shot.figure(list(records.values()), "digits")
    (place,) = drawn.axes
    heights = {line.get_label(): line.get_ydata()[0] for line in place.get_lines()}
    for method, record in records.items():
        shares = [run["accuracy"] for run in record["runs"]]
        assert heights[method] == pytest.approx(100 * np.mean(shares))
