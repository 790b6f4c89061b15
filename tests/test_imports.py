"""What importing the package needs: nothing that one system alone has, and no torch where none is needed."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import prag_lightning

PACKAGE = Path(prag_lightning.__file__).parent
POSIX_ONLY = {"fcntl", "grp", "posix", "pwd", "readline", "resource", "termios", "tty"}


def imported(body: list[ast.stmt]) -> set[str]:
    """Modules that are imported when a file is."""
    found = set()
    for statement in body:
        if isinstance(statement, ast.Import):
            found |= {alias.name for alias in statement.names}
        elif isinstance(statement, ast.ImportFrom):
            found.add(str(statement.module))
    return found


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_work_on_any_system_and_training_knows_nothing_of_augment(path):
    names = imported(ast.parse(path.read_text(encoding="utf-8")).body)
    assert not names & POSIX_ONLY
    if path.parent.name in ("training", "lora"):
        assert not [name for name in names if name.startswith("prag_lightning.augment")]


def test_paths_and_recipe_need_no_torch():
    code = "import sys, prag_lightning.training.layout, prag_lightning.training.recipe; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
