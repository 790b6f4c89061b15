"""The `prag` command."""

from __future__ import annotations

import os
import sys
import traceback

from prag_lightning.command_line import print_error
from prag_lightning.errors import PragError
from prag_lightning.hidden import hidden


def main(args: list[str] | None = None) -> int:
    """Run `prag`; gives 0, 2 for the user's mistake, 1 for a failure, 130 and 143 when interrupted and terminated."""
    args = sys.argv[1:] if args is None else args
    try:
        if args[:1] in (["corpus"], ["index"], ["data"]):
            from prag_lightning.data_commands import run_data_command

            run_data_command(args)
        else:
            with hidden("matplotlib", "scipy"):
                from prag_lightning.stages import run_stage

            run_stage(args)
    except PragError as error:
        return _failed(error, error.exit_code, str(error))
    except (KeyboardInterrupt, SystemExit) as error:
        if not isinstance(error, KeyboardInterrupt) and not isinstance(error.__context__, KeyboardInterrupt):
            raise
        return _failed(error, 130, "interrupted. Run the same command again to go on from here")
    except OSError as error:
        return _failed(error, 1, f"{error.strerror or error} ({error.filename or 'while writing or reading'})")
    except Exception as error:
        reason = " ".join(str(error).split())
        return _failed(error, 1, f"{type(error).__name__}: {reason}. Set PRAG_DEBUG=1 to see where")
    return 0


def _failed(error: BaseException, exit_code: int, message: str) -> int:
    if os.environ.get("PRAG_DEBUG") == "1":
        traceback.print_exception(error)
    print_error(message)
    return exit_code


if __name__ == "__main__":
    sys.exit(main())
