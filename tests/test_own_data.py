"""Data of one's own: folders, arrays and tables, how they are split, and how they are streamed."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import jax
import numpy as np
import pytest

import memjax
from memjax.datasets import DatasetError, Look, Reading, load, scan
from memjax.datasets._files import LazyImages

pytest.importorskip("PIL")
pytest.importorskip("pyarrow")
pytest.importorskip("sklearn")

from PIL import Image

OMNIGLOT = Path(os.environ.get("TFDS_DATA_DIR", "nowhere")).parent / "omniglot"


def put(file: Path, value: int = 0, size: tuple[int, int] = (6, 6)) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full(size, value, np.uint8)).save(file)


def values_of(dataset) -> list[tuple[int, str]]:
    """The brightness of each image with the name of its class."""
    names = dataset.class_names
    pairs = zip(dataset.images[:, 0, 0, 0], dataset.labels, strict=True)
    return sorted((int(value), names[label]) for value, label in pairs)


def said(collection) -> str:
    return "\n".join(collection.describe())


@pytest.fixture
def photos(tmp_path) -> Path:
    """20 cats, 10 dogs and 5 fish, each image of a brightness of its own."""
    value = 0
    for name, number in (("cat", 20), ("dog", 10), ("fish", 5)):
        for index in range(number):
            put(tmp_path / "photos" / name / f"{index:02}.png", value)
            value += 1
    return tmp_path / "photos"


def test_the_folders_are_the_classes_and_each_gives_its_share_to_the_test(photos):
    train, test = load(photos, "train", seed=3), load(photos, "test")
    assert train.class_names == ("cat", "dog", "fish")
    assert train.images.shape == (28, 6, 6, 1) and train.images.dtype == np.uint8
    assert train.labels.dtype == np.int32
    assert np.bincount(test.labels).tolist() == [4, 2, 1]
    everything = [
        (value, "cat" if value < 20 else "dog" if value < 30 else "fish") for value in range(35)
    ]
    assert sorted(values_of(train) + values_of(test)) == everything
    rest, validation = load(photos, "train_without_validation"), load(photos, "validation")
    assert sorted(values_of(rest) + values_of(validation)) == values_of(train)


def test_the_seed_decides_the_order_and_moves_no_row_into_another_split(photos):
    first, again, other = (load(photos, "train", seed) for seed in (1, 1, 2))
    assert np.array_equal(first.images, again.images)
    assert not np.array_equal(first.images, other.images)
    assert values_of(first) == values_of(other)
    assert values_of(load(photos, "test", 5)) == values_of(load(photos, "test", 6))


def test_what_is_found_is_told(photos):
    (photos / "cat" / "00.png").write_bytes(b"broken")
    (photos / "dog" / "notes.txt").touch()
    (photos / "dog" / ".hidden.png").touch()
    put(photos / "beside.png")
    found = scan(photos, Reading(test_share=0.1))
    text = said(found)
    assert "34 images of 3 classes: cat 19, dog 10, fish 5" in text
    assert "files that cannot be read, left out: 1 (cat/00.png: is no PNG" in text
    assert "files that are no images by their names, left out: 1" in text
    assert "images that lie in no class, left out: 1" in text
    assert "all are read as 6 x 6 pixels in grey" in text
    assert "images held out to test: 4, 10% of each class" in text
    assert found.unreadable[0][0] == "cat/00.png"


def test_classes_lie_as_deep_as_their_images(tmp_path):
    for name in ("ink/latin/a", "ink/latin/b", "ink/greek/a"):
        put(tmp_path / "data" / name / "1.png")
    put(tmp_path / "data" / "ink/latin/b" / "more" / "2.png")
    found = scan(tmp_path)
    assert found.class_names == ("greek/a", "latin/a", "latin/b")
    assert np.bincount(found.labels).tolist() == [1, 1, 2]


@pytest.mark.parametrize("other", ["test", "Testing", "val", "validation"])
def test_folders_for_learning_and_testing_are_kept_apart(other, tmp_path):
    for index in range(6):
        put(tmp_path / "train" / f"{index % 2}" / f"{index}.png", index)
    for index in range(2):
        put(tmp_path / other / f"{index}" / "x.png", 100 + index)
    assert values_of(load(tmp_path, "test")) == [(100, "0"), (101, "1")]
    assert len(load(tmp_path, "train").labels) == 6
    assert "images of the source's own test: 2" in said(scan(tmp_path))


def test_validation_rows_of_its_own_are_used_beside_a_test(tmp_path):
    for part, value in (("train", 0), ("test", 1), ("valid", 2)):
        for name in "ab":
            put(tmp_path / part / name / "1.png", value)
    assert values_of(load(tmp_path, "validation")) == [(2, "a"), (2, "b")]
    assert values_of(load(tmp_path, "train")) == [(0, "a"), (0, "b")]


def test_classes_that_are_called_train_and_car_are_classes(tmp_path):
    put(tmp_path / "train" / "1.png")
    put(tmp_path / "car" / "1.png")
    assert scan(tmp_path).class_names == ("car", "train")


def test_one_image_for_each_class_is_too_few_to_test(tmp_path):
    for index in range(12):
        put(tmp_path / str(index) / "only.png", index)
    found = scan(tmp_path)
    assert found.class_names == tuple(map(str, range(12)))
    assert "too few to test: all are learned" in said(found)
    assert len(found.dataset("test").labels) == 0
    assert values_of(found.dataset("train")) == [(index, str(index)) for index in range(12)]


def test_a_link_in_a_circle_and_a_pipe_do_not_hang(photos):
    (photos / "cat" / "round").symlink_to(photos, target_is_directory=True)
    os.mkfifo(photos / "dog" / "pipe.png")
    found = scan(photos)
    assert ("dog/pipe.png", "is no regular file") in found.unreadable


@pytest.mark.parametrize("name", ["data.csv", "data.npz", "data.parquet", "data"])
def test_a_pipe_is_no_source(name, tmp_path):
    os.mkfifo(tmp_path / name)
    with pytest.raises(DatasetError, match="expected a folder or a regular file"):
        scan(tmp_path / name)


def test_names_that_are_no_text_are_found_and_told(tmp_path):
    for name in (b"k\xff", "猫".encode()):
        folder = os.fsencode(tmp_path) + b"/" + name
        os.makedirs(folder)
        put(tmp_path / "one.png")
        os.rename(tmp_path / "one.png", folder + b"/\xfe.png")
    text = said(scan(tmp_path))
    assert "k\\udcff 1" in text and "猫 1" in text


def test_the_size_is_that_of_the_images_or_their_median_and_at_most_64(tmp_path):
    for index, size in enumerate([(20, 10), (20, 10), (200, 100)]):
        put(tmp_path / str(index) / "1.png", size=size)
    look = scan(tmp_path).look
    assert look is not None and look.image_size == (20, 10)
    for index in range(3):
        put(tmp_path / str(index) / "2.png", size=(300, 600))
    look = scan(tmp_path).look
    assert look is not None and look.image_size == (46, 64)
    look = scan(tmp_path, Reading(image_size=9)).look
    assert look is not None and look.image_size == (9, 9)


def test_colour_is_kept_where_there_is_some_unless_grey_is_asked_for(tmp_path):
    put(tmp_path / "a" / "1.png")
    Image.new("RGB", (6, 6), (9, 9, 9)).save(tmp_path / "a" / "2.png")
    (tmp_path / "b").mkdir()
    Image.new("RGB", (6, 6), (9, 9, 9)).save(tmp_path / "b" / "1.png")
    assert load(tmp_path).images.shape[3] == 1
    Image.new("RGB", (6, 6), (200, 9, 9)).save(tmp_path / "b" / "2.png")
    assert load(tmp_path).images.shape[3] == 3
    assert load(tmp_path, reading=Reading(grey=True)).images.shape[3] == 1


def test_one_background_is_chosen_for_all(tmp_path):
    for index, name in enumerate("ab"):
        (tmp_path / name).mkdir()
        for number in range(3):
            clear = Image.new("LA", (6, 6), (0, 0))
            clear.paste((10 * index, 255), (2, 2, 4, 4))
            clear.save(tmp_path / name / f"{number}.png")
    look = scan(tmp_path).look
    assert look is not None and look.background == (255, 255, 255)
    assert load(tmp_path).images[0, 0, 0, 0] == 255
    assert load(tmp_path, reading=Reading(background="black")).images[0, 0, 0, 0] == 0


def test_a_look_that_was_learned_is_applied(photos):
    found = scan(photos, look=Look((4, 5), 3, is_inverted=True))
    assert found.images.shape[1:] == (4, 5, 3)
    assert found.images.max() == 255


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda folder: None, "expected folders of images, one for each class, found none"),
        (lambda folder: put(folder / "a.png"), "got images without classes"),
        (lambda folder: put(folder / "a" / "1.png"), "two classes or more, found only 'a'"),
        (
            lambda folder: [
                (folder / name).mkdir() or (folder / name / "1.png").touch() for name in "ab"
            ],
            "none of 2 files can be read: a/1.png: is no PNG",
        ),
    ],
)
def test_a_folder_without_classes_is_refused(make, says, tmp_path):
    make(tmp_path)
    with pytest.raises(DatasetError, match=says):
        scan(tmp_path)


@pytest.mark.parametrize(
    ("reading", "says"),
    [
        ({"image_size": 0}, "image_size: expected a positive integer"),
        ({"image_size": (3,)}, "image_size: expected .H, W."),
        ({"image_size": 10**9}, "image_size: expected a number from 1 to 4096"),
        ({"grey": "yes"}, "grey: expected one of"),
        ({"background": "#12345"}, "background: expected"),
        ({"invert": True}, "invert: expected one of"),
        ({"test_share": 1}, "test_share: expected a number from 0 to 0.9"),
        ({"label": 3}, "label: expected the name of a column"),
    ],
)
def test_a_wrong_reading_is_named(reading, says, photos):
    with pytest.raises((ValueError, TypeError), match=says):
        scan(photos, Reading(**reading))


def test_nothing_is_read_twice_for_a_named_dataset():
    with pytest.raises(ValueError, match="reading: does not belong to the dataset digits"):
        load("digits", reading=Reading())


IMAGES = np.random.default_rng(0).integers(0, 256, (30, 5, 4), np.uint8)
LABELS = np.arange(30) % 3


@pytest.mark.parametrize(
    "images",
    [
        IMAGES,
        IMAGES[..., None],
        IMAGES.astype(np.int64),
        IMAGES.astype(np.uint16) * 257,
        IMAGES / 255,
        (IMAGES / 255).astype(np.float16),
    ],
    ids=lambda images: f"{images.dtype}{images.ndim}",
)
def test_arrays_are_read_on_their_scale(images, tmp_path):
    np.savez(tmp_path / "data.npz", images=images, labels=LABELS)
    found = scan(tmp_path / "data.npz")
    assert found.images.shape == (30, 5, 4, 1) and found.images.dtype == np.uint8
    assert np.abs(found.images[..., 0].astype(int) - IMAGES).max() <= (images.dtype == np.float16)
    assert np.array_equal(found.labels, LABELS)


def test_the_arrays_of_keras_keep_their_test(tmp_path):
    arrays = {
        "x_train": IMAGES[:20],
        "y_train": LABELS[:20, None],
        "x_test": IMAGES[20:],
        "y_test": LABELS[20:, None],
    }
    np.savez(tmp_path / "keras.npz", **arrays)
    test = load(tmp_path / "keras.npz", "test")
    order = np.random.default_rng(0).permutation(10)
    assert np.array_equal(test.images[..., 0], IMAGES[20:][order])
    assert np.array_equal(test.labels, LABELS[20:][order])


def test_features_and_names_of_classes_in_an_npz(tmp_path):
    rows = np.random.default_rng(0).normal(size=(30, 7))
    np.savez(tmp_path / "data.npz", images=rows, labels=np.array(["x", "a", "m"])[LABELS])
    found = scan(tmp_path / "data.npz")
    assert found.class_names == ("a", "m", "x")
    assert found.images.dtype == np.float32 and found.images.shape == (30, 7)
    assert "features of each row: 7" in said(found)


def pickled(folder: Path) -> None:
    np.savez(folder / "data.npz", images=IMAGES, labels=np.array([*"ab" * 15], object))


def cut_short(folder: Path) -> None:
    np.savez(folder / "data.npz", images=IMAGES, labels=LABELS)
    content = (folder / "data.npz").read_bytes()
    (folder / "data.npz").write_bytes(content[: len(content) // 2])


def saving(**arrays):
    return lambda folder: np.savez(folder / "data.npz", **arrays)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (pickled, r"cannot be read as an \.npz file .*allow_pickle"),
        (cut_short, r"cannot be read as an \.npz file"),
        (lambda folder: zipfile.ZipFile(folder / "data.npz", "w").close(), "got none"),
        (saving(pictures=IMAGES), "expected the arrays images and labels.*got pictures"),
        (saving(images=IMAGES, labels=LABELS[:5]), "one class for each of 30 rows"),
        (saving(images=IMAGES, labels=np.eye(30)), "one class for each of 30 rows"),
        (saving(images=IMAGES, labels=LABELS + 0.5), "got fractions"),
        (saving(images=IMAGES[..., None, None], labels=LABELS), r"expected images \[N, H, W\]"),
        (saving(images=IMAGES - 300.0, labels=LABELS), "expected pixels from 0 to 1"),
        (saving(images=IMAGES * np.nan, labels=LABELS), "expected pixels from 0 to 1"),
        (saving(images=np.full((30, 2), np.inf), labels=LABELS), "expected finite numbers"),
    ],
)
def test_arrays_that_cannot_be_learned_are_refused(make, says, tmp_path):
    make(tmp_path)
    with pytest.raises(DatasetError, match=says):
        scan(tmp_path / "data.npz")


def table(folder: Path, text: str, name: str = "data.csv") -> Path:
    (folder / name).write_text(text)
    return folder / name


@pytest.mark.parametrize(
    "text",
    [
        "a,b,kind\n1,2.5,low\n3,4,high\n5,6,low\n",
        "a;b;kind\n1;2.5;low\n3;4;high\n5;6;low\n",
        "a\tb\tkind\n1\t2.5\tlow\n3\t4\thigh\n5\t6\tlow\n",
        "\ufeffa,b,kind\r\n1,2.5,low\r\n3,4,high\r\n5,6,low\r\n",
        "1,2.5,low\n3,4,high\n5,6,low\n",
        "0,1,2\n1,2.5,low\n3,4,high\n5,6,low\n",
    ],
    ids=["comma", "semicolon", "tab", "windows", "no names", "numbers for names"],
)
def test_a_table_of_features(text, tmp_path):
    found = scan(table(tmp_path, text))
    assert found.class_names == ("high", "low")
    assert found.images.tolist() == [[1, 2.5], [3, 4], [5, 6]]
    assert found.labels.tolist() == [1, 0, 1]
    assert "the labels are the last column" in said(found)
    assert ("no row of names" in said(found)) == text.startswith("1,2.5")


def test_the_label_may_be_any_column_and_numbers_are_classes_in_their_order(tmp_path):
    file = table(tmp_path, "kind,a\n10,1\n9,2\n10,3\n-1,4\n")
    found = scan(file, Reading(label="kind"))
    assert found.class_names == ("-1", "9", "10")
    assert found.labels.tolist() == [2, 1, 2, 0]
    with pytest.raises(DatasetError, match=r"label: expected the column 'sort' in .*, got kind, a"):
        scan(file, Reading(label="sort"))


def test_a_parquet_file_is_a_table(tmp_path):
    import pyarrow
    import pyarrow.parquet

    content = pyarrow.table({"a": [1, 2], "b": [True, False], "kind": ["x", "y"]})
    pyarrow.parquet.write_table(content, tmp_path / "data.parquet")
    found = scan(tmp_path / "data.parquet")
    assert found.images.tolist() == [[1, 1], [2, 0]] and found.columns == ("a", "b")
    (tmp_path / "data.parquet").write_bytes(b"PAR1 broken PAR1")
    with pytest.raises(DatasetError, match="cannot be read as a table"):
        scan(tmp_path / "data.parquet")


def test_a_table_of_pixels(tmp_path):
    rows = "\n".join(
        f"{','.join(map(str, image.ravel()))},{label}"
        for image, label in zip(IMAGES, LABELS, strict=True)
    )
    file = table(tmp_path, rows)
    found = scan(file, Reading(image_size=(5, 4)))
    assert np.array_equal(found.images[..., 0], IMAGES)
    with pytest.raises(DatasetError, match=r"expected 36 or 108 numbers .* 6 x 6 pixels, got 20"):
        scan(file, Reading(image_size=6))


def test_a_table_of_paths(tmp_path):
    for index in range(4):
        put(tmp_path / "pictures" / f"{index}.png", index)
    lines = [f"pictures/{index}.png,{'ab'[index % 2]},{index}" for index in range(4)]
    lines.append("pictures/gone.png,a,9")
    file = table(tmp_path, "\n".join(["file,kind,age", *lines]))
    found = scan(file, Reading(label="kind"))
    assert found.images[:, 0, 0, 0].tolist() == [0, 1, 2, 3]
    assert found.labels.tolist() == [0, 1, 0, 1]
    assert "gone.png: cannot be read (No such file or directory)" in said(found)
    assert "columns beside the paths, left out: 1" in said(found)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "cannot be read as a table"),
        ("a,kind\n", "expected rows, got none"),
        ("a,kind\n1,x\n,y\n", "column 'a' has no value in row 2"),
        ("a,kind\n1,x\ninf,y\n", "column 'a' has no finite number in row 2"),
        ("a,kind\nred,x\nblue,y\n", "column 'a' holds words"),
        ("a,kind\n1,0.5\n2,1.25\n", "expected classes in column 'kind', got numbers with a fr"),
        ("kind\nx\ny\n", "expected columns beside the labels"),
        ("a,kind\n1,x\n2,x\n", "two classes or more"),
        ("a,kind\n1,x,9\n", "cannot be read as a table"),
    ],
)
def test_tables_that_cannot_be_learned_are_refused(text, says, tmp_path):
    with pytest.raises(DatasetError, match=says):
        scan(table(tmp_path, text))


def test_a_type_that_changes_late_in_a_table_does_not_matter(tmp_path):
    lines = [f"{row},{row % 2}" for row in range(200_000)] + ["0.5,1"]
    found = scan(table(tmp_path, "a,kind\n" + "\n".join(lines)))
    assert found.images[-1, 0] == 0.5


def test_a_missing_package_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r"pip install 'memjax\[datasets\]'"):
        scan(table(tmp_path, "a,kind\n1,x\n2,y\n"))


def test_a_stream_gives_what_the_arrays_give(photos, monkeypatch):
    train = load(photos, seed=4)
    monkeypatch.setattr("memjax.datasets._files.HELD_BYTES", 0)
    found = scan(photos)
    assert isinstance(found.images, LazyImages)
    stream = found.stream("train", seed=4, batch_size=9)
    for start in (0, 5):
        batches = list(stream(start))
        assert [len(labels) for _, labels in batches][:-1] == [9] * (len(batches) - 1)
        assert np.array_equal(
            np.concatenate([images for images, _ in batches]), train.images[start:]
        )
        assert np.array_equal(
            np.concatenate([labels for _, labels in batches]), train.labels[start:]
        )
    assert np.array_equal(load(photos, seed=4).images, train.images)


def test_a_stream_is_learned_as_the_arrays_are(photos, monkeypatch):
    train = load(photos)
    network, params = memjax.memory_network((6, 6, 1), 3, encoder="pixels", novelty_threshold=0.2)
    start = network.init(jax.random.key(0))
    expected, _ = memjax.fit(network, params, start, train.images, train.labels, 8)
    monkeypatch.setattr("memjax.datasets._files.HELD_BYTES", 0)
    state, tally = memjax.fit_stream(network, params, start, scan(photos).stream(batch_size=5), 8)
    assert tally.num_seen == len(train.labels)
    assert memjax.checkpoint.state_digest(state) == memjax.checkpoint.state_digest(expected)


def test_an_image_that_is_gone_when_it_is_asked_for_is_named(photos, monkeypatch):
    monkeypatch.setattr("memjax.datasets._files.HELD_BYTES", 0)
    found = scan(photos)
    (photos / "cat" / "03.png").unlink()
    with pytest.raises(DatasetError, match=r"03.png: cannot be read .* could be read before"):
        list(found.stream("all")(0))


@pytest.mark.parametrize("number", [5_000, pytest.param(100_000, marks=pytest.mark.long)])
def test_the_memory_does_not_grow_with_the_number_of_images(number, tmp_path):
    put(tmp_path / "one.png", 9)
    content = (tmp_path / "one.png").read_bytes()
    for name in "ab":
        (tmp_path / "photos" / name).mkdir(parents=True)
    for index in range(number):
        (tmp_path / "photos" / "ab"[index % 2] / f"{index}.png").write_bytes(content)
    program = f"""if True:
        import resource, numpy as np
        from memjax.datasets import Reading, scan, _files
        def peak():
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        _files.HELD_BYTES = 10 * 2**20
        scan({str(tmp_path / "photos")!r}, Reading(image_size=8)).images[:4]
        before, rows = peak(), 0
        found = scan({str(tmp_path / "photos")!r}, Reading(image_size=(96, 128)))
        for images, labels in found.stream(batch_size=64)(0):
            rows += len(labels)
        assert images.shape[1:] == (96, 128, 1), images.shape
        print(rows, peak() - before)
    """
    ended = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": str(Path(memjax.__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert ended.returncode == 0, ended.stderr
    rows, grown = map(int, ended.stdout.split())
    assert rows == 0.8 * number
    whole = number * 96 * 128
    assert grown < min(whole, 150 * 2**20)


@pytest.mark.long
def test_a_folder_of_fashion_mnist_is_the_dataset_with_the_same_rows(tmp_path, monkeypatch):
    folder = os.environ.get("TFDS_DATA_DIR")
    if not folder or not (Path(folder) / "fashion_mnist").is_dir():
        pytest.skip("Fashion-MNIST: TFDS_DATA_DIR does not name a folder that holds it")
    monkeypatch.setenv("MEMJAX_CACHE_DIR", str(tmp_path / "cache"))
    named = {split: load("fashion_mnist", split) for split in ("train", "test")}
    for split, data in named.items():
        for index in range(3000):
            file = tmp_path / "photos" / split / str(data.labels[index]) / f"{index:05}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(data.images[index, ..., 0]).save(file)
    found = scan(tmp_path / "photos")
    network, params = memjax.memory_network((28, 28, 1), 10)
    accuracies = []
    for source in ("named", "photos"):
        parts = {}
        for split, data in named.items():
            if source == "photos":
                read = found.dataset(split)
                places = {image.tobytes(): row for row, image in enumerate(read.images)}
                rows = [places[image.tobytes()] for image in data.images[:3000]]
                parts[split] = read.images[rows], read.labels[rows]
                assert np.array_equal(parts[split][1], data.labels[:3000])
            else:
                parts[split] = data.images[:3000], data.labels[:3000]
        learned, state, _ = memjax.learn(network, params, *parts["train"])
        accuracies.append(memjax.evaluate(network, learned, state, *parts["test"]).accuracy)
    assert accuracies[0] == accuracies[1] > 0.75


@pytest.fixture
def aramaic(tmp_path) -> Path:
    if not OMNIGLOT.is_dir():
        pytest.skip("there are no characters of Omniglot")
    with zipfile.ZipFile(OMNIGLOT / "images_background_small1.zip") as archive:
        names = [name for name in archive.namelist() if "Early_Aramaic" in name]
        archive.extractall(tmp_path, names)
    return tmp_path


def test_the_characters_of_omniglot_are_classes(aramaic):
    found = scan(aramaic, Reading(image_size=35))
    assert found.class_names == tuple(f"character{number:02}" for number in range(1, 23))
    assert found.images.shape == (440, 35, 35, 1)
    assert (len(found.dataset("train").labels), len(found.dataset("test").labels)) == (352, 88)


@pytest.mark.long
def test_the_characters_of_omniglot_are_learned(aramaic):
    found = scan(aramaic, Reading(image_size=35))
    train, test = found.dataset("train"), found.dataset("test")
    network, params = memjax.memory_network((35, 35, 1), 22, capacity=400)
    params, state, _ = memjax.learn(network, params, train.images, train.labels)
    assert memjax.evaluate(network, params, state, test.images, test.labels).accuracy > 0.4


@pytest.mark.parametrize(
    "name", ["iris", *(pytest.param(name, marks=pytest.mark.long) for name in ("wine", "digits"))]
)
def test_the_tables_of_scikit_learn_are_learned_as_csv(name, tmp_path):
    import sklearn.datasets

    bunch = getattr(sklearn.datasets, f"load_{name}")()
    names = [str(name) for name in bunch.feature_names] + ["kind"]
    lines = [
        ",".join([*map(repr, row), str(bunch.target_names[label])])
        for row, label in zip(bunch.data.tolist(), bunch.target.tolist(), strict=True)
    ]
    found = scan(table(tmp_path, "\n".join([",".join(names), *lines])))
    train, test = found.dataset("train"), found.dataset("test")
    assert np.allclose(found.images, bunch.data)
    network, params = memjax.memory_network(
        found.images.shape[1:], found.dataset("all").num_classes, first_rows=train.images[:1000]
    )
    params, state, _ = memjax.learn(network, params, train.images, train.labels)
    assert memjax.evaluate(network, params, state, test.images, test.labels).accuracy > 0.85


@pytest.mark.long
def test_a_table_of_river_is_learned_as_csv(tmp_path):
    streams = pytest.importorskip("river.datasets")
    rows = [[*x.values(), y] for x, y in streams.Phishing()]
    names = [*next(iter(streams.Phishing()))[0], "is_phishing"]
    text = "\n".join(",".join(map(str, row)) for row in [names, *rows])
    found = scan(table(tmp_path, text))
    train, test = found.dataset("train"), found.dataset("test")
    assert (train.images.shape, test.images.shape) == ((1000, 9), (250, 9))
    network, params = memjax.memory_network((9,), 2)
    params, state, _ = memjax.learn(network, params, train.images, train.labels)
    assert memjax.evaluate(network, params, state, test.images, test.labels).accuracy > 0.8


@pytest.mark.long
def test_a_folder_of_faces_is_learned_as_well_as_by_nearest_neighbours(tmp_path):
    data = pytest.importorskip("skimage.data")
    from sklearn.neighbors import KNeighborsClassifier

    # 100 faces of "Labeled Faces in the Wild", and 100 pieces of other pictures.
    for index, image in enumerate(data.lfw_subset()):
        file = tmp_path / ("face" if index < 100 else "other") / f"{index:03}.png"
        file.parent.mkdir(exist_ok=True)
        Image.fromarray((255 * image).round().astype(np.uint8)).save(file)
    whole = scan(tmp_path).dataset("all")
    assert whole.images.shape == (200, 25, 25, 1) and whole.class_names == ("face", "other")
    network, params = memjax.memory_network((25, 25, 1), 2, capacity=200)
    features = np.asarray(jax.jit(network.layers[0].recall_block)((), (), whole.images))
    own, neighbours = [], []
    for start in range(0, 200, 40):
        held_out = (np.arange(200) >= start) & (np.arange(200) < start + 40)
        images, labels = whole.images[~held_out], whole.labels[~held_out]
        learned, state, _ = memjax.learn(network, params, images, labels)
        asked = whole.images[held_out], whole.labels[held_out]
        own.append(memjax.evaluate(network, learned, state, *asked).accuracy)
        peer = KNeighborsClassifier(7).fit(features[~held_out], labels)
        neighbours.append(peer.score(features[held_out], asked[1]))
    assert np.mean(own) > max(0.85, np.mean(neighbours) - 0.02)
