"""The figures: what is drawn is what the network holds."""

import dataclasses
import io
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import memjax
from memjax import plotting
from memjax.base import Bank, FixedLayer, MemoryInfo
from memjax.composition import Chain, Concatenate, Vote
from memjax.evaluation import Evaluation, Explanation, num_memories
from memjax.memory import MemoryLayer, MemoryState
from memjax.vision import Columns, Mirrored, OrientedEdges, Pixels

matplotlib = pytest.importorskip("matplotlib")

NAMES = ("ant", "bee", "cat")
KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def grey(images, labels):
    """A grey network that has learned: network, params, state, infos, images."""
    network, params = memjax.memory_network(
        (6, 6, 1), 3, capacity=20, encoder="pixels", novelty_threshold=0.01
    )
    return network, params, *memjax.fit(network, params, network.init(KEY), images, labels), images


@pytest.fixture(scope="module")
def colour(images, labels):
    """A colour network, one bank a channel, that has learned."""
    pictures = np.concatenate([images, images[:, ::-1], 255 - images], axis=3)
    network, params = memjax.memory_network(
        (6, 6, 3), 3, capacity=20, encoder="pixels", novelty_threshold=0.01
    )
    state, infos = memjax.fit(network, params, network.init(KEY), pictures, labels)
    return network, params, state, infos, pictures


@pytest.fixture(params=["grey", "colour"])
def trained(request):
    return request.getfixturevalue(request.param)


def state_of(layer, counts, votes, prototypes) -> MemoryState:
    """The state of a bank with as many memories in use as there are counts."""
    size = len(counts)
    state = layer.init(KEY)
    return state._replace(
        prototypes=state.prototypes.at[:size].set(jnp.asarray(prototypes, jnp.float32)),
        counts=state.counts.at[:size].set(jnp.asarray(counts, jnp.int32)),
        votes=state.votes.at[:size].set(jnp.asarray(votes, jnp.int32)),
        size=jnp.asarray(size, jnp.int32),
        num_seen=jnp.asarray(sum(counts), jnp.int32),
    )


def saves(figure, path) -> bool:
    """Whether this is a figure of its own that can be drawn, within its edges, as a PNG."""
    assert isinstance(figure, matplotlib.figure.Figure)
    figure.savefig(path)
    edges = figure.bbox
    for axes in figure.axes:
        for text in axes.texts:
            box = text.get_window_extent()
            assert edges.x0 <= box.x0 and box.x1 <= edges.x1, text
            assert edges.y0 <= box.y0 and box.y1 <= edges.y1, text
    return path.read_bytes().startswith(b"\x89PNG\r\n") and path.stat().st_size > 2000


class Tile(NamedTuple):
    """A picture on a canvas."""

    top: float
    left: float
    text: str  # that stands above it
    picture: np.ndarray


def squares(axes) -> list[list[np.ndarray]]:
    """The pictures of a mosaic, row by row, without the empty places."""
    (image,) = axes.images
    canvas = np.asarray(image.get_array())
    is_drawn = (canvas != 255).any(axis=2) & (canvas != (204, 222, 242)).any(axis=2)
    edges = np.flatnonzero(np.diff(is_drawn.any(axis=1), prepend=False, append=False))
    found = []
    for top, bottom in edges.reshape(-1, 2):
        row = canvas[top:bottom]
        across = is_drawn[top:bottom].any(axis=0)
        places = np.flatnonzero(np.diff(across, prepend=False, append=False)).reshape(-1, 2)
        found.append([row[:, left:right] for left, right in places])
    return found


def tiles(figure) -> list[Tile]:
    """The pictures of a figure, from left to right and then downwards."""
    (axes,) = figure.axes
    found = []
    for image in axes.images:
        left, right, bottom, top = image.get_extent()
        assert bottom > top  # inches, downwards
        above = [
            text
            for text in axes.texts
            if abs(text.get_position()[0] - (left + right) / 2) < 0.01
            and -0.1 < top - text.get_position()[1] < (right - left)
        ]
        text = above[0].get_text() if above else ""
        middle = (top + bottom) / 2
        found.append(Tile(round(middle, 2), round(left, 2), text, np.asarray(image.get_array())))
    return sorted(found, key=lambda tile: tile[:2])


def reasons(figure) -> tuple[Tile, list[list[Tile]]]:
    """The image that was asked, and what stands beside it in rows."""
    image, *others = sorted(tiles(figure), key=lambda tile: tile.text != "image")
    assert image.text == "image" and all(image.left < tile.left for tile in others)
    tops = sorted({tile.top for tile in others})
    return image, [[tile for tile in others if tile.top == top] for top in tops]


