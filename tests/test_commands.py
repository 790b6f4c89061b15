"""The front of `prag`: help, version, mistyped words, devices, and messages a person can read."""

import inspect
import shutil
import subprocess
import sys

import pytest
import yaml
from lightning import Trainer

import prag_lightning
from prag_lightning.cli.entry import main
from prag_lightning.cli.front import COMMANDS
from prag_lightning.cli.settings import TRAINER_SETTINGS
from toy import prag


def error_of(capsys, *args: str) -> str:
    assert main(list(args)) == 2
    err = capsys.readouterr().err
    assert err.startswith("prag: error: ")
    assert err.count("\n") == 1
    for inside in ("Union", "<class", "typing.", "Parser key", "Namespace", "Traceback", "fit.model"):
        assert inside not in err
    return err


def test_prag_alone_prints_the_help_with_every_command(capsys):
    assert main([]) == 0
    alone = capsys.readouterr().out
    assert main(["--help"]) == 0
    assert capsys.readouterr().out == alone
    assert all(f"  {name} " in alone for name in COMMANDS)


def test_version_and_module_need_nothing_heavy():
    code = "import sys; from prag_lightning.cli import main; main(['--version']); main(['--help'])"
    check = "; assert not {'torch', 'jsonargparse', 'yaml'} & set(sys.modules), sys.modules.keys()"
    done = subprocess.run([sys.executable, "-c", code + check], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"prag-lightning {prag_lightning.__version__}\n")
    done = subprocess.run([sys.executable, "-m", "prag_lightning", "tset"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "prag: error: there is no command 'tset'. Did you mean test?\n"


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["fti"], "Did you mean fit?"),
        (["data"], "Did you mean data check?"),
        (["data", "chekc"], "Did you mean data check?"),
        (["--config", "x.yaml"], "the command comes first"),
        (["corpus", "--documnets", "x"], "Did you mean --documents?"),
    ],
)
def test_mistyped_words_are_answered_with_the_nearest(capsys, args, words):
    assert words in error_of(capsys, *args)


@pytest.mark.parametrize("command", ["fit", "test", "ask", "plan", "check", "export"])
@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--model.tpok", "3"], "no option --model.tpok. Did you mean --data.topk?"),
        (["--model.lora_rank", "two"], "lora_rank is 'two' (model.lora_rank). Give a whole number."),
        (
            ["--model.max_new_tokens", "few"],
            "max_new_tokens is 'few' (model.max_new_tokens). Give a whole number or null.",
        ),
        (["--model.merge", "smu"], "merge is 'smu' (model.merge). Did you mean sum?"),
        (["--data.with_cot", "perhaps"], "with_cot is 'perhaps' (data.with_cot). Give true or false."),
        (
            ["--data.retriever", "prag_lightning.retrieval.BM25Retriever"],
            "has no attribute 'BM25Retriever' (data.retriever). Did you mean prag_lightning.retrieval.BM25sRetriever?",
        ),
        (["--data.retriever", "prag_lightning.retrieval.BM25sRetriever"], "BM25sRetriever: index is not set"),
        (["--model.model_name"], "--model.model_name needs a value"),
    ],
)
def test_wrong_options_are_named_with_what_may_stand_there(config, capsys, command, args, words):
    if command == "export":
        args = ["--out", "folder", *args]
    assert words in error_of(capsys, command, "--config", str(config), *args)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": {"model_nmae": "x"}}, "no setting 'model.model_nmae' ({path}). Did you mean model.model_name?"),
        ({"modle": {"lora_rank": 2}}, "no setting 'modle' ({path}). Did you mean model?"),
        ({"trainer": {"devces": 2}}, "no setting 'trainer.devces' ({path}). Did you mean trainer.devices?"),
        ({"model": 3}, "'model' holds no settings ({path})"),
        ({"data": {"topk": "three"}}, "topk is 'three' (data.topk in {path}). Give a whole number."),
        ({"data": {"augment": {"atempts": 3}}}, "Did you mean data.augment.attempts?"),
    ],
)
@pytest.mark.parametrize("command", ["fit", "plan"])
def test_wrong_keys_of_a_file_are_named_with_the_file(config, tmp_path, capsys, command, change, words):
    path = tmp_path / "change.yaml"
    path.write_text(yaml.safe_dump({"base": "toy.yaml", **change}), encoding="utf-8")
    assert words.format(path=path) in error_of(capsys, command, "--config", str(path))


