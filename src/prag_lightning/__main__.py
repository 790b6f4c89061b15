"""`python -m prag_lightning` is `prag`."""

import sys

from prag_lightning.cli import main

sys.exit(main())
