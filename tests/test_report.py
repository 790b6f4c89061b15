"""`prag report` on result folders that are written here: its table, page and Markdown; costs; statistics."""

import csv
import json
import math
import re
import statistics
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prag_lightning.cli.entry import main
from prag_lightning.costs import COSTS_FILE, Cost, read_costs, record_cost
from prag_lightning.inference.results import write_results
from prag_lightning.report.published import published_f1
from prag_lightning.report.statistics import mean_interval, sign_test

EXPERIMENT = "tiny/rank=2_alpha=32/toy/lr=0.0003_epoch=1_direct/aug_model=writer"
PAPERS = "llama3.2-1b-instruct/rank=2_alpha=32/popqa/lr=0.0003_epoch=2_direct/aug_model=llama3.2-1b-instruct"


def row(test_id: int, score: float, **changes) -> dict:
    text = "Ada." if score == 1 else "Ada or Bob." if score else "Bob."
    scores = {"eval_predict": text[:-1], "em": float(score == 1), "f1": score, "prec": score, "recall": score}
    return {"test_id": test_id, "question": f"Question {test_id}?", "answer": "Ada", "text": text, **scores, **changes}


def write(
    root: Path, method: str, f1s=(1, 0, 0.5, 1), *, rows=None, experiment=EXPERIMENT, split="total", rank=2, topk=3
) -> Path:
    """A folder of results; of settings, what tests vary."""
    rows = [row(i, f1) for i, f1 in enumerate(f1s)] if rows is None else rows
    model, _, dataset, *_ = experiment.split("/")
    config = {
        "model": {"model_name": model, "lora_rank": rank, "offline_root": "offline"},
        "data": {"dataset": dataset, "topk": topk, "augment_root": "aug"},
    }
    means = {name: sum(r[name] for r in rows) / max(1, len(rows)) for name in ("em", "f1", "prec", "recall")}
    scores = {**means, "presence": 0.5, "questions": len(rows), "seconds_per_question": 0.25}
    write_results(root / experiment / method / split, config, rows, scores)
    return root / experiment / method / split


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / "output"


def report(root: Path, *arguments: str) -> int:
    return main(["report", str(root), *arguments])


class Page(HTMLParser):
    """A page's tables by caption as rows of texts, its other text, its links, its ids, and whether its tags match."""

    VOID = ("meta", "link", "img", "br", "hr", "input")

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tables: dict[str, list[list[list[str]]]] = {}
        self.references: list[str] = []
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.open: list[str] = []
        self.text = self.caption = ""
        self.feed(path.read_text(encoding="utf-8"))
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.references += [(tag, value) for name, value in attrs if name in ("src", "href", "xlink:href", "srcset")]
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "caption":
            self.caption = ""
        elif tag == "tr":
            self.tables.setdefault(self.caption, [[]])[-1].append([])
        elif tag in ("td", "th"):
            self.tables[self.caption][-1][-1].append("")
        elif tag == "table" and self.caption in self.tables:
            self.caption = ""

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        if tag == "caption":
            self.tables.setdefault(self.caption, []).append([])

    def handle_data(self, data):
        self.text += data
        if "caption" in self.open:
            self.caption += data
        elif self.open and self.open[-1] in ("td", "th"):
            self.tables[self.caption][-1][-1][-1] += data

    def rows(self, caption: str, number: int = 0) -> list[dict[str, str]]:
        """The rows of the table whose caption begins so, by heading."""
        (tables,) = [tables for name, tables in self.tables.items() if name.startswith(caption)]
        heading, *rows = tables[number]
        return [dict(zip(heading, cells, strict=True)) for cells in rows]


