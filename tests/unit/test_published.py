"""The paper's numbers, and which system of a study may stand beside which of them."""

import pytest

from distill.config.generation import Decoding
from distill.config.paper import STUDENTS
from distill.errors import ConfigError
from distill.report.published import (
    bellman_setting,
    chi_square_row,
    comparable,
    find,
    hours_row,
    p_row,
    published,
    score_row,
)
from distill.report.tables.chi_square import chi_square_rows
from distill.report.tables.p_study import p_rows
from distill.report.tables.scores import score_rows
from distill.study.load import load_study
from small_tables import RUNS, STUDENT, bd, make_cells, make_settings

GPT2 = {"family": "GPT-2", "students": {"student": "120M", "medium": "340M", "large": "760M"}}
VARIANTS = {
    "bd_p05": bd(p=0.5),
    "bd_full": bd(p=1.0),
    "bd_full_selected": bd(p=1.0, clip_scope="selected"),
    "bd_linear": bd(chi2="none"),
    "bd_alpha": bd(alpha=1.0),
    "bd_control": bd(run={"permute_responses": True}),
    "bd_expected": bd(objective="expected"),
    "bd_rest": bd(remainder=True, chi2="printed"),
    "bd_centred": bd(chi2="centred"),
    "seqkd_cached": RUNS["seqkd"] | {"kd_ratio": 0.5, "teacher": "cached"},
}
SETTINGS = make_settings(
    {**RUNS, "bd": bd(), "bd_released": bd(objective="released"), **VARIANTS},
    further_students={"medium": STUDENT, "large": STUDENT, "own": STUDENT},
    further_seeds=[20],
    paper=GPT2,
)


def cells(table, *names):
    return [tuple(row[name] for name in names) for row in published(table)]


def test_the_published_tables_are_whole():
    assert [len(published(f"table{i}")) for i in (1, 2, 3, 4)] == [114, 27, 6, 12]
    per_model = {"SFT", "KD", "SeqKD", "MiniLLM", "BD"}
    methods = {(family, student): set() for family, student in cells("table1", "family", "student")}
    for row in published("table1"):
        methods[row["family"], row["student"]].add((row["method"], row["dataset"]))
    teachers = {"GPT-2": "1.5B", "OPT": "6.7B", "Qwen-2.5": "3B"}
    assert methods.keys() == {
        *teachers.items(),
        *((family, student) for family, students in STUDENTS.items() for student in students),
    }
    for model, found in methods.items():
        expected = {"Teacher"} if model in teachers.items() else per_model
        assert found == {(method, dataset) for method in expected for dataset in ("dolly", "self_inst", "vicuna")}
    numbers = [float(row["rouge_l"]) for i in (1, 2, 4) for row in published(f"table{i}")]
    assert min(numbers) > 9 and max(numbers) < 29


@pytest.mark.parametrize(("table", "cell"), [("table2", {"p": "0.8"}), ("table4", {"chi2": "with"})])
def test_the_shared_rows_of_two_tables_agree(table, cell):
    rows = [row for row in published(table) if cell.items() <= row.items()]
    assert len(rows) in (6, 9)
    for row in rows:
        where = {key: row[key] for key in ("family", "student", "dataset")}
        assert find("table1", **where, method="BD", p="0.8")["rouge_l"] == row["rouge_l"]


def test_what_is_copied_and_what_is_suspicious_is_marked():
    copied = {row["family"] for row in published("table1") if row["origin"] == "MiniLLM"}
    assert copied == {"GPT-2"}
    own = [row for row in published("table1") if row["family"] == "GPT-2" and row["origin"] == "paper"]
    assert {row["method"] for row in own} == {"BD"} and len(own) == 9
    marked = [row for row in published("table1") if row["note"]]
    assert [(row["family"], row["student"], row["method"]) for row in marked] == [("OPT", "125M", "SFT")] * 3
    for row in marked:
        twin = find("table1", family="GPT-2", student="120M", method="SFT", dataset=row["dataset"])
        assert twin["rouge_l"] == row["rouge_l"]


def test_bd_is_not_above_seqkd_everywhere_in_its_own_table():
    def score(method, row):
        return float(
            find("table1", **{key: row[key] for key in ("family", "student", "dataset")}, method=method)["rouge_l"]
        )

    own = [row for row in published("table1") if row["method"] == "BD"]
    ahead = [
        (row["family"], row["student"], row["dataset"], method)
        for row in own
        for method in ("KD", "SeqKD")
        if score(method, row) >= float(row["rouge_l"])
    ]
    assert ahead == [("GPT-2", "340M", "vicuna", "SeqKD"), ("OPT", "1.3B", "vicuna", "SeqKD")]


def rouge(name, dataset="dolly", settings=SETTINGS):
    row = score_row(settings.systems[name], settings.paper, dataset)
    return row and (row["student"], row["method"], row["rouge_l"])


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("teacher", ("1.5B", "Teacher", "27.6")),
        ("phase1", None),
        ("sft", ("120M", "SFT", "23.2")),
        ("sft_continued", None),
        ("kd", ("120M", "KD", "22.8")),
        ("seqkd", ("120M", "SeqKD", "22.7")),
        ("minillm", ("120M", "MiniLLM", "24.6")),
        ("bd", ("120M", "BD", "24.7")),
        ("bd_released", ("120M", "BD", "24.7")),
        *((name, None) for name in VARIANTS),
        ("medium.bd", ("340M", "BD", "25.8")),
        ("medium.sft.seed20", ("340M", "SFT", "25.5")),
        ("own.bd", None),
        ("own.sft", None),
    ],
)
def test_a_system_meets_the_row_of_its_model_method_and_setting(name, row):
    assert rouge(name) == row


