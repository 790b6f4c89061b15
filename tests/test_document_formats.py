"""Each format of documents: marks go, tables keep their columns, typesetting is undone, and the broken is named."""

import io
import random
import sys

import docx
import pytest
from docx.enum.style import WD_STYLE_TYPE
from fpdf import FPDF
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pypdf import PdfReader, PdfWriter

from prag_lightning.data.documents import DocumentReader, document_of_text, reader
from readers import malformed

MARKDOWN = """---
title: The ACME Handbook
---
# Handbook

Welcome to the *company*.<!-- not yet --> See [our <b>site</b>](https://example.org "Site") &amp; `prag ask`.

Travel
------

- You may **travel**
- ![Three days](days.png) a
  week

| Name | Born |
|------|------|
| Ada  | 1815 |
| Bob  |      |

### Empty

```python
answer = 42
```

<div>A <i>box</i></div>
"""
HTML = """<html><head><title>Travel | ACME</title><style>p {}</style></head><body>
<nav>Home</nav><main><h1>Travel</h1><p>You may <b>tra</b>vel<br>three days <a href="x">a week</a>.
<p hidden>Secret.</p>
<ul><li>By train<li>By boat</ul>
<table><tr><th>Name<th>Born<tr><td rowspan="2">Ada<td>1815<tr><td colspan="9999999">1816</table>
<table><tr><th>Height<td>5 m</table>
<script>alert(1)</script><h2>Code</h2><pre>a = 1
b = 2</pre></main><footer>Imprint</footer></body></html>"""


def documents(path):
    found = DocumentReader(path)
    return list(found), found


def read(path, content):
    """The one document of a file."""
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    (document,), _ = documents(path)
    return document


def blocks(document):
    return [(block.text, block.headings, block.page, block.line) for block in document.blocks]


def test_markdown_loses_its_marks(tmp_path):
    document = read(tmp_path / "h.md", MARKDOWN)
    assert (document.id, document.title) == ("h.md", "The ACME Handbook")
    travel, empty = ("Handbook", "Travel"), ("Handbook", "Travel", "Empty")
    assert blocks(document) == [
        ("Welcome to the company. See our site & prag ask.", ("Handbook",), None, 6),
        ("You may travel.", travel, None, 11),
        ("Three days a\nweek.", travel, None, 12),
        ("Name: Ada; Born: 1815.", travel, None, 17),
        ("Name: Bob.", travel, None, 18),
        ("answer = 42", empty, None, 22),
        ("A  box", empty, None, 26),
    ]


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("# The Mill\n\n## Life\n\nOld.", "The Mill"),
        ("# North\n\nA.\n\n# South\n\nB.", "name"),
        ("## Life\n\nOld.", "name"),
        ("---\nno: [yaml\n---\n\nOld.", "name"),
        ("Old.", "name"),
    ],
)
def test_the_title_of_markdown(tmp_path, text, title):
    assert read(tmp_path / "name.md", text).title == title


def test_a_heading_without_text_is_text(tmp_path):
    document = read(tmp_path / "a.md", f"# Shop\n\n## Milk\n\n## Bread\n\n### {'very ' * 50}long\n\n## Eggs")
    assert [(block.text.split()[-1], block.headings) for block in document.blocks] == [
        ("Milk.", ("Shop",)),
        ("long", ("Shop", "Bread")),
        ("Eggs.", ("Shop",)),
    ]


def test_html_loses_its_marks(tmp_path):
    document = read(tmp_path / "p.html", HTML)
    assert document.title == "Travel | ACME"
    assert [(block.text, block.headings) for block in document.blocks] == [
        ("You may travel three days a week.", ("Travel",)),
        ("By train.", ("Travel",)),
        ("By boat.", ("Travel",)),
        ("Name: Ada; Born: 1815.", ("Travel",)),
        ("Name: Ada; Born: 1816" + "; 1816" * 99 + ".", ("Travel",)),
        ("Height: 5 m.", ("Travel",)),
        ("a = 1 b = 2", ("Travel", "Code")),
    ]
    assert document.blocks[0].line == 2
    assert document.blocks[-1].line == 7


