"""Lightning's Trainer for warm-ups: it writes the rows, goes on where it was, and leaves a PEFT adapter."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import torch
from lightning.pytorch.callbacks import Callback

from prag_lightning.errors import InputError, PragError
from prag_lightning.files import read_json, write_json
from prag_lightning.journal import Journal
from prag_lightning.lightning.processes import LinkedProcesses, processes_of
from prag_lightning.lightning.stage_trainer import StageTrainer
from prag_lightning.lightning.warmup.callbacks import ResumePoint, WarmupProgressBar
from prag_lightning.lightning.warmup.datamodule import WarmupDataModule
from prag_lightning.lightning.warmup.module import WarmupModule
from prag_lightning.llm.loading import load_llm_for
from prag_lightning.lora.adapters import is_adapter, lora_config, write_adapter
from prag_lightning.records import Json
from prag_lightning.warmup.chains import ChainWriter
from prag_lightning.warmup.questions import HASHES_FILE, Candidates, question_hashes
from prag_lightning.warmup.rows import WarmupRow, write_rows

CONFIG_FILE = "training_config.json"


class WarmupTrainer(StageTrainer):
    """A Trainer that trains a `base_weight`; see `lightning.Trainer` for its arguments."""

    progress_bar = WarmupProgressBar
    processes = LinkedProcesses

    # Rows

    def warmup_data(self, model: WarmupModule, datamodule: WarmupDataModule) -> None:
        """Draw the rows that a warm-up learns from, none of which testing asks, and write them down.

        With a chain of thought the LLM writes it from the gold sentences; each process about its share.
        """
        self.in_processes(lambda: self._write_rows(model, datamodule))

    def _write_rows(self, model: WarmupModule, data: WarmupDataModule) -> None:
        folder, drawn = data.folder(model.model_name), data.candidates()
        writer = self._chain_writer(model, data, folder) if data.with_cot else None
        for candidates in drawn:
            rows, note = _rows(candidates, writer)
            if self.is_global_zero:
                path = folder / f"{candidates.source.name}.json"
                stands = "written to" if write_rows(path, rows) else "as they stand in"
                print(f"{candidates.source.name}: {len(rows)} rows {note}, {stands} {path}")

    def _chain_writer(self, model: WarmupModule, data: WarmupDataModule, folder: Path) -> ChainWriter:
        name = data.augment_model or model.model_name
        setting = "data.augment_model" if data.augment_model else "model.model_name"
        llm = load_llm_for(self, name, (), trust_remote_code=model.trust_remote_code, setting=setting)
        return ChainWriter(
            llm,
            data.prompt_templates,
            Journal(folder, self.global_rank, {"text": str}),
            data.augment_batch_size,
            data.max_new_tokens,
            self.strategy.precision_plugin.forward_context,
            processes_of(self),
        )

    # Training

    def fit(self, model: WarmupModule, datamodule: WarmupDataModule) -> None:  # type: ignore[override]
        """Train the adapter that every passage will start from.

        Raises:
            InputError: if one of other settings stands in its place, finished or not.
        """
        directory, settings = model.directory(datamodule.with_cot), self._settings(model, datamodule)
        if is_adapter(directory):
            _check_settings(directory, settings)
            if self.is_global_zero:
                print(f"The warm-up has been trained already, in {directory}")
            return
        state = directory.with_name(f"{directory.name}.unfinished")
        resume_from = self._resume_point(state, settings)
        self.callbacks: list[Callback]
        self.callbacks.append(ResumePoint(resume_from, model.resume_every_n_steps))
        super().fit(
            model, datamodule=datamodule, ckpt_path=resume_from if resume_from.exists() else None, weights_only=True
        )
        if self.is_global_zero and not self.fast_dev_run:  # type: ignore[attr-defined]
            self._write(directory, model, datamodule, settings)
            shutil.rmtree(state, ignore_errors=True)
            print(f"The trained base_weight is in {directory}")

    def _resume_point(self, state: Path, settings: dict[str, Json]) -> Path:
        """Where the state of an unfinished training of these settings is, or shall be."""
        if (state / CONFIG_FILE).exists():
            _check_settings(state, settings)
        elif self.is_global_zero:
            write_json(state / CONFIG_FILE, settings)
        path = state / "last.ckpt"
        if path.exists():
            try:
                torch.load(path, map_location="cpu", weights_only=True)
            except Exception as error:  # whatever a damaged file makes of it
                raise InputError(
                    f"the state of the unfinished warm-up cannot be read: {error}",
                    where=str(path),
                    hint="Delete it to begin anew",
                ) from error
        return path

    def _settings(self, model: WarmupModule, data: WarmupDataModule) -> dict[str, Json]:
        """All that decides the adapter, but for the LLM's weights."""
        return {
            "model_name": model.model_name,
            "lora_rank": model.lora_rank,
            "lora_alpha": model.lora_alpha,
            "target_modules": sorted(model.target_modules),
            "learning_rate": model.learning_rate,
            "objective": model.objective,
            "block_size": model.block_size,
            "with_cot": data.with_cot,
            "rows": {name: len(rows) for name, rows in data.training_rows(model.model_name).items()},
            "data": data.fingerprint(model.model_name),
            "max_epochs": self.max_epochs,
            "max_steps": self.max_steps,
            "limit_train_batches": self.limit_train_batches,
            "per_device_train_batch_size": data.per_device_train_batch_size,
            "accumulate_grad_batches": self.accumulate_grad_batches,
            "gradient_clip_val": self.gradient_clip_val,
            "processes": self.world_size,
            "precision": str(self.precision),
        }

    def _write(self, directory: Path, model: WarmupModule, data: WarmupDataModule, settings: dict[str, Json]) -> None:
        config = lora_config(model.llm.name, model.lora_rank, model.lora_alpha, model.llm.stack.targets)
        questions = (row.question for rows in data.rows(model.model_name).values() for row in rows)
        losses = {name: float(value) for name, value in self.callback_metrics.items() if name.endswith("/loss")}
        outcome = {**settings, "steps": self.global_step, **losses, "llm": model.llm.fingerprint}
        notes = {
            CONFIG_FILE: json.dumps(outcome, indent=4) + "\n",
            HASHES_FILE: "".join(f"{digest}\n" for digest in sorted(question_hashes(questions))),
        }
        write_adapter(directory, model.lora.weights(), config, notes=notes)


