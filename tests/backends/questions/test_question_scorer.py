"""TIFA, DSG and Soft-TIFA on the answers of small models: values, sharing, failures, ids, store."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from helpers.models.plain_vlm import of_images, reader
from helpers.models.tiny import VQA, clip_flant5
from helpers.models.tiny_vlm import qwen2_5_vl, qwen3_vl
from helpers.services.loopback import Reply, Server
from helpers.services.openai_server import completion, sampled
from helpers.toy import draw_image
from scipy.stats import gmean

import t2v_eval
from t2v_eval.api import ScorerOptions
from t2v_eval.backends.questions.question_scorer import QuestionScorer
from t2v_eval.benchmarks.scenes import Scenes
from t2v_eval.errors import InputError, ScoringError, TemplateError
from t2v_eval.inputs.questions.question import Question, Questions
from t2v_eval.registry import models
from t2v_eval.remote.scorer import estimate
from t2v_eval.report.item_browser import ItemBrowser
from t2v_eval.report.report import compare
from t2v_eval.report.thumbnails import Album
from t2v_eval.scoring.plan import Block

TEXT = "a red cube"
QUESTIONS = Questions(
    [
        Question("1", "1", TEXT, "Is there a cube?"),
        Question("1", "2", TEXT, "Is the cube red?", parents=("1",)),
        Question("1", "3", TEXT, "How many cubes are there?", (), "one"),
        Question("2", "1", "a ball", "Is there a ball?"),
        Question("2", "2", "a ball", "Is there a cube?", ("no", "yes"), "no"),
    ]
)
LLAVA = {"vlm": "llava-v1.5-7b", "checkpoint": str(VQA / "llava15/checkpoint/llava-1.5-tiny-hf")}


@pytest.fixture(scope="module")
def images():
    return [draw_image(seed) for seed in range(3)]


@pytest.fixture(scope="module")
def vlm(tmp_path_factory):
    options = clip_flant5(tmp_path_factory.mktemp("vlm"))
    return t2v_eval.load("clip-flant5-xxl", device="cpu", **options)


def asked(vlm, images, question, answer):
    """The probability of an answer, by the scorer itself, one question at a time."""
    scores = vlm(images, "x", question_template=question, answer_template=answer)
    return scores[:, 0].double().numpy()


@pytest.mark.filterwarnings("ignore:neither the question:t2v_eval.errors.T2VWarning")
def test_scores_are_the_rules_on_the_probabilities_of_single_questions(vlm, images):
    cube = asked(vlm, images, "Is there a cube? Please answer yes or no.", "Yes")
    red = asked(vlm, images, "Is the cube red? Please answer yes or no.", "Yes")
    one = asked(vlm, images, "How many cubes are there? Please answer in one word.", "one")
    ball = asked(vlm, images, "Is there a ball? Please answer yes or no.", "Yes")
    none = asked(vlm, images, "Is there a cube? Please answer yes or no.", "No")
    values = np.stack([cube, red, one])
    expected = {
        "tifa": values.mean(0),
        "soft-tifa-am": values.mean(0),
        "soft-tifa-gm": gmean(values),
        "dsg": np.stack([cube, np.where(cube < 0.5, 0, red), one]).mean(0),
    }
    for rule, column in expected.items():
        scores = QuestionScorer(vlm, QUESTIONS, rule)(images, [TEXT, "a ball"]).numpy()
        np.testing.assert_allclose(scores[:, 0], column, rtol=1e-4)
        other = gmean([ball, none]) if rule == "soft-tifa-gm" else (ball + none) / 2
        np.testing.assert_allclose(scores[:, 1], other, rtol=1e-4)


@pytest.fixture(scope="module", params=["llava", "qwen2_5_vl"])
def seeing(request, tmp_path_factory):
    """Options of a scorer that answers, of two families with prefixes."""
    if request.param == "llava":
        return LLAVA
    folder = tmp_path_factory.mktemp("qwen")
    qwen2_5_vl(folder)
    return {"vlm": f"hf-vlm:{folder}"}


def passes(scorer, image):
    """The score, and how many images the tower reads and prefixes the language model prefills."""
    network, counts = scorer.vlm.network.base_model, [0, 0]
    tower = getattr(network, "visual", None) or network.vision_tower

    def see(_, args, kwargs):
        grids = kwargs.get("grid_thw")
        counts[0] += len(args[0]) if grids is None else len(grids)

    def read(_, args, kwargs):
        counts[1] += len(kwargs["input_ids"]) if kwargs.get("input_ids") is not None else 0

    hooks = [
        module.register_forward_pre_hook(hook, with_kwargs=True)
        for module, hook in ((tower, see), (network, read))
    ]
    (explanation,) = scorer.explain(image, TEXT)[0]
    for hook in hooks:
        hook.remove()
    return np.array([answered.value for answered in explanation.questions]), counts


def test_fifteen_questions_of_an_image_share_one_prefill(images, seeing):
    many = Questions([Question("1", str(n), TEXT, f"Is there thing {n}?") for n in range(15)])
    options = {"device": "cpu", "questions": many, "keep_bytes": 0, **seeing}
    together, counts = passes(t2v_eval.load("tifa", **options), images[0])
    assert counts == [1, 1]
    alone, counts = passes(t2v_eval.load("tifa", share=False, **options), images[0])
    assert counts == [15, 15]
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-7)


def test_a_text_without_questions_is_an_error_before_anything_is_asked(vlm, images, monkeypatch):
    scorer = QuestionScorer(vlm, QUESTIONS, "dsg", on_error="skip")
    monkeypatch.setattr(scorer.vlm, "evaluate_blocks", lambda *_, **__: pytest.fail("asked"))
    with pytest.raises(InputError, match="no question about the text 'a cone'; add"):
        scorer(images, [TEXT, "a cone"])


def test_generated_answers_are_judged_and_those_that_are_none_are_missing(vlm, images, monkeypatch):
    replies = {
        "Is there a cube? Please answer yes or no.": "Yes.",
        "Is the cube red? Please answer yes or no.": "no, blue",
        "How many cubes are there? Please answer in one word.": "One",
        "Is there a ball? Please answer yes or no.": "I cannot tell " * 1000,
    }
    scorer = QuestionScorer(vlm, QUESTIONS, "dsg", answers="generated", on_error="skip")
    monkeypatch.setattr(
        scorer.vlm, "generate_texts", lambda _, prompts, __: [replies[p] for p in prompts]
    )
    result = scorer.evaluate_blocks([Block(images[:1], [TEXT, "a ball"])])
    assert result.scores[0][0, 0] == pytest.approx(2 / 3) and np.isnan(result.scores[0][0, 1])
    (reason,) = result.errors
    assert reason.startswith("question '1': the answer 'I cannot tell") and len(reason) < 400
    monkeypatch.setattr(scorer, "on_error", "raise")
    with pytest.raises(ScoringError, match=r"images\[0\].*'a ball'.*none of yes, no"):
        scorer(images[0], "a ball")


def test_an_explanation_lists_questions_answers_and_what_zeroed_them(vlm, images, monkeypatch):
    scorer = QuestionScorer(vlm, QUESTIONS, "dsg", answers="generated")
    monkeypatch.setattr(
        scorer.vlm, "generate_texts", lambda _, p, __: ["No", "Yes", "one"][: len(p)]
    )
    explanation = scorer.explain(images[0], TEXT)[0][0]
    assert [a.value for a in explanation.questions] == [0.0, 1.0, 1.0]
    assert [a.zeroed_by for a in explanation.questions] == [None, "1", None]
    assert "2. Is the cube red? 'Yes' (yes: 1.0000, counts 0: 1 is wrong)" in str(explanation)
    assert explanation.score == pytest.approx(1 / 3)


def test_the_store_keeps_every_answer(vlm, images, tmp_path):
    store = tmp_path / "scores.sqlite"
    first = QuestionScorer(vlm, QUESTIONS, "dsg", store=store)(images, TEXT)
    again = QuestionScorer(vlm, QUESTIONS, "dsg", store=store)
    again.vlm.score_cells = lambda *_: pytest.fail("asked again")
    assert torch.equal(again(images, TEXT), first)
    # Another rule needs no further answer.
    other = QuestionScorer(vlm, QUESTIONS, "soft-tifa-gm", store=store)
    other.vlm.score_cells = again.vlm.score_cells
    assert other(images, TEXT).isfinite().all()
    details = json.loads(again.evaluate_blocks([Block(images, [TEXT])]).details[0, 0, 0])
    fields = {"id", "question", "expected", "answer", "value", "error", "zeroed_by"}
    assert [entry["id"] for entry in details] == ["1", "2", "3"] and set(details[0]) == fields


def test_the_id_holds_the_questions_the_rule_and_the_model(vlm, tmp_path):
    fewer = Questions(list(QUESTIONS)[:3])
    ids = {
        QuestionScorer(vlm, QUESTIONS, "dsg").id,
        QuestionScorer(vlm, fewer, "dsg").id,
        QuestionScorer(vlm, QUESTIONS, "tifa").id,
        QuestionScorer(vlm, QUESTIONS, "dsg", dependency="transitive").id,
        QuestionScorer(vlm, QUESTIONS, "dsg", answers="generated").id,
        QuestionScorer(vlm, QUESTIONS, "dsg", answers="generated", match="exact").id,
        t2v_eval.load("dsg", questions=QUESTIONS, device="cpu", **LLAVA).id,
    }
    assert len(ids) == 7
    assert QUESTIONS.hash in QuestionScorer(vlm, QUESTIONS, "dsg").id
    assert vlm.encoder_id in QuestionScorer(vlm, QUESTIONS, "dsg").id


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"vlm": None}, "vlm=NAME"),
        ({"vlm": "tiny-clip"}, "'tiny-clip'` answers no questions.*kind vqa"),
        ({"answers": "guessed"}, "'probability' or 'first-tokens' or 'generated'"),
        ({"dependency": "all"}, "'transitive'"),
        ({"answer_template": "Yes"}, "`answer_template='Yes'` out"),
    ],
)
def test_what_cannot_be_asked_is_refused(options, message):
    chosen = {"vlm": "tiny-clip-flant5", "questions": QUESTIONS, "device": "cpu", **options}
    with pytest.raises(InputError, match=message):
        t2v_eval.load("dsg", **chosen)


def test_an_answer_that_a_service_cannot_score_is_refused_before_it_is_asked():
    longer = Questions([Question("1", "1", TEXT, "What is it?", (), "a red cube")])
    options = {"vlm": "openai-compatible:m", "base_url": "http://127.0.0.1:9/v1", "api_key": "k"}
    with pytest.raises(InputError, match="one word.*'a red cube'"):
        t2v_eval.load("tifa", questions=longer, **options)
    assert t2v_eval.load("tifa", questions=longer, answers="generated", **options)


def test_soft_tifa_has_no_generated_answers_and_a_loaded_model_no_options(vlm):
    with pytest.raises(InputError, match="a mean of probabilities"):
        QuestionScorer(vlm, QUESTIONS, "soft-tifa-gm", answers="generated")
    with pytest.raises(InputError, match="`device=` is an option of a scorer that is named"):
        t2v_eval.load("dsg", vlm=vlm, questions=QUESTIONS, device="cpu")


def test_limits_of_cost_reach_a_service_that_is_asked():
    limits = ScorerOptions(max_cost=1.0, specific={"vlm": "gpt-4o"})
    assert limits.for_card(models.card("dsg")).max_cost == 1.0
    limits = ScorerOptions(max_cost=1.0, specific={"vlm": "tiny-clip-flant5"})
    assert limits.for_card(models.card("dsg")).max_cost is None


def test_limits_hold_over_all_images_and_an_estimate_counts_questions(images, monkeypatch):
    """Images are asked about in groups; the limit is that of the run, not of a group."""
    monkeypatch.setattr("t2v_eval.backends.questions.question_scorer.IMAGES_TOGETHER", 1)
    with Server(lambda request: Reply(completion({"Yes": 0.9, "one": 0.05}))) as server:
        options = {"vlm": "openai-compatible:m", "base_url": server.url, "api_key": "k"}
        scorer = t2v_eval.load(
            "tifa", questions=QUESTIONS, max_requests=4, on_error="skip", **options
        )
        block = Block(images, [TEXT, "a ball"])
        assert estimate(scorer, [block]).requests == 3 * 5
        result = scorer.evaluate_blocks([block])
        assert len(server.requests) == 4
    assert any("the limit of 4 requests" in reason for reason in result.errors)


REPLIES = {
    "cube?": lambda: completion({"Yes": 0.8, "No": 0.1}),
    "red?": lambda: completion({"Ja": 0.9}),
    "How many": lambda: completion({"one": 0.6, "two": 0.3}),
    "ball?": lambda: {"choices": "malformed"},
}


def test_a_service_is_paid_once_for_each_question_and_odd_replies_are_counted(images, tmp_path):
    def behave(request):
        return Reply(next(make() for key, make in REPLIES.items() if key in request.question))

    with Server(behave) as server:
        options = {
            "vlm": "openai-compatible:m",
            "questions": QUESTIONS,
            "base_url": server.url,
            "api_key": "k",
            "backoff": 0.01,
            "retries": 0,
            "on_error": "skip",
            "store": tmp_path / "scores.sqlite",
        }
        block = Block(images[:2], [TEXT, "a ball"])
        result = t2v_eval.load("tifa", **options).evaluate_blocks([block])
        right = [r for r in server.requests if "cube?" in r.question or "How many" in r.question]
        assert len(right) == 2 * 3  # "Is there a cube?" expects yes of a text and no of another
        assert np.isnan(result.scores[0]).all() and sum(result.errors.values()) == 4
        assert all(reason.startswith("question '") for reason in result.errors)
        assert result.usage
        later = {"red?": completion({"Yes": 0.9}), "ball?": completion({"Yes": 0.5})}
        server.behave = lambda request: Reply(
            next(reply for key, reply in later.items() if key in request.question)
        )
        before = len(server.requests)
        scores = t2v_eval.load("tifa", **options)(images[:2], [TEXT, "a ball"])
        assert {
            ("red?" in r.question, "ball?" in r.question) for r in server.requests[before:]
        } == {
            (True, False),
            (False, True),
        }
    assert len(server.requests) == before + 4
    assert scores[:, 0].tolist() == pytest.approx([(0.8 + 0.9 + 0.6) / 3] * 2)


def test_generated_answers_of_a_service(images):
    texts = {"cube?": "Yes", "red?": "", "How many": "One."}

    def behave(request):
        return Reply(sampled(next(text for key, text in texts.items() if key in request.question)))

    with Server(behave) as server:
        options = {"base_url": server.url, "api_key": "k", "backoff": 0.01, "on_error": "skip"}
        scorer = t2v_eval.load(
            "dsg",
            vlm="openai-compatible:m",
            questions=QUESTIONS,
            answers="generated",
            retries=0,
            **options,
        )
        explanation = scorer.explain(images[0], TEXT)[0][0]
    assert [a.value for a in explanation.questions] == [1.0, None, 1.0]
    assert np.isnan(explanation.score)


def test_a_report_lists_what_explain_does(vlm):
    scenes = Scenes(n=2)
    scorer = QuestionScorer(vlm, scenes.questions(), "dsg")
    (run,) = compare([scorer], [scenes], resamples=2, noise_floor=False).runs
    browser = ItemBrowser([run])
    details = browser.data(Album(browser.images()), [])["items"][0]["details"][0]
    item = run.items[0]
    explained = scorer.explain(item.images, item.texts)
    lines = [[str(a) for a in cell.questions] for row in explained for cell in row]
    assert details == [[n, listed] for n, listed in enumerate(lines)] and len(lines) == 4


GENEVAL2 = Questions(
    [
        Question("1", "1", TEXT, "Is there a cube?", ("Yes", "No"), "Yes"),
        Question("1", "2", TEXT, "How many cubes are there?", (), "four"),
    ]
)
# As evaluation.py of GenEval 2 lists them.
SPELLINGS = {
    "1": ["Yes", "yes", " yes", " Yes"],
    "2": ["four", "Four", " four", " Four", "4", " 4"],
}


def test_first_tokens_are_summed_as_in_the_script_of_geneval2(images, tmp_path_factory):
    """Against the network and the chat template of transformers, without code of this library."""
    folder = tmp_path_factory.mktemp("qwen3")
    qwen3_vl(folder)
    read, encode = reader(folder)
    image = images[0].resize((64, 64)).convert("RGB")
    expected = []
    for question in GENEVAL2:
        probabilities = read(of_images([image]), f"{question.question} Answer in one word.")
        first = {encode(spelling)[0] for spelling in SPELLINGS[question.id]}
        expected.append(float(probabilities[sorted(first)].sum()))
    options = {"vlm": f"hf-vlm:{folder}", "questions": GENEVAL2, "device": "cpu"}
    for rule, mean in (("soft-tifa-am", np.mean), ("soft-tifa-gm", gmean)):
        scorer = t2v_eval.load(rule, answers="first-tokens", **options)
        assert float(scorer(image, TEXT)) == pytest.approx(mean(expected), rel=1e-4)
    other = t2v_eval.load("soft-tifa-gm", **options)
    assert other.id != scorer.id
    with pytest.raises(InputError, match="rule='first-tokens'`, and 'hf-vlm.* is none"):
        t2v_eval.load("tifa", vlm=other.vlm, questions=GENEVAL2, answers="first-tokens")
    colour = Questions([Question("1", "1", TEXT, "What colour is it?", (), "red")])
    with pytest.raises(TemplateError, match="yes, no and numbers up to twenty, not 'red'"):
        scorer.with_questions(colour)


@pytest.mark.parametrize("vlm", ["tiny-clip-flant5", "gpt-4o"])
def test_first_tokens_need_a_model_that_gives_their_probabilities(vlm):
    with pytest.raises(InputError, match="needs a vision-language model that runs here: .*`rule="):
        t2v_eval.load("soft-tifa-gm", vlm=vlm, questions=GENEVAL2, answers="first-tokens")
