"""Indices on disk: built in a stream, whole or not at all, and searched as bm25s does."""

import gzip
import os
import signal
import subprocess
import sys
import time

import bm25s
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prag_lightning.cli.entry import main
from prag_lightning.data.corpus import read_corpus
from prag_lightning.errors import InputError
from prag_lightning.records import Passage
from prag_lightning.retrieval import BM25sRetriever, RankBM25Retriever, Tokenisation, index_files

TEXTS = ("the baker of Oldford", "a river near Oldford", "the baker bakes", "nothing else", "the baker of Oldford")


@pytest.fixture
def corpus(tmp_path):
    path = tmp_path / "corpus.tsv"
    path.write_text("id\ttext\ttitle\n" + "".join(f"{i}\t{text}\tT{i}\n" for i, text in enumerate(TEXTS, 1)))
    return path


@pytest.fixture
def built(tmp_path, corpus):
    retriever = BM25sRetriever(tmp_path / "index", corpus)
    retriever.build()
    return retriever


def test_finds_by_text_and_title_each_text_once_however_many_are_asked_for(built):
    baker, river, title, nothing = built.search(["who is the baker of Oldford", "rivers", "t4", "zzz"], k=100)
    assert [hit.passage for hit in baker][:1] == [Passage(TEXTS[0], "1", "T1")]
    assert {hit.passage.id for hit in baker} == {"1", "2", "3"}
    assert baker[0].score > baker[1].score > 0
    assert [hit.passage.id for hit in river] == ["2"]
    assert [hit.passage.id for hit in title] == ["4"]
    assert nothing == []


def test_copies_of_a_text_do_not_crowd_out_others(tmp_path):
    path = tmp_path / "corpus.tsv"
    rows = [f"{i}\tbaker baker\tx\n" for i in range(200)] + ["200\tone baker among many other words\tx\n"]
    path.write_text("id\ttext\ttitle\n" + "".join(rows))
    retriever = BM25sRetriever(tmp_path / "index", path)
    retriever.build()
    assert [hit.passage.id for hit in retriever.search(["baker"], k=2)[0]] == ["0", "200"]


@settings(max_examples=30, deadline=None)
@given(texts=st.lists(st.text("ab cd\u00e9", min_size=1, max_size=30), min_size=1, max_size=40))
def test_scores_are_those_of_bm25s(tmp_path_factory, texts):
    words = [Tokenisation()(text) for text in texts]
    if not any(words):
        return
    folder = tmp_path_factory.mktemp("index")
    block, at_once = index_files._BLOCK, index_files._PAIRS_AT_ONCE
    index_files._BLOCK, index_files._PAIRS_AT_ONCE = 7, 11
    try:
        size = index_files.build_index(folder, (Passage(text) for text in texts), Tokenisation(), 1.2, 0.6)
    finally:
        index_files._BLOCK, index_files._PAIRS_AT_ONCE = block, at_once
    theirs = bm25s.BM25(k1=1.2, b=0.6)
    theirs.index(words, show_progress=False)
    vocabulary = index_files.Strings(folder, index_files.WORDS)
    assert (size.passages, size.words) == (len(texts), len(vocabulary))
    data, passages, starts = (
        np.load(folder / name) for name in ("data.csc.index.npy", "indices.csc.index.npy", "indptr.csc.index.npy")
    )
    for word in {word for each in words for word in each}:
        place = vocabulary.find(word.encode())
        scores = np.zeros(len(texts), np.float32)
        scores[passages[starts[place] : starts[place + 1]]] = data[starts[place] : starts[place + 1]]
        np.testing.assert_array_equal(scores, theirs.get_scores([word]))
    assert vocabulary.find(b"absent") is None


def test_an_index_says_what_it_was_made_of(built, corpus, tmp_path):
    assert BM25sRetriever(built.index).search(["baker"], 1)
    with pytest.raises(InputError, match=r"made with k1 1\.5 where 2\.0 is asked for .*prag index"):
        BM25sRetriever(built.index, k1=2.0).search(["baker"], 1)
    with pytest.raises(InputError, match="made with tokenisation"):
        BM25sRetriever(built.index, tokenisation=Tokenisation(stemmer=None)).search(["baker"], 1)
    corpus.write_text(corpus.read_text() + "6\tone more\tx\n")
    with pytest.raises(InputError, match="made with corpus_bytes"):
        BM25sRetriever(built.index, corpus).search(["baker"], 1)
    with pytest.raises(InputError, match=r"there is no index .*prag index"):
        BM25sRetriever(tmp_path / "none", corpus).search(["baker"], 1)


@pytest.mark.parametrize("name", ["data.csc.index.npy", "indptr.csc.index.npy", "words.bin", "passage_ends.npy"])
def test_a_damaged_index_is_named(built, name):
    path = built.index / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match=r"the index is damaged.*prag index"):
        BM25sRetriever(built.index).search(["baker"], 1)


