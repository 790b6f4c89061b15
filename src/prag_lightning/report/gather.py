"""Results on disk, read and put together by experiment."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

from prag_lightning.data.benchmarks import TOTAL
from prag_lightning.errors import InputError
from prag_lightning.files import read_json
from prag_lightning.inference.identity import CONFIG_FILE, IDENTITY, MADE_BY, PREDICTIONS, RESULT_FILE, method_settings
from prag_lightning.inference.results import find_results, method_order, read_scores
from prag_lightning.llm.names import short_name
from prag_lightning.metrics import Extraction, is_out_of_reach
from prag_lightning.records import Json, answers_from_json

HINT = "Run 'prag test' again, or move this folder away"
SCORES = ("em", "f1", "prec", "recall")
_OF_EVERY_METHOD = ("model_name", "with_cot", "max_new_tokens", "answer_extraction", "prompts")
_OF_PASSAGES = ("topk", "augment_model", "retrieve_at_test")
_OF_ADAPTERS = (
    "lora_rank",
    "lora_alpha",
    "learning_rate",
    "num_train_epochs",
    "per_device_train_batch_size",
    "block_size",
    "lora_a",
    "null_space",
    "objective",
    "include_text",
    "locality",
    "distill_samples",
    "adapter_format",
    "target_modules",
    "base_weight",
)
_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Reply:
    """A question, what was answered, and how that scores, each in 0..1."""

    test_id: int
    question: str
    answers: tuple[str, ...]
    text: str
    scores: Mapping[str, float]


@dataclass(frozen=True)
class Result:
    """What one method answered to one split.

    Args:
        directory: Where its files are.
        method: The folder's name: an inference method, with its merge and control, and the settings that tell it from
            results of the same method.
        split: Of the data set.
        replies: In order of `test_id`.
        settings: Those of model and data, by name.
        summary: What `result.txt` says.
        identity: What decided the answers and scores, if the result says so.
        made_by: What made it, if the result says so.
    """

    directory: Path
    method: str
    split: str
    replies: tuple[Reply, ...]
    settings: Mapping[str, Json]
    summary: Mapping[str, float]
    identity: Mapping[str, Json] = field(default_factory=dict)
    made_by: Mapping[str, Json] = field(default_factory=dict)

    def values(self, score: str) -> list[float]:
        """A score of each question."""
        return [reply.scores[score] for reply in self.replies]

    def mean(self, score: str) -> float:
        """A score's mean over the questions."""
        return sum(self.values(score)) / len(self.replies)

    def count(self, name: str) -> int:
        """How many questions, as `result.txt` says: `unanswered`, `abstained`, or `out_of_reach`, whose gold answer the
        extraction cuts; the latter is counted where it says nothing."""
        if name in self.summary or name != "out_of_reach":
            return int(self.summary.get(name, 0))
        extraction: Extraction = self.settings.get("answer_extraction", "paper")
        if extraction not in get_args(Extraction):
            return 0
        return sum(is_out_of_reach(reply.answers, extraction) for reply in self.replies)

    @property
    def named(self) -> dict[str, str]:
        """The settings that its folder is named by."""
        return method_settings(self.method)[1]

    def deciding_settings(self, *, named: bool = False) -> dict[str, Json]:
        """The settings that decide its answers, of those that are known.

        Args:
            named: Also those that its folder is named by.
        """
        kind = method_settings(self.method)[0].partition("-")[0]
        names = [*_OF_EVERY_METHOD]
        names += [] if kind == "vanilla" else _OF_PASSAGES
        names += [] if kind in ("vanilla", "icl") else _OF_ADAPTERS
        known = {**{name: self.settings[name] for name in names if name in self.settings}, **self.identity}
        return known if named else {name: value for name, value in known.items() if name not in self.named}


