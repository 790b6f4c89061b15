"""The commands without a trainer: plan, ask, check, export, report, serve, and those of a store, sync and forget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Literal

from jsonargparse import Namespace

from prag_lightning.cli.front import COMMANDS
from prag_lightning.cli.parser import HelpFormatter
from prag_lightning.cli.quiet import quiet_libraries
from prag_lightning.cli.settings import STORE, Parser, experiment_parser, memory_of, parse, pipeline_of
from prag_lightning.errors import InputError
from prag_lightning.serve.settings import Limits, ServerSettings

if TYPE_CHECKING:
    from prag_lightning.memory.memory import Memory
    from prag_lightning.pipeline.pipeline import Pipeline

_OF_AN_EXPERIMENT = ("-c", "--config", "--model", "--data", "--trainer", "--seed", "--print_config", "--help-all")


def run_experiment_command(command: str, args: Sequence[str]) -> None:
    """Run one of them.

    Raises:
        PragError: whatever it raises.
    """
    quiet_libraries()
    if command == "report":
        _report(args)
        return
    settings = parse(experiment_command_parser(command), args)
    if settings.get("store") is not None:
        _run_on_store(command, settings)
        return
    pipeline = pipeline_of(settings, command)
    if command == "plan":
        from prag_lightning.commands.plan import plan

        plan(pipeline, measure=settings.measure)
    elif command == "check":
        from prag_lightning.commands.check import check

        check(pipeline, delete=settings.delete)
    elif command == "ask":
        from prag_lightning.commands.ask import ask

        ask(pipeline.asker(), settings.question, as_json=settings.json)
    elif command == "serve":
        _serve(settings, pipeline)
    else:
        from prag_lightning.commands.export import export

        options = ("test_ids", "passages", "merged", "rank", "layout", "format", "push_to_hub", "hub_private_repo")
        export(pipeline, settings.out, **{name: settings[name] for name in options})


def _run_on_store(command: str, settings: Namespace) -> None:
    memory = memory_of(settings, command)
    if command == "ask":
        from prag_lightning.commands.ask import ask

        ask(memory.asker(), settings.question, as_json=settings.json)
    elif command == "serve":
        _serve(settings, memory.pipeline, memory)
    elif command == "export":
        _export_store(settings, memory)
    elif command == "forget":
        from prag_lightning.commands.sync import forget

        forget(memory, settings.id)
    else:
        from prag_lightning.commands.sync import sync

        sync(memory, settings.documents or (), settings.corpus or (), dry_run=settings.dry_run)


def _export_store(settings: Namespace, memory: Memory) -> None:
    from prag_lightning.commands.export import export_store

    if settings.test_ids is not None:
        raise InputError("a store has no questions", where="--test_ids", hint="Give --passages, or neither")
    options = ("passages", "merged", "rank", "layout", "format", "push_to_hub", "hub_private_repo")
    export_store(memory, settings.out, **{name: settings[name] for name in options})


def _serve(settings: Namespace, pipeline: Pipeline, memory: Memory | None = None) -> None:
    try:
        from prag_lightning.commands.serve import serve
    except ImportError as error:
        raise InputError(
            f"{error.name} is not installed", where="prag serve", hint="pip install 'prag-lightning[serve]'"
        ) from error
    reached = ServerSettings(**{field.name: settings[field.name] for field in fields(ServerSettings)})
    limits = Limits(**{field.name: settings[field.name] for field in fields(Limits)})
    serve(pipeline, memory, reached, limits)


def experiment_command_parser(command: str) -> Parser:
    """The parser of one of them: an experiment's settings, and its own."""
    parser = experiment_parser(command, COMMANDS[command].help)
    if command in ("ask", "serve", "export", "sync", "forget"):
        reads = command in ("ask", "serve", "export")
        unset = f"unset means the configuration's corpus, or {STORE}" if reads else f"unset means {STORE}"
        parser.add_argument("--store", type=str, help=f"The folder that holds documents; {unset}.")
    if command == "sync":
        _add_sync(parser)
    elif command == "forget":
        parser.add_argument("id", help="Of a document or a passage, or a folder of documents, ending in /.")
    elif command == "plan":
        parser.add_argument(
            "--measure",
            type=bool,
            default=True,
            help="Do a batch of each stage to see how long it takes; what it makes is kept.",
        )
    elif command == "check":
        parser.add_argument(
            "--delete", type=bool, default=False, help="Delete the damaged ones, so that prag fit makes them anew."
        )
    elif command == "ask":
        parser.add_argument("question", nargs="?", help="Unset: typed at a prompt, or lines of the standard input.")
        parser.add_argument("--json", action="store_true", help="Print a line of JSON an answer, for programs.")
    elif command == "serve":
        _add_serve(parser)
    elif command == "export":
        _add_export(parser)
    else:
        _add_report(parser)
    return parser


