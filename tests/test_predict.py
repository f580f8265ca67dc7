"""Runs of one's own data, and questions to them: what is read, said and written."""

import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import leave_pictures_empty

from memjax import checkpoint, datasets

for package in ("orbax.checkpoint", "PIL", "pyarrow", "sklearn", "tyro"):
    pytest.importorskip(package)
figure = pytest.importorskip("matplotlib.figure")
Image = pytest.importorskip("PIL.Image")
main = pytest.importorskip("memjax.command.cli").main

SMALL = ["--capacity", "80", "--encoder", "pixels"]
INK = [*SMALL, "--image-size", "12"]  # one size, so that one program serves all
NUMBER = 40


@pytest.fixture(autouse=True)
def without_pictures(monkeypatch):
    leave_pictures_empty(monkeypatch, ("memories", "growth", "confusion", "why"))


@pytest.fixture(scope="module")
def digits(tmp_path_factory) -> Path:
    """A run of the digits."""
    out = tmp_path_factory.mktemp("digits") / "run"
    with pytest.MonkeyPatch.context() as patch:
        leave_pictures_empty(patch)
        main(["fit", "digits", "--out", str(out), "--json"])
    return out


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def status_of(arguments: list[str]) -> int:
    try:
        main(arguments)
    except SystemExit as ended:
        assert isinstance(ended.code, int)
        return ended.code
    return 0


def answers_of(capsys, *arguments: Any) -> list[dict[str, Any]]:
    capsys.readouterr()
    status_of(["predict", *map(str, arguments), "--json"])
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def plain(value: int) -> Any:
    return Image.fromarray(np.full((8, 8), value, np.uint8))


def turned(picture: Any, file: str) -> None:
    data = Image.Exif()
    data[0x0112] = 6
    picture.transpose(Image.Transpose.ROTATE_90).save(file, exif=data)


FORMS = {
    "grey.png": lambda picture, file: picture.save(file),
    "16 bits.png": lambda picture, file: Image.fromarray(
        np.asarray(picture).astype(np.uint16) * 257
    ).save(file),
    "floats.tif": lambda picture, file: Image.fromarray(
        (np.asarray(picture) / 255).astype(np.float32)
    ).save(file),
    "dark ink.png": lambda picture, file: Image.merge("RGBA", [plain(0)] * 3 + [picture]).save(
        file
    ),
    "light ink.png": lambda picture, file: Image.merge("LA", [plain(255), picture]).save(file),
    "on its side.png": turned,
    "black on white.png": lambda picture, file: picture.point(lambda value: 255 - value).save(file),
}


@pytest.mark.parametrize("form", FORMS)
def test_digits_are_known_in_whatever_form_they_come(form, digits, place, capsys):
    test = datasets.load("digits", "test")
    suffix = Path(form).suffix
    (place / "asked").mkdir()
    for index, image in enumerate(test.images[:NUMBER]):
        FORMS[form](Image.fromarray(image[..., 0]), f"asked/{index:02}{suffix}")
    answers = answers_of(capsys, digits, "asked", "--no-draw")
    right = [
        answer["label"] == str(label) for answer, label in zip(answers, test.labels, strict=False)
    ]
    assert len(answers) == NUMBER and np.mean(right) > 0.95
    is_changed = [
        "light and dark were changed" in " ".join(answer.get("notes", ())) for answer in answers
    ]
    assert (
        all(is_changed) if form in ("black on white.png", "dark ink.png") else not any(is_changed)
    )


def test_a_digit_of_another_size_is_known(digits, place, capsys):
    test = datasets.load("digits", "test")
    for index, image in enumerate(test.images[:NUMBER]):
        large = image[..., 0].repeat(5, 0).repeat(5, 1)
        Image.fromarray(large).save(f"{index:02}.png")
    answers = answers_of(capsys, digits, ".", "--no-draw")
    right = [
        answer["label"] == str(label) for answer, label in zip(answers, test.labels, strict=False)
    ]
    assert np.mean(right) > 0.9


def test_nothing_is_turned_where_one_says_so(digits, place, capsys):
    plain(255).save("white.png")
    image = Image.fromarray(255 - datasets.load("digits", "test").images[0, ..., 0])
    image.save("digit.png")
    (found,) = answers_of(capsys, digits, "digit.png", "--no-draw")
    (left,) = answers_of(capsys, digits, "digit.png", "--no-draw", "--invert", "no")
    (always,) = answers_of(capsys, digits, "digit.png", "--no-draw", "--invert", "yes")
    assert "notes" in found and "notes" not in left and "notes" not in always
    assert found["novelty_score"] == always["novelty_score"] < left["novelty_score"]