@dataclass(frozen=True)
class Experiment:
    """Results of one recipe on one data set.

    Args:
        path: Their common folder, relative to the root of results.
        model: Short name of the LLM.
        dataset: The data set's name.
        results: By split, and within it in the order of methods.
        apart: Settings that tell it from other experiments in the same folder.
    """

    path: str
    model: str
    dataset: str
    results: tuple[Result, ...]
    apart: Mapping[str, Json]

    @property
    def name(self) -> str:
        """Its folder, and what tells it from others there."""
        note = ", ".join(f"{name} {value}" for name, value in self.apart.items())
        return f"{self.path} ({note})" if note else self.path

    @property
    def title(self) -> str:
        """Model and data set."""
        return f"{self.model} on {self.dataset}" if self.model and self.dataset else self.path

    @property
    def splits(self) -> list[str]:
        """The splits with results."""
        return list(dict.fromkeys(result.split for result in self.results))

    @property
    def settings(self) -> dict[str, Json]:
        """What is known of its settings: each from a method that it matters to."""
        known: dict[str, Json] = {}
        for result in self.results:
            known = {**result.settings, **known, **result.deciding_settings()}
        return known

    def of_split(self, split: str) -> list[Result]:
        """The methods' results on a split."""
        return [result for result in self.results if result.split == split]


@dataclass(frozen=True)
class Results:
    """What is found below a folder.

    Args:
        experiments: The results; those of different recipes are never in one experiment.
        refused: The results that cannot be reported, a sentence each.
    """

    experiments: Sequence[Experiment]
    refused: Sequence[str]


def gather(output_root: Path) -> Results:
    """All results below a folder.

    Raises:
        InputError: if there are none that can be reported.
    """
    by_path: dict[str, list[Result]] = {}
    errors = []
    for directory in find_results(output_root):
        try:
            by_path.setdefault(_experiment_path(directory, output_root), []).append(read_result(directory))
        except InputError as error:
            errors.append(error)
    experiments = [e for path, results in sorted(by_path.items()) if results for e in _experiments(path, results)]
    if not experiments:
        raise errors[0]
    return Results(experiments, [str(error) for error in errors])


def _experiment_path(directory: Path, root: Path) -> str:
    """The folder of a result's experiment, relative to the root; of one that is given by itself, as the layout has
    it."""
    parts = directory.relative_to(root).parts
    if len(parts) >= 3:
        return "/".join(parts[:-2])
    parts = directory.resolve().parts
    if len(parts) >= 7 and parts[-3].startswith("aug_model="):
        return "/".join(parts[-7:-2])
    raise InputError("a result is not where results are written", where=str(directory), hint="Move this folder away")


def labels(experiments: Sequence[Experiment]) -> list[str]:
    """A short name for each: model and data set, and what tells it from others of the same."""
    names = []
    for experiment in experiments:
        alike = [other for other in experiments if other.title == experiment.title]
        parts = [
            part
            for part in experiment.path.split("/")
            if any(part not in other.path.split("/") for other in alike) and part not in experiment.title.split()
        ]
        parts += [f"{name} {value}" for name, value in experiment.apart.items()]
        names.append(f"{experiment.title}: {', '.join(parts)}" if parts else experiment.title)
    return names


def read_result(directory: Path) -> Result:
    """Read a folder with `config.json`, `predict.json` and `result.txt`.

    Raises:
        InputError: naming the file that is missing or damaged, or does not belong to the others.
    """
    config = read_json(directory / CONFIG_FILE, HINT)
    if not isinstance(config, Mapping):
        raise InputError("the file holds no settings", where=str(directory / CONFIG_FILE), hint=HINT)
    parts = [config, *(part for name in ("model", "data") if isinstance(part := config.get(name), Mapping))]
    settings = {str(name): value for part in parts for name, value in part.items()}
    replies = _read_replies(directory / PREDICTIONS)
    directory = directory.resolve() if len(directory.parts) < 2 else directory
    about = [value if isinstance(value := config.get(name), Mapping) else {} for name in (IDENTITY, MADE_BY)]
    result = Result(directory, directory.parent.name, directory.name, replies, settings, read_scores(directory), *about)
    for score in ("em", "f1"):
        said, mean = result.summary.get(score), result.mean(score)
        if said is None or not abs(said - mean) < _TOLERANCE:
            raise InputError(
                f"{RESULT_FILE} says {score} {said}, and the answers of predict.json give {mean:.6g}",
                where=str(directory),
                hint=HINT,
            )
    return result