def shows(tile, values) -> bool:
    """Whether the picture is of these values, on the scale from black to white."""
    values, picture = np.asarray(values, float), tile.picture
    if values.ndim == 2:
        assert (picture == picture[..., :1]).all()
        picture = picture[..., 0]
    return picture.shape == values.shape and np.corrcoef(picture.flat, values.flat)[0, 1] > 0.99


def numbered(values) -> np.ndarray:
    """Images [N, 3, 3, 1], each of one grey that is its number."""
    return np.broadcast_to(np.array(values, np.uint8)[:, None, None, None], (len(values), 3, 3, 1))


def greys(axes) -> list[list[int]]:
    """The grey of each picture of a mosaic of such images."""
    return [[int(picture[0, 0, 0]) for picture in row] for row in squares(axes)]


def test_memories_are_drawn_by_label_those_that_learned_most_first(tmp_path):
    layer = MemoryLayer(9, 3, capacity=6)
    votes = [[3, 2, 0], [9, 0, 0], [0, 0, 1], [0, 0, 0], [4, 0, 0]]
    state = state_of(layer, [5, 9, 1, 7, 4], votes, np.ones((5, 9)))
    state = state._replace(stored_at=jnp.array([0, 2, 4, 6, 8, 0], jnp.int32))
    network = Chain((Pixels((3, 3, 1)), layer))
    images = numbered(range(10, 20))
    figure = plotting.memories(network, ((), state), NAMES, num_columns=2, images=images)

    # Of the ant three, in two rows; of the bee none; the memory without votes nowhere.
    assert greys(figure.axes[0]) == [[12, 10], [18], [14]]
    heights = {text.get_text(): text.get_position()[1] for text in figure.axes[0].texts}
    assert heights["ant"] < heights["bee"] < heights["cat"]
    assert [text.get_text() for text in figure.axes[0].texts[1::2]] == ["3", "0", "1"]
    assert figure.get_suptitle().startswith("5 memories: for each label")
    assert saves(figure, tmp_path / "memories.png")


def test_memories_are_one_picture_that_is_drawn_quickly(tmp_path):
    layer = MemoryLayer(9, 10, capacity=3000)
    state = state_of(layer, [1] * 3000, np.eye(10, dtype=int)[np.arange(3000) % 10], np.ones(9))
    state = state._replace(stored_at=jnp.arange(3000, dtype=jnp.int32))
    network = Chain((Pixels((3, 3, 1)), layer))
    names, images = tuple("0123456789"), numbered(np.arange(3000) % 250)

    def draw():
        figure = plotting.memories(network, ((), state), names, images=images)
        figure.savefig(tmp_path / "memories.png")
        return figure

    figure = draw()
    assert len(figure.axes) == len(figure.axes[0].images) == 1
    assert sum(map(len, greys(figure.axes[0]))) > 200
    started = time.process_time()
    draw()
    assert time.process_time() - started < 1


def test_a_memory_without_an_image_is_drawn_as_its_pattern():
    layer = MemoryLayer(9, 3, capacity=3)
    state = state_of(layer, [1, 1, 1], [[1, 0, 0]] * 3, [np.arange(9)] * 3)
    state = state._replace(stored_at=jnp.array([1, 5, 7], jnp.int32))
    network = Chain((Pixels((3, 3, 1)), layer))
    for images in (numbered([7, 77]), {1: numbered([77])[0], 9: numbered([9])[0]}):
        (row,) = squares(plotting.memories(network, ((), state), NAMES, images=images).axes[0])
        assert (row[0] == 77).all()
        # The brightest of a pattern is white, as the paper is.
        assert [picture.shape for picture in row[1:]] == [(3, 3, 3)] * 2
        assert all(picture[0, 0, 0] == 0 for picture in row[1:])
        assert list(plotting.stored_images(network, ((), state), images)) == [1]
    with pytest.raises(ValueError, match=r"images: expected \[N, 3, 3, 1\], got \[4, 3, 3\]"):
        plotting.memories(network, ((), state), NAMES, images=np.zeros((4, 3, 3), np.uint8))


def assert_shows_origins(network, state, images):
    """Assert that each memory that is still what it was stored as is shown as just that."""
    params = network.default_params()
    kept = plotting.stored_images(network, state, images)
    checked = 0
    for bank in network.banks(params, state):
        for memory in np.flatnonzero(np.asarray(bank.state.counts) == 1):
            number, is_mirrored = bank.lesson(int(bank.state.stored_at[memory]))
            shown = kept[number][:, ::-1] if is_mirrored else kept[number]
            asked = network.banks(params, state, jnp.asarray(shown)[None])
            seen = next(one.xs for one in asked if one.state.counts is bank.state.counts)
            np.testing.assert_allclose(seen[0], bank.state.prototypes[memory], atol=1e-6)
            checked += 1
    assert checked > 5


