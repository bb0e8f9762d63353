"""BLEU, METEOR, ROUGE-L, CIDEr, SPICE and BERTScore of captions, and what they need."""

from __future__ import annotations

import importlib.util
import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from t2v_eval.errors import InputError, MissingPackageError, ScoringError
from t2v_eval.evaluation.captioning import baselines as module
from t2v_eval.evaluation.captioning import java, spice
from t2v_eval.evaluation.captioning.baselines import compute_baselines
from t2v_eval.evaluation.captioning.meteor import meteor
from t2v_eval.evaluation.captioning.ngrams import bleu
from t2v_eval.evaluation.captioning.tokens import TokenisedCaptions

GOLDENS = Path(__file__).parents[3] / "goldens" / "captions"
ROWS, CASES, WORDS = (
    json.loads((GOLDENS / f"{name}.json").read_text("utf-8"))
    for name in ("captions", "cases", "tokenised")
)
NAMES = {f"Bleu_{n}": f"BLEU-{n}" for n in range(1, 5)} | {"ROUGE_L": "ROUGE-L", "CIDEr": "CIDEr"}

needs_package = pytest.mark.skipif(
    importlib.util.find_spec("pycocoevalcap") is None, reason="the extra captions is not installed"
)
needs_java = pytest.mark.skipif(shutil.which("java") is None, reason="there is no Java")


def captions_of(case):
    """The candidates and references of a case."""
    rows = ROWS[: case["n"]]
    last = 1 if "first_reference" in case["id"] else None
    return [row["candidate"] for row in rows], [row["references"][:last] for row in rows]


def tokenised(case):
    tokenizer = "none" if case["id"].endswith("no_tokenizer") else "ptb"
    return TokenisedCaptions.of(*captions_of(case), tokenizer)


@pytest.fixture(scope="module")
def of_cases():
    """The words of each case, and METEOR of all in one run, since it takes long to start."""
    words = [tokenised(case) for case in CASES]
    together = TokenisedCaptions(
        [text for captions in words for text in captions.candidates],
        [listed for captions in words for listed in captions.references],
    )
    return words, meteor(together)["METEOR"]


@needs_package
@needs_java
def test_words_equal_those_of_the_published_tokenizer():
    words = TokenisedCaptions.of(*captions_of(CASES[0]))
    assert words.references == [WORDS["references"][row["id"]] for row in ROWS]
    expected = [WORDS["candidates"][row["id"]] for row in ROWS]
    assert words.candidates == [text[0] if isinstance(text, list) else text for text in expected]


@needs_package
@needs_java
@pytest.mark.parametrize("number", range(len(CASES)), ids=[case["id"] for case in CASES])
def test_equals_the_original(number, of_cases, monkeypatch):
    case, words, start = CASES[number], of_cases[0][number], sum(c["n"] for c in CASES[:number])
    monkeypatch.setattr(TokenisedCaptions, "of", lambda *_: words)
    monkeypatch.setattr(module, "meteor", lambda *_: {})
    measured = compute_baselines(*captions_of(case))
    for original, name in NAMES.items():
        assert measured.each[name] == pytest.approx(case["each"][original], abs=1e-9), name
        assert measured.corpus[name].value == pytest.approx(case["corpus"][original], abs=1e-9)
    indices = start + np.arange(case["n"])
    assert of_cases[1].each[indices] == pytest.approx(case["each"]["METEOR"], abs=1e-9)
    assert of_cases[1].corpus(indices) == pytest.approx(case["corpus"]["METEOR"], abs=1e-9)


@needs_package
def test_bleu_of_a_resample_is_that_of_the_repeated_captions():
    from pycocoevalcap.bleu.bleu import Bleu

    words = TokenisedCaptions.of(*captions_of(CASES[0]), "none")
    measured = bleu(words)
    for seed in range(5):
        indices = np.random.default_rng(seed).integers(0, len(ROWS), len(ROWS))
        repeated = TokenisedCaptions(
            [words.candidates[i] for i in indices], [words.references[i] for i in indices]
        )
        expected = Bleu(4).compute_score(*repeated.by_index(), verbose=0)[0]
        assert [measured[f"BLEU-{n}"].corpus(indices) for n in range(1, 5)] == pytest.approx(
            expected, rel=1e-12
        )


