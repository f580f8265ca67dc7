"""What a program costs, held against counts by hand."""

import json

import jax
import jax.numpy as jnp
import pytest
from jax import lax

import memjax
from experiments import backprop, energy
from memjax._numerics import run_if


def _floats(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def _powers(turns: int, inner: int):
    """Return a function that multiplies by a matrix ``turns`` x ``inner`` times."""

    def multiply(x, matrix):
        return lax.fori_loop(0, inner, lambda _, x: x @ matrix, x)

    return lambda x, matrix: lax.fori_loop(0, turns, lambda _, x: multiply(x, matrix), x)


@pytest.mark.parametrize(("turns", "inner"), [(1, 1), (5, 1), (1, 7), (5, 7)])
def test_a_loop_costs_as_often_as_it_turns(turns, inner):
    found = energy.count(_powers(turns, inner), _floats(64, 64), _floats(64, 64))
    assert found.operations == pytest.approx(turns * inner * 2 * 64**3, rel=0.01)


def test_a_loop_whose_bound_is_computed_costs_as_often_as_is_said():
    def multiply(turns, x, matrix):
        return lax.fori_loop(0, turns, lambda _, x: x @ matrix, x)

    inputs = jax.ShapeDtypeStruct((), jnp.int32), _floats(64, 64), _floats(64, 64)
    assert energy.count(multiply, *inputs).operations < 64
    found = energy.count(multiply, *inputs, turns=5)
    assert found.operations == pytest.approx(5 * 2 * 64**3, rel=0.01)


def test_work_on_demand_costs_nothing():
    def search(x):
        return run_if(x[0] > 0, lambda x: x @ jnp.outer(x, x), x, x)

    assert energy.count(search, _floats(64), turns=5).operations < 64


def test_learning_into_memories_takes_three_operations_a_number_and_in_a_block_two():
    memories, features, block = 2048, 512, 256
    bank = memjax.MemoryLayer(features, num_classes=10, capacity=memories)
    params, state = bank.params(0.1), jax.eval_shape(bank.init, jax.random.key(0))
    labels = jax.ShapeDtypeStruct((block,), jnp.int32)

    def lesson(*arguments):
        return bank.step_block(*arguments)[::2]

    alone = energy.count(bank.recall, params, state, _floats(features))
    assert alone.operations == pytest.approx(3 * memories * features, rel=0.05)
    inputs = params, state, _floats(block, features), labels
    turns = -(-memories // memjax.memory.TILE)
    whole = energy.count(lesson, *inputs, donated=(1,), turns=turns)
    products = 2 * block * (memories + block) * features
    assert whole.operations == pytest.approx(products, rel=0.05)
    # One by one the memories would be read 256 times.
    held = 4 * memories * features
    assert held < whole.bytes < 0.2 * block * held


def test_columns_share_no_weight_and_cost_a_product_at_every_place_and_look():
    columns = memjax.Columns((28, 28, 1), patch=9, places=5, capacity=100)
    state = jax.eval_shape(columns.init, jax.random.key(0))
    places, looks, memories, numbers = 25, 16, 100, 81
    seen = jax.eval_shape(
        lambda: memjax.vision.columns.Looks(
            jnp.zeros((places, looks, numbers)), jnp.zeros((places, looks))
        )
    )
    found = energy.count(columns.pooled, columns.params(), state, seen, _floats(looks))
    products = 2 * places * looks * memories * numbers
    assert found.operations == pytest.approx(products, rel=0.05)
    assert found.bytes > 4 * places * memories * numbers  # every place reads memories of its own


def test_an_answer_of_the_convolutional_network_costs_what_its_formula_says():
    weights = jax.eval_shape(lambda: backprop.init("cnn", (28, 28, 1), 10, seed=0))
    image = jax.ShapeDtypeStruct((1, 28, 28, 1), jnp.uint8)
    found = energy.count(backprop.logits, weights, image)
    # H k - 2 along each side: beyond the edge nothing is multiplied.
    convolutions = (28 * 3 - 2) ** 2 * 32 + (14 * 3 - 2) ** 2 * 32 * 64
    dense = 7 * 7 * 64 * 128 + 128 * 10
    assert found.operations == pytest.approx(2 * (convolutions + dense), rel=0.03)


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