def test_console_page_and_markdown_have_the_means_and_their_intervals(root, capsys):
    write(root, "prag", [1, 0, 0.5, 1])
    write(root, "icl", [1, 1, 1, 1])
    assert report(root) == 0
    out = capsys.readouterr().out
    assert [line for line in out.splitlines() if line.startswith(str(root))] == [
        str(root / f"report.{ending}") for ending in ("html", "md", "csv", "json", "tex")
    ]
    (icl, prag) = Page(root / "report.html").rows("Scores")
    assert (icl["EM"], icl["F1"], icl["n"]) == ("100.0", "100.0", "4")
    assert re.fullmatch(r"62\.5 ±\d+\.\d", prag["F1"])
    assert prag["EM"].startswith("50.0 ±")
    assert prag["s/question"] == "0.250"
    assert "paper F1" not in prag
    width = prag["F1"].partition("±")[2]
    assert f"62.5±{width}" in out
    assert out.index("icl") < out.index("prag")
    assert f"| prag | total | 4 | {prag['EM']} | {prag['F1']} |" in (root / "report.md").read_text(encoding="utf-8")


def test_the_paper_stands_beside_its_own_methods_with_the_difference(root):
    for method in ("icl", "prag", "prag-other"):
        write(root, method, [1, 0] * 50, experiment=PAPERS, topk=1)
    assert report(root) == 0
    page = Page(root / "report.html")
    by_method = {cells["method"]: cells for cells in page.rows("Scores")}
    assert (by_method["prag"]["paper F1"], by_method["prag"]["difference"]) == ("22.1", "+27.9")
    assert by_method["icl"]["paper F1"] == "18.4"
    assert by_method["prag-other"]["paper F1"] == by_method["prag-other"]["difference"] == "–"
    assert "topk 1, not 3" in page.text
    assert "| 22.1 | +27.9 |" in (root / "report.md").read_text(encoding="utf-8")


def test_published_numbers_have_their_places():
    assert published_f1("llama3-8b-instruct", "hotpotqa", "comparison", "combine") == 0.6918
    assert published_f1("qwen2.5-1.5b-instruct", "2wikimultihopqa", "compositional", "icl") == 0.0568
    assert published_f1("llama3.2-1b-instruct", "2wikimultihopqa", "total", "prag") == 0.2764
    assert published_f1("llama3.2-1b-instruct", "popqa", "test", "prag") is None
    assert published_f1("llama3.2-1b-instruct", "popqa", "total", "vanilla") is None


def test_methods_are_compared_on_the_questions_that_both_answered(root):
    first = [row(0, 1), row(1, 1), row(2, 0), row(3, 0.5), row(4, 1), row(5, 1)]
    other = [row(0, 1), row(1, 0), row(2, 1), row(3, 0), row(4, 1, question="Another?"), row(6, 0)]
    write(root, "prag", rows=first)
    write(root, "icl", rows=other)
    assert report(root) == 0
    page = Page(root / "report.html")
    (cells,) = page.rows("Methods compared")
    assert [cells[name] for name in ("A", "B", "shared", "both right", "only A", "only B", "neither")] == [
        *("prag", "icl"),
        *("4", "1", "1", "1", "1"),
    ]
    assert cells["EM, A − B"].startswith("0.0 [")
    assert cells["F1, A − B"].startswith("+12.5 [")
    assert cells["p"] == "1.000"
    assert "prag and icl were compared on 4 questions; 3 were not asked of both" in page.text


def test_controls_and_merges_are_compared_with_what_they_vary(root):
    for method in ("vanilla", "icl", "prag", "prag-other", "prag-mean", "combine"):
        write(root, method)
    assert report(root) == 0
    pairs = {(cells["A"], cells["B"]) for cells in Page(root / "report.html").rows("Methods compared")}
    assert pairs == {
        *(("prag", "icl"), ("combine", "icl"), ("combine", "prag"), ("prag", "prag-other")),
        *(("prag", "vanilla"), ("icl", "vanilla"), ("prag-mean", "prag")),
    }


