"""What is sent to a service, what its answers mean, and where keys and images never go."""

from __future__ import annotations

import base64
import io
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.processes import run_python
from helpers.services.loopback import Reply, Server, p_yes
from helpers.services.openai_requests import KEY, TEXTS, ask, saying
from helpers.services.openai_server import completion, error, right, sampled
from helpers.toy import draw_image
from PIL import Image

import t2v_eval
from t2v_eval.errors import InputError, MediaError, ScoringError, TemplateError, UnsupportedError
from t2v_eval.registry import models


@pytest.fixture(autouse=True)
def no_keys_of_the_machine(monkeypatch):
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server():
    with Server(right) as running:
        yield running


def sent_image(request):
    head, _, content = request.images[0].partition(",")
    return head, base64.b64decode(content)


def test_one_request_a_cell_and_the_probability_summed_over_forms(server, tmp_path):
    paths = [tmp_path / f"{n}.png" for n in range(3)]
    for n, path in enumerate(paths):
        draw_image(n).save(path)
    scores = ask(server)([*paths, paths[0]], TEXTS)
    assert scores.shape == (4, 2) and scores.dtype == torch.float32
    assert len(server.requests) == 6
    expected = [
        [p_yes(url_of(path), question_about(text)) for text in TEXTS] for path in [*paths, paths[0]]
    ]
    torch.testing.assert_close(scores, torch.tensor(expected), atol=1e-6, rtol=0)


def url_of(path):
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"


def question_about(text):
    return f'Does this figure show "{text}"? Please answer yes or no.'


def test_what_is_sent_is_what_the_reference_sends(server, tmp_path):
    path = tmp_path / "a.jpg"
    draw_image(1).save(path)
    ask(server, detail="low")(path, TEXTS[1])
    (request,) = server.requests
    assert request.path == "/v1/chat/completions"
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert sent_image(request) == ("data:image/jpeg;base64", path.read_bytes())
    (message,) = request.body["messages"]
    assert [part["type"] for part in message["content"]] == ["text", "image_url"]
    assert request.question == 'Does this figure show "two "quoted" dogs"? Please answer yes or no.'
    assert message["content"][1]["image_url"]["detail"] == "low"
    assert {k: v for k, v in request.body.items() if k != "messages"} == {
        "model": "gpt-4o",
        "temperature": 1,
        "top_p": 1,
        "logprobs": True,
        "top_logprobs": 20,
        "max_completion_tokens": 1,
    }


def test_a_server_of_ones_own_gets_the_image_first_and_no_key_of_the_environment(
    server, monkeypatch
):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    scorer = ask(server, "openai-compatible:Qwen/Qwen3-VL-8B-Instruct", api_key=None)
    scorer(draw_image(1), TEXTS)
    request = server.requests[0]
    parts = request.body["messages"][0]["content"]
    assert [part["type"] for part in parts] == ["image_url", "text"]
    assert request.body["model"] == "Qwen/Qwen3-VL-8B-Instruct"
    assert request.body["max_tokens"] == 1
    assert KEY not in json.dumps([r.headers for r in server.requests])
    with pytest.raises(InputError, match="`base_url=` is needed"):
        t2v_eval.load("openai-compatible:x")


def test_names_of_other_cards_come_first():
    assert models.card("openai:ViT-L-14").module == "t2v_eval.backends.clip.open_clip"
    arguments = models.card("openai:gpt-5-mini").args
    assert arguments == {"model": "gpt-5-mini", "question": "probability"}
    assert {"gpt-4o", "gpt-4o-mini", "gpt-4-turbo", "gpt-4.1"} <= set(models.names(kind="vqa"))


def test_listing_imports_no_client():
    code = "import t2v_eval; t2v_eval.list_models(); import sys, json; "
    assert run_python(code + "print(json.dumps({'openai': 'openai' in sys.modules}))") == {
        "openai": False
    }


