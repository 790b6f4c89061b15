"""The tests that the documentation names are there."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NAMED = re.compile(r"`(test_\w+\.py)?::(test_\w+)`")


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda page: page.stem)
def test_the_tests_that_a_page_names_are_there(page):
    for line in page.read_text(encoding="utf-8").splitlines():
        file = ""
        for match in NAMED.finditer(line):
            file = match[1] or file
            assert file, f"{line}: of which file?"
            tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
            assert match[2] in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, (file, match[2])


def test_every_row_of_the_kinds_names_a_test():
    lines = (ROOT / "docs/kinds.md").read_text(encoding="utf-8").splitlines()
    rows = [line for line in lines if line.startswith("| ") and not line.startswith("| kind |")]
    assert len(rows) > 50
    assert [row for row in rows if not NAMED.search(row)] == []