def test_wins_and_losses_are_those_that_differ_most_first_questions_first(root):
    write(root, "prag", [0.5, 1, 1, 1, 1, 1, 1, 0, 1])
    write(root, "icl", [0, 0, 0, 0.5, 0, 0, 0, 1, 1])
    assert report(root) == 0
    lines = (root / "report.md").read_text(encoding="utf-8").splitlines()
    wins = lines.index("### total: where prag is better than icl")
    losses = lines.index("### total: where icl is better than prag")
    assert [line.split(" | ")[0] for line in lines[wins + 4 : wins + 9]] == [f"| {n}" for n in (1, 2, 4, 5, 6)]
    assert lines[losses + 4] == "| 7 | Question 7? | Ada | Bob. | Ada. |"
    page = Page(root / "report.html")
    assert page.text.index("Question 1?") < page.text.index("Question 6?") < page.text.index("Question 7?")
    assert "Question 8?" not in page.text


HOSTILE = "<script>alert(1)</script> \"'& | `x` <img src=x onerror=alert(2)> {{ 7 * 7 }} $\\alpha$ \ud800 [a](b)"


def test_text_of_others_stays_text(root):
    hostile = {"question": HOSTILE, "answer": [HOSTILE], "text": HOSTILE}
    for method, first in (("prag", 1), ("icl", 0)):
        folder = write(root, method, [first, 1 - first], split="<b>$x_$")
        damage("predict.json", [row(0, first, **hostile), row(1, 1 - first)])(folder)
    write(root, "prag-<b>$x_$")
    assert report(root) == 0
    page = Page(root / "report.html")
    assert not {"script", "img", "b"} & set(page.tags)
    assert page.text.count("<script>alert(1)</script>") == 4
    assert page.text.count("{{ 7 * 7 }}") == page.text.count("$\\alpha$ ? [a](b)") >= 4
    markdown = (root / "report.md").read_text(encoding="utf-8")
    assert "<" not in markdown
    (line,) = [line for line in markdown.splitlines() if line.startswith("| 0 |")]
    assert len(re.findall(r"(?<!\\)\|", line)) == 6


def test_page_is_whole_without_a_network(root):
    for method in ("vanilla", "icl", "prag", "combine"):
        for split in ("total", "bridge"):
            write(root, method, split=split)
    assert report(root) == 0
    page = Page(root / "report.html")
    assert {tag for tag, value in page.references if not value.startswith("#")} == {"a"}
    assert [value for tag, value in page.references if tag == "a" and value[0] != "#"] == [
        "https://arxiv.org/abs/2501.15915"
    ]
    source = (root / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"@import|url\((?!#)|<link|<script", source)
    assert source.count("<svg") == 4
    assert {value[1:] for _, value in page.references if value.startswith("#")} <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))


def test_the_same_results_give_the_same_page(root):
    write(root, "prag")
    write(root, "icl")
    assert report(root, "--out", "one") == 0
    assert report(root, "--out", "two") == 0
    for path in sorted(Path("one").iterdir()):
        assert path.read_bytes() == Path("two", path.name).read_bytes()
    assert not list(root.glob("report.*"))


def test_a_method_with_other_settings_stands_beside_the_one_without(root):
    for method, topk in (("icl", 3), ("prag", 3), ("icl_topk=1", 1), ("prag_topk=1", 1)):
        write(root, method, topk=topk)
    assert report(root) == 0
    page = Page(root / "report.html")
    assert [cells["method"] for cells in page.rows("Scores")] == ["icl", "icl_topk=1", "prag", "prag_topk=1"]
    pairs = [(cells["A"], cells["B"]) for cells in page.rows("Methods compared")]
    assert pairs == [
        *(("prag", "icl"), ("prag_topk=1", "icl_topk=1")),
        *(("icl_topk=1", "icl"), ("prag_topk=1", "prag")),
    ]


def test_a_method_with_other_settings_stands_with_its_like(root):
    write(root, "icl", topk=1)
    write(root, "prag", topk=3)
    write(root, "icl_topk=3", topk=3)
    assert report(root) == 0
    glance = Page(root / "report.html").rows("F1 at a glance")
    assert [[name for name in ("icl", "icl_topk=3", "prag") if cells[name] != "–"] for cells in glance] == [
        ["icl"],
        ["icl_topk=3", "prag"],
    ]


