"""One image file as the pixels that a network sees: opened with care, and brought to one form.

Only a few formats are opened, by what the file holds and not by its name. The size is checked
before anything is decoded.
"""

import contextlib
import io
import os
import stat
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from memjax._checks import import_package

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
SUFFIXES = frozenset(
    [
        ".png",
        ".apng",
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".bmp",
        ".gif",
        ".tif",
        ".tiff",
        ".webp",
        ".ppm",
        ".pgm",
        ".pbm",
        ".pnm",
    ]
)
MOST_PIXELS = 80_000_000

_ORIENTATION = 0x0112  # tags of TIFF, and of EXIF
_PHOTOMETRIC, _BITS, _SAMPLE_FORMAT = 262, 258, 339
_HIGHEST = (281, 341)  # MaxSampleValue, SMaxSampleValue


class Look(NamedTuple):
    """How a network sees an image: what every image is brought to before it is learned or asked of.

    Attributes:
        image_size: (H, W) in pixels.
        channels: 1 for grey, 3 for colour.
        background: what shows through transparency: (red, green, blue), 0 to 255; None for white
            behind dark ink and black behind light ink.
        is_inverted: whether light and dark change places.
    """

    image_size: tuple[int, int]
    channels: int
    background: tuple[int, int, int] | None = None
    is_inverted: bool = False


class Peek(NamedTuple):
    """What the header of an image file says."""

    height: int
    width: int
    may_have_colour: bool


class ImageError(ValueError):
    """An image that cannot be read; the message says why, without its name."""


@contextlib.contextmanager
def quiet_pillow() -> Iterator[None]:
    """Keep Pillow from warning of what is checked here, and of damage that it repairs itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def peek(path: str | os.PathLike[str]) -> Peek:
    """Return what the header of an image file says, without decoding it.

    Raises:
        ImageError: it is no image that may be opened.
    """
    with _opened(path) as image:
        is_turned = image.format != "TIFF" and _orientation(image) >= 5
        height, width = image.size if is_turned else image.size[::-1]
        has_one_channel = image.mode in ("1", "L", "LA", "I", "F") or image.mode.startswith("I;")
        return Peek(height, width, not has_one_channel)


def read_image(
    source: str | os.PathLike[str] | bytes, look: Look
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return an image as a network sees it, uint8 [H, W, channels], and what was done to it.

    Args:
        source: the path of a file, or its contents.
        look: what the image is brought to.

    Raises:
        ImageError: it is no image that may be opened, or it cannot be decoded.
    """
    notes: list[str] = []
    with _opened(source) as image:
        # A JPEG of a telephone may hold a preview as a second frame.
        if getattr(image, "is_animated", False) and image.format != "MPO":
            notes.append("only the first of several frames was read")
        height, width = look.image_size
        # A large JPEG is decoded at a fraction of its size, as long as enough is left.
        image.draft(None, (2 * max(width, height),) * 2)
        decoded, said = _decode(image, look)
        notes += said
    return _finish(decoded, look), tuple(notes)


def fit_pixels(pixels: np.ndarray, look: Look) -> np.ndarray:
    """Return pixels uint8 [H, W, 1 or 3] as a network sees them, uint8 [H, W, channels]."""
    pillow = import_package("PIL.Image", "Reading images")
    image = pillow.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    return _finish(_convert(image, "L" if look.channels == 1 else "RGB"), look)


def read_colours(path: str | os.PathLike[str]) -> tuple[bool, float | None]:
    """Return whether an image has colours, and how bright its ink is if parts are transparent.

    The brightness is 0 to 255, and None for an image without transparency.

    Raises:
        ImageError: as ``read_image``.
    """
    with _opened(path) as image:
        image.draft(None, (128, 128))
        image.load()
        ink = _ink(image.convert("RGBA")) if _is_transparent(image) else None
        if image.mode in ("1", "L", "LA", "I", "F") or image.mode.startswith("I;"):
            return False, ink
        small = np.asarray(_convert(image, "RGB").resize((64, 64)), np.int16)
        # A grey photograph that was kept as a colour JPEG has differences of a few steps.
        return bool(np.ptp(small, axis=2).max() > 12), ink