@pytest.mark.parametrize(
    ("listed", "probability", "yes_no"),
    [
        ({"Yes": 0.5, "yes": 0.2, " Yes": 0.1, "YES": 0.05, "No": 0.1}, 0.85, 0.85 / 0.95),
        ({"No": 0.7, "Yes": 0.2}, 0.2, 0.2 / 0.9),
        ({"No": 0.7, " no": 0.2, "The": 0.05}, 0.1, None),
        ({"Yes": 0.6, "The": 0.3}, 0.6, 1.0),
        ({"The": 0.6, "I": 0.3}, None, None),
        ({"not": 0.6, "know": 0.3, "Yesterday": 0.1}, None, None),
    ],
)
def test_the_two_rules(listed, probability, yes_no):
    for rule, expected in (("probability", probability), ("yes-no", yes_no)):
        with saying(listed) as server:
            value = float(ask(server, rule=rule, on_error="skip")(draw_image(1), "a cat"))
            assert (
                math.isnan(value)
                if expected is None
                else value == pytest.approx(expected, abs=1e-6)
            )


def test_tokens_that_are_the_same_as_text_are_summed():
    answer = completion({"Yes": 0.6, "No": 0.2})
    rows = answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
    rows.append({"token": "Yes", "logprob": math.log(0.01)})  # as servers decode "\u2581Yes"
    with Server(lambda request: Reply(answer)) as server:
        assert float(ask(server)(draw_image(1), "a cat")) == pytest.approx(0.61)


def test_a_token_that_was_drawn_though_it_was_unlikely_bounds_nothing():
    answer = completion({"The": 0.9, "I": 0.05, "rare": 1e-6})
    answer["choices"][0]["logprobs"]["content"][0]["token"] = "rare"
    answer["choices"][0]["message"]["content"] = "rare"
    bound = pytest.raises(ScoringError, match="its score is at most 5e-02")
    with Server(lambda request: Reply(answer)) as server, bound:
        ask(server)(draw_image(1), "a cat")


def test_a_model_that_refuses_is_not_taken_for_one_without_log_probabilities():
    refusing = completion()
    refusing["choices"][0]["message"] = {"content": None, "refusal": "I'm sorry, I can't."}
    with Server(lambda request: Reply(refusing)) as server:
        outcome = ask(server, on_error="skip").evaluate_blocks(
            [t2v_eval.scoring.plan.Block([draw_image(n) for n in range(4)], TEXTS)]
        )
        assert outcome.errors == {"the model refuses to answer: I'm sorry, I can't.": 8}
        assert len(server.requests) == 8, "and it is not asked again"


def test_what_else_a_question_says_is_sent_and_recorded(server):
    more = {"chat_template_kwargs": {"enable_thinking": False}, "seed": 3}
    scorer = ask(server, "openai-compatible:m", extra_body=more)
    scorer(draw_image(1), "a cat")
    assert {k: server.requests[0].body[k] for k in more} == more
    assert '"enable_thinking": false' in scorer.id and "extra_body" not in ask(server).id
    with pytest.raises(InputError, match="pass a mapping that JSON can hold"):
        ask(server, extra_body="seed")


def test_an_answer_that_is_not_listed_is_missing_with_its_upper_bound(tmp_path):
    listed = {"The": 0.9, "I": 0.05, "A": 0.0123}
    with saying(listed) as server:
        store = t2v_eval.Store(tmp_path / "s.db")
        with pytest.raises(
            ScoringError, match=r"images\[0\].* with 'a cat': the answer 'Yes' is not"
        ):
            ask(server)(draw_image(1), "a cat")
        scorer = ask(server, store=store, on_error="skip")
        assert scorer(draw_image(1), "a cat").isnan()
        (row,) = store.rows()
        assert row.value is None
        assert row.error == (
            "the answer 'Yes' is not among the 3 listed tokens: its score is at most 2e-02"
        )
        assert json.loads(row.detail)["listed"] == pytest.approx(0.9623), "its mass is kept too"
        scorer(draw_image(1), "a cat")
        assert len(server.requests) == 3, "a missing score is asked for again"