def test_the_image_of_a_memory_is_the_one_that_it_was_stored_from(colour, images, labels):
    network, params, state, _, pictures = colour
    assert_shows_origins(network, state, pictures)
    full, params = memjax.memory_network(
        (6, 6, 1), 3, capacity=8, encoder="pixels", novelty_threshold=0.01, on_full="replace"
    )
    replaced, _ = memjax.fit(full, params, full.init(KEY), images, labels)
    assert_shows_origins(full, replaced, images)


@pytest.mark.long
def test_the_image_of_a_memory_is_known_in_every_life_that_a_state_may_have(colour, labels):
    network, params, _, _, pictures = colour
    mirrored = Mirrored(memjax.resize(network, params, network.init(KEY), capacity=60)[0])
    twice, _ = memjax.fit(mirrored, params, mirrored.init(KEY), pictures, labels)
    assert_shows_origins(mirrored, twice, pictures)
    first, _ = memjax.fit(network, params, network.init(KEY), pictures[:30], labels[:30])
    resumed, _ = memjax.fit(network, params, first, pictures[30:], labels[30:])
    assert_shows_origins(network, resumed, pictures)
    second, _ = memjax.fit(network, params, network.init(KEY), pictures[30:], labels[30:])
    assert_shows_origins(network, memjax.merge(network, params, [first, second]), pictures)
    assert_shows_origins(network, memjax.forget(network, resumed, label=1), pictures)
    small = memjax.resize(network, params, resumed, capacity=18)
    assert_shows_origins(small[0], small[2], pictures)


def test_memories_of_the_banks_stand_side_by_side(colour, tmp_path):
    network, params, state, _, pictures = colour
    for images in (None, pictures):
        figure = plotting.memories(network, state, NAMES, num_columns=6, images=images)
        rows = squares(figure.axes[0])
        numbers = [text.get_text() for text in figure.axes[0].texts[1::2]]
        counts = [np.asarray(bank.state.counts) for bank in network.banks(params, state)]
        assert sum(map(int, numbers)) == sum((count > 0).sum() for count in counts)
        assert max(map(len, rows)) == 6  # two of each bank
        assert figure.get_suptitle().startswith(f"{num_memories(network, state):,} memories")
        assert saves(figure, tmp_path / "memories.png")
    # In colour, though each bank sees one channel only.
    assert not (rows[0][0] == rows[0][0][..., :1]).all()


def test_more_banks_than_columns_still_have_a_column_each(colour):
    network, _, state, _, _ = colour
    figure = plotting.memories(network, state, NAMES, num_columns=2)
    assert max(map(len, squares(figure.axes[0]))) == 3


@pytest.mark.parametrize("names", [NAMES, ("a name of quite some length", "b", "c")])
@pytest.mark.parametrize("num_columns", [1, 16, 40])
def test_memories_stay_within_the_figure_for_names_and_columns_of_any_number(
    names, num_columns, tmp_path
):
    layer = MemoryLayer(9, 3, capacity=40)
    prototypes = np.random.default_rng(0).random((40, 9))
    state = state_of(layer, [1234] * 40, [[1, 0, 0]] * 40, prototypes)
    figure = plotting.memories(layer, state, names, num_columns)
    (image,) = figure.axes[0].images
    left, right, bottom, top = image.get_extent()
    width, height = figure.get_size_inches()
    assert 0 < left < right <= width + 1e-6 and 0 < top < bottom <= height + 1e-6
    assert saves(figure, tmp_path / "memories.png")


def test_an_empty_network_is_drawn_without_memories(tmp_path):
    layer = MemoryLayer(4, 3, capacity=6)
    figure = plotting.memories(layer, layer.init(KEY), NAMES)
    assert squares(figure.axes[0]) == []
    assert figure.get_suptitle() == "0 memories"
    assert saves(figure, tmp_path / "memories.png")


def frames_of(film: bytes) -> list[np.ndarray]:
    from PIL import Image, ImageSequence

    with Image.open(io.BytesIO(film)) as gif:
        assert gif.format == "GIF"
        return [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(gif)]


def test_a_film_shows_each_memory_from_its_example_on():
    layer = MemoryLayer(9, 3, capacity=6)
    state = state_of(layer, [2, 9, 1], [[1, 0, 0], [1, 0, 0], [0, 1, 0]], np.ones((3, 9)))
    state = state._replace(stored_at=jnp.array([0, 2, 5, 0, 0, 0], jnp.int32))
    network, state = Chain((Pixels((3, 3, 1)), layer)), ((), state)
    images = numbered([100, 0, 150, 0, 0, 200] + [0] * 6)
    frames = frames_of(plotting.film(network, state, ("a", "b"), images=images, num_frames=13))
    assert len(frames) == 13
    shown = [
        {grey for grey in (100, 150, 200) if (frame[30:] == grey).all(2).sum() > 100}
        for frame in frames
    ]
    assert shown == [set(), *[{100}] * 2, *[{100, 150}] * 3, *[{100, 150, 200}] * 7]