def is_light(images: np.ndarray) -> np.ndarray:
    """Return for images [N, H, W, channels] whether the edge of each is light, bool [N]."""
    top_and_bottom = images[:, [0, -1]].reshape(len(images), -1)
    sides = images[:, 1:-1][:, :, [0, -1]].reshape(len(images), -1)
    return np.median(np.concatenate([top_and_bottom, sides], axis=1), axis=1) > 127.5


@contextlib.contextmanager
def _opened(source: str | os.PathLike[str] | bytes) -> Iterator[Any]:
    """Yield an image whose size is allowed, and say in one way whatever goes wrong with it."""
    pillow = import_package("PIL.Image", "Reading images")
    try:
        with _contents(source) as file, pillow.open(file, formats=FORMATS) as image:
            width, height = image.size
            if width * height > MOST_PIXELS:
                raise ImageError(
                    f"its {width} x {height} pixels are more than the {MOST_PIXELS:,} that are read"
                )
            yield image
    except ImageError:
        raise
    except pillow.DecompressionBombError:
        raise ImageError(f"its pixels are more than the {MOST_PIXELS:,} that are read") from None
    except pillow.UnidentifiedImageError:
        raise ImageError("is no PNG, JPEG, BMP, GIF, TIFF, WebP or PPM image") from None
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise ImageError(f"cannot be read ({reason or type(error).__name__})") from None
    except MemoryError:
        raise ImageError("cannot be read (there is not enough memory for it)") from None
    except Exception as error:  # A decoder raises whatever the damage leads it to.
        raise ImageError(f"cannot be read ({type(error).__name__}: {error})") from None


