"""What a program costs, compared with counts by hand."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax

import memjax
from experiments import backprop
from experiments.costs import count, products
from memjax._numerics import run_if
from memjax.memory._table import TILE


def _floats(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def _powers(turns: int, inner: int):
    """Return a function that multiplies by a matrix ``turns`` x ``inner`` times."""

    def multiply(x, matrix):
        return lax.fori_loop(0, inner, lambda _, x: x @ matrix, x)

    return lambda x, matrix: lax.fori_loop(0, turns, lambda _, x: multiply(x, matrix), x)


@pytest.mark.parametrize(("turns", "inner"), [(1, 1), (5, 1), (1, 7), (5, 7)])
def test_a_loop_costs_as_often_as_it_turns(turns, inner):
    found = count(_powers(turns, inner), _floats(64, 64), _floats(64, 64))
    assert found.operations == pytest.approx(turns * inner * 2 * 64**3, rel=0.01)
    inputs = _floats(64, 64), _floats(64, 64)
    assert products(_powers(turns, inner), *inputs) == turns * inner * 2 * 64**3


def test_a_loop_whose_bound_is_computed_costs_as_often_as_is_said():
    def multiply(turns, x, matrix):
        return lax.fori_loop(0, turns, lambda _, x: x @ matrix, x)

    inputs = jax.ShapeDtypeStruct((), jnp.int32), _floats(64, 64), _floats(64, 64)
    assert count(multiply, *inputs).operations < 64
    found = count(multiply, *inputs, turns=5)
    assert found.operations == pytest.approx(5 * 2 * 64**3, rel=0.01)


def test_work_on_demand_costs_nothing():
    def search(x):
        return run_if(x[0] > 0, lambda x: x @ jnp.outer(x, x), x, x)

    assert count(search, _floats(64), turns=5).operations < 64
    assert products(search, _floats(64), turns=5) == 0


def test_learning_into_memories_takes_three_operations_a_number_and_in_a_block_two():
    memories, features, block = 2048, 512, 256
    bank = memjax.MemoryLayer(features, num_classes=10, capacity=memories)
    params, state = bank.params(novelty_threshold=0.1), jax.eval_shape(bank.init, jax.random.key(0))
    labels = jax.ShapeDtypeStruct((block,), jnp.int32)

    def lesson(*arguments):
        return bank.step_block(*arguments)[::2]

    alone = count(bank.recall, params, state, _floats(features))
    assert alone.operations == pytest.approx(3 * memories * features, rel=0.05)
    inputs = params, state, _floats(block, features), labels
    turns = -(-memories // TILE)
    whole = count(lesson, *inputs, donated=(1,), turns=turns)
    hand = 2 * block * (memories + block) * features
    assert whole.operations == pytest.approx(hand, rel=0.05)
    assert products(lesson, *inputs, turns=turns) == hand
    # One by one the memories would be read 256 times.
    held = 4 * memories * features
    assert held < whole.bytes < 0.2 * block * held


def test_columns_share_no_weight_and_cost_a_product_at_every_place_and_look():
    columns = memjax.Columns((28, 28, 1), patch=9, places=5, capacity=100, fixations=4, reach=8)
    inputs = columns.params(), jax.eval_shape(columns.init, jax.random.key(0)), _floats(28, 28, 1)
    places, looks, memories, numbers = 25, 16, 100, 81
    drives, average = 2 * places * looks * memories * numbers, 2 * places * looks * memories
    assert products(columns.recall, *inputs) == drives + average
    found = count(columns.recall, *inputs)
    assert found.operations > drives + average
    assert found.bytes > 4 * places * memories * numbers  # every place reads memories of its own


def test_an_answer_of_the_convolutional_network_costs_what_its_formula_says():
    network = jax.eval_shape(lambda: backprop.init("cnn", (28, 28, 1), 10, seed=0))
    image = jax.ShapeDtypeStruct((1, 28, 28, 1), jnp.uint8)
    found = count(backprop.logits, network, image)
    # H k - 2 along each side: beyond the edge nothing is multiplied.
    convolutions = (28 * 3 - 2) ** 2 * 32 + (14 * 3 - 2) ** 2 * 32 * 64
    dense = 7 * 7 * 64 * 128 + 128 * 10
    assert found.operations == pytest.approx(2 * (convolutions + dense), rel=0.03)