def test_a_film_of_colours_and_of_patterns_has_as_many_frames_as_asked(colour):
    network, _, state, _, pictures = colour
    for images in (pictures, None):
        frames = frames_of(plotting.film(network, state, NAMES, images=images, num_frames=7))
        assert len(frames) == 7
        assert (frames[0] == 255).mean() > (frames[-1] == 255).mean()


@pytest.mark.parametrize(
    ("network", "shape"),
    [
        (Chain((Pixels((6, 4, 1)), MemoryLayer(24, 3, 5))), (6, 4)),
        (Chain((Pixels((6, 4, 3)), MemoryLayer(72, 3, 5))), (6, 4, 3)),
        (Chain((OrientedEdges((6, 6, 1), grid=2), MemoryLayer(32, 3, 5))), (18, 18)),
        (
            Chain(
                (Pixels((6, 4, 2), is_split_by_channel=True), Vote((MemoryLayer(24, 3, 5),) * 2))
            ),
            (6, 4),
        ),
        (MemoryLayer(9, 3, 5), (3, 3)),
        (MemoryLayer(7, 3, 5), (1, 7)),
        # A memory of memories' activations is no picture of the encoder's.
        (
            Chain(
                (
                    Pixels((6, 4, 1)),
                    MemoryLayer(24, 3, 16, output="activations"),
                    MemoryLayer(16, 3, 5),
                )
            ),
            (4, 4),
        ),
    ],
)
def test_a_memory_is_drawn_in_the_shape_of_what_it_remembers(network, shape, tmp_path):
    layer = network.banks(network.default_params(), network.init(KEY))[0].layer
    bank = state_of(layer, [2], [[0, 2, 0]], np.linspace(0, 1, layer.num_features)[None])
    state = bank
    if isinstance(network, Chain):
        last = (bank, bank) if isinstance(network.layers[-1], Vote) else bank
        state = (*network.init(KEY)[:-1], last)
    figure = plotting.memories(network, state, NAMES)
    pictures = [picture for row in squares(figure.axes[0]) for picture in row]
    assert pictures
    for picture in pictures:  # less what is white, as the paper is
        assert picture.shape[0] <= shape[0] and picture.shape[1] <= shape[1]
        assert max(picture.shape[:2]) >= max(shape[:2]) - 1
        assert (picture != picture[..., :1]).any() == (len(shape) == 3)
    assert saves(figure, tmp_path / "memories.png")


@dataclasses.dataclass(frozen=True)
class UpsideDown(FixedLayer):
    """A user's own layer: images upside down, asked of a bank inside that it shows as its own."""

    inside: MemoryLayer
    input_shape: tuple[int, ...] = (6, 6, 1)

    @property
    def output_shape(self) -> tuple[int, ...]:
        return self.inside.output_shape

    def default_params(self):
        return self.inside.default_params()

    def init(self, key):
        return self.inside.init(key)

    def step(self, params, state, x, label):
        return self.inside.step(params, state, x[::-1].ravel(), label)

    def recall(self, params, state, x):
        return self.inside.recall(params, state, x[::-1].ravel())

    def step_block(self, params, state, xs, labels, length=None):
        return super(FixedLayer, self).step_block(params, state, xs, labels, length)

    def num_memories(self, state):
        return self.inside.num_memories(state)

    def banks(self, params, state, xs=None):
        if xs is not None:
            xs = xs[:, ::-1].reshape(len(xs), -1)
        return (Bank(self.inside, params, state, xs, lambda x: x.reshape(6, 6, 1)[::-1]),)


PIXELS = Chain((Pixels((6, 6, 1)), MemoryLayer(36, 3, 20)))
EDGES = Chain((OrientedEdges((6, 6, 1), grid=2), MemoryLayer(32, 3, 20)))
VOTE = Chain((Pixels((6, 6, 1), is_split_by_channel=True), Vote((MemoryLayer(36, 3, 60),))))
PICTURE, SKETCH = (6, 6), (18, 18)