def test_the_captured_mass_and_the_model_that_answered_are_kept(tmp_path):
    store = t2v_eval.Store(tmp_path / "s.db")
    with saying({"Yes": 0.5, "No": 0.25, "The": 0.125}) as server:
        ask(server, store=store)(draw_image(1), "a cat")
    (row,) = store.rows()
    stored = json.loads(row.detail)
    assert stored.pop("model") == "served-model-1"
    assert stored == pytest.approx({"answer": 0.5, "opposite": 0.25, "listed": 0.875})


def test_any_one_word_answer_can_be_scored(server):
    with saying({"Two": 0.25, "two": 0.5, "No": 0.1}) as server:
        scorer = ask(server, question_template="How many {}?", answer_template="Two")
        assert float(scorer(draw_image(1), "dogs")) == pytest.approx(0.75)
        with pytest.raises(TemplateError, match="needs the answer Yes or No, not 'Two'"):
            ask(server, rule="yes-no", answer_template="Two")(draw_image(1), "dogs")
        with pytest.raises(TemplateError, match="must be one word"):
            ask(server, answer_template="{}")(draw_image(1), "dogs")
    with saying({"No": 0.5}) as server:
        assert ask(server, answer_template="Two", on_error="skip")(draw_image(1), "dogs").isnan()


def test_a_model_without_log_probabilities_is_refused_with_the_remedy():
    with Server(lambda request: Reply(completion())) as server:
        with pytest.raises(UnsupportedError, match=r"gives no log-prob.*estimator='sampling'"):
            ask(server, "openai:gpt-5", on_error="skip")([draw_image(n) for n in range(9)], TEXTS)
        assert len(server.requests) == 3
    for status, refusal in (
        (400, "logprobs are not supported with this model."),
        (403, "You are not allowed to request logprobs from this model."),
    ):
        answer = error(status, refusal)
        with Server(lambda request, answer=answer: answer) as server:
            with pytest.raises(UnsupportedError, match=rf"{refusal}.*estimator='sampling'"):
                ask(server, "openai:gpt-5", on_error="skip")(
                    [draw_image(n) for n in range(9)], TEXTS
                )
            assert len(server.requests) == 1


def test_sampling_is_another_scorer_and_counts_answers(tmp_path):
    store = t2v_eval.Store(tmp_path / "s.db")
    with Server(lambda request: Reply(sampled("Yes.", "yes", "No", "I cannot say"))) as server:
        scorer = ask(server, estimator="sampling", n=4, max_tokens=8, store=store)
        assert float(scorer(draw_image(1), "a cat")) == pytest.approx(2 / 3), "of those that answer"
        (request,) = server.requests
        assert (request.body["n"], request.body["max_completion_tokens"]) == (4, 8)
        assert "logprobs" not in request.body
        assert "estimator=sampling n=4 max_tokens=8" in scorer.id
        stored = json.loads(next(store.rows()).detail)
        assert (stored["samples"][2], stored["unread"]) == ("No", 1)
        assert ask(server).id != scorer.id != ask(server, estimator="sampling", n=5).id
    with Server(lambda request: Reply(sampled("Yes"))) as server:  # servers that know no n
        assert float(ask(server, estimator="sampling", n=3)(draw_image(1), "a cat")) == 1.0
        assert [r.body.get("n", 1) for r in server.requests] == [3, 2, 1]
    # What was cut while the model thought is no answer, and no "No".
    with Server(lambda request: Reply(sampled("Yes", "", "No", "Yes"))) as server:
        share = ask(server, estimator="sampling", n=4)(draw_image(1), "a cat")
        assert float(share) == pytest.approx(2 / 3)
    for message in (["", ""], ["Yes", "", ""]):
        with Server(lambda request, message=message: Reply(sampled(*message))) as server:
            scorer = ask(server, estimator="sampling", n=len(message))
            with pytest.raises(ScoringError, match=r"2 of \d sampled .* larger `max_tokens="):
                scorer(draw_image(1), "a cat")


