"""Questions that are read from their authors' script, once it is fetched."""

from __future__ import annotations

import functools
import hashlib
import http.server
import threading
from dataclasses import replace

import pytest
from helpers.judges import Reciting
from typer.testing import CliRunner

import t2v_eval
from t2v_eval.backends.common import authors_text
from t2v_eval.cli.main import app
from t2v_eval.errors import BenchmarkDataError, CheckpointError
from t2v_eval.evaluation import download
from t2v_eval.registry import models
from t2v_eval.scoring.generation import IMAGE_PLACE

SCRIPT = '''"""A script of authors."""
SYSTEM = "You grade images."
ask = (
    f"Is it {caption}? "
    'Answer as {"grade": 4}.'
)
FORMATTED = """Edit: {prompt}
{{"score": [1]}}"""
'''
FORMAT = [["{{prompt}}", "{text}"], ["{{{{", "{{"], ["}}}}", "}}"]]


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@pytest.fixture
def fetched(tmp_path, monkeypatch):
    """The card of a judge whose authors' script is in a folder that stands for their repository."""
    monkeypatch.setattr(download, "default_root", lambda name: tmp_path / "cache" / name)
    folder = str(tmp_path / "web")
    handler = functools.partial(QuietHandler, directory=folder)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(authors_text, "RAW", f"http://127.0.0.1:{server.server_port}")
    file = tmp_path / "web" / "me" / "mine" / "0123" / "ask.py"
    file.parent.mkdir(parents=True)
    file.write_text(SCRIPT, encoding="utf-8")
    source = {
        "repository": "me/mine",
        "commit": "0123",
        "file": "ask.py",
        "sha256": hashlib.sha256(SCRIPT.encode()).hexdigest(),
        "strings": ["You grade images", "Answer as"],
        "join": " ",
        "around": "Look: {authors}",
        "fields": {"caption": "text"},
    }
    outputs = {"grade": {"json": "grade", "range": [1, 5]}}
    question = {"text": "In our words: {}", "outputs": outputs, "authors": source}
    judge = {"score": "grade", "questions": [question]}
    card = replace(models.card("unified-reward-2"), name="theirs", args={"judge": judge})
    assert models.cards  # which are read once
    monkeypatch.setitem(models.__dict__["_files"], "theirs", card)
    monkeypatch.setitem(models.__dict__["_checked"], "theirs", card)
    yield file
    server.shutdown()
    server.server_close()


def test_it_is_asked_once_it_is_fetched_and_ours_without(fetched):
    model = Reciting(lambda prompt: ['{"grade": 4}'])
    with pytest.raises(BenchmarkDataError, match=r"t2v-eval data theirs --fetch.*wording='ours'"):
        t2v_eval.load("theirs", vlm=model)
    own_wording = t2v_eval.load("theirs", vlm=model, wording="ours")
    missing = CliRunner().invoke(app, ["data", "theirs"])
    assert missing.exit_code == 2 and "--fetch" in missing.output
    result = CliRunner().invoke(app, ["data", "theirs", "--fetch"])
    assert result.exit_code == 0 and "as published: ask.py" in result.output, result.output
    authors_wording = t2v_eval.load("theirs", vlm=model)
    (question,) = authors_wording.judge.questions
    assert (
        question.fill("a cat")
        == IMAGE_PLACE + 'Look: You grade images. Is it a cat? Answer as {"grade": 4}.'
    )
    assert authors_wording.id != own_wording.id


def test_another_script_is_refused(fetched):
    fetched.write_text(SCRIPT + "# changed", encoding="utf-8")
    result = CliRunner().invoke(app, ["data", "theirs", "--fetch"])
    assert result.exit_code == 2 and "is not the published file" in result.output


@pytest.mark.parametrize(
    ("words", "replaced", "question"),
    [
        (["Edit:"], FORMAT, "Edit: x\n"),
        (["FORMATTED"], FORMAT, "Edit: x\n"),
        (["no such words"], [], None),
        (["A script", "e"], [], None),
    ],
)
def test_strings_are_named_by_words_that_they_alone_contain(words, replaced, question):
    source = authors_text.AuthorsText("me/mine", "0", "ask.py", "", words, replace=replaced)
    if question is None:
        with pytest.raises(CheckpointError, match="has . strings with"):
            source.extract(SCRIPT)
    else:
        text = source.extract(SCRIPT)
        assert text.replace("{text}", "x").startswith(question) and '{{"score": [1]}}' in text


def test_blocks_of_python_in_a_page_are_read():
    page = f"# Title\n\n```python\n{SCRIPT}```\n\n```bash\nls\n```\n"
    source = authors_text.AuthorsText("me/mine", "0", "README.md", "", ["You grade images"])
    assert source.extract(page) == "You grade images."
