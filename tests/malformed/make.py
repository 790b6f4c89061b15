"""Makes cases.jsonl, the malformed inputs that each reader must refuse or survive:

    python tests/malformed/make.py

A line a case: its reader (see tests/readers.py) and its bytes, as Latin-1.
"""

import json
import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
from readers import READERS, malformed

CASES_A_READER, SEED = 26, 1
LONGEST = 3000
"""Bytes of a case: the deepest nests and the longest numbers are left to the tests that draw anew."""


def main() -> None:
    """Draw the cases."""
    rng, lines = random.Random(SEED), []
    for name, reader in READERS.items():
        cases: dict[bytes, None] = {}
        while len(cases) < CASES_A_READER:
            case = malformed(reader.seed, rng)
            if case != reader.seed and len(case) <= LONGEST:
                cases[case] = None
        lines += [json.dumps({"reader": name, "content": case.decode("latin-1")}) for case in cases]
    (Path(__file__).parent / "cases.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
