"""One image file: every form in which the same picture may come, and what is refused."""

import io
import os
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("PIL")

from PIL import Image, TiffImagePlugin

from memjax.datasets._files import each, ground_of
from memjax.datasets._images import ImageError, Look, is_light, quiet_pillow, read_image

LOOK = Look((8, 8), 1)
PICTURE = np.zeros((8, 8), np.uint8)
PICTURE[1:7, 3:5], PICTURE[2, 2] = 200, 90
TURNS = Image.Transpose


def image(array: np.ndarray = PICTURE) -> Image.Image:
    return Image.fromarray(array)


def plain(value: int) -> Image.Image:
    return image(np.full_like(PICTURE, value))


def held(orientation: int, turn: Image.Transpose):
    """A picture that a camera took when it was held in a way, and its EXIF data."""
    data = Image.Exif()
    data[0x0112] = orientation
    return image().transpose(turn), {"exif": data}


def stating(highest: int):
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[281] = highest
    return {"tiffinfo": tags}


SAME = {
    "grey.png": (image(), {}),
    "grey.bmp": (image(), {}),
    "grey.pgm": (image(), {}),
    "colour.webp": (image().convert("RGB"), {"lossless": True}),
    "16 bits.png": (image(PICTURE.astype(np.uint16) * 257), {}),
    "16 bits.tif": (image(PICTURE.astype(np.uint16) * 257), {}),
    "16 bits.pgm": (image(PICTURE.astype(np.int32) * 257), {}),
    "12 bits, stated.tif": (image(PICTURE.astype(np.uint16) * 16), stating(4080)),
    "floats to 1.tif": (image((PICTURE / 255).astype(np.float32)), {}),
    "floats to 255.tif": (image(PICTURE.astype(np.float32)), {}),
    "dark ink.png": (Image.merge("RGBA", [plain(0)] * 3 + [image(255 - PICTURE)]), {}),
    "light ink.png": (Image.merge("RGBA", [plain(255)] * 3 + [image()]), {}),
    "grey and alpha.png": (Image.merge("LA", [plain(255), image()]), {}),
    "palette.png": (image().convert("P"), {}),
    "palette.gif": (image(), {}),
    "cmyk.tif": (image().convert("RGB").convert("CMYK"), {}),
    "two frames.gif": (image(), {"save_all": True, "append_images": [plain(9)]}),
    "two pages.tif": (image(), {"save_all": True, "append_images": [plain(9)]}),
    "two frames.png": (image(), {"save_all": True, "append_images": [plain(9)]}),
    "mirrored.png": held(2, TURNS.FLIP_LEFT_RIGHT),
    "upside down.png": held(3, TURNS.ROTATE_180),
    "flipped.png": held(4, TURNS.FLIP_TOP_BOTTOM),
    "transposed.png": held(5, TURNS.TRANSPOSE),
    "on its side.png": held(6, TURNS.ROTATE_90),
    "transversed.png": held(7, TURNS.TRANSVERSE),
    "on its other side.png": held(8, TURNS.ROTATE_270),
    "on its side.tif": held(6, TURNS.ROTATE_90),
    "on its side.webp": (
        held(6, TURNS.ROTATE_90)[0].convert("RGB"),
        {**held(6, TURNS.ROTATE_90)[1], "lossless": True},
    ),
}


@pytest.mark.parametrize("name", SAME)
def test_a_picture_is_the_same_in_whatever_form_it_comes(name, tmp_path):
    picture, options = SAME[name]
    picture.save(tmp_path / name, **options)
    read, notes = read_image(tmp_path / name, LOOK)
    assert (read.shape, read.dtype) == ((8, 8, 1), np.uint8)
    assert np.array_equal(read[..., 0], PICTURE)
    said = " ".join(notes)
    assert ("first of several frames" in said) == name.startswith("two")
    assert ("transparent" in said) == ("ink" in name or "alpha" in name)
    assert ("scale from 0 to" in said) == ("255" in name or "stated" in name)


@pytest.mark.parametrize("name", ["grey.jpg", "turned.jpg", "cmyk.jpg"])
def test_a_jpeg_is_the_same_but_for_its_rounding(name, tmp_path):
    picture: Image.Image = image()
    options: dict = {}
    if name == "turned.jpg":
        picture, options = held(6, TURNS.ROTATE_90)
    if name == "cmyk.jpg":
        picture = picture.convert("RGB").convert("CMYK")
    picture.save(tmp_path / name, quality=100, **options)
    read, _ = read_image(tmp_path / name, LOOK)
    assert np.abs(read[..., 0].astype(int) - PICTURE).max() <= 3


def test_a_picture_of_one_bit_is_black_and_white(tmp_path):
    image(np.where(PICTURE > 100, 255, 0).astype(np.uint8)).convert("1").save(tmp_path / "one.png")
    read, _ = read_image(tmp_path / "one.png", LOOK)
    assert np.array_equal(read[..., 0], np.where(PICTURE > 100, 255, 0))