@pytest.mark.parametrize(
    ("network", "shapes", "seen"),
    [
        (Mirrored(memjax.memory_network((6, 6, 1), 3, encoder="pixels")[0]), [PICTURE], 2),
        (Mirrored(VOTE), [PICTURE], 2),
        (Concatenate((PIXELS, EDGES)), [PICTURE, SKETCH], 2),
        (Concatenate((Mirrored(PIXELS), EDGES)), [PICTURE, SKETCH], 3),
        (Chain((Pixels((6, 6, 1)), Concatenate((MemoryLayer(36, 3, 20),) * 2))), [PICTURE] * 2, 2),
        (UpsideDown(MemoryLayer(36, 3, 20)), [PICTURE], 1),
    ],
)
def test_any_composition_can_be_drawn_and_explained(
    network, shapes, seen, images, labels, tmp_path
):
    params = memjax.replace_params(network.default_params(), novelty_threshold=0.01)
    pictures = images.astype(np.float32) / 255
    state, _ = memjax.fit(network, params, network.init(KEY), pictures, labels)
    figure = plotting.memories(network, state, NAMES)
    assert figure.get_suptitle().startswith(f"{num_memories(network, state):,} memories")
    # All are as large as the largest, and no picture is stretched by less than a whole number.
    largest = max(max(shape) for shape in shapes)
    assert max(max(picture.shape) for picture in squares(figure.axes[0])[0]) == largest
    assert saves(figure, tmp_path / "memories.png")
    assert_shows_origins(network, state, pictures)

    explanation = memjax.explain(network, params, state, pictures[:1])
    figure = plotting.why(network, state, pictures[0], explanation, NAMES)
    image, rows = reasons(figure)
    assert [row[0].text for row in rows] == ["as seen"] * seen
    assert shows(image, pictures[0, ..., 0])
    if isinstance(network, UpsideDown):  # what the user's layer sees is shown as the user says
        assert shows(rows[0][0], pictures[0, ..., 0])
    if isinstance(network, Mirrored):
        assert shows(rows[1][0], pictures[0, :, ::-1, 0])
    assert saves(figure, tmp_path / "why.png")


def test_a_network_whose_answer_comes_from_no_memories_is_refused():
    network = Pixels((6, 6, 1))
    with pytest.raises(ValueError, match="network: expected one whose answer comes from memories"):
        plotting.memories(network, (), NAMES)


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_columns_are_drawn_place_by_place(channels, images, labels, tmp_path):
    pictures = np.concatenate([images[:, ::turn] for turn in (1, -1, 1)], axis=3)[..., :channels]
    shape = (6, 6, channels)
    plain = Columns(shape, patch=3, places=2, capacity=5)
    decorrelated = Columns(shape, patch=2, places=3, capacity=5, dimensions=2)
    network = Mirrored(Concatenate((plain, decorrelated)))
    params = memjax.replace_params(network.default_params(), decorrelation_period=20)
    params = memjax.replace_params(params, blank_contrast=0, novelty_threshold=0.01)
    state, _ = memjax.fit(network, params, network.init(KEY), pictures, labels)
    figure = plotting.columns(network, state, num_memories=4)
    for tile, layer, learned in zip(tiles(figure), (plain, decorrelated), state, strict=True):
        assert int(learned.size.sum()) > layer.places**2
        assert tile.text == f"{learned.size.sum()} memories at {layer.places**2} places"
        side = 2 * (layer.patch + 1) + 1
        assert tile.picture.shape[:2] == ((side + 2) * layer.places - 2,) * 2
    # The memories of the first place stand in its square in the order in which they were stored.
    square = tiles(figure)[0].picture[:9, :9]
    if channels != 2:
        for index, memory in enumerate(np.asarray(state[0].prototypes[0, :4])):
            top, left = (1 + 4 * place for place in divmod(index, 2))
            found = square[top : top + 3, left : left + 3, :channels]
            assert np.corrcoef(found.flat, memory)[0, 1] > 0.999
    assert (square[0] == square[4]).all()  # the paper between them
    assert saves(figure, tmp_path / "columns.png")


def test_a_network_without_columns_is_refused():
    with pytest.raises(ValueError, match="network: expected one that holds columns"):
        plotting.columns(PIXELS, PIXELS.init(KEY))


@pytest.mark.parametrize("window", [1000, 10, 1])
def test_growth_ends_at_the_number_of_memories_and_the_latest_accuracy(
    trained, labels, window, tmp_path
):
    network, _, state, infos, _ = trained
    figure = plotting.growth(infos, labels, window)
    left, right = figure.axes
    seen, size = left.lines[0].get_data()
    assert list(seen) == list(range(1, 61))
    assert size[0] >= 1 and size[-1] == num_memories(network, state) and (np.diff(size) >= 0).all()

    # A window is at most a quarter of the stream, and every point averages a whole one.
    window = min(window, 15)
    hits = np.asarray(infos.predicted) == labels
    seen, recent = right.lines[0].get_data()
    assert list(seen) == list(range(window, 61))
    expected = [100 * hits[end - window : end].mean() for end in seen]
    np.testing.assert_allclose(recent, expected)
    assert 0 < hits.mean() < 1
    assert f"last {window} examples" in right.get_ylabel()
    assert right.get_ylim()[1] == 100 and not right.lines[0].get_clip_on()
    title = left.get_title()
    assert title.startswith(f"{size[-1]} memories after 60 examples, {recent[-1]:.1f} % of")
    assert saves(figure, tmp_path / "growth.png")