def test_the_numbers_are_there_for_other_programs(root):
    write(root, "prag", [1, 0, 0.5, 1], experiment=PAPERS)
    write(root, "icl", [1, 1, 1, 1], split="50% <b>", experiment=PAPERS)
    assert report(root) == 0
    with (root / "report.csv").open(encoding="utf-8", newline="") as file:
        prag, icl = csv.DictReader(file)
    assert (prag["method"], prag["split"], prag["questions"]) == ("prag", "total", "4")
    assert (float(prag["em"]), float(prag["f1"]), float(prag["paper_f1"])) == (0.5, 0.625, 0.2205)
    assert float(prag["f1_low"]) < 0.625 < float(prag["f1_high"])
    assert (icl["f1_low"], icl["paper_f1"]) == ("", "")
    rows = json.loads((root / "report.json").read_text(encoding="utf-8"))
    assert [(row["method"], row["f1"]) for row in rows] == [("prag", 0.625), ("icl", 1.0)]
    assert rows[0]["settings"]["topk"] == 3
    latex = (root / "report.tex").read_text(encoding="utf-8")
    assert re.search(r"prag & total & 4 & 50\.0 \$\\pm\$\d+\.\d & 62\.5 \$\\pm\$\d+\.\d & 22\.1 & ", latex)
    assert r"icl & 50\% \textless{}b\textgreater{} & 4" in latex
    body = [line for line in latex.splitlines() if " & " in line]
    assert {line.count(" & ") + 1 for line in body} == {len(re.search(r"tabular\}\{(\w+)\}", latex)[1])}
    assert [line for line in latex.splitlines() if line.endswith("rule")] == [
        *("\\toprule", "\\midrule", "\\midrule", "\\bottomrule")
    ]


def test_questions_that_could_not_be_answered_or_matched_are_counted(root, capsys):
    write(root, "icl", rows=[row(0, 1, answer=["Washington, D.C."]), row(1, 1, answer=["1,000", "1000"])])
    folder = write(root, "prag")
    (folder / "result.txt").write_text((folder / "result.txt").read_text() + "unanswered\t2\n")
    assert report(root) == 0
    icl, prag = Page(root / "report.html").rows("Scores")
    assert (icl["unanswered"], icl["out of reach"]) == ("0", "1")
    assert (prag["unanswered"], prag["out of reach"]) == ("2", "0")
    (heading,) = [line for line in capsys.readouterr().out.splitlines() if "EM" in line]
    assert heading.split()[-4:] == ["unanswered", "out", "of", "reach"]


