"""Processes that work side by side: none goes on when another has failed."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import psutil
from lightning import Trainer
from lightning.fabric.utilities.distributed import _set_num_threads_if_needed
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher

from prag_lightning.processes import Processes

_PERIOD, _GRACE = 0.2, 3.0
"""Seconds between two looks at the other processes, and until one that should end by itself is made to."""
_GRACE_OF_THE_LOST = 20.0
"""Likewise where this process may have failed because it lost the connection to one that is ending."""
_LAUNCHER_PID = "PRAG_LAUNCHER_PID"


def processes_of(trainer: Trainer) -> Processes:
    """Those of a trainer."""
    return Processes(trainer.global_rank, trainer.world_size, trainer.strategy.barrier, trainer.strategy.broadcast)


class _LinkedLauncher(_SubprocessScriptLauncher):
    """Starts the processes of one machine. When one of them fails the others end, with its exit code.

    Lightning's own observer looks every 5 s, and kills the first process without a code of ours; it does not look after
    the others when the first is killed.
    """

    _failed = False

    def launch(self, function: Callable[..., Any], *args: Any, trainer: Any = None, **kwargs: Any) -> Any:
        """Run a function in each process; see the base class."""
        if self.cluster_environment.creates_processes_externally:
            if os.environ.get(_LAUNCHER_PID) == str(os.getppid()):
                threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
            return super().launch(function, *args, trainer=trainer, **kwargs)
        self.cluster_environment.validate_settings(num_devices=self.num_processes, num_nodes=self.num_nodes)
        os.environ[_LAUNCHER_PID] = str(os.getpid())
        self._call_children_scripts()
        threading.Thread(target=self._watch, daemon=True).start()
        _set_num_threads_if_needed(num_processes=self.num_processes)
        try:
            return function(*args, **kwargs)
        except BaseException as error:
            self._failed = True
            lost = isinstance(error, RuntimeError)
            code = self._end_others(_GRACE_OF_THE_LOST if lost else _GRACE)
            if code > 0 and lost:
                raise SystemExit(code) from error  # it lost the connection to one that has said what failed
            raise

    def _watch(self) -> None:
        """End this process when another has failed and this one does not within a moment: its main thread may be
        waiting for the other for ever."""
        while (code := self._failure()) == 0:
            if self._failed or all(process.returncode == 0 for process in self.procs):
                return
            time.sleep(_PERIOD)
        deadline = time.monotonic() + _GRACE
        while time.monotonic() < deadline:
            if self._failed:
                return
            time.sleep(_PERIOD)
        self._end_others(0)
        sys.stdout.flush()
        os._exit(code if code > 0 else 1)

    def _failure(self) -> int:
        """The exit code of a process that has failed, or 0."""
        return next((code for process in self.procs if (code := process.poll())), 0)

    def _end_others(self, grace: float) -> int:
        """Wait a moment for the others to end, then kill them; gives the exit code of one that failed by itself."""
        deadline = time.monotonic() + grace
        while any(process.poll() is None for process in self.procs) and time.monotonic() < deadline:
            time.sleep(_PERIOD)
        code = self._failure()
        for process in self.procs:
            process.kill()
        return code


def _end_with(parent: int) -> None:
    """End this process when its parent has ended."""
    while os.getppid() == parent and psutil.pid_exists(parent):
        time.sleep(_PERIOD)
    os._exit(1)


class LinkedProcesses(DDPStrategy):
    """DDP whose processes end when one of them fails."""

    def _configure_launcher(self) -> None:
        super()._configure_launcher()
        if isinstance(self._launcher, _SubprocessScriptLauncher):
            assert self.cluster_environment is not None
            self._launcher = _LinkedLauncher(self.cluster_environment, self.num_processes, self.num_nodes)


class IndependentProcesses(LinkedProcesses):
    """Processes that each encode their own passages: launched, counted and gathered as in DDP, but no gradient is
    exchanged."""

    def configure_ddp(self) -> None:
        """Leave the model unwrapped: averaging gradients of different passages would be wrong."""
