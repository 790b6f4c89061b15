"""Draws the table of the demo's results, as `prag report` prints it on a terminal, into docs/table.svg.

Run after `make demo`: .venv/bin/python -m tools.picture_of_table
"""

import io
import re
from pathlib import Path

from rich.console import Console

from prag_lightning.inference.results import print_results
from prag_lightning.report.gather import gather
from prag_lightning.report.tables import half_widths

RESULTS, PICTURE = Path("demo-out/results"), Path("docs/table.svg")
COLUMNS = 96


def main() -> None:
    """Write the picture; the fonts that rich would load from elsewhere are left out."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, legacy_windows=False)
    console.print("[bold green]$[/] make demo", highlight=False)
    for experiment in gather(RESULTS).experiments:
        widths = {result.directory: half_widths(result) for result in experiment.results}
        scores = {result.directory: result.summary for result in experiment.results}
        print_results(scores, widths, console=console)
    picture = console.export_svg(title="make demo", unique_id="table")
    picture = re.sub(r"@font-face \{.*?\}\n", "", picture, flags=re.DOTALL)
    PICTURE.write_text(picture, encoding="utf-8")


if __name__ == "__main__":
    main()