def test_a_failed_build_leaves_the_earlier_index(built, corpus, tmp_path):
    whole = gzip.compress(corpus.read_bytes() * 50)
    (tmp_path / "cut.tsv.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="cannot read the corpus"):
        BM25sRetriever(built.index, tmp_path / "cut.tsv.gz").build()
    (tmp_path / "wordless.tsv").write_text("id\ttext\ttitle\n1\t!?\t\n")
    with pytest.raises(InputError, match="holds no word"):
        BM25sRetriever(built.index, tmp_path / "wordless.tsv").build()
    with pytest.raises(InputError, match="nothing to index"):
        BM25sRetriever(built.index).build()
    assert BM25sRetriever(built.index, corpus).search(["baker"], 1)[0][0].passage.id == "1"
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(".partial")]


def test_a_killed_build_leaves_no_index_and_is_begun_anew(tmp_path):
    corpus = tmp_path / "corpus.tsv"
    corpus.write_text("id\ttext\ttitle\n" + "".join(f"{i}\tword{i} and word{i % 7}\tx\n" for i in range(150_000)))
    config = tmp_path / "config.yaml"
    config.write_text(
        "model: {model_name: unused}\ndata:\n  topk: 2\n  retriever:\n"
        "    class_path: prag_lightning.retrieval.BM25sRetriever\n"
        f"    init_args: {{corpus: {corpus}, index: {tmp_path / 'index'}}}\n"
    )
    command = [sys.executable, "-m", "prag_lightning.cli.entry", "index", "--config", str(config)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE)
    partial = tmp_path / ".index.partial" / "spool"
    while not partial.exists() and process.poll() is None:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "index").exists()
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "150000 passages" in done.stderr
    assert BM25sRetriever(tmp_path / "index", corpus).search(["word149999"], 1)[0][0].passage.id == "149999"


def test_both_bm25s_rank_real_passages_alike(real_data, tmp_path):
    path = real_data / "corpus" / "wiki_30938.tsv.gz"
    lines = (real_data / "corpus" / "hotpotqa_349.queries.tsv").read_text(encoding="utf-8").splitlines()
    queries = [line.split("\t")[1] for line in lines[:40]]
    retriever = BM25sRetriever(tmp_path / "index", path)
    retriever.build()
    found = retriever.search(queries, 3)
    expected = RankBM25Retriever(read_corpus(path)).search(queries, 3)
    same = [
        len({hit.passage.id for hit in ours} & {hit.passage.id for hit in theirs})
        for ours, theirs in zip(found, expected, strict=True)
    ]
    assert sum(same) >= 0.9 * 3 * len(queries)


def test_data_check_tells_what_is_there_and_what_is_missing(corpus, tmp_path, capsys):
    questions = tmp_path / "questions.json"
    questions.write_text('[{"question": "Who?", "answer": "a baker"}]')
    args = ["--data.dataset", "own", "--data.data_path", str(questions), "--data.corpus", str(corpus)]
    assert main(["data", "check", *args]) == 0
    printed = capsys.readouterr().out
    assert "questions: 1 questions" in printed
    assert "5 passages, 0 bad rows" in printed
    retriever = ["--data.retriever=BM25sRetriever", f"--data.retriever.index={tmp_path / 'index'}"]
    assert main(["data", "check", *args, *retriever]) == 2
    captured = capsys.readouterr()
    assert "there is no index" in captured.out
    assert captured.err.startswith("prag: error: 1 of 3 things")
    assert main(["data", "check"]) == 2
    assert "hotpot_dev_distractor_v1.json" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["index"], "keeps no index"),
        (["index", "--data.corpus"], "--data.corpus needs a value"),
        (["index", "--config", "absent.yaml"], "absent.yaml"),
        (["data"], "there is no command"),
        (["data", "check", "--data.dataset", "nowhere"], "unknown dataset"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(args, message, capsys):
    try:
        code = main(args)
    except SystemExit as exit:
        code = exit.code
    captured = capsys.readouterr()
    assert code == 2
    assert message in captured.err + captured.out
    assert len([line for line in captured.err.splitlines() if line.startswith("prag: error:")]) == 1


def test_the_data_commands_need_no_torch(tmp_path, corpus):
    program = (
        "import sys; sys.modules['torch'] = None\n"
        "from prag_lightning.cli.entry import main\n"
        f"args = ['--data.retriever=BM25sRetriever', '--data.retriever.index={tmp_path / 'index'}', "
        f"'--data.retriever.corpus={corpus}']\n"
        "sys.exit(main(['index', *args]) or main(['data', 'check', *args]))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