def test_growth_counts_no_surprise_that_found_no_room():
    is_novel = np.array([True, True, False, True, True])
    is_saturated = np.array([False, False, False, True, False])
    answers = np.array([-1, 0, 0, 0, 1])
    infos = MemoryInfo(answers, np.zeros(5), is_novel, is_saturated, answers)  # type: ignore[arg-type]
    left, right = plotting.growth(infos, [0, 0, 0, 1, 1]).axes
    assert list(left.lines[0].get_ydata()) == [1, 2, 2, 2, 3]
    assert list(right.lines[0].get_ydata()) == [0, 100, 100, 0, 100]


def test_growth_of_a_single_example_is_a_point(tmp_path):
    infos = MemoryInfo(*(np.array([value]) for value in (0, 0.0, True, False, -1)))  # type: ignore[arg-type]
    figure = plotting.growth(infos, [2])
    assert [list(place.lines[0].get_ydata()) for place in figure.axes] == [[1], [0]]
    assert saves(figure, tmp_path / "growth.png")


def test_confusion_is_in_per_cent_of_each_label(tmp_path):
    table = np.array([[3, 1, 0, 0], [0, 2, 0, 0], [0, 0, 0, 0]])
    figure = plotting.confusion(Evaluation(5 / 6, table, np.zeros(6, np.int32)), NAMES)
    axes = figure.axes[0]
    percent = [[75, 25, 0], [0, 100, 0], [0, 0, 0]]
    np.testing.assert_allclose(axes.images[0].get_array(), percent)
    written = {text.get_position(): text.get_text() for text in axes.texts}
    assert written == {(0, 0): "75.0", (1, 0): "25.0", (1, 1): "100.0"}
    assert [label.get_text() for label in axes.get_xticklabels()] == list(NAMES)
    assert [label.get_text() for label in axes.get_yticklabels()] == list(NAMES)
    assert axes.get_title() == "83.33 % of 6 right"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("answer", "label")
    assert saves(figure, tmp_path / "confusion.png")


def test_confusion_has_a_column_for_no_answer_where_there_was_none(tmp_path):
    table = np.array([[1, 0, 0, 1], [0, 1, 0, 0], [0, 0, 1, 0]])
    figure = plotting.confusion(Evaluation(0.75, table, np.zeros(4, np.int32)), NAMES)
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == [*NAMES, "none"]
    assert axes.images[0].get_array().shape == (3, 4)
    assert [text.get_text() for text in axes.texts] == ["50.0", "50.0", "100.0", "100.0"]
    assert saves(figure, tmp_path / "confusion.png")


def test_confusion_of_a_real_evaluation_agrees_with_its_accuracy(grey, labels):
    network, params, state, _, pictures = grey
    result = memjax.evaluate(network, params, state, pictures, labels)
    figure = plotting.confusion(result, NAMES)
    share = np.trace(figure.axes[0].images[0].get_array()[:, :3]) / 3  # 20 examples of each label
    assert share == pytest.approx(100 * result.accuracy)
    assert figure.axes[0].get_title() == f"{100 * result.accuracy:.2f} % of 60 right"


def test_errors_of_a_confusion_are_on_a_scale_of_their_own(tmp_path):
    table = np.diag([1000, 1000, 1000, 0])[:3]
    table[0, 1], table[1, 2] = 2, 5
    figure = plotting.confusion(Evaluation(0.998, table, np.zeros(3007, np.int32)), NAMES)
    *_, errors = figure.axes[0].images
    values = errors.get_array()
    assert errors.norm.vmax == pytest.approx(values.max()) == pytest.approx(100 * 5 / 1005)
    assert values.count() == 2  # neither the right answers nor what was never answered
    assert saves(figure, tmp_path / "confusion.png")


