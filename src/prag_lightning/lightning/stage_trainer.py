"""What the project's trainers share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from lightning import Trainer
from lightning.pytorch.callbacks import Callback, ProgressBar
from lightning.pytorch.strategies import DDPStrategy

from prag_lightning.lightning.precision import use_llm_precision
from prag_lightning.llm.compute import precision_name

TRAINER_DEFAULTS: dict[str, Any] = {
    "max_epochs": 1,
    "enable_checkpointing": False,
    "enable_model_summary": False,
    "log_every_n_steps": 1,
    "num_sanity_val_steps": 0,
    "use_distributed_sampler": False,
}
"""What differs from Lightning's own defaults: one epoch, which is all there is to train of passages, and as published
for a warm-up; what is kept of a run, the project's own callbacks keep."""


class StageTrainer(Trainer):
    """A Trainer with defaults, a progress bar and processes of its own; see `lightning.Trainer` for its arguments.

    Raises:
        InputError: for a precision that the LLM cannot run in.
    """

    progress_bar: ClassVar[type[ProgressBar]]
    """Shown unless another is given, or none is wanted."""
    processes: ClassVar[type[DDPStrategy]]
    """Takes the place of Lightning's DDP."""
    own_callbacks: ClassVar[tuple[type[Callback], ...]] = ()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs = {**TRAINER_DEFAULTS, **kwargs}
        callbacks = kwargs.get("callbacks") or []
        callbacks = list(callbacks) if isinstance(callbacks, (list, tuple)) else [callbacks]
        if kwargs.get("enable_progress_bar") is not False and not any(isinstance(c, ProgressBar) for c in callbacks):
            callbacks.append(self.progress_bar())
        kwargs["callbacks"] = [*callbacks, *(callback() for callback in self.own_callbacks)]
        precision_name(kwargs.get("precision"))
        super().__init__(*args, **kwargs)
        if kwargs.get("strategy", "auto") in ("auto", "ddp") and type(self.strategy) is DDPStrategy:
            kwargs["strategy"] = self.processes()
            super().__init__(*args, **kwargs)
        use_llm_precision(self, kwargs.get("precision"))

    def in_processes(self, work: Callable[[], object]) -> None:
        """Do work that is no loop of Lightning's in each of the processes; all go on when the last has done it."""

        def run() -> None:
            self.strategy.setup_environment()
            work()
            self.strategy.barrier()
            self.strategy.teardown()

        if self.strategy.launcher is None:
            run()
        else:
            self.strategy.launcher.launch(run, trainer=self)
