"""A judge names itself in its replies: on pages and in CSV files what it says is data."""

import csv

import pytest

from distill.command import say
from distill.markdown import as_text
from distill.report.csv_tables import COLUMNS, cell_text, read_table, write_table


@pytest.mark.parametrize(
    "text", ['=HYPERLINK("x")', "+1+2", "-x", "@SUM(A1)", "\t=1", "\r=1", " =1", "'=1", "+0.3 to +3.3"]
)
def test_no_cell_begins_a_formula(tmp_path, text):
    row = dict.fromkeys(COLUMNS["win_rates"], "0") | {"judge": text}
    write_table(tmp_path, "win_rates", [row])
    with open(tmp_path / "win_rates.csv", newline="") as file:
        assert next(csv.DictReader(file))["judge"].startswith("'")
    assert read_table(tmp_path, "win_rates")[0]["judge"] == cell_text(text)


@pytest.mark.parametrize(("value", "cell"), [(-1.5, "-1.5"), (-2, "-2"), ("-1.5e-05", "-1.5e-05"), ("a\x1bb", "a b")])
def test_numbers_stay_numbers_and_controls_go(value, cell):
    assert cell_text(value) == cell


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("<img src=x> & gpt-4o_mini", "&lt;img src=x&gt; &amp; gpt-4o_mini"),
        ("a | b\n\n# c", r"a \| b \# c"),
        ("[x](http://y) `z` **w**", r"\[x\](http://y) \`z\` \*\*w\*\*"),
        ("\x1b[2J", r"\[2J"),
    ],
)
def test_markdown_shows_it_as_text(text, shown):
    assert as_text(text) == shown


def test_what_an_audit_prints_of_a_strangers_record_steers_no_terminal(capsys):
    say("  host  \x1b]0;x\x07\u202e", "    é = 1")
    assert capsys.readouterr().out == "  host  \\x1b]0;x\\x07\\u202e\n    é = 1\n"
