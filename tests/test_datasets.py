"""The datasets: order, splits, cache, and preparation from a server on this machine."""

import collections
import contextlib
import gzip
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from memjax import datasets
from memjax.datasets import Dataset, DatasetError, load
from memjax.datasets._cache import read_cache
from memjax.datasets._owned import owned_folder

tfds = pytest.importorskip("tensorflow_datasets")
pytest.importorskip("array_record")
pytest.importorskip("PIL")
pytest.importorskip("sklearn")
scipy_io = pytest.importorskip("scipy.io")

HELD_OUT = 20
TRAIN, TEST = 90, 30
CIFAR_NAMES = ("plane", "car", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


class Server:
    """Serves files by name, and can cut one short as a broken connection does."""

    def __init__(self):
        self.files: dict[str, bytes] = {}
        self.cut = ""
        self.requests = 0
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self):
                self.answer(with_body=False)

            def do_GET(self):
                self.answer(with_body=True)

            def answer(self, with_body):
                server.requests += 1
                name = self.path.rpartition("/")[2]
                body = server.files.get(name)
                self.send_response(404 if body is None else 200)
                self.send_header("Content-Length", str(len(body or b"")))
                self.end_headers()
                if with_body and body:
                    self.wfile.write(body[: len(body) // 2] if name == server.cut else body)

            def log_message(self, format, *args):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/"
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()

    def close(self):
        self.http.shutdown()
        self.http.server_close()
        self.thread.join(timeout=10)


KINDS = (("coarse", 20), ("fine", 100))


def emnist_file(config, train, test):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for split, rows in (("train", train), ("test", test)):
            for array, kind in zip(rows, ("images-idx3", "labels-idx1"), strict=True):
                archive.writestr(f"gzip/emnist-{config}-{split}-{kind}-ubyte.gz", idx(array))
    return file.getvalue()


def svhn_file(images, labels):
    """The digit 0 is written as 10, and the rows are the last axis."""
    file = io.BytesIO()
    content = {"X": np.moveaxis(images, 0, -1), "y": np.where(labels, labels, 10)[:, np.newaxis]}
    scipy_io.savemat(file, content)
    return file.getvalue()


def registered(server):
    """The checksums that the official builder would know of the files as they are now."""
    from tensorflow_datasets.core.download.checksums import UrlInfo
    from tensorflow_datasets.core.utils import Size

    return {
        server.url + name: UrlInfo(Size(len(body)), hashlib.sha256(body).hexdigest(), name)
        for name, body in server.files.items()
    }


def random_rows(count, shape, seed):
    generator = np.random.default_rng(seed)
    images = generator.integers(0, 256, (count, *shape), np.uint8)
    return images, np.arange(count, dtype=np.uint8) % 10


def idx(array):
    header = bytes([0, 0, 8, array.ndim]) + np.asarray(array.shape, ">u4").tobytes()
    return gzip.compress(header + array.tobytes())


def cifar_file(train, test, is_100=False):
    def records(images, labels):
        flat = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
        columns = [labels[:, np.newaxis], flat]
        return np.concatenate(
            [labels[:, np.newaxis] // 5, *columns] if is_100 else columns, 1
        ).tobytes()

    if is_100:
        names = ["\n".join(f"{kind} {label}" for label in range(number)) for kind, number in KINDS]
        files = ("coarse_label_names.txt", "fine_label_names.txt")
        parts = {file: words.encode() for file, words in zip(files, names, strict=True)}
        parts |= {"train.bin": records(*train), "test.bin": records(*test)}
    else:
        parts = {"batches.meta.txt": "\n".join((*CIFAR_NAMES, "", "")).encode()}
        parts["test_batch.bin"] = records(*test)
        for number, rows in enumerate(np.array_split(np.arange(len(train[1])), 5), 1):
            parts[f"data_batch_{number}.bin"] = records(train[0][rows], train[1][rows])
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name, content in parts.items():
            member = tarfile.TarInfo(f"cifar-10{'0-binary' if is_100 else '-batches-bin'}/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return file.getvalue()


@contextlib.contextmanager
def official(name):
    """Yield a server that stands for the official source of ``name``, and the rows it holds."""
    name, _, config = name.partition("/")
    shape = (28, 28) if name.endswith("mnist") else (32, 32, 3)
    train, test = random_rows(TRAIN, shape, 1), random_rows(TEST, shape, 2)
    builder = tfds.builder_cls(name)
    server = Server()
    with pytest.MonkeyPatch.context() as patch:
        if name.startswith("cifar"):
            server.files["cifar.tar.gz"] = cifar_file(train, test, name == "cifar100")
            real = builder._cifar_info.fget

            def info(self):
                return real(self)._replace(url=server.url + "cifar.tar.gz")

            patch.setattr(builder, "_cifar_info", property(info))
        elif name == "emnist":
            server.files["gzip.zip"] = emnist_file(config or "byclass", train, test)
            patch.setattr(builder, "URL", server.url + "gzip.zip")
        elif name == "svhn_cropped":
            server.files["train_32x32.mat"] = svhn_file(*train)
            server.files["test_32x32.mat"] = svhn_file(*test)
            patch.setattr(sys.modules[builder.__module__], "URL", server.url)
        else:
            for prefix, (images, labels) in (("train", train), ("t10k", test)):
                server.files[f"{prefix}-images-idx3-ubyte.gz"] = idx(images)
                server.files[f"{prefix}-labels-idx1-ubyte.gz"] = idx(labels)
            patch.setattr(builder, "URL", server.url)
        patch.setattr(builder, "url_infos", registered(server))
        source = datasets._SOURCES[name]._replace(num_validation=HELD_OUT)
        patch.setitem(datasets._SOURCES, name, source)
        try:
            yield server, {"train": train, "test": test}
        finally:
            server.close()


@pytest.fixture
def mnist():
    with official("mnist") as source:
        yield source


@pytest.fixture
def folders(tmp_path):
    return {"data_dir": tmp_path / "data", "cache_dir": tmp_path / "cache"}


@pytest.fixture(scope="module")
def prepared_mnist(tmp_path_factory):
    """A data_dir that holds a prepared, tiny mnist."""
    data = tmp_path_factory.mktemp("prepared")
    with official("mnist"):
        load("mnist", data_dir=data, cache_dir=tmp_path_factory.mktemp("cache"))
    return data


@pytest.fixture
def prepared(prepared_mnist, tmp_path, folders):
    """The same in folders of the test's own, with no way to prepare it again."""
    shutil.copytree(prepared_mnist, folders["data_dir"])
    with official("mnist") as (server, _):
        server.files.clear()
        yield folders


def contents(images, labels):
    """How often each labelled image occurs, whatever the order."""
    return collections.Counter(
        (image.tobytes(), int(label)) for image, label in zip(images, labels, strict=True)
    )


def rows_of(dataset: Dataset):
    return contents(dataset.images, dataset.labels)


def assert_one_sentence(error, *parts):
    message = str(error.value)
    assert message.endswith(".") and "\n" not in message
    for part in parts:
        assert str(part) in message


def test_digits():
    train, test = load("digits"), load("digits", "test")
    assert train.images.shape == (1198, 8, 8, 1) and test.images.shape == (599, 8, 8, 1)
    assert train.images.dtype == np.uint8 and train.labels.dtype == np.int32
    assert train.images.min() == 0 and train.images.max() == 255
    assert train.class_names == tuple("0123456789") and train.num_classes == 10
    assert (train.name, train.split, train.seed) == ("digits", "train", 0)
    from sklearn.datasets import load_digits

    bunch: Any = load_digits()
    everything = np.rint(bunch.images * 255 / 16).astype(np.uint8)
    assert rows_of(train) + rows_of(test) == contents(everything, bunch.target)


def test_validation_divides_the_train_rows():
    validation, rest = load("digits", "validation"), load("digits", "train_without_validation")
    assert len(validation.labels) == 200 and len(rest.labels) == 998
    assert rows_of(validation) + rows_of(rest) == rows_of(load("digits"))


@pytest.mark.parametrize("split", datasets.SPLITS)
def test_seed_decides_the_order_and_not_the_members(split):
    first, again, other = (
        load("digits", split, 1),
        load("digits", split, 1),
        load("digits", split, 2),
    )
    assert np.array_equal(first.images, again.images)
    assert np.array_equal(first.labels, again.labels)
    assert not np.array_equal(first.images, other.images)
    assert rows_of(first) == rows_of(other)
    assert (first.seed, other.seed) == (1, 2)


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ({"name": "letters"}, ("name:", "'letters'", "fashion_mnist")),
        ({"name": "cifar"}, ("did you mean cifar10?", "tfds:NAME", ".parquet")),
        ({"name": None}, ("name:", "None")),
        ({"name": "digits", "split": "valid"}, ("split:", "'valid'", "train_without_validation")),
        ({"name": "digits", "seed": -1}, ("seed:", "-1", "at least 0")),
        ({"name": "digits", "seed": 0.5}, ("seed:", "0.5")),
        ({"name": "digits", "seed": True}, ("seed:", "True")),
        ({"name": "digits", "data_dir": 3}, ("data_dir:", "the path of a folder", "int")),
        ({"name": "mnist", "cache_dir": b"here"}, ("cache_dir:", "the path of a folder", "bytes")),
    ],
)
def test_bad_arguments(arguments, parts):
    with pytest.raises((ValueError, TypeError)) as error:
        load(**arguments)
    assert_one_sentence(error, *parts)


@pytest.mark.parametrize("name", [name for name in datasets.NAMES if name != "digits"])
def test_preparation_from_the_official_files(name, folders):
    with official(name) as (server, rows):
        loaded = {split: load(name, split, 3, **folders) for split in datasets.SPLITS}
        asked = server.requests
        load(name, **folders)
        assert server.requests == asked
    shape = (28, 28, 1) if name.endswith("mnist") else (32, 32, 3)
    for split in ("train", "test"):
        assert rows_of(loaded[split]) == contents(*rows[split])
        assert loaded[split].images.shape[1:] == shape
        assert loaded[split].images.dtype == np.uint8 and loaded[split].labels.dtype == np.int32
    assert len(loaded["validation"].labels) == HELD_OUT
    parts = rows_of(loaded["validation"]) + rows_of(loaded["train_without_validation"])
    assert parts == rows_of(loaded["train"])
    assert loaded["train"].num_classes == {"emnist": 62, "cifar100": 100}.get(name, 10)
    if name == "cifar100":
        assert loaded["train"].class_names[7] == "fine 7"
    if name == "kmnist":
        assert loaded["train"].class_names[:2] == ("o", "ki")
    if name == "cifar10":
        assert loaded["train"].class_names == CIFAR_NAMES
    if name == "fashion_mnist":
        assert loaded["train"].class_names[9] == "Ankle boot"
    assert [path.name for path in folders["data_dir"].iterdir()] == [name]


@pytest.mark.parametrize("failure", ["cut short", "altered", "absent", "no network"])
def test_failed_download_leaves_nothing_and_a_later_load_works(failure, mnist, folders):
    server, rows = mnist
    file = "t10k-images-idx3-ubyte.gz"
    good = server.files[file]
    builder = tfds.builder_cls("mnist")
    with pytest.MonkeyPatch.context() as patch:
        if failure == "cut short":
            patch.setattr(server, "cut", file)
        elif failure == "altered":
            patch.setitem(server.files, file, good[:-1] + b"!")
        elif failure == "absent":
            patch.delitem(server.files, file)
        else:
            nobody = Server()
            nobody.close()
            patch.setattr(builder, "URL", nobody.url)
        with pytest.raises(DatasetError) as error:
            load("mnist", **folders)
    expected = "checksum" if failure == "altered" else "TFDS_DATA_DIR"
    assert_one_sentence(error, "mnist:", "http://127.0.0.1:", expected)
    assert not list(folders["data_dir"].iterdir())
    assert not folders["cache_dir"].exists()
    assert rows_of(load("mnist", "test", **folders)) == contents(*rows["test"])


def test_a_set_with_a_config_is_prepared_and_split(folders):
    with official("emnist/letters") as (server, rows):
        train = load("tfds:emnist/letters", "train", **folders)
        asked = server.requests
        test = load("tfds:emnist/letters", "test", **folders)
        assert server.requests == asked
    assert rows_of(train) == contents(*rows["train"]) and rows_of(test) == contents(*rows["test"])
    assert train.num_classes == 37 and train.images.shape[1:] == (28, 28, 1)
    assert (folders["data_dir"] / "emnist" / "letters" / "3.1.0").is_dir()


def test_a_prepared_set_of_any_name_is_read(prepared):
    """A set without a test of its own: a share of it is held out."""
    data = prepared["data_dir"]
    (data / "mnist").rename(data / "symbols")
    (info,) = data.glob("symbols/*/dataset_info.json")
    content = json.loads(info.read_text())
    content["name"] = "symbols"
    content["splits"] = content["splits"][:1]
    info.write_text(json.dumps(content))
    for file in info.parent.glob("mnist-*"):
        file.rename(file.with_name(file.name.replace("mnist", "symbols")))
    train, test = (load("tfds:symbols", split, **prepared) for split in ("train", "test"))
    assert (len(train.labels), len(test.labels)) == (TRAIN - 20, 20)
    assert train.images.shape[1:] == (28, 28, 1)
    small = datasets.scan("tfds:symbols", datasets.Reading(image_size=14), **prepared)
    assert small.images.shape == (TRAIN, 14, 14, 1)


def test_records_in_the_format_that_tensorflow_writes_are_read(prepared):
    """Its records are the same; only the file around them differs."""
    expected = load("mnist", "test", **prepared)
    reader = pytest.importorskip("array_record.python.array_record_module").ArrayRecordReader
    (folder,) = (prepared["data_dir"] / "mnist").iterdir()
    for file in folder.glob("mnist-*"):
        opened = reader(str(file))
        content = b""
        for record in opened.read_all():
            content += len(record).to_bytes(8, "little") + bytes(4) + record + bytes(4)
        opened.close()
        file.unlink()
        file.with_name(file.name.replace("array_record", "tfrecord")).write_bytes(content)
    info = folder / "dataset_info.json"
    info.write_text(info.read_text().replace("array_record", "tfrecord"))
    again = load("mnist", "test", **prepared)
    assert np.array_equal(again.images, expected.images)
    assert np.array_equal(again.labels, expected.labels)
    (file,) = folder.glob("mnist-test*")
    for damaged in (content[: len(content) // 2], b"\xff" * 100, content[:5]):
        file.write_bytes(damaged)
        with pytest.raises(DatasetError) as error:
            load("mnist", "test", **prepared)
        assert_one_sentence(error, "mnist:", folder)


def test_the_images_of_a_prepared_set_may_differ_in_size(tmp_path):
    from PIL import Image

    sizes = [(20, 10), (12, 12), (30, 40), (12, 12)] * 3

    class Things(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore
        name = "things"
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            image = tfds.features.Image(shape=(None, None, 3), encoding_format="png")
            label = tfds.features.ClassLabel(names=["leaf", "stone"])
            features = tfds.features.FeaturesDict({"image": image, "label": label})
            return tfds.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            for row, (height, width) in enumerate(sizes):
                picture = Image.new("RGB", (width, height), (200, row, 0))
                yield row, {"image": picture, "label": row % 2}

    Things(data_dir=tmp_path, file_format="array_record").download_and_prepare()
    found = datasets.scan("tfds:things", data_dir=tmp_path)
    assert found.class_names == ("leaf", "stone")
    assert found.images.shape == (12, 16, 12, 3)
    assert len(found.dataset("test").labels) == 2


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("tfds:nothing", "nothing is prepared under"),
        ("tfds:../mnist", "expected tfds:NAME or tfds:NAME/CONFIG"),
        ("tfds:", "expected tfds:NAME or tfds:NAME/CONFIG"),
        ("tfds:mnist/../../x", "expected tfds:NAME or tfds:NAME/CONFIG"),
    ],
)
def test_a_set_that_is_not_prepared_says_what_to_do(name, says, folders):
    with pytest.raises(DatasetError) as error:
        load(name, **folders)
    assert_one_sentence(error, says)


EVIL = "tests_evil_module.Feature"


def in_features(change):
    def spoil(folder: Path) -> None:
        file = folder / "features.json"
        content = json.loads(file.read_text())
        change(content["featuresDict"]["features"]["image"], content)
        file.write_text(json.dumps(content))

    return spoil


def in_info(folder: Path) -> None:
    file = folder / "dataset_info.json"
    content = json.loads(file.read_text())
    content["features"] = {"python_class_name": EVIL}
    file.write_text(json.dumps(content))


def twice(folder: Path) -> None:
    file = folder / "features.json"
    text = file.read_text().rstrip()
    file.write_text(f'{{"pythonClassName": "{EVIL}",' + text[1:])


@pytest.mark.parametrize(
    "spoil",
    [
        in_features(lambda image, all: image.update(pythonClassName=EVIL)),
        in_features(lambda image, all: image.update(python_class_name=EVIL)),
        in_features(lambda image, all: all.update(pythonClassName=EVIL)),
        in_features(lambda image, all: all.update(type=EVIL)),
        in_features(
            lambda image, all: image.update(jsonFeature={"json": json.dumps({"type": EVIL})})
        ),
        in_info,
        twice,
    ],
    ids=["camel", "snake", "outer", "type", "json", "info", "twice"],
)
def test_a_prepared_folder_cannot_have_a_module_imported(spoil, prepared, monkeypatch):
    (folder,) = (prepared["data_dir"] / "mnist").iterdir()
    spoil(folder)
    (prepared["data_dir"] / "tests_evil_module.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(prepared["data_dir"])
    with pytest.raises(DatasetError) as error:
        load("mnist", "test", **prepared)
    assert_one_sentence(error, "mnist:", folder, "twice" if spoil is twice else EVIL)
    assert "tests_evil_module" not in sys.modules


def test_leftovers_of_a_killed_process_are_removed_and_those_of_a_living_one_are_not(folders):
    program = f"""if True:
        import time
        from pathlib import Path
        from memjax.datasets._owned import owned_folder
        with owned_folder(Path({str(folders["data_dir"])!r}), "downloads.") as folder:
            (folder / "half").write_text("half")
            print(folder.name, flush=True)
            time.sleep(100)
    """
    folders["data_dir"].mkdir()
    (folders["data_dir"] / "downloads.of the user").mkdir()
    environment = os.environ | {"PYTHONPATH": str(Path(datasets.__file__).parents[2])}
    processes, names = [], []
    try:
        for _ in range(2):
            process = subprocess.Popen(
                [sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE, text=True
            )
            processes.append(process)
            assert process.stdout is not None
            names.append(process.stdout.readline().strip())
        assert all((folders["data_dir"] / name / "half").is_file() for name in names)
        processes[0].kill()
        processes[0].wait(timeout=10)
        with official("mnist"):
            load("mnist", "test", **folders)
        living = names[1]
        found = {path.name for path in folders["data_dir"].iterdir()}
        assert found == {"mnist", living, f"{living}.lock", "downloads.of the user"}
    finally:
        for process in processes:
            process.kill()
            process.communicate(timeout=10)
    with owned_folder(folders["data_dir"], "downloads.") as own:
        assert {path.name for path in folders["data_dir"].glob("downloads.*")} == {
            *(own.name, f"{own.name}.lock"),
            "downloads.of the user",
        }
    assert {path.name for path in folders["data_dir"].iterdir()} == {
        "mnist",
        "downloads.of the user",
    }


def test_what_needs_no_download_is_known_without_one(prepared, tmp_path):
    """Asking neither prepares nor writes anything."""
    nothing = tmp_path / "nothing"
    assert datasets.is_prepared("digits", nothing)
    assert datasets.is_prepared("mnist", prepared["data_dir"])
    assert not datasets.is_prepared("mnist", nothing)
    assert not nothing.exists()
    with pytest.raises(ValueError, match="name"):
        datasets.is_prepared("letters")


def test_data_dir_comes_from_the_environment(prepared, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(prepared["data_dir"]))
    monkeypatch.setenv("MEMJAX_CACHE_DIR", str(prepared["cache_dir"]))
    assert len(load("mnist", "test").labels) == TEST
    assert len(list(prepared["cache_dir"].glob("mnist-*-test-*.npz"))) == 1


def alone(program):
    """What a program prints in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": str(Path(datasets.__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=50,
        check=True,
    ).stdout.strip()


def test_cached_load_does_not_import_tensorflow_datasets(prepared):
    first = load("mnist", "test", 5, **prepared)
    program = (
        "import sys; from memjax.datasets import load;"
        f"rows = load('mnist', 'test', 5, {str(prepared['data_dir'])!r},"
        f" {str(prepared['cache_dir'])!r});"
        "assert 'tensorflow_datasets' not in sys.modules; print(rows.labels.tolist())"
    )
    assert alone(program) == str(first.labels.tolist())


def test_other_threads_import_as_ever_while_a_dataset_is_read(prepared, tmp_path):
    """tensorflow_datasets makes imports lazy in the whole process while it is imported itself."""
    (tmp_path / "whole").mkdir()
    (tmp_path / "whole" / "__init__.py").write_text("from . import part\nimport colorsys\n")
    (tmp_path / "whole" / "part.py").write_text("value = 3\n")
    data_dir = str(prepared["data_dir"])
    program = f"""if True:
        import builtins, importlib, sys, threading
        from etils.epy import lazy_imports_utils
        from memjax.datasets import load
        sys.path.append({str(tmp_path)!r})
        lazy_import, usual_import, found = lazy_imports_utils._lazy_import, builtins.__import__, []

        def import_as_ever():
            for name in ("whole", "whole.part", "colorsys"):
                sys.modules.pop(name, None)
            try:
                whole = importlib.import_module("whole")
                found.append((whole.part.value, type(whole.colorsys).__name__))
            except Exception as error:
                found.append(error)

        def let_another_thread_import_first(*arguments, **named):
            if threading.current_thread() is threading.main_thread():
                other = threading.Thread(target=import_as_ever)
                other.start()
                other.join()
            return lazy_import(*arguments, **named)

        lazy_imports_utils._lazy_import = let_another_thread_import_first
        rows = load("mnist", "test", 5, {data_dir!r}, {str(tmp_path / "cache")!r})
        assert lazy_imports_utils._lazy_import is let_another_thread_import_first
        assert builtins.__import__ is usual_import
        print(len(rows.labels), set(found))
    """
    assert alone(program) == f"{TEST} {{(3, 'module')}}"


def test_digits_need_nothing_but_scikit_learn():
    program = (
        "import sys; sys.modules |= dict.fromkeys(['tensorflow_datasets', 'array_record', 'PIL']);"
        "from memjax.datasets import load; print(len(load('digits').labels))"
    )
    assert alone(program) == "1198"


@pytest.mark.parametrize("damage", ["empty", "half", "one byte", "text", "other arrays"])
def test_damaged_cache_is_rebuilt(damage, prepared):
    first = load("mnist", "test", **prepared)
    (file,) = prepared["cache_dir"].iterdir()
    sound = file.read_bytes()
    middle = len(sound) // 2
    if damage == "other arrays":
        np.savez(file, images=np.zeros(3), labels=np.zeros(3), class_names=["a"])
    else:
        damaged = {
            "empty": b"",
            "half": sound[:middle],
            "one byte": sound[:middle] + bytes([sound[middle] ^ 255]) + sound[middle + 1 :],
            "text": b"not an archive",
        }
        file.write_bytes(damaged[damage])
    again = load("mnist", "test", **prepared)
    assert np.array_equal(first.images, again.images)
    assert np.array_equal(first.labels, again.labels)
    assert [path.name for path in prepared["cache_dir"].iterdir()] == [file.name]
    assert read_cache(file) is not None


def test_two_prepared_folders_never_share_a_cache(prepared, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(prepared["data_dir"], other)
    load("mnist", "test", **prepared)
    load("mnist", "test", data_dir=other, cache_dir=prepared["cache_dir"])
    assert len(list(prepared["cache_dir"].iterdir())) == 2


def test_cache_that_cannot_be_written_only_warns(prepared, tmp_path):
    occupied = tmp_path / "file"
    occupied.touch()
    with pytest.warns(UserWarning, match="cache_dir or MEMJAX_CACHE_DIR") as warned:
        assert len(load("mnist", "test", 0, prepared["data_dir"], occupied).labels) == TEST
    assert [warning.filename for warning in warned] == [__file__]


@pytest.mark.parametrize("damage", ["missing", "half", "info", "tfrecord"])
def test_unreadable_prepared_folder(damage, prepared):
    (folder,) = (prepared["data_dir"] / "mnist").iterdir()
    (records,) = folder.glob("mnist-test*")
    info = folder / "dataset_info.json"
    if damage == "missing":
        records.unlink()
    elif damage == "half":
        records.write_bytes(records.read_bytes()[: records.stat().st_size // 2])
    elif damage == "info":
        info.write_text('{"name": "mni')
    else:
        info.write_text(re.sub("array_record", "tfrecord", info.read_text()))
    with pytest.raises(DatasetError) as error:
        load("mnist", "test", **prepared)
    assert_one_sentence(error, "mnist:", folder, "data_dir", "tfrecord" * (damage == "tfrecord"))
    assert not prepared["cache_dir"].exists()


def test_version_folder_without_records(mnist, folders):
    (folders["data_dir"] / "mnist" / "3.0.1").mkdir(parents=True)
    (folders["data_dir"] / "mnist" / "3.0.1" / "features.json").touch()
    with pytest.raises(DatasetError) as error:
        load("mnist", **folders)
    assert_one_sentence(error, "mnist:", "dataset_info.json", folders["data_dir"])


@pytest.mark.parametrize(
    ("name", "module", "package", "extra"),
    [
        ("digits", "sklearn.datasets", "scikit-learn", "cli"),
        ("mnist", "PIL.Image", "pillow", "datasets"),
        ("mnist", "array_record.python.array_record_data_source", "array_record", "datasets"),
        ("mnist", "tensorflow_datasets", "tensorflow_datasets", "datasets"),
    ],
)
def test_missing_package_names_the_extra(name, module, package, extra, prepared, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError) as error:
        load(name, **prepared)
    assert_one_sentence(error, package, f"pip install 'memjax[{extra}]'")


@pytest.mark.skipif(
    not list(Path(os.environ.get("TFDS_DATA_DIR", "nowhere"), "mnist").glob("*/LICENSE")),
    reason="TFDS_DATA_DIR holds no mnist in the canonical order",
)
@pytest.mark.parametrize(
    ("split", "images_digest", "labels_digest"),
    [
        (
            "train",
            "741c988805d008ac6e4c904b69001ba184c24b2c540a4ef403f4c71b676cf757",
            "1feba77c54802fa5339a11837ea4b2866434b83314ec45192930f1df69120c13",
        ),
        (
            "test",
            "6d87418db22cc8025d05968bec9bd5c3932904b23485740db143a061a2c9d161",
            "ddeff807876a9661a1110d45c266c86239a3a1b7d37da0c3716a7a683c852ff5",
        ),
    ],
)
@pytest.mark.long
def test_real_mnist(split, images_digest, labels_digest, tmp_path):
    rows = load("mnist", split, seed=7, cache_dir=tmp_path)
    stored = np.argsort(np.random.default_rng(7).permutation(len(rows.labels)))
    images, labels = rows.images[stored], rows.labels[stored].astype(np.uint8)
    assert hashlib.sha256(images.tobytes()).hexdigest() == images_digest
    assert hashlib.sha256(labels.tobytes()).hexdigest() == labels_digest