def test_images_are_sent_as_a_person_sees_them(server, tmp_path):
    turned = Image.Exif()
    turned[274] = 6
    draw_image(1, (40, 20)).save(tmp_path / "turned.jpg", exif=turned)
    clear = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    clear.save(tmp_path / "clear.png")
    Image.new("L", (4, 4), 77).save(tmp_path / "grey.png")
    paths = [tmp_path / name for name in ("turned.jpg", "clear.png", "grey.png")]
    for path in paths:
        ask(server)(path, "a cat")
        ask(server, image_mode="original")(path, "a cat")
    sent = [sent_image(request) for request in server.requests]
    observed = [Image.open(io.BytesIO(content)) for _, content in sent]
    assert (observed[0].format, observed[0].size) == ("PNG", (20, 40))
    assert observed[2].mode == "RGB" and observed[2].getextrema() == ((255, 255),) * 3
    assert sent[4][1] == paths[2].read_bytes()
    assert [content for _, content in sent[1::2]] == [path.read_bytes() for path in paths]


def test_images_are_made_smaller_only_when_asked(server, tmp_path):
    path = tmp_path / "large.png"
    draw_image(1, (300, 200)).save(path)
    plain = ask(server)
    smaller = ask(server, max_pixels=600)
    plain(path, "a cat"), smaller(path, "a cat")
    sizes = [Image.open(io.BytesIO(sent_image(r)[1])).size for r in server.requests]
    assert sizes == [(300, 200), (30, 20)]
    assert "max_pixels=600" in smaller.id and "max_pixels" not in plain.id
    assert "detail=high" in ask(server, detail="high").id


def test_arrays_and_open_images_are_sent_without_loss(server):
    pixels = np.asarray(draw_image(5))
    ask(server)(pixels, "a cat")
    sent = Image.open(io.BytesIO(sent_image(server.requests[0])[1]))
    np.testing.assert_array_equal(np.asarray(sent), pixels)


def test_an_image_that_cannot_be_read_costs_nothing(server, tmp_path):
    broken = tmp_path / "cut.png"
    draw_image(1, (60, 60)).save(broken)
    broken.write_bytes(broken.read_bytes()[:600])
    with pytest.raises(MediaError, match="cut.png"):
        ask(server)(broken, "a cat")
    scores = ask(server, on_error="skip")([broken, draw_image(2)], "a cat")
    assert scores.isnan().flatten().tolist() == [True, False]
    assert len(server.requests) == 1


def test_where_a_key_comes_from(server, tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"pass `api_key=` or `key_file=`, or set OPENAI_API_KEY"):
        t2v_eval.load("gpt-4o")(draw_image(1), "a cat")
    stored = tmp_path / "key"
    stored.write_text(f"{KEY}-file\n")
    ask(server, api_key=None, key_file=stored)(draw_image(1), "a cat")
    ask(server, api_key=None, openai_key=f"{KEY}-argument")(draw_image(1), "a cat")
    monkeypatch.setenv("OPENAI_API_KEY", f"{KEY}-environment")
    with pytest.raises(InputError, match="not sent to a `base_url=` of yours"):
        ask(server, api_key=None)(draw_image(1), "a cat")
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    t2v_eval.load("gpt-4o")(draw_image(1), "a cat")
    sent = [request.headers["authorization"] for request in server.requests]
    assert sent == [f"Bearer {KEY}-{where}" for where in ("file", "argument", "environment")]
    stored.write_text("two words")
    with pytest.raises(InputError, match="one key and nothing else"):
        ask(server, api_key=None, key_file=stored)
    with pytest.raises(InputError, match="cannot be read"):
        ask(server, api_key=None, key_file=tmp_path / "nothing")


def test_what_is_in_the_store_needs_no_key(server, tmp_path):
    first = ask(server, store=tmp_path / "s.db")(draw_image(1), TEXTS)
    again = ask(server, store=tmp_path / "s.db", api_key=None)(draw_image(1), TEXTS)
    assert torch.equal(first, again) and len(server.requests) == 2


