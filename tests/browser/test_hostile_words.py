"""Words of judges, prompts, answers and titles in a real browser: nothing of them runs, loads or leads away."""

import re

import pytest
from markdown_it import MarkdownIt

from distill.config.slices.render_tables import RenderTables
from distill.pages.figures import write_figures
from distill.pages.page import build_page, sample_answers
from distill.pages.render import render
from distill.records import Example
from small_report import (
    DATASETS,
    METRICS,
    RECIPES,
    SYSTEMS,
    TITLES,
    make_logs,
    make_scores,
    make_settings,
    make_tables,
)

AWAY = "http://away.example"
RUNS = "window.hostile = (window.hostile || 0) + 1"
WORDS = [
    f"<script>{RUNS}</script>",
    f"</script><script>{RUNS}</script>",
    f"<!--<script>{RUNS}//",
    f"]]></script></title></textarea></style></noscript><script>{RUNS}</script>",
    f'<img src=x onerror="{RUNS}"><svg onload="{RUNS}"><body onpageshow="{RUNS}">',
    f'<input autofocus onfocus="{RUNS}"><details open ontoggle="{RUNS}">',
    f'" autofocus onfocus="{RUNS}" x="',
    f"' onmouseover='{RUNS}",
    '<iframe src="javascript:parent.hostile = 1" srcdoc="<script>parent.hostile = 1</script>"></iframe>',
    f'<a href="javascript:{RUNS}">a</a> [b](javascript:hostile=1) <javascript:hostile=1>',
    f"</style><style>@import url({AWAY}/1.css); body {{ background: url({AWAY}/2.png) }}</style>",
    f'<link rel=stylesheet href="{AWAY}/3.css"><link rel=icon href="{AWAY}/4.ico"><base href="{AWAY}/">',
    f'<img src="{AWAY}/5.png" srcset="{AWAY}/6.png 2x"><video poster="{AWAY}/7.png"><object data="{AWAY}/8">',
    f'<meta http-equiv="refresh" content="0; url={AWAY}/9">',
    f"![a]({AWAY}/10.png) ![b][c]\n\n[c]: {AWAY}/11.png\n\n<{AWAY}/12>",
    f'<form action="{AWAY}/13"><button autofocus>x</button></form>',
    f'=HYPERLINK("{AWAY}/14","x") | a | b',
    "\u202etxet\u202c \u2066x\u2069 \x00\x08\x1b[2J\x7f\u2028\u2029\ufeff",
    "{{ 7 * 7 }} {% raw %} ${7 * 7} `x` $x$ \\u003cb\\u003e &lt;i&gt; __proto__ constructor",
]
ALL = "\n".join(WORDS)


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The report and tables.md as HTML, with the words wherever somebody else's may stand."""
    folder = tmp_path_factory.mktemp("hostile")
    tables = make_tables()
    row = tables["win_rates"][0] | {"consistency": "0.5"}
    tables["win_rates"] = [row | {"judge": word} for word in WORDS]
    write_figures(folder, tables, make_scores(), TITLES, **make_logs(), recipes=RECIPES, labels={})
    figures = {path.stem: path.read_bytes() for path in folder.glob("*.svg")}
    examples = {name: [Example.of(word, word, [word, ALL], word) for word in WORDS] for name in DATASETS}
    rows = {
        system: [
            {"id": example.id, "dataset": name, "seed": 10, "decoding": "sampled", "finished": True}
            | {"response": example.instruction}
            for name, own in examples.items()
            for example in own
        ]
        for system in SYSTEMS
    }
    settings = make_settings().model_copy(update={"title": ALL, "config": {"title": ALL, "runs": WORDS}})
    report = build_page(tables, figures, sample_answers(rows, examples, 40, METRICS), settings, ("tables", "figures"))
    (folder / "report.html").write_text(report, errors="surrogatepass")
    # Without the policy: what alone keeps the words from running is how they are written.
    policy = re.compile('<meta http-equiv="Content-Security-Policy"[^>]*>')
    assert len(policy.findall(report)) == 1
    (folder / "without_policy.html").write_text(policy.sub("", report))
    words = RenderTables(title=ALL, embedded=True, decodings={}, deepspeed={}, sampling={})
    markdown = MarkdownIt("commonmark", {"html": True}).enable("table")
    judged = dict.fromkeys(tables, []) | {"win_rates": tables["win_rates"]}
    (folder / "tables.html").write_text(markdown.render(render(judged, words, "tables").text))
    loose = "\n\n".join(word for word in WORDS if not word.startswith("<!--"))  # which would hide what follows
    (folder / "raw.html").write_text(f"<!doctype html><title>x</title>{loose}")
    (folder / "raw_markdown.html").write_text(markdown.render(loose))
    return folder


