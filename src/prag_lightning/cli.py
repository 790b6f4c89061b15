"""The `prag` command."""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from prag_lightning.command_line import print_error
from prag_lightning.errors import PragError, Terminated, explained


def main(args: list[str] | None = None) -> int:
    """Run `prag`; gives 0, 2 for the user's mistake, 1 for a failure, 130 and 143 when interrupted and terminated."""
    args = sys.argv[1:] if args is None else args
    try:
        with _sigterm_raises(), _quiet_threads():
            _run(args)
    except PragError as error:
        return _failed(error, error.exit_code, str(error))
    except (KeyboardInterrupt, SystemExit) as error:
        if not isinstance(error, KeyboardInterrupt) and not isinstance(error.__context__, KeyboardInterrupt):
            raise
        return _failed(error, 130, "interrupted. Run the same command again to go on from here")
    except BrokenPipeError:
        # Whoever read the output has seen enough; the rest goes nowhere, or Python would complain when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except Exception as error:
        return _failed(error, 1, str(explained(error)))
    return 0


def _run(args: list[str]) -> None:
    if args[:1] in (["corpus"], ["index"], ["data"]):
        from prag_lightning.data_commands import run_data_command

        run_data_command(args)
    else:
        from prag_lightning.stages import run_stage

        run_stage(args)


@contextmanager
def _sigterm_raises() -> Iterator[None]:
    """Let SIGTERM end the command as an error does, so that what is begun is put in order and a line says how to go
    on."""

    def terminate(*_: object) -> None:
        raise Terminated

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


@contextmanager
def _quiet_threads() -> Iterator[None]:
    """Keep tracebacks of threads from the terminal: a writer of logs whose disk is full hands its error on as well."""
    previous = threading.excepthook
    if os.environ.get("PRAG_DEBUG") != "1":
        threading.excepthook = lambda _: None
    try:
        yield
    finally:
        threading.excepthook = previous


def _failed(error: BaseException, exit_code: int, message: str) -> int:
    if os.environ.get("PRAG_DEBUG") == "1":
        traceback.print_exception(error)
    print_error(message)
    return exit_code


if __name__ == "__main__":
    sys.exit(main())