@pytest.mark.parametrize(
    "charset", ['<meta charset="latin-1">', "<meta http-equiv=Content-Type content='text/html; charset=iso-8859-1'>"]
)
def test_a_page_in_the_encoding_that_it_names(tmp_path, charset):
    page = f"<html><head>{charset}</head><body><p>Café</p></body></html>"
    assert read(tmp_path / "a.htm", page.encode("latin-1")).blocks[0].text == "Café"
    (tmp_path / "b.htm").write_bytes("<p>Café".encode("latin-1"))
    assert documents(tmp_path / "b.htm")[1].failed == {
        "cannot read the page: it is not UTF-8: byte 0xe9 in line 1: Save it as UTF-8": ["b.htm"]
    }


@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
def test_a_table_is_a_document_whose_rows_name_their_columns(tmp_path, mark):
    text = f'Name{mark}Born\nAda{mark}1815\n\n"Bob\nof Paris"{mark}\nCy{mark}1817{mark}more\n'
    document = read(tmp_path / "people.csv", text)
    assert (document.id, document.title) == ("people.csv", "people")
    assert blocks(document) == [
        ("Name: Ada; Born: 1815.", (), None, 2),
        ("Name: Bob of Paris.", (), None, 4),
        ("Name: Cy; Born: 1817; more.", (), None, 6),
    ]


def test_json_lines_are_documents_with_ids_of_their_own(tmp_path):
    rows = '{"text": "A.", "id": 7}\n{"text": "B."}\n\n{"text": "C.", "_id": "x", "title": "T"}\n'
    rows += '{"text": "D.", "id": 7}\n{"id": 8}\n'
    (tmp_path / "r.jsonl").write_text(rows)
    found, reading = documents(tmp_path)
    assert [(each.id, each.title, each.blocks[0].line) for each in found] == [
        ("r.jsonl#7", "r", 1),
        ("r.jsonl#2", "r", 2),
        ("r.jsonl#x", "T", 4),
    ]
    assert reading.skipped == {"its id is that of an earlier document": ["r.jsonl#7"]}
    assert reading.failed == {"no 'text'": ["r.jsonl, line 6"]}
    assert reading.read == ["r.jsonl"]


class Handbook(FPDF):
    def header(self):
        self.set_font("helvetica", size=9)
        self.cell(0, 8, "ACME Handbook 2024", new_x="LMARGIN", new_y="NEXT")

    def footer(self):
        self.set_y(-15)
        self.cell(0, 8, f"Confidential, page {self.page_no() + 2} of 9", align="C")


def pdf(*pages, headings=(), title="", kind=Handbook):
    """A PDF's content, with a page of each text below its bookmark."""
    made = kind()
    made.set_title(title)
    for text, heading in zip(pages, [*headings, *[""] * len(pages)], strict=False):
        made.add_page()
        made.set_font("helvetica", size=11)
        if heading:
            made.start_section(heading)
            made.cell(0, 10, heading, new_x="LMARGIN", new_y="NEXT")
        made.multi_cell(0, 6, text)
    return bytes(made.output())


def test_a_pdf_knows_its_pages_and_loses_heads_and_feet(tmp_path):
    content = pdf(
        "Ada travels three days a week. She keeps the hand-\nbook of the well-known mill and",
        "goes on the next page. It has 3 wheels and is well-\nknown.\n\nA new line stands alone.",
        "Bob is paid.\n2024",
        headings=("Travel", "", "Meals"),
        title="The Handbook",
    )
    document = read(tmp_path / "h.pdf", content)
    assert document.title == "The Handbook"
    text = " ".join(block.text for block in document.blocks)
    assert text == (
        "Ada travels three days a week. She keeps the handbook of the well-known mill and goes on the next page. "
        "It has 3 wheels and is well-known. A new line stands alone. Bob is paid. 2024"
    )
    first, last = document.blocks[0], document.blocks[-1]
    assert (first.page, first.headings, last.page, last.headings) == (1, ("Travel",), 3, ("Meals",))


