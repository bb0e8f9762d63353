"""Options of scorers, benchmarks and runs: sorted once, and names are resolved once."""

import pytest
from helpers.benchmarks.toy_benchmark import Knows, Toys, named_toys  # noqa: F401
from typer.testing import CliRunner

from t2v_eval.api import ScorerOptions
from t2v_eval.cards import ModelCard
from t2v_eval.cli.main import app
from t2v_eval.cli.options import scorer_options
from t2v_eval.errors import InputError
from t2v_eval.evaluation.options import BenchmarkOptions, RunOptions, open_benchmark
from t2v_eval.registry import Registry, benchmarks, models
from t2v_eval.report.report import compare, run_all


def test_keywords_of_all_scorers_and_of_one_class_are_sorted():
    options = ScorerOptions.from_keywords(device="cpu", max_cost=2.0, wrong=3, specific=1)
    assert (options.device, options.max_cost) == ("cpu", 2.0)
    assert options.specific == {"wrong": 3, "specific": 1}


@pytest.mark.parametrize("remote", [True, False])
def test_limits_of_requests_are_for_scorers_of_an_api(remote):
    card = ModelCard("mine", "Mine", "mine", remote=remote)
    limited = ScorerOptions(max_cost=1.0, max_requests=2, batch=True, device="cpu").for_card(card)
    limits = (limited.max_cost, limited.max_requests, limited.batch)
    assert limits == ((1.0, 2, True) if remote else (None, None, None))
    assert limited.device == "cpu"


def test_flags_go_before_pairs_of_the_same_name():
    options = scorer_options(device="cpu", option=["device=cuda", "batch_size=8", "wrong=3"])
    assert (options.device, options.batch_size, options.specific) == ("cpu", 8, {"wrong": 3})
    assert scorer_options(answer="").answer_template == ""
    assert scorer_options(allow_urls=True).allow_urls is True
    private = scorer_options(allow_urls=True, option=["allow_urls=private"])
    assert private.allow_urls == "private"


def test_options_reach_scorer_benchmark_and_run():
    report = run_all(
        [models.card("toy-oracle")],
        [benchmarks.card("toy-items")],
        ScorerOptions(question_template="Is it {}?", specific={"wrong": 1}),
        BenchmarkOptions(specific={"n": 6}),
        RunOptions(subset="odd", resamples=7, seed=3),
    )
    (run,) = report.runs
    assert run.scorer.question == "Is it {}?" and run.metrics["right"].value == 0
    assert (run.benchmark.items, run.benchmark.items_of_all) == (3, 6)
    assert (run.benchmark.resamples, run.benchmark.seed) == (7, 3)


def test_an_option_that_nothing_has_is_named():
    with pytest.raises(InputError, match="'toy-oracle' takes no `wrongg=`"):
        compare("toy-oracle", Toys(n=2), wrongg=1)
    with pytest.raises(InputError, match="'toy-items' takes no `nn=`"):
        compare(Knows(), "toy-items", benchmark_options={"nn": 1})
    with pytest.raises(InputError, match="'toy-items' takes no `images=`"):
        open_benchmark("toy-items", images=["mine"])


def test_names_are_resolved_once(monkeypatch, tmp_path):
    resolved = []
    card = Registry.card
    monkeypatch.setattr(
        Registry, "card", lambda registry, name: resolved.append(name) or card(registry, name)
    )
    command = ["eval", "-m", "toy-oracle", "-m", "toy-guesser", "-b", "toy-items", "--no-store"]
    done = CliRunner().invoke(app, [*command, "--resamples", "5"])
    assert done.exit_code == 0, done.output
    assert resolved == ["toy-oracle", "toy-guesser", "toy-items"]
