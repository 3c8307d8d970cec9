"""The report in a real browser: it sorts, filters and shows figures and answers, asks for nothing, and runs no text."""

import pytest
from chromium import watched

from distill.pages.figures import write_figures
from distill.pages.page import build_page, sample_answers, shown_verdicts
from small_report import (
    HOSTILE,
    METRICS,
    RECIPES,
    SYSTEMS,
    TITLES,
    make_examples,
    make_generations,
    make_logs,
    make_scores,
    make_settings,
    make_tables,
    make_verdicts,
)

FIGURES = ["scores", "figure2", "figure1", "dev_scores", "loss"]
FIGURES += ["gradient_norm", "tokens_per_second", "entropy", "out_of_set"]


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """The report of the made-up study, as a file."""
    folder = tmp_path_factory.mktemp("report")
    write_figures(folder, make_tables(), make_scores(), TITLES, **make_logs(), recipes=RECIPES, labels={})
    figures = {path.stem: path.read_bytes() for path in folder.glob("*.svg")}
    for name, prompts in (("report", 40), ("without_answers", 0)):
        answers = sample_answers(make_generations(), make_examples(), prompts, METRICS)
        verdicts = shown_verdicts(make_verdicts(), make_tables()["win_rates"], make_examples(), prompts)
        page = build_page(make_tables(), figures, answers, make_settings(), ("tables", "figures"), verdicts)
        (folder / f"{name}.html").write_text(page)
    return (folder / "report.html").as_uri()


@pytest.fixture
def page(browser, address):
    with watched(browser, address, viewport={"width": 1280, "height": 900}, color_scheme="light") as page:
        yield page


def head(page, table, column):
    return page.locator(f"table[data-name={table}] thead th", has=page.get_by_role("button", name=column, exact=True))


def column(page, table, name):
    """Returns what a column shows, in order, without hidden rows."""
    index = page.locator(f"table[data-name={table}] thead th").all_inner_texts().index(name)
    rows = page.locator(f"table[data-name={table}] tbody tr:visible")
    return [row.split("\t")[index].strip() for row in rows.all_inner_texts()]


def unique(values):
    return list(dict.fromkeys(values))


def test_a_click_sorts_by_number_and_back(page):
    mean = head(page, "scores", "mean")
    assert mean.get_attribute("aria-sort") is None
    mean.get_by_role("button").click()
    assert mean.get_attribute("aria-sort") == "ascending"
    assert unique(column(page, "scores", "mean")) == ["9.5", "10.2", "20.2", "33.3", "100.0"]
    mean.get_by_role("button").click()
    assert mean.get_attribute("aria-sort") == "descending"
    assert unique(column(page, "scores", "mean")) == ["100.0", "33.3", "20.2", "10.2", "9.5"]


def test_keys_sort_text_and_only_one_column_is_marked(page):
    head(page, "scores", "mean").get_by_role("button").click()
    head(page, "scores", "system").get_by_role("button").focus()
    page.keyboard.press("Enter")
    assert unique(column(page, "scores", "system")) == sorted(SYSTEMS)
    page.keyboard.press("Space")
    assert unique(column(page, "scores", "system")) == sorted(SYSTEMS, reverse=True)
    assert page.locator("table[data-name=scores] [aria-sort]").count() == 1


def test_empty_cells_stay_last_in_both_directions(page):
    button = head(page, "scores", "std").get_by_role("button")
    for _ in range(2):
        button.click()
        assert unique(column(page, "scores", "std")) == ["0.5000", ""]


def test_a_filter_keeps_the_rows_that_hold_the_text(page):
    page.locator("input[data-table=scores]").fill("SEED11")
    assert unique(column(page, "scores", "system")) == ["bd.seed11"]
    assert page.locator("[data-count=scores]").inner_text() == "4 of 20 rows"
    page.locator("input[data-table=scores]").fill("")
    assert page.locator("[data-count=scores]").inner_text() == "20 of 20 rows"


@pytest.mark.parametrize("width", [1280, 700])
def test_figures_are_seen_whole(page, width):
    page.set_viewport_size({"width": width, "height": 900})
    assert page.locator("figure").evaluate_all("all => all.map(one => one.id)") == [f"figure-{n}" for n in FIGURES]
    for drawing in page.locator("figure .drawing").all():
        drawing.scroll_into_view_if_needed()
        box = drawing.locator("svg").bounding_box()
        assert 600 < box["width"] < width and box["height"] > 60
        assert drawing.evaluate("one => one.scrollWidth <= one.clientWidth")
        assert drawing.locator("path").count() > 20


def test_figures_follow_dark_and_light(page):
    def colours():
        shapes = page.locator("#figure-scores svg, #figure-figure2 svg [fill^='var(--blue']")
        return shapes.evaluate_all("all => all.map(one => getComputedStyle(one).fill)")

    light = colours()
    page.get_by_role("button", name="Dark or light").click()
    dark = colours()
    assert (light[0], dark[0]) == ("rgb(26, 26, 26)", "rgb(232, 232, 232)")
    assert {*light[1:]} == {"rgb(0, 114, 178)"} and {*dark[1:]} == {"rgb(86, 180, 233)"}


def answers(page):
    """Returns the answers shown, without score and verdict."""
    texts = "row => [...row.cells].slice(1).map(cell => cell.firstChild.textContent)"
    return [row.evaluate(texts) for row in page.locator("#answer-table tbody tr").all()]


