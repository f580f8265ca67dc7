"""The experiment on stream orders: the orders, and what it records."""

import json

import numpy as np
import pytest

from experiments import order


def test_in_a_sorted_order_every_class_comes_once_and_the_first_order_counts_up():
    labels = np.random.default_rng(0).integers(0, 5, 200)
    found = order.sorted_orders(labels, 4)
    turns = []
    for rows in found:
        assert sorted(rows) == list(range(200))
        starts = np.flatnonzero(np.diff(labels[rows], prepend=-1))
        turns.append(labels[rows][starts].tolist())
        assert sorted(turns[-1]) == list(range(5))
    assert turns[0] == list(range(5))
    assert len({tuple(turn) for turn in turns}) > 1
    of_zero = [rows[labels[rows] == 0].tolist() for rows in found]
    assert of_zero[0] != of_zero[1]


@pytest.mark.long
def test_random_and_sorted_orders_are_recorded_and_drawn_apart(tmp_path):
    order.main(["--quick", "--out", str(tmp_path)])
    records = [json.loads(file.read_text()) for file in sorted(tmp_path.iterdir())]
    assert [record["network"] for record in records] == ["columnar small", "memory"]
    for record in records:
        runs = record["runs"]
        assert [(run["seed"], run["is_sorted"]) for run in runs] == [
            (0, False),
            (1, False),
            (2, False),
            (3, False),
            (0, True),
        ]
        assert min(run["accuracy"] for run in runs[:4]) > 0.9
    columnar, memory = (record["runs"][-1] for record in records)
    assert columnar["accuracy"] < memory["accuracy"]  # it follows the stream, and forgets
    assert order.table(records).count("| sorted by class |") == 2
    error, memories = order.figure(records).axes
    names = error.get_legend_handles_labels()[1]
    assert names == ["random order", "sorted by class"] * 2
    drawn = [x for line in memories.lines for x in line.get_xdata()]
    recorded = [run["num_memories"] for record in records for run in record["runs"]]
    assert sorted(drawn) == sorted(recorded)
