"""Tables on a terminal."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping, Sequence

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.table import Table

_NARROW_NAME = 17
"""Characters that a name is folded at, if need be."""
_GAP = 2
"""Characters between two columns."""


def print_table(
    names: Mapping[str, Sequence[str]],
    numbers: Mapping[str, Sequence[str]],
    groups: Sequence[Hashable],
    left_out_first: Sequence[str] = (),
    title: str = "",
    console: Console | None = None,
) -> None:
    """Print a table. One that is too wide for the terminal has fewer columns, never a part of a number.

    Args:
        names: The columns on the left, by heading, a text a row: long ones are folded.
        numbers: Those on the right.
        groups: A row's group; there is a gap between groups.
        left_out_first: The headings of columns of numbers that can be left out, in this order.
        title: Stands above the table.
        console: Takes it, in place of the standard output.
    """
    console = console or _console()
    left_out = _left_out(names, numbers, left_out_first, console.width)
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False, padding=(0, 1, 0, 0), show_edge=False)
    for heading in names:
        table.add_column(heading, overflow="fold")
    shown = {heading: cells for heading, cells in numbers.items() if heading not in left_out}
    for heading in shown:
        table.add_column(heading, justify="right", no_wrap=True)
    for number, cells in enumerate(zip(*names.values(), *shown.values(), strict=True)):
        table.add_row(*map(escape, cells), end_section=groups[number] != groups[min(number + 1, len(groups) - 1)])
    if title:
        console.print(title, markup=False, highlight=False, soft_wrap=True)
    console.print(table)
    if left_out:
        console.print(f"Too narrow for {', '.join(left_out)}.", style="dim", highlight=False)
    console.print()


def _console() -> Console:
    console = Console()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = 120
    return console


def _left_out(
    names: Mapping[str, Sequence[str]], numbers: Mapping[str, Sequence[str]], left_out_first: Sequence[str], width: int
) -> list[str]:
    """The headings of columns that a table of so many characters has no place for."""
    widths = {heading: max(map(cell_len, (heading, *cells))) for heading, cells in numbers.items()}
    needed = sum(min(_NARROW_NAME, max(map(cell_len, (heading, *cells)))) for heading, cells in names.items())
    needed += sum(widths.values()) + _GAP * (len(names) + len(numbers) - 1)
    left_out = []
    for heading in left_out_first:
        if needed > width and heading in widths:
            left_out.append(heading)
            needed -= widths[heading] + _GAP
    return [heading for heading in numbers if heading in left_out]