def _contents(source: str | os.PathLike[str] | bytes) -> Any:
    """Return an open regular file: a pipe or a device could be waited for forever."""
    if isinstance(source, bytes):
        return io.BytesIO(source)
    file = os.open(source, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise ImageError("is no regular file")
    return os.fdopen(file, "rb")


def _decode(image: Any, look: Look) -> tuple[Any, list[str]]:
    """Return the upright image in mode L or RGB, and what was done to it."""
    pillow, notes = import_package("PIL.Image", "Reading images"), []
    image.load()
    orientation = _orientation(image)  # afterwards: a TIFF turns itself when it is loaded
    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        image, said = _from_numbers(image)
        notes += said
    elif _is_transparent(image):
        image = image.convert("RGBA")
        background, ink = look.background, _ink(image)
        if background is None:
            background = (0, 0, 0) if ink is not None and ink > 127.5 else (255, 255, 255)
            if ink is not None:
                name = "white" if background[0] else "black"
                notes.append(f"what is transparent was read as {name}")
        below = pillow.new("RGBA", image.size, (*background, 255))
        image = pillow.alpha_composite(below, image)
    image = _convert(image, "L" if look.channels == 1 else "RGB")
    if 2 <= orientation <= 8:
        turns = pillow.Transpose
        image = image.transpose(
            {
                2: turns.FLIP_LEFT_RIGHT,
                3: turns.ROTATE_180,
                4: turns.FLIP_TOP_BOTTOM,
                5: turns.TRANSPOSE,
                6: turns.ROTATE_270,
                7: turns.TRANSVERSE,
                8: turns.ROTATE_90,
            }[orientation]
        )
    return image, notes


def _orientation(image: Any) -> int:
    """Return how a camera was held, 1 for upright, and for EXIF data that cannot be read."""
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # Whatever is wrong with EXIF data, the image itself may be sound.
        return 1


def _convert(image: Any, mode: str) -> Any:
    if image.mode == mode:
        image.load()
        return image
    # Palettes and CMYK have no grey of their own.
    return (
        image.convert("RGB").convert(mode) if image.mode in ("P", "CMYK") else image.convert(mode)
    )


def _is_transparent(image: Any) -> bool:
    return image.mode in ("LA", "PA", "RGBA", "La", "RGBa") or (
        "transparency" in image.info and image.mode in ("1", "L", "P", "RGB")
    )


def _ink(image: Any) -> float | None:
    """Return the mean brightness of what is not transparent, 0 to 255; None where nothing is."""
    alpha = np.asarray(image.getchannel("A"), np.float32)
    if alpha.min() == 255 or alpha.max() == 0:
        return None
    return float(np.average(np.asarray(image.convert("RGB").convert("L")), weights=alpha))


def _from_numbers(image: Any) -> tuple[Any, list[str]]:
    """Return an image of more bits, or of floats, in mode L, on the scale that its file states."""
    pillow, notes = import_package("PIL.Image", "Reading images"), []
    values = np.asarray(image).astype(np.float64)
    if not np.isfinite(values).all():
        raise ImageError("holds a NaN or an infinity")
    high = _highest(image, values)
    if high is None:
        raise ImageError(
            "is of 32-bit numbers whose range the file does not state (tag SMaxSampleValue)"
        )
    if values.min() < 0 or values.max() > high:
        raise ImageError(
            f"holds numbers from {values.min():g} to {values.max():g}, which are not on the scale "
            f"from 0 to {high:g}"
        )
    if high not in (1, 65535):
        notes.append(f"its numbers were read on the scale from 0 to {high:g}")
    values = np.rint(values * (255 / high)).astype(np.uint8)
    tags = getattr(image, "tag_v2", {})
    return pillow.fromarray(255 - values if tags.get(_PHOTOMETRIC) == 0 else values), notes


def _highest(image: Any, values: np.ndarray) -> float | None:
    """Return the number that means white."""
    tags = getattr(image, "tag_v2", {})
    for tag in _HIGHEST:
        if tag in tags:
            stated = tags[tag]
            high = float(stated[0] if isinstance(stated, tuple) else stated)
            if high > 0:
                return high
    if image.mode == "F":  # By custom floats end at 1, or keep the scale of the integers they were.
        return next((high for high in (1.0, 255.0, 65535.0) if values.max() <= high), 65535.0)
    if image.mode != "I" or image.format != "TIFF":
        return 65535.0
    is_signed = tags.get(_SAMPLE_FORMAT, (1,))[0] == 2
    return {8: 127.0 if is_signed else 255.0, 16: 32767.0 if is_signed else 65535.0}.get(
        tags.get(_BITS, (1,))[0]
    )


def _finish(image: Any, look: Look) -> np.ndarray:
    """Return an upright image in mode L or RGB as a network sees it."""
    pixels = np.asarray(_fit(image, look.image_size)).reshape(*look.image_size, look.channels)
    return 255 - pixels if look.is_inverted else pixels.copy()


def _fit(image: Any, image_size: tuple[int, int]) -> Any:
    """Return an image of a size, its proportions kept; the rest has the colour of its edge."""
    pillow = import_package("PIL.Image", "Reading images")
    height, width = image_size
    if image.size == (width, height):
        return image
    scale = min(height / image.height, width / image.width)
    inner = max(round(image.width * scale), 1), max(round(image.height * scale), 1)
    resized = image.resize(inner, pillow.Resampling.BILINEAR)
    if inner == (width, height):
        return resized
    pixels = np.asarray(image).reshape(image.height, image.width, -1)
    edge = np.concatenate(
        [pixels[[0, -1]].reshape(-1, pixels.shape[2]), pixels[:, 0], pixels[:, -1]]
    )
    colour = np.median(edge, axis=0).astype(int).tolist()
    behind = tuple(colour) if len(colour) > 1 else colour[0]
    whole = pillow.new(image.mode, (width, height), behind)
    whole.paste(resized, ((width - inner[0]) // 2, (height - inner[1]) // 2))
    return whole