@pytest.fixture
def no_java(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("JAVA_HOME", raising=False)


@needs_package
def test_intervals_enclose_the_value_and_shrink_with_more_captions(no_java):
    candidates, references = captions_of(CASES[0])
    few = compute_baselines(candidates[:10], references[:10], tokenizer="none").corpus
    many = compute_baselines(candidates, references, tokenizer="none").corpus
    for name in NAMES.values():
        assert many[name].low < many[name].value < many[name].high, name
        assert many[name].high - many[name].low < few[name].high - few[name].low, name


ODD = ["", "...", "a\ncat", "a\u2028cat\x85sat", "\U0001f600", "Éa cat's “fun”", "猫", "a ||| cat"]


@needs_package
@needs_java
def test_odd_captions_keep_their_lines_and_nothing_is_written_to_the_package():
    before = sorted(java.package_folder().rglob("*.j*r")), _files()
    with ThreadPoolExecutor(3) as pool:
        runs = [*pool.map(lambda _: TokenisedCaptions.of(ODD, [[t, "b"] for t in ODD]), range(3))]
    assert runs[0] == runs[1] == runs[2]
    assert runs[0].candidates[:4] == ["", "", "a cat", "a cat sat"]
    assert runs[0].candidates[5] == "éa cat 's fun"
    assert [listed[1] for listed in runs[0].references] == ["b"] * len(ODD)
    assert before == (sorted(java.package_folder().rglob("*.j*r")), _files())


def _files():
    folder = java.package_folder()
    return sorted(p for p in folder.rglob("*") if p.suffix != ".pyc" and p.name != "__pycache__")


@needs_package
def test_odd_captions_have_finite_values(no_java):
    measured = compute_baselines(ODD, [[text, "a cat"] for text in ODD], tokenizer="none")
    for name in NAMES.values():
        assert np.isfinite(measured.each[name]).all() and np.isfinite(measured.corpus[name]).all()


@needs_package
def test_a_metric_that_fails_is_missing_with_its_reason(no_java):
    measured = compute_baselines(["a cat"], [["a cat", "the cat"]], tokenizer="none")
    assert set(measured.each) == {*NAMES.values()} - {"CIDEr"}
    assert "2 or more" in measured.missing["CIDEr"] and "no Java" in measured.missing["METEOR"]
    assert "bert_model='roberta-large'" in measured.missing["BERTScore"]
    with pytest.raises(MissingPackageError, match=r"PTB tokenizer.*no Java.*`tokenizer='none'`"):
        compute_baselines(["a cat"], [["a cat"]])


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(java, "find_spec", lambda name: None)
    with pytest.raises(MissingPackageError, match=r"pip install 't2v-eval\[captions\]'"):
        compute_baselines(["a cat"], [["a cat"]], tokenizer="none")


@pytest.mark.parametrize(
    "candidates, references, options, message",
    [
        ([], [], {}, "`candidates` is empty"),
        (["a"], [], {}, "1 candidates and 0 lists"),
        (["a"], [[]], {}, r"references\[0\] is \[\]"),
        (["a"], ["a cat"], {}, r"references\[0\] is 'a cat'"),
        (["a"], [["a"]], {"tokenizer": "words"}, "`tokenizer='words'`: use 'ptb' or 'none'"),
        (["a"], [["a"]], {"timeout": 0}, "`timeout=0`"),
    ],
)
def test_bad_arguments_are_named(candidates, references, options, message, monkeypatch):
    monkeypatch.setattr(module, "package_folder", lambda: None)
    with pytest.raises(InputError, match=message):
        compute_baselines(candidates, references, **{"tokenizer": "none", **options})


@pytest.fixture
def other_java(tmp_path, monkeypatch):
    """Put a shell script in the place of Java."""

    def install(script):
        home = tmp_path / "a java home"
        (home / "bin").mkdir(parents=True, exist_ok=True)
        (home / "bin" / "java").write_text(f"#!/bin/sh\n{script}\n")
        (home / "bin" / "java").chmod(0o755)
        monkeypatch.setenv("JAVA_HOME", str(home))

    return install


@pytest.mark.parametrize(
    "script, message",
    [
        ("echo class file version 52.0 >&2; exit 1", "failed with status 1: class file version"),
        ("exit 3", "failed with status 3: it printed nothing"),
        ("kill -9 $$", "was killed by signal 9"),
        ("exec tail -f /dev/null", "not done after 0.2 seconds and was stopped"),
    ],
)
def test_a_java_that_fails_or_hangs_is_said(script, message, other_java):
    other_java(script)
    with pytest.raises(ScoringError, match=f"METEOR: .*{message}"):
        java.run_java("METEOR", [], "a\n", timeout=0.2 if "tail" in script else 60)


def test_a_java_that_does_not_start_is_said(other_java, tmp_path):
    other_java("")
    (tmp_path / "a java home" / "bin" / "java").write_bytes(b"\x7fELF nothing")
    with pytest.raises(ScoringError, match="cannot be started"):
        java.run_java("METEOR", [], "")


@pytest.mark.parametrize("lines", ["echo a cat", "echo 1 2 3", ":"])
def test_lines_that_are_no_counts_or_too_few_are_no_score(lines, other_java, monkeypatch, tmp_path):
    other_java(f"cat > /dev/null; {lines}")
    monkeypatch.setattr("t2v_eval.evaluation.captioning.meteor.package_folder", lambda: tmp_path)
    monkeypatch.setattr("t2v_eval.evaluation.captioning.tokens.package_folder", lambda: tmp_path)
    with pytest.raises(ScoringError, match="METEOR: Java printed"):
        meteor(TokenisedCaptions(["a", "b"], [["a"], ["b"]]))
    with pytest.raises(ScoringError, match="returned 1 lines for 2 captions"):
        TokenisedCaptions.of(["a"], [["a"]])


def test_spice_names_its_parser_and_reads_what_its_program_writes(
    other_java, monkeypatch, tmp_path
):
    other_java("")
    monkeypatch.setattr(spice, "package_folder", lambda: tmp_path)
    captions = TokenisedCaptions(["a cat", "a"], [["the cat"], ["a"]])
    with pytest.raises(MissingPackageError, match=r"stanford-corenlp-3\.6\.0-models\.jar"):
        spice.spice(captions)
    (tmp_path / "spice" / "lib").mkdir(parents=True)
    for name in spice.PARSER:
        (tmp_path / "spice" / "lib" / name).touch()
    with pytest.raises(ScoringError, match="wrote no score of each caption"):
        spice.spice(captions)
    rows = [{"image_id": i, "scores": {"All": {"f": f}}} for i, f in ((1, "NaN"), (0, 0.5))]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    other_java(f'while [ "$1" != -out ]; do shift; done; cp "{tmp_path}/rows.json" "$2"')
    measured = spice.spice(captions)["SPICE"]
    assert measured.each[0] == 0.5 and np.isnan(measured.each[1])
    assert measured.corpus(np.arange(2)) == 0.5  # a caption without tuples is left out
