"""Which of two images is closer to a text: both orders, contradictions, and what is missing."""

from __future__ import annotations

import base64
import json
import math

import pytest
from helpers.services.loopback import Reply, Server
from helpers.services.openai_server import FAULTS, BatchService, sampled
from helpers.toy import draw_image
from typer.testing import CliRunner

import t2v_eval
from t2v_eval.cli.main import app
from t2v_eval.errors import InputError, MediaError, ScoringError, TemplateError, UnsupportedError

KEY = "sk-test-0123456789abcdef"


def ask(server, name="gpt-4o-preference", **options):
    arguments = {"base_url": server.url, "api_key": KEY, "backoff": 0.01, **options}
    return t2v_eval.load(name, **arguments)


def urls(request):
    parts = request.body["messages"][0]["content"]
    return [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]


def texts(request):
    parts = request.body["messages"][0]["content"]
    return [part.get("text", "image") for part in parts]


def saying(*answers):
    """The first answer to the first order of a pair that comes, then the second."""
    observed = []

    def behave(request):
        if urls(request) not in observed:
            observed.append(urls(request))
        return Reply(sampled(answers[observed.index(urls(request)) % len(answers)]))

    return Server(behave)


def test_a_judge_that_knows_is_consistent_whatever_the_order(tmp_path):
    valid = []

    def behave(request):
        if request.tries == 2:
            return FAULTS["503"]()
        return Reply(sampled("AB"[urls(request).index(valid[0])]))

    store = t2v_eval.Store(tmp_path / "s.db")
    with Server(lambda request: Reply(sampled("A"))) as server:
        ask(server).prefer(draw_image(1), draw_image(2), "a cat")
        first = server.requests[0]
        valid.append(urls(first)[0])
        assert texts(first)[1:] == ["Picture A:", "image", "Picture B:", "image"]
        assert 'Text: "a cat"' in texts(first)[0]
        assert urls(server.requests[1]) == urls(first)[::-1]
        server.behave = behave
        scorer = ask(server, store=store)
        assert scorer.prefer(draw_image(1), draw_image(2), "a cat") == (1.0, True, 1.0, 1.0, "")
        assert scorer.prefer(draw_image(2), draw_image(1), "a cat") == (0.0, True, 0.0, 0.0, "")
        assert len(server.requests) == 2 + 4, "the second is in the store"
    rows = [*store.rows()]
    assert sorted(row.value for row in rows) == [0.0, 1.0]
    assert {json.loads(row.detail)["written"] for row in rows} == {"A", "B"}


@pytest.mark.parametrize(
    ("answers", "value", "consistent"),
    [
        (("A", "B"), 1.0, True),
        (("B", "A"), 0.0, True),
        (("tie", "tie"), 0.5, True),
        (("A", "A"), 0.5, False),
        (("B", "B"), 0.5, False),
        (("A", "tie"), 0.75, False),
    ],
)
def test_contradictions_are_said(answers, value, consistent):
    with saying(*answers) as server:
        result = ask(server, concurrency=1).prefer(draw_image(1), draw_image(2), "a cat")
    assert (result.value, result.consistent) == (value, consistent)


def test_many_pairs_are_asked_for_together():
    # No request is answered before all are open that may be.
    with Server(lambda _: Reply(sampled("A")), hold=lambda _: server.awaits_more(40)) as server:
        pairs = [(draw_image(n), draw_image(n + 1), f"{n % 3} cats") for n in range(20)]
        result = ask(server).prefer_all([*pairs, pairs[0]])
        assert len(result) == 21 and result[0] == result[-1]
        assert len(server.requests) == 40 and server.most_open == 23
        assert all(item.consistent is False for item in result)
        assert ask(server).prefer_all([]) == []


@pytest.mark.parametrize("answer", ["", "C", "both", "A or B", "A because it shows a cat"])
def test_what_is_no_choice_is_missing_and_no_number(answer):
    with saying("A", answer) as server:
        scorer = ask(server, concurrency=1, on_error="skip")
        result = scorer.prefer(draw_image(1), draw_image(2), "a cat")
        assert math.isnan(result.value) and result.consistent is None
        assert result.shown_first == 1.0 and math.isnan(result.shown_second)
        assert "the judge wrote neither A nor B nor tie" in result.reason
        with pytest.raises(ScoringError, match="neither A nor B"):
            ask(server).prefer(draw_image(1), draw_image(2), "a cat")


