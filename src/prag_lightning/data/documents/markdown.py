"""Markdown, by markdown-it-py."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import unescape
from pathlib import Path

import regex
import yaml
from markdown_it import MarkdownIt
from markdown_it.token import Token

from prag_lightning.data.documents.document import Document, Outline
from prag_lightning.files import read_text
from prag_lightning.records import nfc, scalar_text

_FRONT_MATTER = regex.compile(r"\A---[ \t]*\n(.*?)^(?:---|\.\.\.)[ \t]*$\n?", regex.DOTALL | regex.MULTILINE)
_HTML = regex.compile(r"<!--.*?-->|<(script|style)\b.*?</\1\s*>|</?[a-zA-Z][^>]*>", regex.DOTALL | regex.IGNORECASE)


def read_markdown(path: Path, key: str) -> Iterator[Document]:
    """A Markdown file is a document, titled by its front matter, or the one heading above all others, or its name."""
    text = read_text(path, "document", "Give a file that can be read").replace("\r\n", "\n")
    title, begins = "", 0
    front = _FRONT_MATTER.match(text)
    if front:
        about = _front_matter(front[1])
        if about is not None:
            title, begins = scalar_text(about.get("title")) or "", front[0].count("\n")
            text = text[front.end() :]
    parser = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    outline = Outline()
    _walk(parser.parse(text), outline, begins + 1)
    yield outline.document(key, title, outline.main_heading, nfc(path.stem))


def _front_matter(text: str) -> dict[str, object] | None:
    """What it says; `None` if it is none, but text between two lines."""
    try:
        about = yaml.safe_load(text)
    except Exception:  # PyYAML's own, or of what makes a date
        return None
    return about if isinstance(about, dict) else None


def _walk(tokens: Sequence[Token], outline: Outline, first_line: int) -> None:
    items = 0
    rows: list[list[str]] = []
    lines: list[int | None] = []
    for before, token in zip([None, *tokens], tokens, strict=False):
        line = token.map[0] + first_line if token.map else None
        match token.type:
            case "list_item_open":
                items += 1
            case "list_item_close":
                items -= 1
            case "fence" | "code_block":
                outline.block(token.content, line=line)
            case "html_block":
                outline.block(_without_html(token.content), line=line)
            case "table_open":
                rows, lines = [], []
            case "tr_open":
                rows.append([])
                lines.append(line)
            case "table_close":
                outline.table(rows, lines)
            case "inline":
                kind = before.type if before else ""
                if kind in ("th_open", "td_open"):
                    rows[-1].append(_text(token))
                elif before and kind == "heading_open":
                    outline.heading(int(before.tag[1:]), _text(token), line=line)
                else:
                    outline.block(_text(token), line=line, item=items > 0)


def _text(inline: Token) -> str:
    """The text of a line: of a link its text, of an image what stands for it, of code the code."""
    parts = []
    for token in inline.children or ():
        if token.type in ("softbreak", "hardbreak"):
            parts.append("\n")
        elif token.type == "html_inline":
            parts.append(" " if token.content.lower().startswith("<br") else "")
        else:
            parts.append(token.content)
    return "".join(parts)


def _without_html(text: str) -> str:
    return unescape(_HTML.sub(lambda found: "\n" * found[0].count("\n") or " ", text))
