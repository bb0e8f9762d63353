"""The command `verify`: its table, its file and its exit codes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

import t2v_eval
from t2v_eval.cli.main import app

TRAINED = Path(t2v_eval.load("tiny-clip", device="cpu").files[0]).parent


def call(*arguments, code=0):
    result = CliRunner().invoke(app, ["verify", *map(str, arguments)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_a_sound_scorer_gives_a_table_and_a_file():
    result = call("tiny-clip", "--device", "cpu", "--dtype", "float32")
    assert "weights complete" in result.stdout and "all checks are in verify.json" in result.stderr
    (saved,) = json.loads(Path("verify.json").read_text())
    outcomes = {check["name"]: check["outcome"] for check in saved["checks"]}
    assert outcomes["matching text"] == outcomes["tokenizer"] == outcomes["plain path"] == "passed"
    assert saved["failed"] is False and len(saved["facts"]["id"]) == 1
    assert saved["facts"]["versions"].keys() >= {"torch", "transformers"}
    assert any(file.endswith("model.safetensors") for file in saved["facts"]["files"])


def test_a_failure_has_exit_code_3_and_the_others_go_on(tmp_path):
    shutil.copytree(TRAINED, tmp_path / "copy")
    (tmp_path / "copy" / "model.safetensors").write_bytes(b"")
    names = (f"hf-clip:{tmp_path / 'copy'}", "tiny-clip")
    result = call(*names, "--device", "cpu", "--json", "--out", "all.json", code=3)
    first, second = json.loads(result.stdout)
    assert first["failed"] and "is empty: its download was not finished" in str(first["checks"])
    assert not second["failed"]
    assert f"a check failed: {names[0]}" in result.stderr
    assert json.loads(Path("all.json").read_text()) == [first, second]


def test_weights_of_ones_own_are_judged_if_they_are_copies(tmp_path):
    shutil.copytree(TRAINED, tmp_path / "copy")
    flags = ("tiny-clip", "--checkpoint", tmp_path / "copy", "--device", "cpu")
    (saved,) = json.loads(call(*flags, "--published", "--json").stdout)
    assert "passed" in [c["outcome"] for c in saved["checks"] if c["name"] == "matching text"]
    table = call(*flags).stdout
    assert "or with --published" in " ".join(table.split())


def test_a_service_is_not_asked():
    assert "a service has no weights" in call("gpt-4o", "--option", "api_key=none").stdout


def test_all_local_verifies_what_is_on_this_machine(monkeypatch):
    monkeypatch.setattr("t2v_eval.verification.hub.is_local", lambda card: card.name == "tiny-clip")
    assert "tiny-clip: " in call("--all-local", "--device", "cpu").stdout
    monkeypatch.setattr("t2v_eval.verification.hub.is_local", lambda card: False)
    assert "no scorer's weights are on this machine" in call("--all-local", code=2).stderr


def test_a_dry_run_of_what_is_here_downloads_nothing():
    assert "every file is on this machine" in call("tiny-clip", "--dry-run").stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "pass names of scorers, or --all-local"),
        (("tiny-clip", "--all-local"), "pass names of scorers, or --all-local"),
        (("tiny-clipp",), "Did you mean 'tiny-clip'"),
        (("--all-local", "--checkpoint", "x"), "leave out --checkpoint"),
        (("tiny-clip", "--option", "nothing=1"), "nothing"),
        (("tiny-clip", "--out", "."), "is a folder"),
    ],
)
def test_mistakes_are_errors(arguments, message):
    assert message in call(*arguments, code=2).stderr


def test_what_was_verified_is_kept_when_the_command_is_stopped(monkeypatch):
    from t2v_eval.verification import run

    verify = run.verify

    def stopping(card, *rest):
        if card.name == "tiny-negclip":
            raise KeyboardInterrupt
        return verify(card, *rest)

    monkeypatch.setattr(run, "verify", stopping)
    result = call("tiny-clip", "tiny-negclip", "--device", "cpu", code=130)
    assert "finished checks are in verify.json" in result.stderr
    (saved,) = json.loads(Path("verify.json").read_text())
    assert saved["model"] == "tiny-clip"