def test_what_is_not_set_is_named(capsys):
    assert "model.model_name is not set. Give --config FILE, or --model.model_name" in error_of(capsys, "plan")
    assert "data.dataset is not set" in error_of(capsys, "fit", "--model.model_name", "x")


def test_commands_without_a_trainer_know_its_settings():
    assert set(TRAINER_SETTINGS) == set(inspect.signature(Trainer.__init__).parameters) - {"self"}


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("plan", []),
        ("check", []),
        ("ask", ["Who?"]),
        ("export", ["--out", "merged"]),
        ("report", []),
        ("data check", []),
    ],
)
def test_commands_of_one_process_end_with_two_devices(config, capsys, command, options):
    accelerator = ["--config", str(config), "--trainer.devices", "2"]
    vanilla = ["--model.inference_method", "vanilla"]
    assert prag("fit", config) == 0
    assert prag("test", config, *vanilla) == 0
    capsys.readouterr()
    settings = [] if command == "data check" else ["--data.chat.base_url", "http://localhost:9"]
    code = main([*command.split(), *accelerator, *options, *(vanilla if command == "ask" else []), *settings])
    err = capsys.readouterr().err
    if command in ("report", "data check"):
        assert code == {"report": 0, "data check": 2}[command]
    else:
        assert code == 0, err
        assert f"prag {command} takes one device" in err


@pytest.mark.parametrize("devices", ["none", "[]", "0", "-3"])
def test_devices_that_cannot_be_are_named(config, capsys, devices):
    assert "devices" in error_of(capsys, "check", "--config", str(config), f"--trainer.devices={devices}")


def test_report_needs_a_folder_and_nothing_else(config, tmp_path, capsys):
    assert prag("test", config, "--model.inference_method", "vanilla") == 0
    assert main(["report", "output"]) == 0
    assert (tmp_path / "output/report.html").is_file()
    assert main(["report", "--config", str(config), "--out", "elsewhere"]) == 0
    assert (tmp_path / "elsewhere/report.html").is_file()
    capsys.readouterr()
    assert "no folder of results" in error_of(capsys, "report")
    assert "there are no results (nowhere)" in error_of(capsys, "report", "nowhere")


def test_data_check_of_nothing_is_no_success(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert "4 of 4 things that were looked for cannot be used" in error_of(capsys, "data", "check")


def test_help_of_a_command_has_the_usual_settings_and_says_how_to_see_all(capsys):
    def help_of(*args: str) -> str:
        assert main(list(args)) == 0
        return capsys.readouterr().out

    for command in ("augment", "fit", "test", "predict", "ask", "plan", "check", "export", "report"):
        usual, every = help_of(command, "--help"), help_of(command, "--help-all")
        assert f"prag {command} --help-all" in usual
        assert usual.count("\n  --") <= 25
        assert every.count("\n  --") > 60
    assert "--trainer.max_time" in help_of("fit", "--help-all")


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        (["f"], ["fit", "forget"]),
        (["data", ""], ["check"]),
        (["fit", "--model.lora"], ["--model.lora_a", "--model.lora_alpha", "--model.lora_rank"]),
        (["test", "--model.merge", "s"], ["score", "sum"]),
        (["ask", "--js"], ["--json"]),
    ],
)
def test_a_shell_completes_commands_options_and_values(capsys, tmp_path, words, completed):
    if shutil.which("bash") is None:
        pytest.skip("there is no bash")
    assert main(["completion", "bash"]) == 0
    script = tmp_path / "completion.bash"
    script.write_text(capsys.readouterr().out, encoding="utf-8")
    typed = " ".join(f"'{word}'" for word in ["prag", *words])
    code = f"source {script}; COMP_WORDS=({typed}); COMP_CWORD={len(words)}; _shtab_prag; echo ${{COMPREPLY[@]}}"
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True)
    assert sorted(done.stdout.split()) == completed


def test_completion_names_the_shells_that_it_knows(capsys):
    assert "bash, zsh, tcsh" in error_of(capsys, "completion", "fish")
