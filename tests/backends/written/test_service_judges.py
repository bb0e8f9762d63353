"""Wrong answers and servers of the failure suite, for the judges that are services."""

from __future__ import annotations

import json
import math

import pytest
from helpers.failing_judges import BEHAVIOURS, FAILURES
from helpers.judges import KEY, asked, over_service, token_list, written_reply
from helpers.services.ask_server import needs_gemini
from helpers.services.gemini_server import sampled as sampled_by_gemini
from helpers.services.loopback import Reply, Server
from helpers.services.openai_server import sampled
from helpers.toy import draw_image

import t2v_eval
from t2v_eval.errors import ScoringError, UnsupportedError
from t2v_eval.inputs.media import PAIR, ImageGroup, open_media
from t2v_eval.scoring.plan import Block

GRADE, CHOICE = ("70", "20"), ("A", "B")
JUDGES = {
    "gpt-4o-judge": GRADE,
    "gpt-4o-preference": CHOICE,
    "gemini-2.5-flash-judge": GRADE,
    "gemini-2.5-flash-preference": CHOICE,
}
# What is wrong for a grade from 1 to 5 may be a grade from 0 to 100, or a choice of A or B.
RIGHT = {
    GRADE: {
        **dict.fromkeys(("4/100", "4%", "4 %", "$4", "#4", '"4"', "'4'", "[[4]]", "(4", ":4"), 4),
        **dict.fromkeys(("score=4", "4", "[4]", "Rating: 4", "Answer: 4", "Grade = 4"), 4),
        **dict.fromkeys(("The score is 4.", '{"grade": 4}', "<answer>4", "<score>4</score>"), 4),
        **{"26": 26, "99.99": 99.99, "100": 100, "80/100": 80, "80%": 80},
        **{"4.5": 4.5, "0": 0, "5": 5, "10": 10, "25": 25},
    },
    CHOICE: {"A": 1, "B": 0, "tie": 0.5},
}


def reading(name):
    """Return what reads an answer of a judge, and replies with an answer."""
    scorer = t2v_eval.load(name, api_key=KEY)
    reply = sampled_by_gemini if name.startswith("gemini") else sampled
    return lambda text: scorer.read_score(reply(text), "a cat").value


@needs_gemini
@pytest.mark.parametrize("name", JUDGES)
def test_no_wrong_answer_is_a_grade(name):
    right, other = JUDGES[name]
    around = [
        form.replace("{right}", right).replace("{other}", other) for form in FAILURES["around"]
    ]
    read, wrong = reading(name), {}
    for text in [*FAILURES["grades"], *FAILURES["texts"], *around]:
        try:
            value = read(text)
        except ScoringError:
            value = None
        if value != RIGHT[JUDGES[name]].get(text):
            wrong[text] = value
    assert not wrong


@pytest.mark.filterwarnings("ignore:waiting")
@pytest.mark.parametrize("name", ["openai-compatible-judge:m", "openai-compatible-preference:m"])
def test_no_failing_server_gives_a_grade(name):
    right = "70" if "judge" in name else "A"
    behaviours = [*BEHAVIOURS.values()]
    texts = [str(n) for n in range(2 * len(behaviours) + 1)]  # right answers stand between

    def behave(request):
        n = int(asked(request).partition("<")[2].partition(">")[0])
        return behaviours[n // 2](right) if n % 2 else Reply(sampled(right))

    with Server(behave) as server:
        scorer = t2v_eval.load(
            name, base_url=server.url, api_key=KEY, on_error="skip", retries=0, backoff=0.001
        )
        first, second = (open_media(draw_image(n)) for n in (1, 2))
        image = ImageGroup.of(first=first, second=second) if scorer.image_roles == PAIR else first
        block = Block([image], [f"<{text}>" for text in texts])
        result = scorer.evaluate_blocks([block], progress=False)
    scores = result.scores[0][0].tolist()
    assert [n for n, score in enumerate(scores) if not math.isnan(score)] == [
        *range(0, len(texts), 2)
    ]
    assert {*scores[::2]} == {70.0 if right == "70" else 1.0}
    assert all(result.failures[0, 0, n] for n in range(1, len(texts), 2))


def test_a_grade_without_probabilities_is_missing_where_others_have_them():
    """A slip of a service does not end a run; one that never lists them does."""
    output = {"pattern": "Style: {number}", "range": [1, 5]}
    questions = [{"text": "Grade {}", "outputs": {"style": output}}]
    judge = {"score": "style", "questions": questions, "expected": True}
    grades = {"4": 0.5, "5": 0.5}

    def behave(request):
        reply = written_reply("Style: 4")
        if "no list" not in json.dumps(request.body["messages"]):
            reply.body["choices"][0]["logprobs"] = token_list("Style", ":", " ", grades)
        return reply

    texts = ["a cat", "no list", "a dog"]
    with Server(behave) as server:
        options = {"concurrency": 1, "on_error": "skip"}
        scorer = over_service(judge, server, **options)
        scores = scorer(draw_image(1), texts)
        assert scores.tolist()[0] == pytest.approx([4.5, math.nan, 4.5], nan_ok=True)
        never = over_service(judge, server, retries=3, **options)
        with pytest.raises(UnsupportedError, match="lists no probabilities"):
            never(draw_image(1), "no list")
