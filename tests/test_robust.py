"""What the changes of images do, and what the experiment records."""

import json

import numpy as np
import pytest

from experiments import robust
from memjax import datasets


def _images(count=6, side=28, channels=1):
    generator = np.random.default_rng(3)
    return generator.integers(0, 256, (count, side, side, channels), np.uint8)


def _change(images, name, strength, seed=0):
    return robust.CHANGES[name].apply(images, strength, np.random.default_rng(seed))


@pytest.mark.parametrize("name", robust.CHANGES)
@pytest.mark.parametrize("channels", [1, 3])
def test_strength_0_gives_the_images_and_any_other_changes_them(name, channels):
    images = _images(channels=channels)
    strengths = robust.CHANGES[name].strengths
    assert strengths[0] == 0
    before = images.copy()
    np.testing.assert_array_equal(_change(images, name, 0), images)
    for strength in strengths[1:]:
        changed = _change(images, name, strength)
        assert changed.dtype == np.uint8 and changed.shape == images.shape
        assert (changed != images).any(axis=(1, 2, 3)).all()
        np.testing.assert_array_equal(changed, _change(images, name, strength))
    np.testing.assert_array_equal(images, before)


@pytest.mark.parametrize("name", robust.CHANGES)
def test_one_image_can_be_changed_alone(name):
    image = _images(count=1)
    assert _change(image, name, robust.CHANGES[name].strengths[-1]).shape == image.shape


def test_noise_has_the_deviation_that_it_says():
    grey = np.full((20, 28, 28, 1), 128, np.uint8)
    changed = _change(grey, "noise", 0.1).astype(float)
    assert changed.std() == pytest.approx(25.5, rel=0.03)
    assert changed.mean() == pytest.approx(128, abs=1)


def test_blur_spreads_a_point_by_its_width_and_keeps_its_mass():
    image = np.zeros((1, 40, 40, 1), np.uint8)
    image[0, 18:22, 18:22] = 255
    blurred = _change(image, "blur", 0.1)[0, :, :, 0].astype(float)
    assert blurred.sum() == pytest.approx(16 * 255, rel=0.05)
    offsets = np.arange(40) - 19.5
    variance = (blurred.sum(axis=1) * offsets**2).sum() / blurred.sum()
    # That of the square, (4^2 - 1) / 12, and that of the Gaussian, 4^2; rounding cuts its tails.
    assert variance == pytest.approx(15 / 12 + 16, rel=0.1)


def test_occlusion_changes_a_square_and_nothing_else():
    black = np.zeros((2000, 20, 20, 3), np.uint8)
    is_hidden = _change(black, "occlusion", 0.35)[..., 0] == 128
    assert (is_hidden.any(axis=2).sum(axis=1) == 7).all()
    assert (is_hidden.any(axis=1).sum(axis=1) == 7).all()
    assert (is_hidden.sum(axis=(1, 2)) == 49).all()
    assert is_hidden.any(axis=0).all()  # it may be anywhere, corners included
    images = _images(count=2000, side=20, channels=3)
    kept = np.where(is_hidden[..., None], np.uint8(128), images)
    np.testing.assert_array_equal(_change(images, "occlusion", 0.35), kept)


def test_a_shift_of_n_pixels_moves_mass_by_n_in_every_direction():
    images = np.zeros((100, 20, 20, 1), np.uint8)
    images[:, 9, 11] = 255
    shifted = _change(images, "shift", 0.15)
    places = {(int(row), int(column)) for _, row, column, _ in np.argwhere(shifted == 255)}
    assert places == {(12, 11), (6, 11), (9, 14), (9, 8)}
    assert (shifted.sum(axis=(1, 2, 3)) == 255).all()
    full = np.full((8, 20, 20, 1), 9, np.uint8)
    assert (_change(full, "shift", 0.15).sum(axis=(1, 2, 3)) == 9 * 20 * 17).all()