def test_the_pairs_that_are_confused_most_are_shown(tmp_path):
    labels = np.array([0] * 7 + [1] * 3 + [2] * 3)
    predicted = np.array([0, 1, 1, 1, 2, 0, -1, 1, 2, 2, 2, 2, 2])
    table = np.zeros((3, 4), int)
    np.add.at(table, (labels, predicted), 1)
    result = Evaluation(float(np.mean(labels == predicted)), table, predicted)
    figure = plotting.confusion(result, NAMES, numbered(range(13)), labels)
    (pairs,) = (axes for axes in figure.axes if len(axes.images) == 1 and axes.texts)
    named = [text.get_text() for text in pairs.texts]
    assert named == ["ant as bee: 3", "bee as cat: 2", "ant as cat: 1"]
    assert greys(pairs) == [[1, 2, 3], [8, 9], [4]]
    assert saves(figure, tmp_path / "confusion.png")
    long = tuple(f"a name of some length {name}" for name in NAMES)
    many = np.tile(labels, 9), np.tile(predicted, 9)
    figure = plotting.confusion(
        Evaluation(0.5, 9 * table, many[1]), long, numbered(np.arange(117)), many[0]
    )
    assert saves(figure, tmp_path / "confusion.png")
    (pairs,) = (axes for axes in figure.axes if len(axes.images) == 1 and axes.texts)
    assert 1 < pairs.images[0].get_extent()[0] < pairs.images[0].get_extent()[1] <= 6
    with pytest.raises(ValueError, match=r"labels: expected \[13\], got \[12\]"):
        plotting.confusion(result, NAMES, numbered(range(13)), labels[1:])
    with pytest.raises(TypeError, match=r"labels: expected an array"):
        plotting.confusion(result, NAMES, numbered(range(13)))


def frame_colours(figure) -> list[Any]:
    """The colours of the frames, in the order in which they are drawn."""
    return [matplotlib.colors.to_hex(frame.get_edgecolor()) for frame in figure.axes[0].patches]


def test_why_names_the_label_and_share_of_every_memory_that_voted(trained, tmp_path):
    network, params, state, _, pictures = trained
    explanation = memjax.explain(network, params, state, pictures[:1])
    figure = plotting.why(network, state, pictures[0], explanation, NAMES)
    banks = network.banks(params, state)
    image, rows = reasons(figure)
    assert image.picture.shape == (6, 6, 3)
    assert (image.picture == pictures[0]).all()  # a grey image has three channels alike
    shares = []
    for index, (bank, row) in enumerate(zip(banks, rows, strict=True)):
        assert row[0].text == "as seen" and shows(row[0], pictures[0][..., index])
        for rank, tile in enumerate(row[1:]):
            name, share = tile.text.split("\n")
            assert name == NAMES[explanation.labels[0, index, rank]]
            shares.append(float(share.rstrip(" %")) / 100)
            memory = np.asarray(bank.state.prototypes)[explanation.memories[0, index, rank]]
            assert shows(tile, memory.reshape(6, 6))
    assert sum(shares) == pytest.approx(1, abs=0.005 * len(shares))
    weights = explanation.weights[0] / explanation.weights[0].sum(axis=1, keepdims=True)
    assert shares == pytest.approx(weights.ravel() / len(banks), abs=0.0051)
    (evidence,) = memjax.predict_proba(network, params, state, pictures[:1])
    best = evidence.argmax()
    assert (
        figure.get_suptitle() == f"answer: {NAMES[best]}, confidence {100 * evidence[best]:.0f} %"
    )
    colours = dict(zip(explanation.labels[0].ravel(), frame_colours(figure), strict=True))
    assert frame_colours(figure) == [colours[label] for label in explanation.labels[0].ravel()]
    assert len(set(colours.values())) == len(colours)
    assert saves(figure, tmp_path / "why.png")


def test_why_draws_voters_as_the_images_that_they_were_stored_from(trained, tmp_path):
    network, params, state, _, pictures = trained
    explanation = memjax.explain(network, params, state, pictures[:1])
    kept = plotting.stored_images(network, state, pictures)
    figure = plotting.why(network, state, pictures[0], explanation, NAMES, images=kept)
    banks = network.banks(params, state)
    _, rows = reasons(figure)
    for index, (bank, row) in enumerate(zip(banks, rows, strict=True)):
        if len(banks) > 1:  # what tells one bank from another
            assert row.pop(0).text == "as seen"
        stored_at = np.asarray(bank.state.stored_at)[explanation.memories[0, index]]
        for tile, number in zip(row, stored_at, strict=True):
            assert (tile.picture == pictures[number]).all()
    assert saves(figure, tmp_path / "why.png")


def test_why_leaves_out_memories_that_do_not_exist_and_says_which_had_no_vote(tmp_path):
    layer = MemoryLayer(4, 3, capacity=3, num_neighbours=3)
    network, params = Chain((Pixels((2, 2, 1)), layer)), ((), layer.params(novelty_threshold=1.0))
    state = ((), state_of(layer, [2, 1], [[0, 2, 0], [0, 0, 0]], np.eye(2, 4)))
    image = np.array([[[9], [1]], [[0], [0]]], np.uint8)
    explanation = memjax.explain(network, params, state, image[None])
    figure = plotting.why(network, state, image, explanation, NAMES)
    _, (row,) = reasons(figure)
    assert [tile.text for tile in row] == ["as seen", "bee\n100 %", "no vote\n"]
    assert figure.get_suptitle() == "answer: bee, confidence 100 %"
    assert saves(figure, tmp_path / "why.png")


