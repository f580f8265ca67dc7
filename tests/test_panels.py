"""A symmetric matrix in panels: against NumPy, with panels of every width."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memjax import _panels


@pytest.fixture(params=[1, 3, 4, 7, 20])
def width(request, monkeypatch):
    monkeypatch.setattr(_panels, "_WIDTH", request.param)
    monkeypatch.setattr(_panels, "_MOST", 100)
    return request.param


@pytest.fixture(scope="module")
def rows():
    return np.random.default_rng(0).normal(size=(50, 13)).astype(np.float32)


def test_panels_hold_the_upper_triangle(width, rows):
    panels = _panels.add_products(_panels.add_products(_panels.zeros(13), rows[:20]), rows[20:])
    assert panels[0].shape[1] == min(width, 13)
    gram = rows.T @ rows
    for panel, (start, stop) in zip(panels, _panels.spans(13), strict=True):
        np.testing.assert_allclose(panel, gram[:stop, start:stop], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(_panels.diagonal(panels), np.diag(gram), rtol=1e-4)


def test_a_solve_is_that_of_the_whole_matrix(width, rows):
    panels = _panels.add_products(_panels.zeros(13), rows)
    right = np.random.default_rng(1).normal(size=(13, 3)).astype(np.float32)
    expected = np.linalg.solve((rows.T @ rows).astype(float), right)
    np.testing.assert_allclose(jax.jit(_panels.solve)(panels, right), expected, atol=1e-4)


def test_a_matrix_that_is_not_positive_definite_is_not_solved(width):
    panels = tuple(-panel for panel in _panels.add_products(_panels.zeros(5), jnp.eye(5)))
    assert np.isnan(_panels.solve(panels, jnp.ones((5, 2)))).any()


@pytest.mark.parametrize("size", [1, 1024, 1025, 40_000])
def test_the_panels_cover_every_column_and_are_not_many(size):
    spans = _panels.spans(size)
    assert [start for start, _ in spans] == [0, *(stop for _, stop in spans[:-1])]
    assert spans[-1][1] == size and len(spans) <= 32


def test_values_are_added_to_the_diagonal_alone(width, rows):
    panels = _panels.add_products(_panels.zeros(13), rows)
    values = jnp.arange(13, dtype=jnp.float32)
    raised = tuple(
        _panels.add_to_diagonal(panel, values[start:stop])
        for panel, (start, stop) in zip(panels, _panels.spans(13), strict=True)
    )
    np.testing.assert_array_equal(_panels.diagonal(raised), _panels.diagonal(panels) + values)
    difference = sum(float(jnp.sum(one - other)) for one, other in zip(raised, panels, strict=True))
    assert difference == pytest.approx(float(values.sum()), rel=1e-4)


def test_a_panel_is_prepared_where_its_turn_comes(width, rows):
    panels = _panels.add_products(_panels.zeros(13), rows)
    right = jnp.asarray(np.random.default_rng(1).normal(size=(13, 3)), jnp.float32)

    def double(panel, start, stop):
        assert panel.shape == (stop, stop - start)
        return 2 * panel

    found = jax.jit(lambda panels: _panels.solve(panels, right, double))(panels)
    np.testing.assert_allclose(found, _panels.solve(panels, right) / 2, atol=1e-5)