@pytest.mark.parametrize("alpha", [0, 128])
def test_a_stated_background_shows_through_and_nothing_is_said(alpha, tmp_path):
    Image.merge("RGBA", [plain(0)] * 3 + [plain(alpha)]).save(tmp_path / "clear.png")
    look = Look((8, 8), 3, background=(200, 100, 0))
    read, notes = read_image(tmp_path / "clear.png", look)
    assert np.array_equal(read[0, 0], np.round(np.array([200, 100, 0]) * (1 - alpha / 255)))
    assert notes == ()


def test_grey_becomes_colour_and_light_becomes_dark_where_the_look_says_so(tmp_path):
    image().save(tmp_path / "grey.png")
    read, _ = read_image(tmp_path / "grey.png", Look((8, 8), 3, is_inverted=True))
    assert np.array_equal(read, 255 - np.repeat(PICTURE[..., None], 3, axis=2))


def test_another_size_keeps_its_proportions_and_the_rest_has_the_colour_of_the_edge(tmp_path):
    wide = np.full((4, 16), 50, np.uint8)
    wide[1:3, 4:12] = 250
    image(wide).save(tmp_path / "wide.png")
    read, _ = read_image(tmp_path / "wide.png", LOOK)
    assert set(read[:3].ravel()) == set(read[5:].ravel()) == {50}
    assert read[3:5].max() > 150
    large = image(PICTURE.repeat(4, 0).repeat(4, 1))
    large.save(tmp_path / "large.png")
    read, _ = read_image(tmp_path / "large.png", LOOK)
    assert np.abs(read[..., 0].astype(int) - PICTURE).max() < 60


def test_a_large_photograph_is_decoded_at_a_fraction_and_looks_the_same(tmp_path):
    scene = np.add.outer(np.arange(1600), np.arange(1600)).astype(np.float64)
    pixels = (255 * scene / scene.max()).astype(np.uint8)
    image(pixels).save(tmp_path / "scene.jpg")
    read, _ = read_image(tmp_path / "scene.jpg", Look((16, 16), 1))
    expected = pixels.reshape(16, 100, 16, 100).mean(axis=(1, 3))
    assert np.abs(read[..., 0] - expected).max() < 4


def bomb() -> bytes:
    """A PNG of a few kilobytes whose pixels would fill half a gigabyte."""
    file = io.BytesIO()
    Image.new("1", (9000, 9000)).save(file, "png")
    return file.getvalue()


def broken(content: bytes) -> bytes:
    return content[: len(content) // 2]


def saved(picture: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


NOISE = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is no PNG, JPEG"),
        (b"no image", "is no PNG, JPEG"),
        (saved(image(), "eps"), "is no PNG, JPEG"),
        (saved(image(), "pdf"), "is no PNG, JPEG"),
        (saved(image(), "ico"), "is no PNG, JPEG"),
        (bomb(), "9000 x 9000 pixels are more than the 80,000,000"),
        (broken(saved(image(NOISE), "png")), r"cannot be read \(.*truncated"),
        (broken(saved(image(NOISE), "jpeg")), r"cannot be read \(.*truncated"),
        (broken(saved(image(NOISE), "bmp")), "cannot be read"),
        (broken(saved(image(NOISE), "webp")), "."),
        (broken(saved(image(NOISE), "tiff")), "."),
        (saved(image(PICTURE.astype(np.int32)), "tiff"), "32-bit numbers whose range"),
        (saved(image(PICTURE.astype(np.float32) - 5), "tiff"), "holds numbers from -5 to 195"),
        (saved(image(np.full((8, 8), np.nan, np.float32)), "tiff"), "a NaN or an infinity"),
    ],
)
def test_what_cannot_be_read_says_why(content, says, tmp_path):
    file = tmp_path / "picture.png"
    file.write_bytes(content)
    for source in (file, content):
        with quiet_pillow(), pytest.raises(ImageError, match=says):
            read_image(source, LOOK)


@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "nothing", "link to nothing"])
def test_only_regular_files_are_opened(kind, tmp_path):
    file = tmp_path / "picture.png"
    if kind == "pipe":
        os.mkfifo(file)
    elif kind == "device":
        file = Path("/dev/zero")
    elif kind == "folder":
        file.mkdir()
    elif kind == "link to nothing":
        file.symlink_to(tmp_path / "gone")
    with pytest.raises(ImageError, match=r"no regular file|No such file"):
        read_image(file, LOOK)


def test_files_are_read_by_several_threads_in_their_order(tmp_path):
    files = [str(tmp_path / f"{number}.png") for number in range(600)]
    for number, file in enumerate(files):
        if number != 77:
            image(np.full((8, 8), number % 256, np.uint8)).save(file)
    found = list(each(files, lambda file: read_image(file, LOOK)[0][0, 0, 0]))
    assert isinstance(found.pop(77), ImageError)
    assert found == [number % 256 for number in range(600) if number != 77]


def test_the_edge_tells_what_a_picture_is_drawn_on():
    pictures = np.stack([PICTURE, 255 - PICTURE])[..., None]
    assert is_light(pictures).tolist() == [False, True]
    assert ground_of(pictures[:1]) == "dark"
    assert ground_of(pictures[1:]) == "light"
    assert ground_of(pictures) == ground_of(pictures[:0]) == "mixed"