def test_one_bad_file_does_not_stop_the_others_and_the_status_says_it(digits, place, capsys):
    plain(9).save("good.png")
    Path("bad.png").write_bytes(b"no image")
    os.mkfifo("pipe.png")
    assert status_of(["predict", str(digits), "bad.png", "good.png", "pipe.png", "--no-draw"]) == 1
    printed = capsys.readouterr()
    assert re.fullmatch(r"good.png: \S+  confidence .*\n", printed.out)
    assert printed.err.splitlines() == [
        "memjax: images: bad.png: is no PNG, JPEG, BMP, GIF, TIFF, WebP or PPM image.",
        "memjax: images: pipe.png: is no regular file.",
    ]
    answers = answers_of(capsys, digits, "bad.png", "good.png", "--no-draw")
    assert [answer["image"] for answer in answers] == ["bad.png", "good.png"]
    assert answers[0]["error"].startswith("is no PNG") and "label" in answers[1]
    assert status_of(["predict", str(digits), "bad.png"]) == 2
    assert status_of(["predict", str(digits), "good.png", "--no-draw"]) == 0


def test_names_with_escape_sequences_never_reach_the_terminal(place, capsys):
    for name in ("\x1b[31mred", "blue\x9b2J"):
        folder = place / "photos" / name
        folder.mkdir(parents=True)
        for index in range(5):
            plain(40 * index).save(folder / f"\x1b]0;{index}.png")
        (folder / "\x07bad.png").touch()
    main(["fit", "photos", *SMALL, "--out", "run"])
    main(["evaluate", "run", "photos"])
    assert status_of(["predict", "run", "photos", "--no-draw"]) == 1
    assert status_of(["predict", "run", "gone\x1b[2J.png"]) == 2
    assert status_of(["fit", "photos/\x1b[31mred"]) == 2
    printed = capsys.readouterr()
    shown = printed.out + printed.err
    assert "\\x1b[31mred" in shown and "\\x07bad.png" in shown
    assert all(letter.isprintable() or letter == "\n" for letter in shown)


def test_no_two_pictures_share_a_file_and_none_is_overwritten(digits, place, capsys):
    files = ["one/a.png", "two/a.png", "two/a-2.png", "two/A.png", "two/a.bmp"]
    for file in files:
        Path(file).parent.mkdir(exist_ok=True)
        plain(9).save(file)
    Path("why").mkdir()
    Path("outside.txt").write_text("mine")
    Path("why/a-why.png").symlink_to(place / "outside.txt")
    first = answers_of(capsys, digits, *files, "--out", "why")
    again = answers_of(capsys, digits, *files, "--out", "why")
    pictures = [answer["why"] for answer in first + again]
    assert len(set(pictures)) == 2 * len(files)
    assert all(Path(picture).read_bytes().startswith(b"\x89PNG") for picture in pictures)
    assert Path("outside.txt").read_text() == "mine"


def test_predictions_are_not_written_through_a_link(place, capsys):
    for name in "ab":
        (place / "photos" / name).mkdir(parents=True)
        plain(9).save(place / "photos" / name / "1.png")
    main(["fit", "photos", *SMALL, "--out", "run"])
    Path("elsewhere").mkdir()
    Path("run/predictions").symlink_to(place / "elsewhere")
    capsys.readouterr()
    assert status_of(["predict", "run", "photos/a/1.png"]) == 2
    assert "is a link to another place" in capsys.readouterr().err
    assert not list(Path("elsewhere").iterdir())


def test_the_names_of_classes_are_drawn_as_they_are(place, monkeypatch, capsys):
    monkeypatch.undo()
    monkeypatch.chdir(place)
    for name in (r"$\\no formula$", "100 $"):
        (place / "photos" / name).mkdir(parents=True)
        for index in range(2):
            plain(9 * index).save(place / "photos" / name / f"{index}.png")
    main(["fit", "photos", *SMALL, "--out", "run"])
    assert status_of(["predict", "run", "photos"]) == 0


@pytest.fixture
def ink(place) -> Path:
    """Bars and dots in black ink on white paper, of several sizes, with a file that is broken."""
    generator = np.random.default_rng(0)
    for index in range(30):
        for name in ("bar", "dot"):
            side = 20 + index % 3
            paper = np.full((side, side, 3), 255, np.uint8)
            at = generator.integers(4, 12)
            paper[3:17, at : at + 4] = 0
            if name == "dot":
                paper[7:17] = 255
            file = place / "ink" / name / f"{index:02}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(paper).save(file)
    (place / "ink" / "dot" / "broken.png").write_bytes(b"broken")
    return place / "ink"


