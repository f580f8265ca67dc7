"""Whatever is thrown at the public entries: a result, or an error that memjax itself raises."""

import jax
import numpy as np
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

import memjax

NETWORK, PARAMS = memjax.memory_network(
    (4, 4, 1), 3, capacity=5, encoder="pixels", novelty_threshold=0.2
)
STATE = NETWORK.init(jax.random.key(0))
DTYPES = (
    "uint8",
    "uint8",
    "int32",
    "int64",
    "float16",
    "float32",
    "float64",
    "bool",
    "complex64",
    "U3",
)


@st.composite
def arrays(draw, shapes):
    """Arrays of a drawn shape and dtype, now and then with a NaN or an infinity in them."""
    shape = draw(st.sampled_from(shapes))
    dtype = draw(st.sampled_from(DTYPES))
    numbers = np.random.default_rng(draw(st.integers(0, 9))).integers(-2, 9, shape)
    array = np.abs(numbers).astype(dtype) if dtype == "uint8" else numbers.astype(dtype)
    if array.size and array.dtype.kind in "fc" and draw(st.booleans()):
        array.flat[0] = draw(st.sampled_from([np.nan, np.inf, -np.inf]))
    return array % 3 if array.dtype.kind == "i" else array


IMAGES = arrays(
    [(3, 4, 4, 1)] * 6 + [(0, 4, 4, 1), (4, 4, 1), (3, 4, 4), (3, 4, 4, 3), (3, 5, 4, 1), ()]
)
LABELS = arrays([(3,)] * 6 + [(0,), (3, 1), (2,), ()])


def is_memjax_sentence(error: Exception) -> bool:
    name, _, rest = str(error).partition(": ")
    return name in {"images", "labels", "block_size", "batch_size"} and "expected" in rest


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    images=IMAGES, labels=LABELS, block_size=st.sampled_from([2, 2, 2, 3, -1, 0, 1.5, True, None])
)
def test_fit_learns_or_says_what_is_wrong(images, labels, block_size):
    try:
        state, _ = memjax.fit(NETWORK, PARAMS, STATE, images, labels, block_size)
    except (ValueError, TypeError) as error:
        assert is_memjax_sentence(error), error
    else:
        assert np.isfinite(state[1].prototypes).all()
        assert int(state[1].num_seen) == 3
        event("learned")


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(images=IMAGES, batch_size=st.sampled_from([0, 2, None]))
def test_predict_answers_or_says_what_is_wrong(images, batch_size):
    try:
        labels = memjax.predict(NETWORK, PARAMS, STATE, images, batch_size)
    except (ValueError, TypeError) as error:
        assert is_memjax_sentence(error), error
    else:
        assert labels.tolist() == [-1, -1, -1]


@pytest.mark.parametrize("images", [None, [[1.0]], "images"], ids=str)
def test_what_is_no_array_is_named(images):
    with pytest.raises(TypeError, match="images: expected an array"):
        memjax.fit(NETWORK, PARAMS, STATE, images, np.zeros(1, np.int32))
