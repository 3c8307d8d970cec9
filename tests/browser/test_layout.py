"""The committed embedded study in the report at three widths, light and dark: what the first screen holds and fits."""

from pathlib import Path

import pytest
from chromium import watched
from PIL import Image
from screenshot import SCHEMES, SIZES, write_pictures

from distill.pages.figures import write_figures
from distill.pages.page import build_page, sample_answers
from distill.report.csv_tables import read_tables
from small_report import (
    METRICS,
    RECIPES,
    TITLES,
    make_examples,
    make_generations,
    make_logs,
    make_scores,
    make_settings,
    make_tables,
)

STUDY = Path(__file__).parents[2] / "docs" / "studies" / "embedded" / "tables"
PAPER = {"format": "A4", "margin": dict.fromkeys(("top", "bottom", "left", "right"), "12mm")}


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """Its tables, with figures and answers of the made-up study."""
    folder = tmp_path_factory.mktemp("layout")
    write_figures(folder, make_tables(), make_scores(), TITLES, **make_logs(), recipes=RECIPES, labels={})
    figures = {path.stem: path.read_bytes() for path in folder.glob("*.svg")}
    tables = read_tables(STUDY)
    names = dict.fromkeys(row["system"] for row in tables["scores"])
    changes = {"recipes": {name: name for name in names}, "folders": {name: [f"scores/{name}"] for name in names}}
    settings = make_settings().model_copy(update={"title": "The embedded study", **changes})
    answers = sample_answers(make_generations(), make_examples(), 40, METRICS)
    (folder / "report.html").write_text(build_page(tables, figures, answers, settings, ("tables", "figures")))
    return (folder / "report.html").as_uri()


@pytest.fixture(params=SCHEMES)
def scheme(request):
    return request.param


@pytest.fixture
def page(browser, address, scheme, width):
    viewport = {"width": width, "height": SIZES[width]}
    with watched(browser, address, viewport=viewport, color_scheme=scheme) as page:
        yield page


@pytest.mark.parametrize("width", [1400])
def test_the_first_screen_holds_findings_and_grid(page, width):
    for part in ("#findings", "#grid .scroll:visible"):
        box = page.locator(part).bounding_box()
        assert box["y"] >= 0 and box["y"] + box["height"] <= SIZES[width], part
    assert page.locator("#findings li").count() == 3
    assert page.locator("#grid table:visible tbody tr").count() == 10


@pytest.mark.parametrize("width", [1400, 1024])
def test_no_table_is_cut_off(page, width):
    for details in page.locator("main details").all():
        details.evaluate("one => one.open = true")
    wide = """all => all.filter(one => one.querySelector("table").scrollWidth > one.clientWidth)
        .map(one => one.querySelector("table").getAttribute("aria-labelledby"))"""
    boxes = page.locator(".scroll:has(table):visible")
    assert boxes.count() > 15 and boxes.evaluate_all(wide) == []
    cut = "all => all.filter(one => one.scrollWidth > one.clientWidth + 1).map(one => one.textContent)"
    assert page.locator(".scroll td:visible, .scroll th:visible").evaluate_all(cut) == []


@pytest.mark.parametrize("width", SIZES)
def test_the_page_does_not_scroll_sideways(page, width):
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("width", [390])
def test_a_wide_table_scrolls_in_its_box_beside_its_first_column(page, width):
    box = page.locator(".scroll:has(table[data-name=data_seen])")
    box.evaluate("one => one.scrollLeft = 300")
    assert box.evaluate("one => one.scrollLeft") == 300
    frame, first = box.bounding_box(), box.locator("tbody th").first.bounding_box()
    assert abs(first["x"] - frame["x"]) <= 1
    size = page.locator("#findings li").first.evaluate("one => parseFloat(getComputedStyle(one).fontSize)")
    smallest = box.locator("td").first.evaluate("one => parseFloat(getComputedStyle(one).fontSize)")
    assert size >= 16 and smallest >= 12


@pytest.mark.parametrize("width", [1400, 1024])
def test_contents_stay_in_sight(page, width):
    page.locator("#config").scroll_into_view_if_needed()
    box = page.locator("nav").bounding_box()
    assert abs(box["y"]) < 1 and box["height"] <= SIZES[width]
    assert (box["width"] < width / 4) is (width == 1400), "a list at the side where there is room, else a line above"


@pytest.mark.parametrize("width", [1400])
def test_the_grid_shows_the_chosen_decoding_and_set(page, width):
    shown = page.locator("#grid table:visible")
    page.get_by_label("Decoding shown").select_option("greedy")
    assert shown.count() == 1 and shown.locator("caption").inner_text() == "greedy"
    page.get_by_label("Sets shown").select_option("vicuna")
    assert [text.split()[0] for text in shown.locator("thead th:visible").all_inner_texts()] == ["system", "vicuna"]
    assert "[" in shown.locator("tbody tr").last.locator("td:visible").inner_text(), "the difference with its interval"
    page.get_by_label("Sets shown").select_option("")
    assert shown.locator("thead th:visible").count() == 4


@pytest.mark.parametrize("width", [1400])
def test_each_number_of_the_grid_leads_to_its_record(page, width):
    links = page.locator("#grid table:visible td a").evaluate_all("all => all.map(one => one.getAttribute('href'))")
    assert len(links) == 30 and links[-1] == "scores/bd_remainder.prov.json"
    rows = page.locator("table[data-name=scores] tbody th a")
    assert rows.count() == 90 and rows.last.get_attribute("href") == "#files-bd_remainder"
    files = page.locator("#files-bd_remainder a").evaluate_all("all => all.map(one => one.getAttribute('href'))")
    assert files == ["scores/bd_remainder/", "scores/bd_remainder.prov.json"]


@pytest.mark.parametrize("width", [1400])
def test_paper_takes_few_pages(page, width):
    page.emulate_media(media="print")
    pages = page.pdf(**PAPER).count(b"/Type /Page\n")
    assert 3 <= pages < 12


def test_pictures_of_every_width_are_small(browser, address, tmp_path):
    """`make screenshot` writes those in docs/report, which are of the same sizes."""
    report = Path(address.removeprefix("file://"))
    committed = STUDY.parents[2] / "report"
    for picture in write_pictures(browser, report, tmp_path):
        width = int(picture.name.split("-")[0])
        for path in (picture, committed / picture.name):
            with Image.open(path) as image:
                assert image.size == (width, SIZES[width]) and path.stat().st_size < 150_000, path