def test_scripts_written_for_t2v_metrics_run(server, monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    score = t2v_eval.get_score_model(
        model="gpt-4o", device="cuda", cache_dir="hub", api_key=KEY, top_logprobs=20
    )
    dataset = [{"images": [draw_image(n), draw_image(n + 1)], "texts": TEXTS} for n in range(3)]
    scores = score.batch_forward(dataset=dataset, batch_size=16)
    assert scores.shape == (3, 2, 2) and not scores.isnan().any()
    assert torch.equal(scores[0, 1], scores[1, 0])
    assert len(server.requests) == 8
    assert t2v_eval.VQAScore("gpt-4o", api_key=KEY).name == "gpt-4o"
    positional = t2v_eval.get_score_model("gpt-4o", openai_key=KEY, top_logprobs=20)
    assert positional.id == score.id
    assert torch.equal(positional([draw_image(0), draw_image(1)], TEXTS), scores[0])
    assert torch.equal(positional.batch_forward(dataset, 16), scores)
    ragged = [*dataset, {"images": [draw_image(0)], "texts": TEXTS}]
    assert [item.shape for item in positional.batch_forward(ragged)] == [(2, 2)] * 3 + [(1, 2)]


def test_generate_writes_a_text_for_each_image_and_prompt():
    def behave(request):
        if request.number == 2:
            return error(503, "busy")
        return Reply(sampled(f"about {request.question}"))

    with Server(behave) as server:
        scorer = ask(server)
        prompts = ["Describe it.", "What is left?"]
        assert scorer.generate([draw_image(1), draw_image(1)], prompts) == [
            f"about {p}" for p in prompts
        ]
        assert scorer.model.generate(draw_image(1), "Say.", max_new_tokens=9) == ["about Say."]
        body = server.requests[-1].body
        assert (body["max_completion_tokens"], body["temperature"]) == (9, 0)
        assert "logprobs" not in body
        server.behave = lambda request: error(400, "not allowed")
        with pytest.raises(ScoringError, match=r"images\[0\] .* with 'Say.': .*not allowed"):
            scorer.generate(draw_image(1), "Say.")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rule": "yes"}, "use 'probability' or 'yes-no'"),
        ({"estimator": "votes"}, "use 'logprobs' or 'sampling'"),
        ({"estimator": "sampling", "rule": "yes-no"}, "leave `rule=` out"),
        ({"top_logprobs": 21}, "from 1 to 20"),
        ({"detail": "medium"}, "use 'low' or 'high' or 'auto'"),
        ({"concurrency": 0}, "`concurrency=0`; pass a number that is 1 or more"),
        ({"timeout": "soon"}, "timeout='soon'"),
        ({"base_url": "localhost:8000"}, "such as http://localhost:8000/v1"),
        ({"temperature": 0}, "takes no `temperature=`"),
    ],
)
def test_wrong_options_are_named(server, options, message):
    with pytest.raises(InputError, match=message):
        ask(server, **options)
    assert not server.requests


def test_the_id_says_what_decides_the_numbers(server):
    first = ask(server)
    assert first.id == (
        f"gpt-4o server={server.url} model=gpt-4o order=text-image rule=probability "
        "top_logprobs=20 images=seen semantics=1 "
        "question='Does this figure show \"{}\"? Please answer yes or no.' answer='Yes'"
    )
    assert "server=" not in t2v_eval.load("gpt-4o", api_key=KEY).id
    same = ask(server, concurrency=3, timeout=5.0, retries=1, max_requests=9)
    assert same.id == first.id, "how it is asked decides no number"
    others = [
        {"rule": "yes-no"},
        {"top_logprobs": 5},
        {"detail": "low"},
        {"image_mode": "original"},
    ]
    ids = {ask(server, **other).id for other in others}
    assert len(ids | {first.id}) == 5


def test_the_wheel_has_all_of_it():
    folder = Path(t2v_eval.__file__).parent.parent / "backends" / "services"
    assert (folder / "openai_api.toml").exists()