def test_score_and_verdict_stand_beside_an_answer(page):
    def notes(system):
        names = page.locator("#answer-table thead th").all_inner_texts()
        cells = page.locator(f"#answer-table tbody tr > :nth-child({names.index(system) + 1})")
        return [cell.locator("div").all_inner_texts() for cell in cells.all()[:5]]

    verdicts = ["wins", "loses", "ties", "wins in one order", "has no verdict"]
    assert [note[1] for note in notes("sft")] == [f"judge: bd {verdict}" for verdict in verdicts]
    assert all(note[0].startswith("Rouge-L ") for note in notes("sft") + notes("teacher"))
    assert notes("sft")[0][0] == "Rouge-L 25.0" and len(notes("teacher")[0]) == 1
    page.get_by_label("Seed", exact=True).select_option("20")
    assert [len(note) for note in notes("sft")] == [1] * 5, "the judge saw seed 10"


def test_answers_follow_the_choice_of_set_decoding_seed_and_systems(page):
    heads = page.locator("#answer-table thead th")
    assert heads.all_inner_texts() == ["prompt", "bd", "sft", "teacher", "phase1"]
    assert page.locator("#answer-count").inner_text() == "40 of the first 40 of 50 prompts"
    page.get_by_label("Set", exact=True).select_option("vicuna")
    page.get_by_label("Seed", exact=True).select_option("20")
    for name in ("phase1", "bd", "teacher"):
        page.get_by_label(name, exact=True).uncheck()
    page.get_by_label("bd.seed11").check()
    assert heads.all_inner_texts() == ["prompt", "sft", "bd.seed11"]
    assert answers(page)[7] == ["sft on vicuna 7, sampled 20", "bd.seed11 on vicuna 7, sampled 20"]
    page.get_by_label("Decoding", exact=True).select_option("greedy")
    assert page.get_by_label("Seed", exact=True).input_value() == "0"
    assert answers(page)[0][0] == "sft on vicuna 0, greedy 0"
    page.get_by_label("Prompts, references or answers").fill("thing 5")
    assert page.locator("#answer-count").inner_text() == "1 of the first 8 of 8 prompts"
    assert answers(page) == [["sft on vicuna 5, greedy 0", "bd.seed11 on vicuna 5, greedy 0"]]


def test_hostile_text_is_shown_as_it_is_and_does_nothing(page):
    assert page.title().startswith(f"A study {HOSTILE.split()[0]}")
    assert HOSTILE in page.locator("#answer-table tbody tr").first.locator("td").nth(3).text_content()
    assert HOSTILE in page.locator("#answer-table tbody tr").nth(3).locator("th").text_content()
    assert page.locator("h1").text_content() == f"A study {HOSTILE}"
    assert page.locator("img").count() == 0 and page.locator("script").count() == 2


def test_nothing_can_be_sent(browser, address):
    """In a tab of its own, since the browser logs what the policy stops."""
    page = browser.new_page()
    page.goto(address)
    stopped = """async () => {
        const stopped = new Promise((done) => {
            addEventListener("securitypolicyviolation", (event) => done(event.effectiveDirective));
            setTimeout(done, 2000, "nothing stopped it");
        });
        fetch("http://127.0.0.1:9/").catch(() => null);
        return stopped;
    }"""
    assert page.evaluate(stopped) == "connect-src"
    page.close()


def test_every_part_has_a_name_for_assistive_software(page):
    ids = page.locator("[id]").evaluate_all("all => all.map(one => one.id)")
    assert len(ids) == len(set(ids))
    for missing in ("th:not([scope])", "svg:not([aria-label])", "html:not([lang])", "section:not([aria-labelledby])"):
        assert page.locator(missing).count() == 0, missing
    unnamed = "all => all.filter(one => one.labels.length === 0).length"
    assert page.locator("input, select").evaluate_all(unnamed) == 0
    targets = page.locator("a[href^='#']").evaluate_all("all => all.map(one => one.getAttribute('href').slice(1))")
    assert set(targets) <= set(ids)


def test_dark_and_light(page):
    def paper():
        return page.evaluate("getComputedStyle(document.body).backgroundColor")

    light = paper()
    page.get_by_role("button", name="Dark or light").click()
    dark = paper()
    assert (light, dark) == ("rgb(255, 255, 255)", "rgb(22, 24, 27)")
    page.get_by_role("button", name="Dark or light").click()
    assert paper() == light
    page.emulate_media(color_scheme="dark")
    page.reload()
    assert paper() == dark


def test_on_paper_every_row_is_there_and_no_control(page):
    page.emulate_media(media="print")
    assert not page.locator("nav").is_visible() and not page.locator("#answer-systems").is_visible()
    box = page.locator(".scroll:has(table[data-name=scores])")
    assert box.evaluate("one => one.scrollHeight <= one.clientHeight + 1")
    assert len(page.pdf()) > 50_000
    assert all(page.locator("main details").evaluate_all("all => all.map(one => one.open)"))


def test_tables_and_figures_need_no_script(browser, address):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(address)
    assert page.locator("table[data-name=scores] tbody tr").count() == 20
    assert page.locator("figure svg").first.is_visible() and not page.locator("input[data-table=scores]").is_visible()
    context.close()


def test_a_report_without_prompts_shows_no_answers_and_works(browser, address):
    page, told = browser.new_page(), []
    page.on("pageerror", lambda error: told.append(str(error)))
    page.goto(address.replace("report.html", "without_answers.html"))
    text = page.content()
    assert "This page holds no prompts" in text and "sft on vicuna" not in text and "dolly 3" not in text
    page.locator("table.sortable thead button").first.click()
    assert page.locator("th[aria-sort=ascending]").count() == 1 and told == []
    page.close()
