"""The experiment on learning in parts, and what it records."""

import json

import jax
import numpy as np
import pytest

import memjax
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


def test_the_workers_of_a_cluster_learn_the_parts_that_one_process_merges():
    distributed = pytest.importorskip("distributed")
    train = memjax.datasets.load("digits", "train_without_validation")
    network, params = memjax.memory_network((8, 8, 1), num_classes=10, capacity=200)
    params = memjax.calibrate(network, params, train.images, train.labels)

    def learn(images, labels):
        empty = network.init(jax.random.key(0))
        state, _ = memjax.fit(network, params, empty, images, labels)
        return memjax.devices.gather_to_host(state)

    images, labels = np.array_split(train.images, 4), np.array_split(train.labels, 4)
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster) as client:
        parts = client.gather(client.map(learn, images, labels))
    state = memjax.merge(network, params, parts)
    expected = memjax.merge(network, params, list(map(learn, images, labels)))
    assert memjax.checkpoint.state_digest(state) == memjax.checkpoint.state_digest(expected)