def _add_sync(parser: Parser) -> None:
    parser.add_argument(
        "--documents",
        nargs="+",
        help="Folders and files to be held as they are now: what is new or changed is encoded, what is gone dropped.",
    )
    parser.add_argument("--corpus", nargs="+", help="Corpus files, whose passages are held as they are.")
    parser.add_argument("--dry-run", action="store_true", help="Say what there is to do, and do nothing.")


def _add_export(parser: Parser) -> None:
    parser.add_argument("--out", type=str, required=True, help="A folder; what is there already is left alone.")
    parser.add_argument("--test_ids", type=list[int] | None, help="Of the questions; unset means all.")
    parser.add_argument(
        "--passages",
        type=list[int | str] | None,
        help="Ids of passages of the corpus, in place of questions; adapters that are missing are made. With --store, "
        "of its passages and documents; unset means all.",
    )
    parser.add_argument(
        "--merged",
        type=bool,
        default=True,
        help="Make one adapter of several; else {out}/{split}/data_{test_id}/passage_{pid} or {out}/passage_{id}. "
        "With --layout vllm, - stands for the / below {out}.",
    )
    parser.add_argument(
        "--rank",
        type=int | None,
        help="Fill adapters up to this rank with zeros, for serving engines that take 8, 16, … only.",
    )
    parser.add_argument(
        "--layout",
        type=Literal["published", "vllm"],
        default="published",
        help="vllm: one directory a name, as vLLM's filesystem resolver reads them, of ranks that it takes; what "
        "starts it is printed.",
    )
    parser.add_argument(
        "--format", type=Literal["peft", "gguf"], default="peft", help="gguf: for llama.cpp and Ollama."
    )
    parser.add_argument(
        "--push_to_hub",
        type=str | None,
        help="A repository of the Hugging Face hub to put them into as well, such as me/my-adapters.",
    )
    parser.add_argument(
        "--hub_private_repo", type=bool, default=True, help="Whether that is private, if it has to be made."
    )


def _add_serve(parser: Parser) -> None:
    parser.add_class_arguments(ServerSettings, None)
    parser.add_class_arguments(Limits, None)


def _add_report(parser: Parser) -> None:
    parser.add_argument("folder", nargs="?", help="With results; unset means those of the configuration.")
    parser.add_argument("--out", type=str | None, help="A folder for the files; unset means beside the results.")
    parser.add_argument(
        "--compare",
        type=str | None,
        help="A folder of another run's results, to be compared question by question; also one of the published code.",
    )


def _report(args: Sequence[str]) -> None:
    """Report a folder, which needs no settings, or that of an experiment."""
    if any(arg.startswith(_OF_AN_EXPERIMENT) for arg in args):
        settings = parse(experiment_command_parser("report"), args)
        folder = settings.folder or settings.model.output_root
    else:
        parser = Parser(prog="prag report", formatter_class=HelpFormatter)
        _add_report(parser)
        settings = parse(parser, args)
        folder = settings.folder
    if folder is None:
        raise InputError("no folder of results", hint="Give one, as in: prag report logs/output, or --config FILE")
    from prag_lightning.commands.report import report

    report(folder, settings.out, settings.compare)
