"""What adapters are trained on beside the published examples, and how they are merged: through the command."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from prag_lightning.cli.entry import main
from prag_lightning.data.prompts import PromptTemplates
from prag_lightning.llm.generation import generate
from prag_lightning.llm.sampling import RowSampler
from prag_lightning.lora.merge import TIES_DENSITY
from prag_lightning.lora.names import MERGES
from prag_lightning.records import AugmentedPassage, QAPair
from prag_lightning.retrieval import RankBM25Retriever
from prag_lightning.training.examples import ExampleBuilder
from prag_lightning.training.locality import Renamer
from prag_lightning.training.self_distillation import TEMPERATURE, TOP_K, seed, with_self_distillation

ROOT = Path(__file__).parent.parent
PROMPTS = PromptTemplates.load(ROOT / "configs/prompts/default.yaml")
TEXTS = ("Rosa Halkin lives in Tarford", "the Red Fox of 1950", "Old Tree by the Sea", "a grey stone", "Ana Oru")
PASSAGES = [
    AugmentedPassage(
        text, f"again {text}", tuple(QAPair(f"What is {i} of {text}?", f"a{i}", f"{text} is a{i}.") for i in range(2))
    )
    for text in TEXTS
]
RANK, ALPHA = 2, 32
BASE = "random/rank=2_alpha=32/toy"


@pytest.fixture(scope="module")
def renamer() -> Renamer:
    return Renamer(AutoTokenizer.from_pretrained(ROOT / "checkpoints/prag-tiny"))


@pytest.fixture
def config(tmp_path, model_folder, monkeypatch) -> Path:
    """One question over three of the passages, one over two, and a corpus."""
    monkeypatch.chdir(tmp_path)
    records = []
    for test_id, texts in enumerate((TEXTS[:3], TEXTS[3:])):
        passages = [PASSAGES[TEXTS.index(text)] for text in texts]
        augmented = [{**passage.to_json("writer"), "pid": pid} for pid, passage in enumerate(passages)]
        row = {
            "test_id": test_id,
            "question": f"Where is {texts[0]} of {texts[-1]}?",
            "answer": "a0",
            "passages": list(texts),
        }
        records.append({**row, "augment": augmented})
    (tmp_path / "aug/toy/writer").mkdir(parents=True)
    (tmp_path / "aug/toy/writer/total.json").write_text(json.dumps(records), encoding="utf-8")
    rows = [f"{i}\t{text}\ttitle" for i, text in enumerate(TEXTS, 1)]
    (tmp_path / "corpus.tsv").write_text("\n".join(["id\ttext\ttitle", *rows]) + "\n", encoding="utf-8")
    model = {"model_name": str(model_folder), "learning_rate": 0.01, "max_new_tokens": 4}
    data = {"dataset": "toy", "augment_model": "writer", "augment_root": "aug", "corpus": "corpus.tsv"}
    settings = {
        "trainer": {"accelerator": "cpu", "logger": False},
        "model": {**model, "offline_root": "offline", "output_root": "output"},
        "data": {**data, "prompts": str(ROOT / "configs/prompts/default.yaml")},
    }
    (tmp_path / "toy.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    return tmp_path / "toy.yaml"


def prag(stage: str, config: Path, **settings: object) -> int:
    out = ["--out", str(settings.pop("out"))] if "out" in settings else []
    overrides = [part for name, value in settings.items() for part in (f"--model.{name}", str(value))]
    return main([stage, "--config", str(config), *out, *overrides])


def recipe(objective: str) -> Path:
    return Path("offline") / BASE / f"lr=0.01_epoch=1_direct_objective={objective}" / "aug_model=writer"


def adapters(root: Path) -> dict[str, dict[str, torch.Tensor]]:
    return {str(path.parent.relative_to(root)): load_file(path) for path in root.glob("adapters/*/*/*.safetensors")}


# Continuations


def test_continuations_are_what_the_model_says_alone_with_the_passage(llm, model_folder):
    builder = ExampleBuilder(PROMPTS, llm.tokenizer, objective="distill", distill_samples=2)
    together = with_self_distillation(llm, builder, PASSAGES)
    texts = set()
    for passage, continued in zip(PASSAGES, together, strict=True):
        assert continued.qa[::3] == passage.qa
        for place, pair in enumerate(passage.qa):
            prompt = PROMPTS.question_ids(llm.tokenizer, pair.question, [passage.passage])
            for number in range(2):
                sampler = RowSampler([seed(passage, pair, number)], TEMPERATURE, TOP_K, 20)
                (text,) = generate(llm, [prompt], 20, make_processors=lambda _, sampler=sampler: [sampler])
                assert continued.qa[3 * place + 1 + number].answer == PROMPTS.answer_of(llm.tokenizer, text)
                texts.add(text)
    assert len(texts) > 15


def test_sampled_distillation_does_not_depend_on_groups_and_goes_on(config, tmp_path):
    settings = {"objective": "distill", "distill_samples": 2}
    assert prag("fit", config, **settings) == 0
    root = recipe("distill+samples=2")
    together = adapters(root)
    assert len(together) == 5
    shutil.rmtree(sorted((root / "adapters").glob("*/*"))[0])
    assert prag("fit", config, **settings, group_tokens=150) == 0
    resumed = adapters(root)
    shutil.rmtree("offline")
    assert prag("fit", config, **settings, group_tokens=1) == 0
    base = load_file(Path("offline/random/rank=2_alpha=32/base_weight/adapter_model.safetensors"))
    assert adapters(root).keys() == resumed.keys() == together.keys()
    for others in (resumed, adapters(root)):
        for key, tensors in together.items():
            for name, tensor in tensors.items():
                assert (others[key][name] - tensor).norm() < 1e-3 * (tensor - base[name]).norm(), (key, name)
    assert prag("fit", config, objective="distill") == 0
    assert adapters(recipe("distill")).keys().isdisjoint(together)


def test_continuations_need_a_teacher(config, capsys):
    assert prag("fit", config, objective="closed_book", distill_samples=1) == 2
    assert "model.distill_samples" in capsys.readouterr().err
    assert prag("fit", config, objective="distill", distill_samples=-1) == 2
    assert "distill_samples is -1" in capsys.readouterr().err


# Questions about other things


def test_other_things_are_asked_about_and_are_to_be_answered_as_before(llm):
    plain = ExampleBuilder(PROMPTS, llm.tokenizer, objective="closed_book", include_text="rewrite")
    builder = ExampleBuilder(PROMPTS, llm.tokenizer, objective="closed_book", include_text="rewrite", locality=2)
    examples, own = builder.build(PASSAGES[0]), plain.build(PASSAGES[0])
    assert [examples[0], examples[3], examples[6]] == own
    for place in (1, 2, 4, 5):
        other, asked = examples[place], examples[place - (place % 3)]
        assert other.teacher_ids == other.input_ids
        assert other.input_ids[: other.first_target] != asked.input_ids[: asked.first_target]
        assert other.input_ids[other.first_target :] == asked.input_ids[asked.first_target :]
    assert examples[1] != examples[2]
    assert builder.build(PASSAGES[0]) == examples
    nothing = AugmentedPassage("Nobody", "Nobody", (QAPair("What is it?", "a", "It is a."),))
    assert len(builder.build(nothing)) == 2


def test_names_keep_their_shape_and_stand_in_the_answer_too(renamer):
    pair = QAPair("Where was Paula Zalville born in 1950?", "North Walton", "Paula Zalville was born in North Walton.")
    passage = "In 1950 Paula Zalville was born in North Walton."
    seen = set()
    for number in range(20):
        other = renamer.rename(pair, passage, number)
        words, before = other.question.rstrip("?").split(), pair.question.rstrip("?").split()
        kept = [word == was for word, was in zip(words, before, strict=True)]
        assert kept[:2] == [True, True]
        assert kept[4:6] == [True, True]
        assert not all(kept)
        assert words[2][0].isupper()
        assert words[6].isdigit()
        assert other.full_answer == f"{words[2]} {words[3]} was born in North Walton."
        seen.add(tuple(kept))
    assert len(seen) > 3


@given(st.text(max_size=60), st.text(max_size=60), st.text(max_size=20), st.integers(0, 3))
def test_any_text_is_renamed_or_left(renamer, question, passage, answer, number):
    pair = QAPair(question, answer, f"{question} {answer}")
    other = renamer.rename(pair, passage, number)
    assert other == renamer.rename(pair, passage, number)
    if other is not None:
        assert other.question != question
        assert other.answer == answer


def test_locality_has_a_recipe_of_its_own(config, capsys):
    assert prag("fit", config, objective="closed_book", locality=1) == 0
    assert len(adapters(recipe("closed_book+locality=1"))) == 5
    assert prag("test", config, objective="closed_book", locality=1, merge="score") == 0
    assert prag("test", config, objective="closed_book", locality=2) == 2
    assert "prag fit" in capsys.readouterr().err
    assert prag("fit", config, locality=-1) == 2


# Objectives are not mixed, merges are exported


def test_adapters_of_another_objective_are_not_taken_even_in_their_place(config, capsys):
    ways = [
        {"objective": "closed_book"},
        {"objective": "answer"},
        {"objective": "closed_book", "include_text": "passage"},
    ]
    places = [recipe("closed_book"), recipe("answer"), recipe("closed_book+passage")]
    kept = []
    for way, place in zip(ways, places, strict=True):
        assert prag("test", config, **way) == 2
        assert "prag fit" in capsys.readouterr().err
        assert prag("fit", config, **way) == 0
        assert prag("test", config, **way) == 0
        kept.append(adapters(place))
    results = sorted(path.parts[4] for path in Path("output").rglob("predict.json"))
    assert results == sorted(place.parts[4] for place in places)
    assert all(kept[i].keys().isdisjoint(kept[j]) for i in range(3) for j in range(i))
    shutil.rmtree("output")
    shutil.rmtree(places[1])
    shutil.copytree(places[0], places[1], symlinks=True)
    assert prag("test", config, **ways[1]) == 2
    assert "prag fit" in capsys.readouterr().err


@pytest.mark.parametrize("method", MERGES)
def test_every_merge_is_exported_as_one_peft_adapter(config, model_folder, method, capsys):
    objective = {"objective": "closed_book", "num_train_epochs": 3}
    assert prag("fit", config, **objective) == 0
    assert prag("export", config, **objective, merge=method, out="merged") == 0
    root = Path(str(recipe("closed_book")).replace("epoch=1", "epoch=3"))
    places = [root / f"total/data_0/passage_{pid}" for pid in range(3)]
    ids = torch.tensor([[70, 71, 72, 73]])
    plain = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
    before = plain(ids).logits
    exported = PeftModel.from_pretrained(plain, "merged/total/0")(ids).logits.detach()
    expected = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
    if method == "ties":
        expected = PeftModel.from_pretrained(expected, str(places[0]), adapter_name="0")
        for pid in ("1", "2"):
            expected.load_adapter(str(places[int(pid)]), adapter_name=pid)
        expected.add_weighted_adapter(["0", "1", "2"], [1.0] * 3, "all", combination_type="ties", density=TIES_DENSITY)
        expected.set_adapter("all")
    else:
        add_updates(expected, places, method)
    torch.testing.assert_close(exported, expected(ids).logits, atol=1e-4, rtol=1e-4)
    assert (exported - before).abs().max() > 1e-3


def add_updates(model: torch.nn.Module, places: list[Path], method: str) -> None:
    """Add each adapter's update to the weights, as the merge weighs or projects it."""
    weights = {"mean": [1 / 3] * 3, "score": scores_of_first_question()}.get(method, [1.0] * 3)
    tensors = [load_file(place / "adapter_model.safetensors") for place in places]
    for name in (name for name in tensors[0] if "lora_A" in name):
        taken = torch.zeros(tensors[0][name.replace("lora_A", "lora_B")].shape[0], 0)
        module = model.get_submodule(name.removeprefix("base_model.model.").removesuffix(".lora_A.weight"))
        for weight, adapter in zip(weights, tensors, strict=True):
            wide = adapter[name.replace("lora_A", "lora_B")]
            own = wide
            if method == "orthogonal" and taken.shape[1]:
                own = wide - taken @ torch.linalg.lstsq(taken, wide).solution
            module.weight.data += weight * ALPHA / RANK * own @ adapter[name]
            taken = torch.cat([taken, wide], dim=1)