def test_without_a_paper_section_no_system_meets_a_row():
    settings = make_settings({**RUNS, "bd": bd()})
    assert [name for name in settings.systems if rouge(name, settings=settings)] == []
    rows = list(score_rows(make_cells(settings, lambda *_: 30.0), settings))
    assert {(row["paper"], row["paper_origin"], row["comparable"]) for row in rows} == {(None, "n/a", "n/a")}


def test_a_set_that_the_paper_does_not_have_meets_no_row():
    assert rouge("bd", "vicuna") == ("120M", "BD", "16.2")
    assert rouge("bd", "user_oriented") is None


def test_opt_1_3b_is_at_its_own_p():
    settings = make_settings(
        {"bd": bd(), "bd_p05": bd(p=0.5)}, paper={"family": "OPT", "students": {"student": "1.3B"}}
    )
    assert rouge("bd", settings=settings) is None
    assert rouge("bd_p05", settings=settings) == ("1.3B", "BD", "27.1")


def test_table_2_by_p_at_the_papers_floor():
    def number(name):
        row = p_row(SETTINGS.systems[name], SETTINGS.paper, "dolly")
        return row and row["rouge_l"]

    names = [f"medium.{name}" for name in ("bd", "bd_p05", "bd_full", "bd_full_selected", "bd_linear", "seqkd")]
    assert list(map(number, names)) == ["25.8", "25.6", "24.9", None, None, None]
    assert number("bd") is None  # Table 2 has no 120M


def test_table_3_has_hours_of_two_methods():
    def hours(name):
        row = hours_row(SETTINGS.systems[name], SETTINGS.paper)
        return row and row["hours"]

    names = ("minillm", "bd", "bd_linear", "seqkd", "phase1")
    assert [hours(f"medium.{name}") for name in names] == ["11.2", "1.3", None, None, None]
    assert [hours(name) for name in ("teacher", "minillm", "own.bd")] == [None] * 3


def test_table_4_with_and_without_chi_square():
    def number(name):
        row = chi_square_row(SETTINGS.systems[f"large.{name}"], SETTINGS.paper, "dolly")
        return row and row["rouge_l"]

    assert [number(name) for name in ("bd", "bd_linear", "bd_p05", "bd_alpha")] == ["26.2", "25.9", None, None]


def test_settings_of_the_paper_are_recognised():
    found = {name: bellman_setting(system) for name, system in SETTINGS.systems.items() if system.student == "student"}
    assert found["bd"] == found["bd_released"] == (0.8, "printed")
    assert (found["bd_linear"], found["bd_full"]) == ((0.8, "none"), (1.0, "printed"))
    others = ("bd_alpha", "bd_control", "bd_expected", "bd_rest", "bd_centred", "bd_full_selected", "sft")
    assert {found[name] for name in others} == {None}


@pytest.mark.parametrize(
    ("decoding", "copied", "own"),
    [
        (Decoding(), "yes", "unknown"),
        (Decoding(top_p=0.8), "no", "unknown"),
        (Decoding(temperature=0), "no", "no"),
    ],
)
def test_copied_rows_go_with_top_p_1_and_own_rows_with_none_for_certain(decoding, copied, own):
    assert comparable({"origin": "MiniLLM"}, decoding) == copied
    assert comparable({"origin": "paper"}, decoding) == own


def test_a_number_stands_beside_sampled_answers_only():
    rows = {
        (row["system"], row["decoding"]): row
        for row in score_rows(make_cells(SETTINGS, lambda *_: 30.0), SETTINGS)
        if row["dataset"] == "dolly"
    }
    sft, own = (rows[name, "sampled"] for name in ("sft", "bd"))
    assert (sft["paper"], sft["paper_origin"], sft["comparable"]) == (23.2, "MiniLLM", "yes")
    assert (own["paper"], own["paper_origin"], own["comparable"]) == (24.7, "paper", "unknown")
    assert (rows["sft", "narrow"]["paper"], rows["sft", "narrow"]["comparable"]) == (23.2, "no")
    assert (rows["sft", "greedy"]["paper"], rows["sft", "greedy"]["comparable"]) == (None, "n/a")


def test_a_number_stands_beside_rouge_only():
    metrics = {"dolly": "exact_match", "self_inst": "rouge_l"}
    sets = {name: {"kind": "world", "rows": 9, "metric": metric} for name, metric in metrics.items()}
    data = {"evaluation": sets}
    tables = ((score_rows, "120M"), (p_rows, "340M"), (chi_square_rows, "760M"))
    for rows, size in tables:
        paper = {"family": "GPT-2", "students": {"student": size}}
        settings = make_settings({"bd": bd(), **VARIANTS}, paper=paper, data=data)
        found = [*rows(make_cells(settings, lambda *_: 30.0), settings)]
        assert {(row["dataset"], row["metric"]) for row in found} == {*metrics.items()}
        assert {row["dataset"] for row in found if row["paper"]} == {"self_inst"}


@pytest.mark.parametrize(
    ("paper", "problem"),
    [
        ({"family": "GPT-2", "students": {"student": "125M"}}, "students.student: expected one of .*, found '125M'"),
        ({"family": "OPT", "students": {"big": "125M"}}, "paper.students.big: expected one of the students"),
        ({"family": "Llama", "students": {"student": "125M"}}, "paper.family"),
    ],
)
def test_a_paper_section_that_names_no_such_model_is_an_error(paper, problem):
    with pytest.raises(ConfigError, match=problem):
        load_study({"paper": paper})
