"""What asking costs: estimates before, limits during, and sums in the report after."""

from __future__ import annotations

import json

import pytest
from helpers.services.ask_server import draw_images, scorer_of, texts
from helpers.services.loopback import Reply, Server
from helpers.services.openai_server import completion, error, right
from helpers.toy import ToyEmbedding, draw_image
from typer.testing import CliRunner

import t2v_eval
from t2v_eval.cli.main import app
from t2v_eval.errors import InputError, MediaError, ServiceError, UnsupportedError
from t2v_eval.evaluation.benchmark import Benchmark, Item
from t2v_eval.registry import benchmarks, models
from t2v_eval.remote.cost import Price
from t2v_eval.remote.scorer import estimate
from t2v_eval.scoring.plan import Block

KEY = "sk-test-0123456789abcdef"
EACH = Price(2.5, 10.0).cost(300, 1)  # what the server says of every answer


class Few(Benchmark):
    def items(self):
        return [Item([draw_image(n)], ["a cat", "a dog"], {"n": n}) for n in range(3)]

    def metrics(self, items, scores):
        return {"mean": float(sum(s.mean() for s in scores) / len(scores))}


@pytest.fixture
def few():
    benchmarks.register("few", summary="few")(Few)
    models.register("toy-here", kind="clip", summary="toy")(ToyEmbedding)
    yield
    del benchmarks._registered["few"], models._registered["toy-here"]


