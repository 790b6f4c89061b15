"""Speed of encoding and answering beside plain PEFT, on models with random weights, so that nothing is downloaded.

    python -m benchmarks.speed
    python -m benchmarks.speed --only encode --rounds 1     # prints figures, writes nothing
    python -m benchmarks.speed --only encode --update       # writes them beside the others that stand there

Writes `RESULTS.md` and `speed.json` beside this file. Both sides run in one process and take turns; figures are medians
of the rounds with their spread. Takes about half an hour on two CPU cores.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import speed_report
from benchmarks.answering import answer, augment
from benchmarks.encoding import PADDED, encode, exactness, growth
from benchmarks.subjects import HERE, SHAPES, make_model
from benchmarks.timing import machine
from prag_lightning.files import write_json, write_text

PARTS = ("encode", "answer", "growth", "augment")


def main() -> None:
    """Measure, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="of each measurement")
    parser.add_argument("--many", type=int, default=10_000, help="passages of the long run")
    parser.add_argument("--only", nargs="+", choices=PARTS, help="print these figures, and write nothing")
    parser.add_argument("--update", action="store_true", help="with --only: write them in the place of earlier ones")
    options = parser.parse_args()
    parts = options.only or PARTS
    results: dict[str, Any] = {"machine": machine(), "rounds": options.rounds, "padded": PADDED}
    if options.update:
        earlier = json.loads((HERE / "speed.json").read_text(encoding="utf-8"))
        if any(earlier[name] != value for name, value in results.items()):
            parser.error("the earlier figures are of another machine or another number of rounds")
        results = earlier
    results |= {part: [] for part in ("encode", "answer") if part in parts}
    results |= {"exactness": []} if "encode" in parts else {}
    with tempfile.TemporaryDirectory() as name:
        for size in SHAPES:
            folder = make_model(Path(name) / size, size)
            if "encode" in parts:
                results["encode"] += encode(folder, size, options.rounds)
                results["exactness"].append(exactness(folder, size))
            if "answer" in parts:
                results["answer"] += answer(folder, size, options.rounds)
        if "growth" in parts:
            results["growth"] = growth(Path(name) / "2M", (100, options.many))
        if "augment" in parts:
            results["augment"] = augment(Path(name), options.rounds)
    if options.only and not options.update:
        print(json.dumps(results, indent=2))
        return
    write_json(HERE / "speed.json", results)
    write_text(HERE / "RESULTS.md", speed_report.report(results))


if __name__ == "__main__":
    main()