def scores_of_first_question() -> list[float]:
    """Of its passages in retrieval, relative to the best."""
    (hits,) = RankBM25Retriever("corpus.tsv").search([f"Where is {TEXTS[0]} of {TEXTS[2]}?"], 5)
    scores = {hit.passage.text: hit.score for hit in hits}
    weights = [scores.get(text, 0.0) / max(scores.values()) for text in TEXTS[:3]]
    assert min(weights) < max(weights) == 1
    return weights


def test_the_recommended_configuration_answers_on_the_embedded_model(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    settings = [
        "--config",
        "configs/recommended.yaml",
        "--trainer.logger=false",
        "--model.model_name=checkpoints/prag-tiny",
    ]
    settings += ["--data.dataset=demo", "--data.data_path=data/demo/questions", "--data.data_type=single"]
    settings += ["--data.corpus=data/demo/corpus.tsv", "--data.sample=1", f"--data.augment_root={tmp_path / 'aug'}"]
    settings += [f"--model.offline_root={tmp_path / 'adapters'}", f"--model.output_root={tmp_path / 'results'}"]
    for stage in ("augment", "fit", "test"):
        assert main([stage, *settings]) == 0
    (path,) = tmp_path.glob("results/prag-tiny/**/*_objective=closed_book+rewrite_null_space=0.1/**/predict.json")
    assert path.parts[-3] == "prag-score"
    (answered,) = json.loads(path.read_text(encoding="utf-8"))
    assert answered["em"] == 1
    (augmented,) = tmp_path.glob("aug/demo/*/single.json")
    counts = [
        len(item["prag-tiny_qa"])
        for row in json.loads(augmented.read_text(encoding="utf-8"))
        for item in row["augment"]
    ]
    assert max(counts) == 5