@pytest.mark.parametrize("columns", [40, 60, 80])
def test_a_narrow_terminal_has_fewer_columns_and_whole_numbers(root, capsys, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    for method in ("combine-other", "icl_max_new_tokens=64_topk=1"):
        write(root, method, [1, 0, 0.5, 1] * 75, split="bridge_comparison")
    assert report(root) == 0
    out = capsys.readouterr().out
    table = [line for line in out.splitlines() if not line.endswith((".html", ".md", ".csv", ".json", ".tex"))]
    assert max(map(len, table)) <= columns
    assert len(re.findall(r"\b50\.0±5\.\d\b", out)) == len(re.findall(r"\b62\.5±4\.\d\b", out)) == 2
    assert "…" not in out
    assert ("recall" in out.partition("Too narrow for")[0]) == (columns > 80)
    names = "".join(line.partition("  ")[0].strip() for line in table)
    assert "icl_max_new_tokens=64_topk=1" in names.replace("\n", "")


def other_run(root: Path, *texts: str) -> Path:
    """Results as the published code leaves them: flat settings, scores as texts, four digits."""
    folder = root / "output" / PAPERS / "prag" / "total"
    folder.mkdir(parents=True)
    rows = [row(i, float(text == "Ada."), text=text) for i, text in enumerate(texts)]
    rows = [{**r, **{name: str(r[name]) for name in ("em", "f1", "prec", "recall")}} for r in rows]
    mean = sum(text == "Ada." for text in texts) / len(texts)
    (folder / "predict.json").write_text(json.dumps(rows), encoding="utf-8")
    (folder / "config.json").write_text(json.dumps({"dataset": "popqa", "topk": 3}), encoding="utf-8")
    lines = [f"{name}\t{round(mean, 4)}\n" for name in ("em", "f1", "prec", "recall")]
    (folder / "result.txt").write_text("".join(lines), encoding="utf-8")
    return root / "output"


@pytest.mark.parametrize("whole", [True, False])
def test_two_runs_are_compared_question_by_question(root, tmp_path, capsys, whole):
    write(root, "prag", [1, 1, 0], experiment=PAPERS, topk=1)
    write(root, "icl", [1, 1, 0], experiment=PAPERS)
    other = other_run(tmp_path / "other", "Ada.", "Bob.", "Bob.")
    assert report(root, f"--compare={other if whole else next(other.rglob('total'))}", "--out=both") == 0
    (cells,) = Page(Path("both/report.html")).rows("A and B, question by question")
    assert [cells[name] for name in ("method", "split", "shared", "both right", "only A", "only B", "neither")] == [
        *("prag", "total", "3", "1", "1", "0", "1")
    ]
    out = capsys.readouterr().out
    assert "differ in topk (1, 3) (prag, total)" in out
    assert f"A is {root}" in out
    with Path("both/comparison.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(r["test_id"], r["text_a"], r["em_a"], r["text_b"], r["em_b"]) for r in rows] == [
        *(("0", "Ada.", "1.0", "Ada.", "1.0"), ("1", "Ada.", "1.0", "Bob.", "0.0")),
        ("2", "Bob.", "0.0", "Bob.", "0.0"),
    ]
    assert "| 1 | Question 1? | Ada | Ada. | Bob. |" in Path("both/report.md").read_text(encoding="utf-8")


def test_two_single_results_are_compared_whatever_they_are_called(root, tmp_path):
    write(root, "prag", [1, 0])
    write(tmp_path / "other", "icl", [0, 0], experiment=PAPERS)
    assert report(root, f"--compare={tmp_path / 'other'}") == 0
    (cells,) = Page(root / "report.html").rows("A and B, question by question")
    assert (cells["method"], cells["only A"]) == ("prag / icl", "1")


def test_two_runs_of_other_questions_cannot_be_compared(root, tmp_path, capsys):
    write(root, "prag")
    write(tmp_path / "other", "prag", rows=[row(0, 1, question="Another?")])
    assert report(root, f"--compare={tmp_path / 'other'}") == 2
    assert "no questions in common" in capsys.readouterr().err


def test_recipes_stand_apart(root, capsys):
    write(root, "prag", experiment=EXPERIMENT.replace("rank=2", "rank=8"), rank=8)
    write(root, "prag")
    write(root, "icl", topk=1)
    write(root, "vanilla", topk=7)
    assert report(root) == 0
    out = capsys.readouterr().out
    page = Page(root / "report.html")
    glance = page.rows("F1 at a glance")
    assert len(glance) == 3
    assert [[name for name in ("vanilla", "icl", "prag") if cells[name] != "–"] for cells in glance] == [
        ["vanilla", "icl"],
        ["prag"],
        ["prag"],
    ]
    assert "topk 1" in glance[0]["experiment"]
    assert "topk 3" in glance[1]["experiment"]
    assert "rank=8" in glance[2]["experiment"]
    assert [(cells["A"], cells["B"]) for cells in page.rows("Methods compared")] == [("icl", "vanilla")]
    for name in (f"{EXPERIMENT} (topk 1)", f"{EXPERIMENT} (topk 3)", EXPERIMENT.replace("rank=2", "rank=8")):
        assert name in out.splitlines()


def test_costs_are_those_recorded_and_what_stands_on_disk(root):
    write(root, "prag")
    for adapter in ("aa/one", "bb/two"):
        folder = Path("offline") / EXPERIMENT / "adapters" / adapter
        folder.mkdir(parents=True)
        (folder / "adapter_model.safetensors").write_bytes(b"x" * 1500)
    for _ in range(2):
        record_cost(Path("offline") / EXPERIMENT, Cost("fit", 10, 4.0, "cpu", processes=2))
    record_cost(Path("aug/toy/writer"), Cost("augment", 5, 10.0, "server"))
    Path("aug/toy/writer/total.json").write_text("x" * 200, encoding="utf-8")
    assert report(root) == 0
    rows = {cells.pop("stage"): cells for cells in Page(root / "report.html").rows("Cost")}
    assert rows["augment"] == {
        **{"pieces": "5 passages", "time": "10.0 s", "each": "2 s", "per second": "0.5"},
        **{"bytes": "200 B", "bytes each": "40 B", "device": "server"},
    }
    assert (rows["fit"]["pieces"], rows["fit"]["time"], rows["fit"]["per second"]) == ("20 passages", "4.0 s", "5")
    assert rows["adapters on disk, float32"]["pieces"] == "2 passages"
    assert rows["adapters on disk, float32"]["bytes each"] == "1.5 kB"
    assert rows["test: prag, total"]["time"] == "1.0 s"


def test_a_record_of_costs_survives_torn_lines_and_work_that_was_none(tmp_path):
    cost = Cost("fit", 3, 1.5, "cpu")
    record_cost(tmp_path / "new", Cost("fit", 0, 0.0, "cpu"))
    assert not (tmp_path / "new").exists()
    record_cost(tmp_path, cost)
    path = tmp_path / COSTS_FILE
    whole = path.read_bytes()
    endless = [whole.replace(b"1.5", b"1e999"), whole.replace(b": 3", b": Infinity")]
    path.write_bytes(b"".join([whole, *endless, whole[: len(whole) // 2]]))
    record_cost(tmp_path, cost)
    assert [(c.passages, c.seconds, c.wall_seconds) for c in read_costs(tmp_path)] == [(3, 1.5, 1.5)] * 2
    assert all(c.finished_at for c in read_costs(tmp_path))


def damage(name: str, content):
    def change(folder: Path) -> None:
        (folder / name).write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (damage("predict.json", []), "holds no answers"),
        (damage("predict.json", b'[{"test_id": 0, "quest'), "predict.json"),
        (damage("predict.json", {"rows": []}), "not a list"),
        (damage("predict.json", [1]), "row 0"),
        (damage("predict.json", [row(0, 1), row(0, 1)]), "test_id 0"),
        (damage("predict.json", [row(0, 1, f1=None)]), "'f1'"),
        (damage("predict.json", [row(0, 1, f1=math.nan)]), "'f1'"),
        (damage("predict.json", [row(0, 1, text=None)]), "'text'"),
        (damage("predict.json", [row("0", 1)]), "'test_id'"),
        (damage("predict.json", [row(0, 1, answer={})]), "'answer'"),
        (damage("predict.json", [row(0, 1)]), "result.txt says em"),
        (lambda folder: (folder / "predict.json").unlink(), "cannot read the file"),
        (damage("result.txt", b"em\tmany\n"), "line 1"),
        (damage("result.txt", b""), "result.txt says em"),
        (damage("result.txt", b"\xff\xfe"), "not text"),
        (damage("config.json", b"{"), "config.json"),
        (damage("config.json", [1]), "no settings"),
        (lambda folder: (folder / "config.json").unlink(), "config.json"),
    ],
)
def test_a_damaged_result_costs_a_line(root, capsys, change, message):
    write(root, "icl")
    folder = write(root, "prag")
    change(folder)
    assert report(root) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("prag: warning: left out: ")
    assert message in line
    assert str(folder) in line
    page = Page(root / "report.html")
    assert [cells["method"] for cells in page.rows("Scores")] == ["icl"]
    assert message in page.text
    assert "Left out: " in (root / "report.md").read_text(encoding="utf-8")


def test_results_that_are_all_damaged_are_one_line_and_exit_code_2(root, capsys):
    damage("predict.json", [])(write(root, "prag"))
    assert report(root) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("prag: error: the file holds no answers")
    assert line.endswith("move this folder away.")
    assert not list(root.glob("report.*"))


def test_no_results_and_misplaced_ones_are_mistakes(root, capsys):
    assert report(root) == 2
    assert "there are no results" in capsys.readouterr().err
    folder = write(root, "prag")
    folder.rename(root / "stray")
    assert report(root) == 2
    assert str(root / "stray") in capsys.readouterr().err


@pytest.mark.parametrize("up", [0, 1, 2])
def test_a_part_of_the_results_is_reported_as_such(root, up):
    part = [folder := write(root, "prag", experiment=PAPERS), *folder.parents][up]
    assert report(part) == 0
    page = Page(part / "report.html")
    (cells,) = page.rows("Scores")
    assert (cells["method"], cells["split"], cells["paper F1"]) == ("prag", "total", "22.1")


def test_a_target_that_cannot_be_written_is_named_and_the_table_is_printed(root, capsys):
    write(root, "prag")
    Path("taken").write_text("mine", encoding="utf-8")
    assert report(root, "--out", "taken") == 2
    out, err = capsys.readouterr()
    assert "62.5" in out
    assert err.startswith("prag: error: cannot write the report")
    assert "--out" in err
    assert "taken" in err
    assert Path("taken").read_text(encoding="utf-8") == "mine"


def test_results_without_our_settings_are_reported_too(root):
    """As others' runs leave them: flat settings, and scores without presence and time."""
    folder = write(root, "prag", experiment=PAPERS)
    damage("config.json", {"dataset": "popqa", "with_cot": False})(folder)
    damage("result.txt", b"em\t0.5\nf1\t0.625\nprec\t0.625\nrecall\t0.625\n")(folder)
    assert report(root) == 0
    (cells,) = Page(root / "report.html").rows("Scores")
    assert (cells["paper F1"], cells["present"], cells["s/question"]) == ("22.1", "–", "–")


scores = st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=2, max_size=60)


@settings(max_examples=40, deadline=None)
@given(scores)
def test_an_interval_is_within_the_values_and_the_same_each_time(values):
    interval = mean_interval(values)
    if len(set(values)) == 1:
        assert interval is None
        return
    assert min(values) <= interval.low <= interval.high <= max(values)
    assert interval == mean_interval(list(values))
    mirrored = mean_interval([-value for value in values])
    assert (mirrored.low, mirrored.high) == pytest.approx((-interval.high, -interval.low), abs=1e-9)


@pytest.mark.parametrize("right", [30, 100, 150])
def test_an_interval_of_shares_is_about_the_textbooks(right):
    share = right / 200
    interval = mean_interval([1.0] * right + [0.0] * (200 - right))
    assert interval.low < share < interval.high
    assert interval.half_width == pytest.approx(1.96 * math.sqrt(share * (1 - share) / 200), rel=0.1)


def test_more_questions_make_an_interval_narrower():
    values = [0.0, 0.2, 0.4, 1.0, 1.0]
    widths = [mean_interval(values * times).half_width for times in (2, 8, 32)]
    assert widths == sorted(widths, reverse=True)
    assert widths[0] / widths[2] == pytest.approx(4, rel=0.15)
    assert statistics.mean(values) == pytest.approx(0.52)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 40), st.integers(0, 40))
def test_the_sign_test_is_the_binomial_tail_on_both_sides(first, second):
    n, few = first + second, min(first, second)
    tail = sum(math.comb(n, k) for k in range(few + 1)) / 2**n
    assert sign_test(first, second) == pytest.approx(min(1.0, 2 * tail))