def test_a_pdf_of_one_page_keeps_its_lines_but_for_the_page_number(tmp_path):
    document = read(tmp_path / "letter.pdf", pdf("Dear Ada,\nthe mill is sold.\n- 1 -", kind=FPDF))
    assert [block.text for block in document.blocks] == ["Dear Ada, the mill is sold."]
    assert document.title == "letter"


def docx_of(*texts):
    """A DOCX file's content, with a paragraph of each text."""
    made, content = docx.Document(), io.BytesIO()
    for text in texts:
        made.add_paragraph(text)
    made.save(content)
    return content.getvalue()


PDF, DOCX = pdf("The mill is old.", "It stands.", headings=("Mill",)), docx_of("The mill is old.", "It stands.")


def encrypted(content, *passwords, algorithm="AES-256"):
    writer = PdfWriter(PdfReader(io.BytesIO(content)))
    writer.encrypt(*passwords, algorithm=algorithm)
    made = io.BytesIO()
    writer.write(made)
    return made.getvalue()


def picture():
    made = FPDF()
    made.add_page()
    made.image(Image.new("RGB", (8, 8)))
    return bytes(made.output())


def test_pdfs_that_cannot_be_read_say_why(tmp_path, capsys):
    whole = pdf("The mill is old.", kind=FPDF)
    blank = FPDF()
    blank.add_page()
    mixed = PdfWriter(PdfReader(io.BytesIO(whole)))
    mixed.append(PdfReader(io.BytesIO(picture())))
    mixed.write(str(tmp_path / "mixed.pdf"))
    files = {
        "aes.pdf": encrypted(whole, "secret"),
        "rc4.pdf": encrypted(whole, "secret", algorithm="RC4-128"),
        "readable.pdf": encrypted(whole, "", "owner"),
        "cut.pdf": whole[: len(whole) // 2],
        "none.pdf": b"no PDF",
        "picture.pdf": picture(),
        "blank.pdf": bytes(blank.output()),
        "none.docx": b"no DOCX",
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    found, reading = documents(tmp_path)
    assert [document.id for document in found] == reading.read == ["mixed.pdf", "readable.pdf"]
    assert {document.blocks[0].text for document in found} == {"The mill is old."}
    assert reading.skipped == {"without text": ["blank.pdf"], "a page that is a picture": ["mixed.pdf, page 2"]}
    broken = {reason: names for reason, names in reading.failed.items() if "broken" in reason}
    assert sorted(name for names in broken.values() for name in names) == ["cut.pdf", "none.docx", "none.pdf"]
    assert {reason: names for reason, names in reading.failed.items() if reason not in broken} == {
        "it is encrypted: Save it without a password": ["aes.pdf", "rc4.pdf"],
        "its pages are pictures, without text: Run OCR on it first": ["picture.pdf"],
    }
    capsys.readouterr()
    reading.report()
    assert "failed 2, it is encrypted: Save it without a password: aes.pdf, rc4.pdf\n" in capsys.readouterr().err


@given(rng=st.randoms(use_true_random=True))
@settings(max_examples=30, deadline=None)
def test_a_broken_file_is_read_or_fails(rng, tmp_path_factory):
    folder = tmp_path_factory.mktemp("broken")
    (folder / "a.pdf").write_bytes(malformed(PDF, random.Random(rng.getrandbits(32))))
    (folder / "b.docx").write_bytes(malformed(DOCX, random.Random(rng.getrandbits(32))))
    (folder / "c.txt").write_text("The mill.")
    found, reading = documents(folder)
    assert found[-1].id == "c.txt"
    became = [name for notes in (reading.skipped, reading.failed) for names in notes.values() for name in names]
    assert sorted(reading.read + [name for name in became if "," not in name]) == ["a.pdf", "b.docx", "c.txt"]


def test_docx_keeps_headings_lists_and_tables(tmp_path):
    made = docx.Document()
    made.add_heading("The Handbook", 0)
    made.add_heading("Travel", 1)
    made.add_paragraph("You may\ttravel.")
    made.add_paragraph("By train", style="List Bullet")
    table = made.add_table(3, 2)
    for cell, text in zip(
        [c for row in table.rows for c in row.cells], ["Name", "Born", "Ada", "1815", "", "1816"], strict=True
    ):
        cell.text = text
    table.cell(1, 0).merge(table.cell(2, 0))
    own = made.styles.add_style("Own", WD_STYLE_TYPE.PARAGRAPH)
    own.base_style = made.styles["Heading 2"]
    made.add_paragraph("Meals", style="Own")
    paragraph = made.add_paragraph("They are ")
    for tag, text in (("w:ins", "always "), ("w:del", "never ")):
        run = paragraph.add_run(text)._r
        change = docx.oxml.OxmlElement(tag)
        paragraph._p.append(change)
        change.append(run)
    paragraph.add_run("paid.")
    made.save(str(tmp_path / "h.docx"))
    (document,), _ = documents(tmp_path)
    assert document.title == "The Handbook"
    assert [(block.text, block.headings) for block in document.blocks] == [
        ("You may travel.", ("Travel",)),
        ("By train.", ("Travel",)),
        ("Name: Ada; Born: 1815.", ("Travel",)),
        ("Name: Ada; Born: 1816.", ("Travel",)),
        ("They are always paid.", ("Travel", "Meals")),
    ]


@pytest.mark.parametrize(
    ("text", "mended"),
    [
        ("the hand-\nbook.", "the handbook."),
        ("well-known and well-\nknown", "well-known and well-known"),
        ("pre-\nand post-war", "pre- and post-war"),
        ("Anglo-\nSaxon", "Anglo-Saxon"),
        ("state-of-the-\nart mills", "state-of-the-art mills"),
        ("1990-\n2000", "1990-2000"),
        ("a - \nb", "a - b"),
        ("the ﬁrst ﬂoor", "the first floor"),
        ("the hand\u00ad\nbook, soft\u00adly", "the handbook, softly"),
    ],
)
def test_words_parted_at_the_end_of_a_line(text, mended):
    (block,) = document_of_text("a.txt", f"{text}\nThe end.").blocks
    assert " ".join(block.text.split()) == f"{mended} The end."
    assert block.text.count("\n") == text.count("\n") + 1


@pytest.mark.parametrize(("name", "needed"), [("a.html", "lxml"), ("a.pdf", "pypdf"), ("a.docx", "docx")])
def test_a_library_that_is_missing_fails_its_files_alone(tmp_path, monkeypatch, name, needed):
    for module in [each for each in sys.modules if each.split(".")[0] == needed]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, needed, None)
    (tmp_path / name).write_bytes(b"x")
    (tmp_path / "b.txt").write_text("The mill.")
    found, reading = documents(tmp_path)
    assert [document.id for document in found] == ["b.txt"]
    assert list(reading.failed.values()) == [[name]]
    assert "pip install 'prag-lightning[documents]'" in next(iter(reading.failed))


def test_a_file_that_is_too_large_is_skipped(tmp_path, monkeypatch):
    with (tmp_path / "a.txt").open("wb") as file:
        file.truncate(reader.LARGEST_FILE + 1)
    (tmp_path / "b.txt").write_text("The mill.")
    found, reading = documents(tmp_path)
    assert [document.id for document in found] == ["b.txt"]
    assert reading.skipped == {"larger than 200 MB": ["a.txt"]}
