"""The `prag` command."""

from __future__ import annotations

import _thread
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from prag_lightning import __version__
from prag_lightning.cli.front import command_of, help_text
from prag_lightning.errors import PragError, Terminated, explained, print_error

_ENDED = {
    signal.SIGINT: (130, "interrupted. Run the same command again to go on from here."),
    signal.SIGTERM: (143, str(Terminated())),
}

_AGAIN_AFTER = 0.01
"""Seconds after which a signal comes again whose exception was lost in a finaliser, from which none gets out."""


def main(args: list[str] | None = None) -> int:
    """Run `prag`; gives 0, 2 for the user's mistake, 1 for a failure, 130 and 143 when interrupted and terminated."""
    args = sys.argv[1:] if args is None else args
    received: list[signal.Signals] = []
    try:
        with _signals_raise(received), _quiet_threads():
            _run(args, received)
    except BrokenPipeError:
        # Whoever read the output has seen enough; the rest goes nowhere, or Python would complain when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141  # as a shell says of a process that SIGPIPE has ended
    except (Exception, KeyboardInterrupt, SystemExit) as error:
        if isinstance(error, KeyboardInterrupt) or isinstance(error.__context__, KeyboardInterrupt):
            received.append(signal.SIGINT)
        if received:
            # Whatever error it has become: libraries turn a signal that comes while they are loaded into others.
            return _failed(error, *_ENDED[received[0]])
        if isinstance(error, SystemExit):  # of parsers that have printed what was asked for
            return error.code if isinstance(error.code, int) else 0
        ours = error if isinstance(error, PragError) else explained(error)
        return _failed(error, ours.exit_code, str(ours))
    return 0


def _run(args: list[str], received: list[signal.Signals]) -> None:
    if not args or args[0] in ("-h", "--help", "help"):
        print(help_text())
        return
    if args[0] == "--version":
        print(f"prag-lightning {__version__}")
        return
    command, rest = command_of(args)
    run: Callable[[str, list[str]], None]
    if command in ("corpus", "index", "data check"):
        from prag_lightning.cli.data import run_data_command as run
    elif command in ("plan", "ask", "check", "export", "report", "sync", "forget", "serve"):
        from prag_lightning.cli.experiments import run_experiment_command as run
    elif command == "demo":
        from prag_lightning.cli.demo import run_demo as run
    elif command == "init":
        from prag_lightning.cli.init import run_init as run
    elif command == "completion":
        from prag_lightning.cli.completion import print_completion as run
    else:
        from prag_lightning.cli.stages import run_stage as run
    if received:
        raise Terminated
    run(command, rest)


def _interrupt_main(number: signal.Signals) -> None:
    """Send the main thread a signal, which wakes it where the system can."""
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident or 0, number)
    else:
        _thread.interrupt_main(number)


@contextmanager
def _signals_raise(received: list[signal.Signals]) -> Iterator[None]:
    """Let SIGINT and SIGTERM end the command as an error does, so that what is begun is put in order and a line says
    how to go on; those that came are added to `received`."""

    def end(number: int, _: object) -> None:
        received.append(signal.Signals(number))
        raise KeyboardInterrupt if number == signal.SIGINT else Terminated

    def again(lost: sys.UnraisableHookArgs) -> None:
        if isinstance(lost.exc_value, KeyboardInterrupt | Terminated):
            threading.Timer(_AGAIN_AFTER, _interrupt_main, [received[-1]]).start()
        else:
            hook(lost)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous, hook = {number: signal.signal(number, end) for number in _ENDED}, sys.unraisablehook
    sys.unraisablehook = again
    try:
        yield
    finally:
        sys.unraisablehook = hook
        for number, handler in previous.items():
            signal.signal(number, handler)


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
