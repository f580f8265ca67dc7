"""One drawing of a character is enough, and a record says how often."""

import io
import json
import zipfile

import numpy as np
import pytest
from PIL import Image, ImageDraw

from experiments import one_shot
from experiments.one_shot import Drawings, decorrelation_within, prepared, tasks_from, views


def png(character: int, hand: int, shift: int = 0) -> bytes:
    """A character of five points, drawn by a hand that is not quite steady, black on white."""
    points = np.random.default_rng(character).integers(15, 80, (5, 2))
    points = points + np.random.default_rng((character, hand)).integers(-3, 4, (5, 2)) + shift
    image = Image.new("1", (105, 105), 1)
    ImageDraw.Draw(image).line([(int(x), int(y)) for x, y in points], fill=0, width=3)
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Omniglot's archives with characters of ours; the background sets overlap."""
    folder = tmp_path_factory.mktemp("omniglot")
    for number, alphabets in ((1, ("Tagalog", "Greek")), (2, ("Greek", "Korean"))):
        with zipfile.ZipFile(folder / f"images_background_small{number}.zip", "w") as archive:
            for character in range(20):
                for alphabet in alphabets:
                    for hand in range(3):
                        name = f"{alphabet}/character{character:02d}/{hand:02d}.png"
                        drawn = png(character + 100 * len(alphabet), hand)
                        archive.writestr(f"images_background_small{number}/{name}", drawn)
    with zipfile.ZipFile(folder / "all_runs.zip", "w") as archive:
        for run in (1, 2):
            order = np.random.default_rng(run).permutation(20)
            lines = [
                f"run0{run}/test/item{i:02d}.png run0{run}/training/class{c:02d}.png\n"
                for i, c in enumerate(order)
            ]
            archive.writestr(f"run0{run}/class_labels.txt", "".join(lines))
            for item, character in enumerate(order):
                # Those that are asked for stand elsewhere.
                asked = png(character + 1000 * run, 1, shift=12)
                archive.writestr(f"run0{run}/test/item{item:02d}.png", asked)
                shown = png(character + 1000 * run, 0)
                archive.writestr(f"run0{run}/training/class{character:02d}.png", shown)
    return folder


def test_every_method_is_measured_and_memories_know_what_pixels_do_not(folder, tmp_path):
    one_shot.main(
        ["--folder", str(folder), "--split", "test", "--quick", "--out", str(tmp_path / "out")]
    )
    records = [json.loads(file.read_text()) for file in (tmp_path / "out").iterdir()]
    accuracy = {r["method"]: np.mean([run["accuracy"] for run in r["runs"]]) for r in records}
    assert set(accuracy) == set(one_shot.METHODS)
    assert all(len(record["runs"]) == 2 for record in records)
    assert accuracy["1-NN in pixels"] < 0.6 < 0.9 < accuracy["memory"]
    assert min(accuracy["memory, views"], accuracy["memory, views, other alphabets"]) > 0.9
    assert "| 1-NN in pixels | " in one_shot.table(records)
    names = [text.get_text() for text in one_shot.figure(records).axes[0].get_yticklabels()]
    assert names == [record["method"] for record in records]


def test_the_validation_split_is_of_alphabets_that_are_not_learned(folder, monkeypatch):
    learned = []

    def method(others):
        learned.append(set(others.alphabets))
        return lambda shown, asked: np.arange(len(shown))

    monkeypatch.setitem(one_shot.METHODS, "memory", method)
    tasks, others = one_shot.read_split(folder, "validation")
    record = one_shot.measure("memory", "validation", tasks[:3], others)
    assert learned == [{"Greek", "Korean"}]
    assert [run["accuracy"] for run in record["runs"]] == [1, 1, 1]


def test_a_drawing_in_both_sets_is_read_once(folder):
    drawings = one_shot.read_other_alphabets(folder)
    assert drawings.images.shape == (3 * 20 * 3, 105, 105)
    assert len(np.unique(drawings.characters)) == 60
    assert drawings.images.min() == 0 and drawings.images.mean() < 60  # ink is 255


def test_a_task_has_other_hands_and_one_alphabet(folder):
    drawings = one_shot.read_other_alphabets(folder)
    for task in tasks_from(drawings, 4):
        assert task.shown.shape == task.asked.shape == (20, 105, 105)
        assert not any(np.array_equal(*pair) for pair in zip(task.shown, task.asked, strict=True))


def test_a_prepared_drawing_lies_in_the_middle_whatever_its_place_and_size():
    image = np.zeros((105, 105), np.uint8)
    image[5:45, 60:80] = 255
    seen = prepared(image)
    assert seen.shape == (28, 28) and seen.max() == 1
    rows, columns = np.nonzero(seen)
    assert (rows.max() - rows.min() + 1, columns.max() - columns.min() + 1) == (22, 11)
    assert rows.mean() == pytest.approx(13.5, abs=0.6)
    assert columns.mean() == pytest.approx(13.5, abs=0.6)
    large = np.kron(image[:50, 50:100], np.ones((2, 2), np.uint8))
    np.testing.assert_allclose(prepared(large), seen, atol=1e-6)


def test_the_first_view_is_the_image_and_the_others_are_not():
    image = np.zeros((1, 28, 28), np.float32)
    image[0, 6:22, 12:15] = 1
    seen = np.asarray(views(image))
    assert seen.shape == (1, 19, 28, 28)
    np.testing.assert_allclose(seen[0, 0], image[0], atol=1e-6)
    assert all(np.abs(view - image[0]).max() > 0.3 for view in seen[0, 1:])


def test_what_differs_within_a_character_is_laid_out_alike():
    generator = np.random.default_rng(0)
    names = np.repeat(["a", "b", "c"], 400)
    means = np.repeat([[5.0, 0.0], [0.0, 5.0], [-5.0, 0.0]], 400, axis=0)
    codes = means + generator.normal(size=(1200, 2)) * [2.0, 0.1]
    even = decorrelation_within(codes, names, 0.0)(codes)[:400]
    np.testing.assert_allclose(np.cov(even.T), np.eye(2), atol=0.2)


def test_drawings_are_rows_that_belong_together(folder):
    drawings = one_shot.read_other_alphabets(folder)
    assert isinstance(drawings, Drawings)
    assert all(
        name.startswith(f"{alphabet}/")
        for name, alphabet in zip(drawings.characters, drawings.alphabets, strict=True)
    )


def test_archives_that_are_missing_are_named(tmp_path, capsys):
    (tmp_path / "images_background_small1.zip").touch()
    with pytest.raises(SystemExit):
        one_shot.main(["--folder", str(tmp_path), "--split", "test"])
    said = capsys.readouterr().err
    assert "--folder: expected images_background_small2.zip and all_runs.zip in it" in said