def visit(browser, path):
    """Opens a page where nothing can be reached; returns it, and what it asked for besides itself or said."""
    page = browser.new_page()
    page.set_default_timeout(5000)
    found = []
    page.context.route("**/*", lambda route: route.continue_() if route.request.url == address else route.abort())
    address = path.as_uri()
    page.on("request", lambda request: request.url.startswith(("data:", address)) or found.append(request.url))
    page.on("dialog", lambda dialog: (found.append(dialog.message), dialog.dismiss()))
    page.on("pageerror", lambda error: found.append(str(error)))
    page.on("popup", lambda popup: found.append(popup.url))
    page.goto(address)
    return page, found


def is_idle(page, path):
    assert page.evaluate("window.hostile") is None
    assert page.url == path.as_uri()
    assert page.evaluate("({}).polluted") is None


@pytest.mark.parametrize("name", ["report", "without_policy"])
def test_nothing_in_the_report_runs_or_leaves(browser, pages, name):
    path = pages / f"{name}.html"
    page, found = visit(browser, path)
    for box in page.locator("#answer-systems input").all():
        box.check()
    for dataset in DATASETS:
        page.get_by_label("Set", exact=True).select_option(dataset)
    for button in page.locator("table[data-name=win_rates] thead button").all():
        button.click()
    page.locator("input[data-table=win_rates]").fill("<script>")
    page.get_by_label("Prompts, references or answers").fill("script")
    assert page.locator("#answer-table tbody tr").count() > 3
    page.keyboard.press("Tab")
    page.mouse.move(300, 300)
    is_idle(page, path)
    assert found == []
    assert page.locator("script").count() == 2 and page.locator("style").count() == 1
    assert (
        page.locator(
            "iframe, object, video, base, link, form[action], meta[http-equiv=refresh], svg text, svg image"
        ).count()
        == 0
    )
    assert page.locator("svg").count() == page.locator("figure svg[role=img]").count() == len(list(pages.glob("*.svg")))
    schemes = page.locator("[href]").evaluate_all("all => all.map(one => one.getAttribute('href').split(':')[0])")
    assert not {"javascript", "http", "https", "data"} & set(schemes)
    handlers = "all => all.filter(one => [...one.attributes].some(own => own.name.startsWith('on'))).length"
    assert page.locator("*").evaluate_all(handlers) == 0
    page.close()


def test_what_a_word_says_is_shown_as_it_is(browser, pages):
    page, _ = visit(browser, pages / "report.html")
    cells = page.locator("#answer-table tbody td").evaluate_all("all => all.map(one => one.firstChild.textContent)")
    assert set(WORDS) <= set(cells)
    page.close()


def test_nothing_in_the_markdown_runs_or_leaves(browser, pages):
    path = pages / "tables.html"
    page, found = visit(browser, path)
    is_idle(page, path)
    assert found == [] and page.locator("script, img, iframe, link, base, meta, form, style, a[href*=':']").count() == 0
    page.close()


@pytest.mark.parametrize(("name", "wanted"), [("raw", "/5.png"), ("raw_markdown", "/10.png")])
def test_the_same_words_as_markup_would_run_and_leave(browser, pages, name, wanted):
    """Or the tests above would find nothing whatever the pages did."""
    page, found = visit(browser, pages / f"{name}.html")
    assert any(url.endswith(wanted) for url in found), found
    page.close()