@pytest.fixture
def service(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with Server(right) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        yield server


def run(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_what_was_used_is_summed_and_reported(service, few, tmp_path):
    report = t2v_eval.compare("gpt-4o", "few", store=tmp_path / "s.db")
    (ran,) = report.to_json()["runs"]
    used = {"requests": 6, "input_tokens": 1800, "output_tokens": 6}
    assert ran["scorer"]["usage"] == used | {"us_dollars": round(6 * EACH, 6)}
    again = t2v_eval.compare("gpt-4o", "few", store=tmp_path / "s.db")
    assert "usage" not in again.to_json()["runs"][0]["scorer"], "nothing was asked"
    for rows in (list(report.rows()), list(again.rows())):
        listed = [json.loads(row["detail"])["listed"] for row in rows]
        assert listed == pytest.approx([0.995] * 6), "the captured mass of every cell"


def test_cached_tokens_cost_less():
    reply = completion({"Yes": 0.5, "No": 0.4})
    reply["usage"]["prompt_tokens_details"] = {"cached_tokens": 200}
    with Server(lambda request: Reply(reply)) as server:
        scorer = t2v_eval.load("gpt-4o", base_url=server.url, api_key=KEY)
        scorer(draw_image(1), "a cat")
    assert scorer.usage.total["cached_tokens"] == 200
    assert scorer.usage.cost == pytest.approx((100 * 2.5 + 200 * 1.25 + 10) / 1e6)


def test_a_limit_on_cost_is_kept(service):
    scorer = t2v_eval.load("gpt-4o", on_error="skip", max_cost=20.5 * EACH)
    outcome = scorer.evaluate_blocks([Block(draw_images(10), texts(10))])
    assert outcome.usage["us_dollars"] <= 20.5 * EACH
    assert 10 <= outcome.counts.computed <= 20, "what is open is reckoned with"
    assert outcome.counts.failed == 100 - outcome.counts.computed
    (reason,) = outcome.errors
    assert reason.startswith("not asked: the limit of 0.0") and reason.endswith("to go on")
    again = scorer.evaluate_blocks([Block(draw_images(10), texts(10))])
    assert 10 <= again.counts.computed <= 20, "a limit is that of a run"
    nothing = t2v_eval.load("gpt-4o", on_error="skip", max_cost=0)
    assert nothing.evaluate_blocks([Block(draw_images(1), texts(1))]).counts.computed == 0


def test_a_limit_that_cannot_be_kept_is_refused():
    with pytest.raises(InputError, match=r"that of 'gpt-9' is not known here: pass `price=\["):
        t2v_eval.load("openai:gpt-9", api_key=KEY, max_cost=1)
    with pytest.raises(InputError, match="pass two numbers"):
        t2v_eval.load("openai:gpt-9", api_key=KEY, price=[1])
    assert t2v_eval.load("openai:gpt-9", api_key=KEY, max_cost=1, price=[1, 2]).price.output == 2
    silent = completion({"Yes": 0.5})
    del silent["usage"]
    with Server(lambda request: Reply(silent)) as server:
        scorer = scorer_of(server, price=[1, 2], max_cost=1)
        with pytest.raises(ServiceError, match="does not say what an answer used"):
            scorer(draw_image(1), "a cat")
        assert float(scorer_of(server)(draw_image(1), "a cat")) == 0.5


def test_failures_are_not_counted_as_answers():
    def behave(request):
        return error(500, "no") if request.tries == 1 else right(request)

    with Server(behave) as server:
        scorer = scorer_of(server)
        scorer(draw_images(2), texts(3))
        assert scorer.usage.total["requests"] == 6
        assert len(server.requests) == 12


def test_an_estimate_asks_nothing_and_knows_the_store(service, tmp_path):
    scorer = t2v_eval.load("gpt-4o", store=tmp_path / "s.db")
    scorer(draw_images(2), texts(2))
    requests = len(service.requests)
    result = estimate(scorer, [Block([*draw_images(3), *draw_images(3)], texts(4))])
    assert len(service.requests) == requests
    assert (result.cells, result.stored, result.requests) == (12, 4, 8)
    question = len('Does this figure show "0 cats"? Please answer yes or no.')
    assert result.input_tokens == 8 * (255 + 12 + -(-question // 4))
    assert result.output_tokens == 8
    assert result.us_dollars == pytest.approx((result.input_tokens * 2.5 + 8 * 10) / 1e6)
    assert result.as_of == "2026-08-05"
    samples = t2v_eval.load("gpt-4o", estimator="sampling", n=5, max_tokens=10)
    assert estimate(samples, [Block(draw_images(1), texts(1))]).output_tokens == 50
    unknown = estimate(t2v_eval.load("openai:gpt-9"), [Block(draw_images(3), texts(4))])
    assert (unknown.requests, unknown.input_tokens, unknown.us_dollars) == (12, None, None)


def test_an_estimate_leaves_out_what_cannot_be_read(tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    block = [Block([*draw_images(2), tmp_path / "text.png"], texts(3))]
    result = estimate(t2v_eval.load("gpt-4o", on_error="skip"), block)
    assert (result.cells, result.requests) == (9, 6)
    with pytest.raises(MediaError, match=r"text.png.*not an image that Pillow can read"):
        estimate(t2v_eval.load("gpt-4o"), block)


def test_a_dry_run_needs_no_key_and_prints_a_table(few, tmp_path, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    draw_image(1).save(tmp_path / "a.png")
    common = ["--dry-run", "--store", tmp_path / "s.db"]
    done = run("score", tmp_path / "a.png", "-t", "a cat", "-m", "gpt-4o", *common)
    assert done.exit_code == 0, done.output
    assert "US dollars" in done.output and "2026-08-05" in done.output
    done = run("eval", "-m", "gpt-4o", "-m", "toy-here", "-b", "few", *common)
    assert done.exit_code == 0, done.output
    assert "gpt-4o on few" in done.output
    assert "toy-here runs locally: it sends no requests" in done.output
    done = run("score", tmp_path / "a.png", "-t", "a cat", "-m", "toy-here", *common)
    assert done.exit_code == 2 and "runs locally" in done.output
    with pytest.raises(UnsupportedError, match="sends no requests"):
        estimate(t2v_eval.load("toy-here"), [Block(draw_images(1), texts(1))])


def test_limits_on_the_command_line_are_for_services_alone(service, few, tmp_path):
    done = run(
        *("compare", "-m", "gpt-4o", "-m", "toy-here", "-b", "few", "--out", tmp_path / "out"),
        *("--max-requests", 4, "--on-error", "skip", "--no-store"),
    )
    assert len(service.requests) == 4
    assert done.exit_code == 0, done.output
    assert "gpt-4o on few: 4 answers, 1,200 tokens in, 4 tokens out, 0.0030 US dollars" in (
        " ".join(done.output.split())
    )
    runs = json.loads((tmp_path / "out" / "report.json").read_text())["runs"]
    assert [run["counts"]["computed"] for run in runs] == [4, 6]
    for path in (tmp_path / "out").iterdir():
        assert KEY.encode() not in path.read_bytes()
    assert KEY not in done.output