def test_a_folder_is_learned_tested_and_asked_as_it_was_read(ink, place, capsys):
    main(["fit", "ink", *INK, "--out", "run", "--compare"])
    printed = capsys.readouterr().out
    lines = printed.splitlines()
    assert lines[0] == "ink: 60 images of 2 classes: bar 30, dot 30"
    assert "dot/broken.png: is no PNG" in lines[1]
    assert "all are read as 12 x 12 pixels in grey" in printed
    assert "images held out to test: 12, 20% of each class" in printed
    assert re.search(r"test accuracy  [\d.]+ %\n +1 nearest neighbour  [\d.]+ %\n", printed)
    record = json.loads(Path("run/record.json").read_text())
    assert record["test_accuracy"] > 0.9 and record["num_test"] == 12
    assert record["data"]["unreadable"] == [
        ["dot/broken.png", "is no PNG, JPEG, BMP, GIF, TIFF, WebP or PPM image"]
    ]
    assert record["compared"].keys() == {"1 nearest neighbour", "7 nearest neighbours"}

    main(["evaluate", "run", "ink", "--json"])
    again = json.loads(capsys.readouterr().out)
    assert (again["num_test"], again["test_accuracy"]) == (12, record["test_accuracy"])

    # The same in white on black and in another size is brought to what was learned.
    for file in sorted(ink.glob("*/*[0-9].png")):
        other = place / "other" / file.relative_to(ink)
        other.parent.mkdir(parents=True, exist_ok=True)
        picture = Image.open(file).resize((44, 44)).point(lambda value: 255 - value)
        picture.save(other)
    main(["evaluate", "run", "other"])
    printed = capsys.readouterr().out
    assert re.match(r"other all: (100|9\d)\.\d\d % of 60\n", printed)
    assert "light and dark were changed in 60 images" in printed
    answers = answers_of(capsys, "run", "ink/bar", "other/dot", "--no-draw")
    expected = ["bar"] * 30 + ["dot"] * 30
    found = [answer["label"] for answer in answers]
    assert np.mean([one == other for one, other in zip(found, expected, strict=True)]) > 0.9


def test_a_folder_that_is_larger_than_memory_gives_the_same_run(ink, capsys, monkeypatch):
    main(["fit", "ink", *INK, "--out", "whole", "--json"])
    monkeypatch.setattr("memjax.datasets._files.HELD_BYTES", 0)
    monkeypatch.setattr("memjax.command._asking._ROWS_AT_ONCE", 5)
    main(["fit", "ink", *INK, "--out", "lazy", "--json"])
    whole, lazy = (json.loads(Path(run, "record.json").read_text()) for run in ("whole", "lazy"))
    for key in ("state_digest", "test_accuracy", "num_train", "num_test", "prequential_accuracy"):
        assert whole[key] == lazy[key]


def test_every_image_is_inverted_where_one_says_so(ink, capsys):
    main(["fit", "ink", *INK, "--invert", "yes", "--out", "run"])
    assert "in grey, light and dark changed" in capsys.readouterr().out
    assert json.loads(Path("run/record.json").read_text())["data"]["ground"] == "dark"
    answers = answers_of(capsys, "run", "ink/bar", "--no-draw")
    assert np.mean([answer["label"] == "bar" for answer in answers]) > 0.9
    main(["evaluate", "run", "ink", "--json"])
    assert json.loads(capsys.readouterr().out)["num_inverted"] == 0


def test_data_that_have_changed_or_have_other_classes_are_no_test(ink, place, capsys):
    main(["fit", "ink", *INK, "--out", "run"])
    plain(3).save(ink / "bar" / "new.png")
    capsys.readouterr()
    assert status_of(["evaluate", "run", "ink"]) == 2
    assert "is not as it was when it was learned" in capsys.readouterr().err
    for name in ("bar", "star"):
        (place / "other" / name).mkdir(parents=True)
        plain(3).save(place / "other" / name / "1.png")
    assert status_of(["evaluate", "run", "other"]) == 2
    assert "expected only classes of the run, got 'star'" in capsys.readouterr().err


def test_a_run_goes_on_only_with_the_data_that_it_was_begun_with(ink, capsys, monkeypatch):
    arguments = ["fit", "ink", *INK, "--checkpoint-every", "16", "--block-size", "8"]
    main([*arguments, "--out", "whole", "--json"])
    real = checkpoint.save_latest

    class Killed(BaseException):
        pass

    def save(*given: Any) -> Path:
        if given[4]["num_seen"] > 16:
            raise Killed
        return real(*given)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(checkpoint, "save_latest", save)
        main([*arguments, "--out", "run"])
    plain(3).save(ink / "bar" / "new.png")
    capsys.readouterr()
    assert status_of(["fit", "--resume", "run"]) == 2
    assert "--resume: ink is not as it was when run was begun" in capsys.readouterr().err
    (ink / "bar" / "new.png").unlink()
    main(["fit", "--resume", "run", "--json"])
    whole, run = (json.loads(Path(name, "record.json").read_text()) for name in ("whole", "run"))
    assert run["state_digest"] == whole["state_digest"] and run["resumed_at"] == 16
    assert {path.name for path in Path("run").iterdir()} == {
        path.name for path in Path("whole").iterdir()
    }