def test_why_of_an_empty_network_shows_the_image_alone(tmp_path):
    layer = MemoryLayer(36, 3, capacity=4)
    network, params = Chain((Pixels((6, 6, 1)), layer)), ((), layer.params(novelty_threshold=1.0))
    state, image = network.init(KEY), np.zeros((6, 6, 1), np.uint8)
    explanation = memjax.explain(network, params, state, image[None])
    assert isinstance(explanation, Explanation)
    figure = plotting.why(network, state, image, explanation, NAMES)
    _, (row,) = reasons(figure)
    assert [tile.text for tile in row] == ["as seen"]
    assert figure.get_suptitle() == "no answer: no memory voted"
    assert saves(figure, tmp_path / "why.png")


def test_figures_leave_the_global_state_of_matplotlib_alone(grey):
    pyplot = pytest.importorskip("matplotlib.pyplot")
    network, _, state, _, _ = grey
    before = dict(matplotlib.rcParams)
    plotting.memories(network, state, NAMES)
    assert pyplot.get_fignums() == []
    assert dict(matplotlib.rcParams) == before


def test_an_accuracy_matrix_is_written_where_it_was_measured(tmp_path):
    figure = plotting.accuracy_matrix([[1], [0.25, 0.5, 0], [0, 0.875, 1]], NAMES)
    axes = figure.axes[0]
    percent = [[100, np.nan, np.nan], [25, 50, 0], [0, 87.5, 100]]
    np.testing.assert_allclose(np.ma.filled(axes.images[0].get_array(), np.nan), percent)
    written = {text.get_position(): text.get_text() for text in axes.texts}
    assert written == {
        (0, 0): "100.0",
        (0, 1): "25.0",
        (1, 1): "50.0",
        (2, 1): "0.0",
        (0, 2): "0.0",
        (1, 2): "87.5",
        (2, 2): "100.0",
    }
    assert axes.get_title() == "after the last task 62.50 % on average"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("tested on", "after learning")
    assert [label.get_text() for label in axes.get_yticklabels()] == list(NAMES)
    assert saves(figure, tmp_path / "matrix.png")


@pytest.mark.parametrize("matrix", [[[1]], [[1], [1], [1, 1, 1]], [[1], [1, 1], [1, 1, 1, 1]]])
def test_an_accuracy_matrix_has_a_row_for_each_task_and_a_number_for_every_task_so_far(matrix):
    with pytest.raises(ValueError, match="matrix: expected a row for each of 3 tasks"):
        plotting.accuracy_matrix(matrix, NAMES)


def test_the_line_of_pareto_joins_the_settings_that_none_as_small_beats(tmp_path):
    # By mean size 10, 20, 20, 30, 40: the second of size 20 and that of 30 are beaten or equalled.
    sizes = np.array([[30, 30], [10, 10], [15, 25], [20, 20], [39, 41]])
    accuracies = np.array([[0.5, 0.7], [0.4, 0.6], [0.6, 0.8], [0.5, 0.7], [0.7, 0.9]])
    figure = plotting.pareto(sizes, accuracies)
    axes = figure.axes[0]
    settings, front = axes.lines
    np.testing.assert_allclose(settings.get_xdata(), [30, 10, 20, 20, 40])
    np.testing.assert_allclose(settings.get_ydata(), [60, 50, 70, 60, 80])
    np.testing.assert_allclose(front.get_xdata(), [10, 20, 40])
    np.testing.assert_allclose(front.get_ydata(), [50, 70, 80])
    band = axes.collections[0].get_paths()[0].get_extents()
    deviation = 100 * 0.02**0.5  # of two numbers, 0.1 from their mean
    np.testing.assert_allclose(band.extents, [10, 50 - deviation, 40, 80 + deviation])
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("memories", "accuracy, %")
    assert saves(figure, tmp_path / "pareto.png")


def test_pareto_of_single_runs_has_a_band_of_no_width(tmp_path):
    figure = plotting.pareto([[10], [20]], [[0.5], [0.75]])
    corners = figure.axes[0].collections[0].get_paths()[0].vertices
    assert {tuple(corner) for corner in corners} == {(10.0, 50.0), (20.0, 75.0)}
    assert saves(figure, tmp_path / "pareto.png")


@pytest.mark.parametrize("sizes", [[10, 20], [[10, 20], [30, 40]]])
def test_pareto_takes_two_tables_of_one_shape(sizes):
    with pytest.raises(ValueError, match="accuracies: expected a table"):
        plotting.pareto(sizes, [[0.5], [0.75]] if np.ndim(sizes) == 2 else [0.5, 0.75])
