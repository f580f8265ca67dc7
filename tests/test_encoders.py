"""The encoders: length, colour, hand-worked cases and the directions of edges."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memjax.vision.encoders import ENCODERS, Blur, FeatureMap, Grey, OnOff, OrientedEdges, Pixels

SHAPE = (12, 10, 3)

every_encoder = pytest.mark.parametrize("encoder", ENCODERS.values(), ids=ENCODERS)


def pictures(count=4, shape=SHAPE):
    return np.random.default_rng(0).integers(0, 256, (count, *shape), np.uint8)


@functools.partial(jax.jit, static_argnums=0)
def recall(encoder, image):
    return encoder.recall((), (), image)


@functools.partial(jax.jit, static_argnums=0)
def recall_block(encoder, images):
    return encoder.recall_block((), (), images)


def encode(encoder, image):
    return np.asarray(recall(encoder, image))


@every_encoder
def test_features_are_of_length_1(encoder):
    code = encode(encoder(SHAPE), pictures()[0])
    assert code.shape == encoder(SHAPE).output_shape
    np.testing.assert_allclose(np.linalg.norm(code), 1, rtol=1e-5)


@every_encoder
def test_features_of_every_channel_are_of_length_1_where_channels_are_split(encoder):
    split = encoder(SHAPE, is_split_by_channel=True)
    code = encode(split, pictures()[0])
    assert code.shape == split.output_shape == (3, encoder(SHAPE).output_shape[0] // 3)
    np.testing.assert_allclose(np.linalg.norm(code, axis=1), 1, rtol=1e-5)


@every_encoder
def test_a_split_channel_is_encoded_as_a_grey_image(encoder):
    image = pictures()[0]
    code = encode(encoder(SHAPE, is_split_by_channel=True), image)
    grey = encoder((*SHAPE[:2], 1))
    for channel in range(3):
        expected = encode(grey, image[..., channel : channel + 1])
        np.testing.assert_allclose(code[channel], expected, atol=1e-6)


@every_encoder
def test_an_image_of_zeros_gives_zeros(encoder):
    for is_split in (False, True):
        code = encode(encoder(SHAPE, is_split_by_channel=is_split), np.zeros(SHAPE, np.uint8))
        np.testing.assert_array_equal(code, 0)


@every_encoder
def test_a_black_channel_gives_zeros_beside_others(encoder):
    image = pictures()[0]
    image[..., 1] = 0
    code = encode(encoder(SHAPE, is_split_by_channel=True), image)
    np.testing.assert_allclose(np.linalg.norm(code, axis=1), [1, 0, 1], rtol=1e-5)


@every_encoder
def test_integers_from_0_to_255_are_floats_from_0_to_1(encoder):
    image = pictures()[0]
    as_floats = encode(encoder(SHAPE), image.astype(np.float32) / 255)
    np.testing.assert_allclose(encode(encoder(SHAPE), image), as_floats, atol=1e-6)
    np.testing.assert_array_equal(
        encode(encoder(SHAPE), image.astype(np.int32)), encode(encoder(SHAPE), image)
    )


@every_encoder
def test_a_block_is_encoded_as_its_images_one_by_one(encoder):
    senses, images = encoder(SHAPE), pictures()
    blocks = recall_block(senses, images)
    singles = np.stack([encode(senses, image) for image in images])
    np.testing.assert_allclose(blocks, singles, atol=1e-6)


@every_encoder
def test_a_step_hands_on_what_recall_does_and_learns_nothing(encoder):
    senses, images = encoder(SHAPE), pictures()
    state, code, info = jax.jit(senses.step)((), (), images[0], jnp.int32(1))
    assert (state, info) == ((), ())
    np.testing.assert_allclose(code, encode(senses, images[0]), atol=1e-6)
    state, codes, info = jax.jit(senses.step_block)((), (), images, jnp.zeros(4, jnp.int32))
    assert (state, info) == ((), ())
    np.testing.assert_allclose(codes, recall_block(senses, images), atol=1e-6)


@every_encoder
def test_contrast_of_the_whole_image_changes_nothing(encoder):
    image = pictures()[0].astype(np.float32) / 255
    np.testing.assert_allclose(
        encode(encoder(SHAPE), image), encode(encoder(SHAPE), image / 4), atol=2e-4
    )


def test_pixels_worked_out_by_hand():
    image = np.array([[[3], [0]], [[4], [0]]], np.uint8)
    np.testing.assert_allclose(encode(Pixels((2, 2, 1)), image), [0.6, 0, 0.8, 0], rtol=1e-6)


def test_a_blurred_dot_is_brightest_at_its_place_and_even_to_all_sides():
    image = np.zeros((21, 21, 1), np.uint8)
    image[10, 10] = 255
    blurred = encode(Blur((21, 21, 1), sigma=1 / 21), image).reshape(21, 21)
    assert np.unravel_index(blurred.argmax(), (21, 21)) == (10, 10)
    # One pixel away on a Gaussian of one pixel's width.
    np.testing.assert_allclose(blurred[10, 11] / blurred[10, 10], np.exp(-0.5), rtol=1e-4)
    np.testing.assert_allclose(blurred, blurred.T, atol=1e-6)
    np.testing.assert_allclose(blurred, blurred[::-1, ::-1], atol=1e-6)


def test_a_blurred_image_is_taken_at_the_places_of_a_grid():
    image = np.random.default_rng(0).integers(0, 256, (12, 12, 3), np.uint8)
    blur = Blur((12, 12, 3), sigma=0.001, grid=6)
    coarse = FeatureMap(blur).recall((), (), jnp.asarray(image))
    assert coarse.shape == FeatureMap(blur).output_shape == (6, 6, 3)
    # A Gaussian far narrower than a pixel, half-way between four of them, is their mean.
    squares = image.reshape(6, 2, 6, 2, 3).mean(axis=(1, 3)) / 255
    np.testing.assert_allclose(coarse, squares, atol=1e-5)
    with pytest.raises(ValueError, match="grid: expected a positive integer, got 0"):
        Blur((12, 12, 3), grid=0)


@pytest.mark.parametrize(("dot", "ground", "cell"), [(255, 0, 0), (0, 255, 1)], ids=["on", "off"])
def test_a_bright_dot_excites_an_on_cell_and_a_dark_one_an_off_cell(dot, ground, cell):
    image = np.full((21, 21, 1), ground, np.uint8)
    image[10, 10] = dot
    code = encode(OnOff((21, 21, 1)), image).reshape(21, 21, 2)
    assert code[10, 10, cell] == code.max() > 0
    assert code[10, 10, 1 - cell] == 0


def test_an_even_image_excites_no_contrast_and_no_edge():
    image = np.full((16, 16, 1), 0.5, np.float32)
    for encoder in (OnOff((16, 16, 1)), OrientedEdges((16, 16, 1))):
        assert np.abs(np.asarray(encoder.features(jnp.asarray(image)))).max() < 2e-3


@pytest.mark.parametrize("direction", range(4))
def test_a_step_excites_the_cells_of_the_direction_in_which_it_grows_brighter(direction):
    # Directions 0, 2, 4 and 6 of 8 are right, down, left and up.
    dark_to_bright = np.zeros((24, 24, 1), np.uint8)
    dark_to_bright[:, 12:] = 255
    image = np.rot90(dark_to_bright, -direction)
    code = encode(OrientedEdges((24, 24, 1)), image).reshape(8, 8, 8)
    answers = code.sum(axis=(0, 1))
    assert answers.argmax() == 2 * direction
    assert answers[(2 * direction + 4) % 8] < 1e-6


def test_an_edge_is_felt_where_it_is():
    image = np.zeros((24, 24, 1), np.uint8)
    image[:, 21:] = 255
    code = encode(OrientedEdges((24, 24, 1)), image).reshape(8, 8, 8)
    assert code.sum(axis=(0, 2)).argmax() in (6, 7)
    assert code[:, :3].sum() < 1e-3 * code.sum()


def test_the_cells_of_a_place_hold_each_other_back_by_their_sum():
    shape = (16, 12, 1)
    image = jnp.asarray(pictures(1, shape)[0].astype(np.float32))
    alone = OrientedEdges(shape, grid=4, normalisation=0).features(image)
    places = jnp.sum(jnp.square(alone), axis=2, keepdims=True)
    for strength in (0.5, 3.0):
        together = OrientedEdges(shape, grid=4, normalisation=strength).features(image)
        expected = jnp.square(alone) / (1 + strength * places / jnp.mean(places))
        np.testing.assert_allclose(jnp.square(together), expected, rtol=1e-4, atol=1e-7)


def test_a_faint_edge_counts_for_more_than_its_strength():
    image = np.zeros((24, 24, 1), np.float32)
    image[2:10, 4:, 0], image[14:22, 4:, 0] = 1, 0.1
    plain, held_back = (
        encode(OrientedEdges(image.shape, normalisation=strength), image).reshape(8, 64)
        for strength in (0, 1)
    )
    assert held_back[:4].sum() / held_back[4:].sum() < 0.8 * plain[:4].sum() / plain[4:].sum()


@every_encoder
def test_a_code_of_colour_has_a_picture_of_three_channels(encoder):
    senses = encoder(SHAPE)
    picture = senses.picture(jnp.asarray(encode(senses, pictures()[0])))
    assert picture.ndim == 3
    assert picture.shape[2] == 3


def test_the_picture_of_pixels_is_the_image_again():
    senses, image = Pixels(SHAPE), pictures()[0]
    picture = np.asarray(senses.picture(jnp.asarray(encode(senses, image))))
    np.testing.assert_allclose(picture * np.linalg.norm(image.astype(float)), image, rtol=1e-4)


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 1, 1)])
def test_an_encoder_says_which_image_shape_it_takes(shape):
    with pytest.raises(ValueError, match=r"image_shape: expected \(H, W, channels\), got \(8, 8"):
        Pixels(shape)


def test_an_image_without_pixels_is_an_error():
    with pytest.raises(ValueError, match=r"image_shape: expected a positive integer, got 0\."):
        Pixels((0, 8, 1))


@every_encoder
@pytest.mark.parametrize("scale", [1e-4, 1e-8, 1e-15])
def test_a_faint_image_is_seen_as_a_bright_one(encoder, scale):
    image = np.float32(pictures()[0] / 255)
    expected = encode(encoder(SHAPE), image)
    np.testing.assert_allclose(
        encode(encoder(SHAPE), image * np.float32(scale)), expected, atol=0.03
    )


@pytest.mark.parametrize("dtype, scale", [(np.uint8, 255), (np.float32, 1)])
def test_grey_is_the_mean_of_the_colours_on_the_scale_of_the_image(dtype, scale):
    image = np.random.default_rng(0).integers(0, 256, (5, 4, 3)).astype(dtype)
    grey = Grey((5, 4, 3))
    seen = grey.recall((), (), jnp.asarray(image))
    assert seen.shape == grey.output_shape == (5, 4, 1) and seen.dtype == jnp.float32
    np.testing.assert_allclose(seen[:, :, 0], image.mean(axis=2) / scale, rtol=1e-6)


def test_grey_takes_the_shape_of_an_image():
    with pytest.raises(ValueError, match="image_shape: expected"):
        Grey((5, 4))  # type: ignore[arg-type]
