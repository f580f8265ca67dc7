"""Columns and fixations: against a plain loop, and by their laws."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from lessons import learn_in_blocks, learn_one_by_one

from memjax.composition import Chain
from memjax.vision import Columns
from memjax.vision.encoders import FeatureMap, OrientedEdges

SHAPE = (8, 8, 1)
COLUMNS = Columns(SHAPE, patch=4, places=2, capacity=5)
PARAMS = COLUMNS.params(
    novelty_threshold=0.2,
    blank_contrast=0.1,
    selectivity=0.3,
    critical_period=15,
    decorrelation_period=6,
)
LABELS = np.full(40, -1, np.int32)


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(3)
    images = rng.integers(0, 256, (40, *SHAPE), np.uint8)
    images[5] = 77  # nothing to see
    images[6:9, :4, :4] = 0  # one place sees nothing
    images[20:] = images[:20]  # everything comes twice
    return images


def reference(columns, params, looks):
    """Return memories, sizes and codes of the rule as the docstring states it, in float64.

    ``looks`` is, for each image, (the view that is learned from, all views, their weights).
    """
    places, side = columns.places, columns.patch
    margin = columns.margin
    length = columns.image_shape[0] - side - 2 * margin
    starts = [margin + round(s) for s in np.linspace(0, length, places)]
    novelty, blank, selectivity, period, lasts, first, floor = (float(number) for number in params)
    matrices, means = [None] * places**2, [0] * places**2
    rows = [[] for _ in range(places**2)]
    memories = [[] for _ in range(places**2)]
    drives = [[] for _ in range(places**2)]
    codes = []

    def patch_of(view, place):
        row, column = starts[place // places], starts[place % places]
        patch = view[row : row + side, column : column + side].astype(float).ravel() / 255
        patch = patch - patch.mean()
        contrast = np.linalg.norm(patch)
        return patch / np.sqrt(contrast**2 + columns.contrast_constant), contrast

    def sees(view, place):
        patch, contrast = patch_of(view, place)
        if columns.dimensions is None:
            return patch, contrast
        return (patch - means[place]) @ matrices[place], contrast

    for seen, (learned, views, weights) in enumerate(looks):
        is_two_sided = columns.response == "two-sided"
        code = np.zeros((places**2, (1 + is_two_sided) * columns.capacity))
        for place in range(places**2):
            if columns.dimensions is not None and seen < first:
                rows[place] += [patch_of(view, place)[0] for view in views]
                if seen + 1 < first:
                    continue
                means[place] = np.mean(rows[place], axis=0)
                variances, vectors = np.linalg.eigh(np.cov(np.array(rows[place]).T, bias=True))
                scale = (variances + floor * variances.mean()) ** -0.5
                matrices[place] = (vectors * scale)[:, -columns.dimensions :]
            patch, contrast = sees(learned, place)
            unit = patch / max(np.linalg.norm(patch), 1e-6)
            distances = [1 - unit @ memory for memory in memories[place]]
            is_novel = seen < period and (not distances or min(distances) > novelty)
            if is_novel and contrast > blank and len(memories[place]) < columns.capacity:
                memories[place].append(unit)
                drives[place].append([])
            for k, memory in enumerate(memories[place]):
                if len(drives[place][k]) < lasts:
                    drives[place][k].append(patch @ memory)
                mean, margin = np.mean(drives[place][k]), selectivity * np.std(drives[place][k])
                for view, weight in zip(views, weights, strict=True):
                    look = sees(view, place)[0]
                    if columns.response != "triangle":
                        answer = look @ memory - mean - margin
                    else:
                        distances = [np.linalg.norm(look - other) for other in memories[place]]
                        answer = np.mean(distances) - distances[k]
                    code[place, k] += weight * max(0, answer)
                    if is_two_sided:
                        opposite = mean - margin - look @ memory
                        code[place, columns.capacity + k] += weight * max(0, opposite)
        codes.append(np.sqrt(code.ravel()) if columns.square_root else code.ravel())
    return memories, np.array(codes)


def assert_same_memories(state, memories):
    assert state.size.tolist() == [len(place) for place in memories]
    for place, expected in enumerate(memories):
        np.testing.assert_allclose(
            state.prototypes[place, : len(expected)], np.array(expected), atol=1e-6
        )
        assert not np.any(np.asarray(state.prototypes[place, len(expected) :]))


@pytest.mark.parametrize("homeostasis_period", [3, 7, np.inf])
def test_columns_do_what_the_plain_loop_does(images, homeostasis_period):
    params = PARAMS._replace(homeostasis_period=jnp.float32(homeostasis_period))
    state, codes, _ = learn_one_by_one(COLUMNS, params, images)
    memories, expected = reference(COLUMNS, params, [(x, [x], [1.0]) for x in images])
    assert_same_memories(state, memories)
    np.testing.assert_allclose(codes, expected, atol=2e-5)
    assert expected.max() > 0.1


def looks_of(images, margin):
    """What four fixations of an eye that moves by 1 pixel see, and which one is stored from."""
    for turn, image in enumerate(images):
        beyond = max(1 - margin, 0)
        padded = np.pad(image, ((beyond, beyond), (beyond, beyond), (0, 0)))
        padded = np.pad(padded, ((1 - beyond, 1 - beyond), (1 - beyond, 1 - beyond), (0, 0)))
        views = [padded[r : r + 8, c : c + 8] for r in (0, 2) for c in (0, 2)]
        yield views[turn * 7 % 4], views, np.full(4, 0.25)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"margin": 1},
        {"response": "triangle"},
        {"response": "two-sided"},
        {"dimensions": 6, "response": "two-sided", "square_root": True},
        {"dimensions": 6, "square_root": True},
        {"dimensions": 4, "response": "triangle"},
    ],
    ids=str,
)
def test_columns_with_a_moving_eye_do_what_the_plain_loop_does(images, changes):
    eye = dict(fixations=2, reach=4, sigma=1.5)
    columns = dataclasses.replace(COLUMNS, **changes, **eye)
    params = PARAMS._replace(decorrelation_period=jnp.float32(8))
    assert columns.offsets.tolist() == [-1, 1]
    state, codes, _ = learn_one_by_one(columns, params, images)
    memories, expected = reference(columns, params, list(looks_of(images, columns.margin)))
    if columns.dimensions is None:
        assert_same_memories(state, memories)
    else:
        # An eigenvector may point either way: lengths and products are what counts.
        assert state.size.tolist() == [len(place) for place in memories]
        for place, stored in enumerate(memories):
            learned = np.asarray(state.prototypes[place, : len(stored)])
            np.testing.assert_allclose(
                learned @ learned.T, np.array(stored) @ np.array(stored).T, atol=2e-3
            )
    np.testing.assert_allclose(codes, expected, atol=2e-3 if columns.dimensions else 2e-5)
    assert expected.max() > 0.05


def test_places_are_drawn_by_their_seed(images):
    drawn = dataclasses.replace(COLUMNS, seed=3, places=4)
    corners = drawn._eye.starts()
    assert corners.shape == (16, 2)
    assert corners.min() >= 0 and corners.max() <= 4
    assert len({tuple(corner) for corner in corners.tolist()}) > 8
    np.testing.assert_array_equal(corners, dataclasses.replace(drawn)._eye.starts())
    assert np.any(corners != dataclasses.replace(drawn, seed=4)._eye.starts())
    state, codes, _ = learn_one_by_one(drawn, PARAMS, images)
    row, column = corners[5]
    patch = images[0, row : row + 4, column : column + 4].astype(float).ravel()
    patch -= patch.mean()
    np.testing.assert_allclose(state.prototypes[5, 0], patch / np.linalg.norm(patch), atol=1e-5)
    assert codes.shape == (40, 80)


@pytest.mark.parametrize(
    "layer",
    [
        COLUMNS,
        dataclasses.replace(COLUMNS, fixations=3, reach=3),
        dataclasses.replace(COLUMNS, dimensions=5, square_root=True, fixations=2, reach=2),
    ],
    ids=str,
)
@pytest.mark.parametrize("block_size", [1, 7, 40, 64])
def test_a_block_is_its_single_steps(images, layer, block_size):
    state, codes, _ = learn_one_by_one(layer, PARAMS, images)
    block_state, block_codes, _ = learn_in_blocks(layer, PARAMS, images, block_size)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), block_state, state)
    np.testing.assert_allclose(block_codes, codes, atol=1e-5)
    recalled = layer.recall_block(PARAMS, state, jnp.asarray(images[-1:]))
    np.testing.assert_allclose(recalled[0], codes[-1], atol=1e-5)


def test_a_blank_image_stores_nothing():
    blank = np.full((30, *SHAPE), 200, np.uint8)
    state, _, _ = learn_one_by_one(COLUMNS, PARAMS, blank)
    assert state.size.tolist() == [0, 0, 0, 0]


def test_places_share_nothing(images):
    changed = images.copy()
    changed[:, :4, :4] = changed[::-1, :4, :4]
    before, codes, _ = learn_one_by_one(COLUMNS, PARAMS, images)
    after, changed_codes, _ = learn_one_by_one(COLUMNS, PARAMS, changed)
    np.testing.assert_array_equal(before.prototypes[1:], after.prototypes[1:])
    np.testing.assert_array_equal(codes[:, 5:], changed_codes[:, 5:])
    assert np.any(np.asarray(before.prototypes[0]) != np.asarray(after.prototypes[0]))


def test_codes_do_not_change_once_the_homeostasis_periods_are_over(images):
    params = PARAMS._replace(homeostasis_period=jnp.float32(5))
    settled, _, _ = learn_one_by_one(COLUMNS, params, images[:20])
    last, codes, _ = learn_one_by_one(COLUMNS, params, images)
    # Nothing is stored after 15 examples, and the last five of the first half settle the rest.
    recalled = COLUMNS.recall_block(params, settled, jnp.asarray(images))
    np.testing.assert_allclose(COLUMNS.recall_block(params, last, jnp.asarray(images)), recalled)
    np.testing.assert_allclose(codes[20:], recalled[20:], atol=1e-6)


def test_memories_never_move_once_stored(images):
    first, _, _ = learn_one_by_one(COLUMNS, PARAMS, images[:10])
    last, _, _ = learn_one_by_one(COLUMNS, PARAMS, images)
    for place, size in enumerate(first.size.tolist()):
        np.testing.assert_array_equal(first.prototypes[place, :size], last.prototypes[place, :size])


def test_columns_look_at_a_feature_map():
    edges = FeatureMap(OrientedEdges((16, 16, 3), grid=8))
    chain = Chain((edges, Columns((8, 8, 24), patch=3, places=2, capacity=4)))
    images = np.random.default_rng(0).integers(0, 256, (6, 16, 16, 3), np.uint8)
    _, codes, _ = learn_one_by_one(chain, ((), PARAMS), np.concatenate([images, images]))
    assert codes.shape == (12, 16)
    assert np.isfinite(codes).all() and codes.max() > 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Columns(SHAPE, patch=9, places=2, capacity=5), "patch: expected at most 8"),
        (lambda: Columns(SHAPE, patch=4, places=0, capacity=5), "places: expected a positive"),
        (
            lambda: dataclasses.replace(COLUMNS, fixations=5, reach=4),
            "reach: expected a multiple of",
        ),
        (lambda: dataclasses.replace(COLUMNS, margin=3), "margin: expected 0 to 2"),
        (lambda: dataclasses.replace(COLUMNS, dimensions=17), "dimensions: expected at most 16"),
        (lambda: dataclasses.replace(COLUMNS, response="max"), "response: expected one of"),
        (lambda: dataclasses.replace(COLUMNS, padding="wrap"), "padding: expected one of"),
        (
            lambda: dataclasses.replace(COLUMNS, dimensions=4).params(decorrelation_period=0),
            "decorrelation_period: expected a number from 1",
        ),
        (lambda: COLUMNS.params(novelty_threshold=3), "novelty_threshold: expected a number"),
        (
            lambda: COLUMNS.params(homeostasis_period=0),
            "homeostasis_period: expected a number",
        ),
        (lambda: COLUMNS.params(blank_contrast=float("nan")), "blank_contrast: expected a number"),
    ],
)
def test_bad_settings_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_an_image_is_as_new_as_the_share_of_learned_images_that_were_nearer(images):
    columns = Columns(SHAPE, patch=4, places=2, capacity=5, fixations=2, reach=4)
    params = PARAMS
    step, distances, state = jax.jit(columns.step), [], columns.init(jax.random.key(0))

    def distance(state, view):
        found = []
        for place, (row, column) in enumerate([(0, 0), (0, 4), (4, 0), (4, 4)]):
            patch = view[row : row + 4, column : column + 4].astype(float).ravel() / 255
            patch -= patch.mean()
            memories = np.array(state.prototypes[place, : state.size[place]], float)
            cosines = memories @ patch / max(np.linalg.norm(patch), 1e-6)
            if np.linalg.norm(patch) > 0.1:
                found.append(1 - max(cosines, default=-1))
        return np.mean(found) if found else 2

    for image, (view, _, _) in zip(images, looks_of(images, 0), strict=True):
        distances.append(distance(state, view))
        state, _, _ = step(params, state, image, jnp.int32(-1))
    assert state.distance_counts.sum() == len(images)
    scores = columns.novelty_block(params, state, images)[:, 0]
    # The bins are a quarter of a power of two wide, and the eye looks from the centre.
    for (_, views, _), score in zip(looks_of(images, 0), scores, strict=True):
        asked = distance(state, views[3])
        low = np.mean(np.array(distances) < asked / 1.3 - 1e-6)
        high = np.mean(np.array(distances) <= asked * 1.3 + 1e-6)
        assert low - 1e-6 <= score <= high + 1e-6
    assert scores.min() < 0.1 and scores.max() > 0.8
    # Where nothing is to be seen, nothing is recognised.
    assert columns.novelty_block(params, state, jnp.zeros((1, *SHAPE), jnp.uint8)) > 0.9


def test_columns_count_nothing_while_they_are_blind(images):
    columns = dataclasses.replace(COLUMNS, dimensions=6)
    state, _, _ = learn_one_by_one(columns, PARAMS, images)
    assert state.distance_counts.sum() == len(images) - 5