def _read_replies(path: Path) -> tuple[Reply, ...]:
    rows = read_json(path, HINT)
    if not isinstance(rows, list):
        raise InputError("the file is not a list of answers", where=str(path), hint=HINT)
    if not rows:
        raise InputError("the file holds no answers", where=str(path), hint=HINT)
    by_id: dict[int, Reply] = {}
    for number, row in enumerate(rows):
        reply = _reply(row, f"{path}, row {number}")
        if reply.test_id in by_id:
            raise InputError(f"a second row has test_id {reply.test_id}", where=f"{path}, row {number}", hint=HINT)
        by_id[reply.test_id] = reply
    return tuple(by_id[test_id] for test_id in sorted(by_id))


def _reply(row: Json, where: str) -> Reply:
    if not isinstance(row, Mapping):
        raise InputError(f"an answer is not an object but {type(row).__name__}", where=where, hint=HINT)
    test_id, question, text = (row.get(name) for name in ("test_id", "question", "text"))
    if not isinstance(test_id, int) or isinstance(test_id, bool):
        raise InputError(f"'test_id' is not a whole number but {test_id!r}", where=where, hint=HINT)
    if not isinstance(question, str) or not isinstance(text, str):
        raise InputError("'question' or 'text' is not a text", where=where, hint=HINT)
    scores = {}
    for name in SCORES:
        value = _number(row.get(name))
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
            raise InputError(f"{name!r} is not a number from 0 to 1 but {value!r}", where=where, hint=HINT)
        scores[name] = float(value)
    return Reply(test_id, question, answers_from_json(row.get("answer"), where), text, scores)


def _number(value: Json) -> Json:
    """A number, also where it is written as a text, as other code leaves scores."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _experiments(path: str, results: Iterable[Result]) -> list[Experiment]:
    """The results of one folder, apart where settings that matter to both of two results differ, and are in no folder's
    name."""
    groups: list[list[Result]] = []
    for result in sorted(results, key=lambda result: (len(result.named), _order(result))):
        fitting = [group for group in groups if all(_agree(result, other) for other in group)]
        alike = [group for group in fitting if all(_agree(result, other, named=True) for other in group)]
        group = next(iter(alike or fitting), None)
        if group is None:
            groups.append([result])
        else:
            group.append(result)
    groups = sorted((sorted(group, key=_order) for group in groups), key=lambda group: _order(group[0]))
    known = [[r.deciding_settings() for r in group] for group in groups]
    return [
        Experiment(path, *_model_and_dataset(path, group[0]), tuple(group), _apart(settings, known))
        for group, settings in zip(groups, known, strict=True)
    ]


def _order(result: Result) -> tuple[bool, str, tuple[int, str]]:
    return (result.split != TOTAL, result.split, method_order(result.method))


def _agree(one: Result, other: Result, *, named: bool = False) -> bool:
    ours, theirs = one.deciding_settings(named=named), other.deciding_settings(named=named)
    return all(ours[name] == theirs[name] for name in ours.keys() & theirs.keys())


def _apart(own: Sequence[Mapping[str, Json]], groups: Sequence[Sequence[Mapping[str, Json]]]) -> dict[str, Json]:
    """Of a group's settings those that some result of another group has otherwise."""
    merged = {name: value for settings in own for name, value in settings.items()}
    others = [settings for group in groups if group is not own for settings in group]
    return {
        name: shown_setting(value)
        for name, value in merged.items()
        if any(name in settings and settings[name] != value for settings in others)
    }


def shown_setting(value: Json) -> Json:
    """A setting's value as a person is shown it: hashes cut short."""
    return value[:8] if isinstance(value, str) and re.fullmatch(r"[0-9a-f]{64}", value) else value


def _model_and_dataset(path: str, result: Result) -> tuple[str, str]:
    """From the settings; of a result without them, from where the layout has them."""
    parts = path.split("/")
    model, dataset = (parts[-5], parts[-3]) if len(parts) >= 5 else ("", "")
    name = result.settings.get("model_name")
    return (
        short_name(name) if isinstance(name, str) and name else model,
        str(result.settings.get("dataset") or dataset),
    )