def test_one_image_for_each_class_is_learned_without_an_accuracy(place, capsys):
    for index in range(3):
        (place / "photos" / str(index)).mkdir(parents=True)
        plain(100 * index).save(place / "photos" / str(index) / "only.png")
    main(["fit", "photos", *SMALL, "--out", "run"])
    printed = capsys.readouterr().out
    assert re.search(r"test accuracy  too few to test\n", printed)
    assert json.loads(Path("run/record.json").read_text())["test_accuracy"] is None
    main(["evaluate", "run", "photos"])
    assert capsys.readouterr().out == "photos test: too few to test\n"


@pytest.fixture
def iris(place) -> Path:
    """The table of irises, in millimetres but for one column in metres."""
    from sklearn.datasets import load_iris

    bunch: Any = load_iris()
    lines = ["a,b,c,d,kind"]
    for row, label in zip(bunch.data.tolist(), bunch.target.tolist(), strict=True):
        row[2] /= 1000
        lines.append(",".join([*map(repr, row), str(bunch.target_names[label])]))
    Path("iris.csv").write_text("\n".join(lines))
    return place / "iris.csv"


def test_a_table_is_learned_tested_and_asked(iris, capsys):
    main(["fit", "iris.csv", "--out", "run", "--compare"])
    printed = capsys.readouterr().out
    assert "iris.csv: 150 rows of 3 classes: setosa 50, versicolor 50, virginica 50" in printed
    assert "features of each row: 4" in printed
    record = json.loads(Path("run/record.json").read_text())
    assert record["test_accuracy"] > 0.85 and record["compared"]["1 nearest neighbour"] > 0.85
    network, *learned = checkpoint.restore(Path("run/network"))
    first, _ = network.parts(*learned)
    assert type(first.layer).__name__ == "Standardisation"
    main(["evaluate", "run", "iris.csv", "--json"])
    assert json.loads(capsys.readouterr().out)["test_accuracy"] == record["test_accuracy"]

    rows = [line.split(",") for line in iris.read_text().splitlines()]
    order = [3, 0, 2, 1]
    asked = "\n".join(",".join(row[place] for place in order) for row in rows[:12])
    Path("asked.csv").write_text(asked)
    answers = answers_of(capsys, "run", "asked.csv")
    assert [answer["row"] for answer in answers] == list(range(1, 12))
    assert {answer["label"] for answer in answers} == {"setosa"}
    Path("short.csv").write_text("a,b\n1,2\n")
    assert status_of(["predict", "run", "asked.csv", "short.csv", "gone.csv"]) == 1
    errors = capsys.readouterr().err.splitlines()
    assert "short.csv: columns: expected the column 'c' in short.csv, got a, b." in errors[0]
    assert "gone.csv: expected an .npz, .csv or .parquet file" in errors[1]


def test_rows_without_names_are_learned_and_asked(place, capsys):
    generator = np.random.default_rng(0)
    labels = np.arange(60) % 2
    rows = generator.normal(labels[:, None] * [5, 0, 0], 1, (60, 3))
    np.savez("codes.npz", images=rows, labels=np.array(["low", "high"])[labels])
    main(["fit", "codes.npz", "--capacity", "80", "--out", "run"])
    np.savetxt("codes.csv", rows, delimiter=",")
    np.savez("new.npz", images=rows)
    Path("words.csv").write_text("a\nb\n")
    answers = answers_of(capsys, "run", "codes.csv", "new.npz", "words.csv", "codes.npz")
    expected = np.tile(np.array(["low", "high"])[labels], 3)
    found = [answer["label"] for answer in answers if "label" in answer]
    assert np.mean(expected == found) > 0.9
    assert [answer["image"] for answer in answers if "error" in answer] == ["words.csv"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--network", "columnar"], "--network: expected memory for rows of features"),
        (["--encoder", "pixels"], "--encoder: does not belong to rows of features"),
        (
            ["--label", "colour"],
            "label: expected the column 'colour' in iris.csv, got a, b, c, d, kind",
        ),
        (["--image-size", "3"], "expected 9 or 27 numbers for an image"),
    ],
)
def test_options_that_do_not_belong_to_a_table_are_refused(options, says, iris, capsys):
    assert status_of(["fit", "iris.csv", *options, "--out", "run"]) == 2
    assert says in capsys.readouterr().err
    assert not Path("run").exists()