def _rows(candidates: Candidates, writer: ChainWriter | None) -> tuple[list[WarmupRow], str]:
    """The rows of a source, and what there is to say of them."""
    source = candidates.source
    note = f"from row {candidates.first_row} on"
    if candidates.asked_in_tests:
        note += f" ({candidates.asked_in_tests} left out: testing asks the same)"
    if writer is None:
        wanted = candidates.questions if source.rows == -1 else candidates.questions[: source.rows]
        return [WarmupRow.of(question) for question in wanted], note
    rows, tried = writer.write(source.dataset, candidates.questions, source.rows)
    if not rows:
        raise PragError(
            f"none of {tried} chains of thought arrives at the right answer",
            where=f"data.sources, {source.name}",
            hint="Let a greater model write them with data.augment_model, or give the prompt file worked examples",
        )
    if len(rows) < source.rows:
        print(
            f"{source.name}: only {len(rows)} of the {source.rows} rows that are wanted could be had", file=sys.stderr
        )
    return rows, f"{note}, of {tried} chains that were written"


def _check_settings(directory: Path, settings: dict[str, Json]) -> None:
    """Look whether a training was one of these settings.

    Raises:
        InputError: naming what differs.
    """
    path, hint = directory / CONFIG_FILE, "Set model.warmup_root to another folder, or move that directory away"
    if not path.exists():
        raise InputError("a base_weight stands here that no warm-up wrote", where=str(directory), hint=hint)
    found = read_json(path, hint)
    for name, value in json.loads(json.dumps(settings)).items():
        if not isinstance(found, dict) or found.get(name) != value:
            was = found.get(name) if isinstance(found, dict) else None
            raise InputError(
                f"a warm-up of other settings stands here: {name} is {was!r}, not {value!r}",
                where=str(directory),
                hint=hint,
            )
