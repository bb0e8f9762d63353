"""``t2v-eval caption --baselines``: what is printed, written and refused."""

from __future__ import annotations

import json
import math

import pytest
from helpers.toy import draw_image
from typer.testing import CliRunner

from t2v_eval.cli.main import app
from t2v_eval.evaluation.captioning import java
from t2v_eval.inputs.tables import read_table, write_table

CAPTIONS = {"a": "a red square", "b": "a dog", "c": "two cats sit", "d": "the sea at night"}
REFERENCES = {"a": ["a red square", "red"], "b": ["two dogs"], "c": "two cats", "d": ["a boat"]}


@pytest.fixture
def files(tmp_path, monkeypatch):
    """The arguments of the command; there is no Java, which METEOR would take long to start."""
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("JAVA_HOME", raising=False)
    (tmp_path / "images").mkdir()
    for index, name in enumerate(CAPTIONS):
        draw_image(index).save(tmp_path / "images" / f"{name}.png")
    for name, content in (("candidates", CAPTIONS), ("references", REFERENCES)):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    return [
        *(str(tmp_path / name) for name in ("candidates.json", "images")),
        *("--references", str(tmp_path / "references.json"), "--model", "refclipscore"),
        *("--no-store", "--baselines"),
    ]


def call(*arguments, code=0):
    result = CliRunner().invoke(app, ["caption", *map(str, arguments)])
    assert result.exit_code == code, result.output
    return result


@pytest.fixture
def toy(monkeypatch):
    """RefCLIPScore of a toy network."""
    from helpers.toy import ToyEmbedding

    class ToyReferences(ToyEmbedding):
        uses_references = True
        caption_keys = ("CLIPScore", "RefCLIPScore")

    monkeypatch.setattr("t2v_eval.registry.Registry.build", lambda *_, **__: ToyReferences())


def test_without_java_or_references_nothing_is_scored(files):
    pytest.importorskip("pycocoevalcap")
    assert "--tokenizer none" in call(*files, code=2).output
    assert "--references" in call(*files[:2], "--baselines", code=2).output
    assert "--baselines" in call(*files[:-1], "--bert-model", "roberta-large", code=2).output
    assert "--tokenizer words" in call(*files, "--tokenizer", "words", code=2).output


def test_the_missing_extra_is_named(files, monkeypatch):
    monkeypatch.setattr(java, "find_spec", lambda _: None)
    assert "t2v-eval[captions]" in call(*files, "--tokenizer", "none", code=2).output


def test_baselines_are_beside_the_scores_and_agree_reads_them(files, toy, tmp_path):
    pytest.importorskip("pycocoevalcap")
    table = tmp_path / "scores.csv"
    done = call(*files, "--tokenizer", "none", "--out", table)
    rows = [line.split()[0] for line in done.stdout.splitlines()]
    expected = [*(f"BLEU-{n}" for n in range(1, 5)), "ROUGE-L", "CIDEr"]
    assert rows == ["metric", *expected, "CLIPScore", "RefCLIPScore"]
    assert "METEOR was not computed: there is no Java" in done.stderr
    table_rows = read_table(table)
    assert list(table_rows[0]) == ["image", "CLIPScore", "RefCLIPScore", *expected]
    assert [row["image"] for row in table_rows] == list(CAPTIONS)
    assert float(table_rows[0]["BLEU-1"]) == pytest.approx(1, abs=1e-6)
    rated = [{**row, "human": rating} for row, rating in zip(table_rows, (3, 1, 2, 0), strict=True)]
    write_table(tmp_path / "rated.csv", rated)
    agreed = CliRunner().invoke(
        app,
        ["agree", str(tmp_path / "rated.csv"), "--human", "human", "--scores", "BLEU-1"],
    )
    assert agreed.exit_code == 0 and "BLEU-1" in agreed.output, agreed.output


def test_json_holds_values_intervals_and_reasons(files, toy):
    pytest.importorskip("pycocoevalcap")
    content = json.loads(call(*files, "--tokenizer", "none", "--json").stdout)
    assert set(content["not_computed"]) == {"METEOR", "SPICE", "BERTScore"}
    low, high = content["intervals"]["ROUGE-L"]
    assert low <= content["baselines"]["ROUGE-L"] <= high
    mean = math.fsum(row["ROUGE-L"] for row in content["scores"].values()) / len(CAPTIONS)
    assert content["baselines"]["ROUGE-L"] == pytest.approx(mean)