def test_wrong_input_is_named(tmp_path):
    with saying("A", "B") as server:
        scorer = ask(server)
        with pytest.raises(UnsupportedError, match=r"call prefer\(image_a, image_b, text\)"):
            scorer(draw_image(1), "a cat")
        with pytest.raises(MediaError, match=r"image_b\[0\].*no such file"):
            scorer.prefer(draw_image(1), tmp_path / "gone.png", "a cat")
        with pytest.raises(InputError, match=r"text\[0\]"):
            scorer.prefer(draw_image(1), draw_image(2), 3)
        with pytest.raises(TemplateError, match="reads what the model writes"):
            scorer.prefer(draw_image(1), draw_image(2), "a cat", answer_template="Yes")
        assert not server.requests
        skipping = ask(server, on_error="skip")
        result = skipping.prefer(draw_image(1), tmp_path / "gone.png", "a cat")
        assert math.isnan(result.value) and "no such file" in result.reason


def test_a_server_of_ones_own_and_what_it_would_cost():
    with saying("A", "B") as server:
        custom = ask(server, "openai-compatible-preference:m", api_key=None)
        result = custom.prefer(draw_image(1), draw_image(2), "cats", question_template="Which: {}?")
        assert result.value == 1.0
        assert texts(server.requests[0]) == [
            "Picture A:",
            "image",
            "Picture B:",
            "image",
            "Which: cats?",
        ]
        assert ask(server).generate(draw_image(1), "Say.") in (["A"], ["B"])
        assert custom.id != ask(server).id != ask(server, "gpt-4o-judge").id


def test_pairs_in_a_batch_and_their_price(tmp_path):
    service = BatchService(lambda request: Reply(sampled("A")), looks=1)
    with Server(service) as server:
        scorer = ask(server, batch=True, poll=0.01, store=tmp_path / "s.db")
        result = scorer.prefer(draw_image(1), draw_image(2), "a cat")
        assert (result.value, result.consistent) == (0.5, False)
        assert len(service.cells) == 2
    with saying("A", "B") as server:
        priced = ask(server, price=[1.0, 0.0])
        priced.prefer(draw_image(1), draw_image(2), "a cat")
        assert priced.usage.cost == pytest.approx(2 * 300 / 1e6)


def test_from_the_command_line(tmp_path, monkeypatch):
    paths = [str(tmp_path / name) for name in ("a.png", "b.png")]
    for seed, path in enumerate(paths):
        draw_image(seed).save(path)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)

    def run(server, *more, model="gpt-4o-preference"):
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        command = ["prefer", *paths, "a cat", "-m", model, "--store", str(tmp_path / "s.db")]
        return CliRunner().invoke(app, [*command, *more])

    valid = base64.b64encode((tmp_path / "a.png").read_bytes()).decode()

    def behave(request):
        return Reply(sampled("A" if request.images[0].endswith(valid) else "B"))

    with Server(behave) as server:
        done = run(server)
        assert done.exit_code == 0, done.output
        assert json.loads(done.stdout) == {
            **dict(zip(("image_a", "image_b"), paths, strict=True)),
            **{"text": "a cat", "value": 1.0, "consistent": True, "reason": ""},
            **{"shown_first": 1.0, "shown_second": 1.0},
        }
        assert "2 answers" in done.stderr
        again = run(server)
        assert again.stdout == done.stdout and len(server.requests) == 2, "it is in the store"
        requests = run(server, "--question", "Which is {}?")
        assert server.requests[-1].question == "Which is a cat?" and requests.exit_code == 0
        wrong = run(server, model="gpt-4o")
        assert wrong.exit_code == 2 and "compares no pairs" in wrong.stderr
    with Server(behave) as server:
        limited = run(server, "--no-store", "--max-requests", "1", "--option", "concurrency=1")
        assert limited.exit_code == 2 and len(server.requests) == 1
    with saying("both") as server:
        done = run(server, "--on-error", "skip", "--no-store")
        assert done.exit_code == 1
        result = json.loads(done.stdout)
        assert result["value"] is None and "neither A nor B" in result["reason"]


def test_names_are_printed_as_they_are_and_without_passwords(tmp_path, monkeypatch):
    path = tmp_path / "caf\u00e9.png"
    draw_image(0).save(path)
    url = "http://me:secret@localhost:1/b.png"
    monkeypatch.chdir(tmp_path)
    options = ["-m", "gpt-4o-preference", "--option", f"api_key={KEY}", "--on-error", "skip"]
    done = CliRunner().invoke(
        app, ["prefer", path.name, url, "a caf\u00e9", *options, "--no-store"]
    )
    assert done.exit_code == 1 and "secret" not in done.output
    assert done.stdout.startswith('{"image_a": "caf\u00e9.png", "image_b": "http://***@localhost')