def test_half_a_turn_puts_every_pixel_on_the_other_side():
    images = _images()
    np.testing.assert_array_equal(_change(images, "rotation", 180), images[:, ::-1, ::-1])


def test_a_quarter_turn_goes_to_the_left_or_to_the_right():
    images = _images(count=40)
    changed = _change(images, "rotation", 90)
    is_left = (changed == np.rot90(images, axes=(1, 2))).all(axis=(1, 2, 3))
    is_right = (changed == np.rot90(images, -1, axes=(1, 2))).all(axis=(1, 2, 3))
    assert (is_left ^ is_right).all() and 10 < is_left.sum() < 30


def test_inverted_at_full_strength_twice_gives_the_images():
    images = _images()
    once = _change(images, "inversion", 1)
    np.testing.assert_array_equal(once, 255 - images)
    np.testing.assert_array_equal(_change(once, "inversion", 1), images)
    assert (np.abs(_change(images, "inversion", 0.5) - 127.5) < 1).all()


def test_images_of_other_datasets_are_cut_or_enlarged_and_turned_grey():
    colour = _images(side=32, channels=3)
    cut = robust.resize(colour, (28, 28, 1))
    luminance = colour[:, 2:30, 2:30] @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(cut[..., 0], luminance, atol=0.51)
    small = np.zeros((1, 8, 8, 1), np.uint8)
    small[0, :4] = 200
    large = robust.resize(small, (28, 28, 1))
    assert large.shape == (1, 28, 28, 1)
    assert (large[0, :12] == 200).all() and (large[0, 16:] == 0).all()
    grey = robust.resize(_images(), (32, 32, 3))
    assert grey.shape == (6, 32, 32, 3) and (grey[..., 0] == grey[..., 2]).all()


@pytest.mark.long
def test_strange_images_are_made_of_the_same_pixels_or_of_other_datasets(mnist, monkeypatch):
    def load(name, split):
        if name == "fashion_mnist":
            raise datasets.DatasetError("not here")
        return mnist._replace(images=_images(40, {"digits": 8}.get(name, 32), 1))

    monkeypatch.setattr(datasets, "load", load)
    images = mnist.images[:30]
    strange = dict(robust.strangers("mnist", images))
    assert "fashion_mnist" not in strange and {"cifar10", "digits"} <= set(strange)
    assert {other.shape for other in strange.values()} == {images.shape}
    for kind in ("permuted pixels", "rotated by 90°"):
        assert (strange[kind] != images).any()
        moved, own = (np.sort(each.reshape(30, -1)) for each in (strange[kind], images))
        np.testing.assert_array_equal(moved, own)
    np.testing.assert_array_equal(strange["inverted"], 255 - images)


@pytest.mark.long
def test_the_experiment_records_what_is_recognised_and_what_is_new(tmp_path):
    robust.main(["--quick", "--out", str(tmp_path)])
    found = [json.loads(file.read_text()) for file in sorted(tmp_path.iterdir())]
    assert [record["contender"] for record in found] == [
        "1-NN, all images",
        "CNN, backpropagation",
        "columnar small",
        "memory, edges",
    ]
    for record in found:
        (run,) = record["runs"]
        for change, strengths in record["strengths"].items():
            accuracy, novelty = run["accuracy"][change], run["novelty"][change]
            assert len(accuracy) == len(novelty) == len(strengths)
            assert accuracy[0] > 0.9 and accuracy[0] == run["accuracy"]["noise"][0]
            assert accuracy[-1] < accuracy[0] and novelty[-1] > novelty[0] == 0.5
        assert run["strangers"]["uniform noise"] > 0.9
    lines = robust.table(found).splitlines()
    assert len(lines) == 2 + 4 + 3 + 2 + 4
    assert len({line.count("|") for line in lines[:6]}) == 1
    assert len({line.count("|") for line in lines[9:]}) == 1
    drawn = robust.figure(found)
    assert [place.get_title().split(": ")[1] for place in drawn.axes] == list(robust.CHANGES)
    assert all(len(place.get_lines()) == 4 for place in drawn.axes)
