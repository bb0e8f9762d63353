"""``t2v-eval questions make``: steps, replies of any form, limits, and runs that go on."""

import csv
import json
import signal
import threading
from collections import Counter

import pytest
from helpers.processes import COMMAND, Forked, wait_for
from helpers.services.loopback import Reply, Server
from helpers.services.openai_server import FAULTS, error, sampled
from typer.testing import CliRunner

from t2v_eval.cli.main import app
from t2v_eval.inputs.questions.files import read_questions
from t2v_eval.store import Store

STATEMENTS = "1 | entity - whole (cube)\n2 | attribute - color (cube, red)"
QUESTIONS = "1 | Is there a cube?\n2 | Is the cube red?"
DEPENDENCIES = "1 | 0\n2 | 1"
TIFA = """Entities: cube
Activities: None
Colors: red
Counting: None
Other attributes: None
Questions are below:
About cube (object):
Q: is there a cube?
Choices: yes, no
A: yes
Q: what is red?
Choices: cube, ball, dog, car
A: cube
About red (color):
Q: what color is the cube?
Choices: red, blue, green, black
A: red
Q: is there a cube?
Choices: yes, no
A: yes"""


def step(request):
    """The step of DSG or TIFA that a prompt belongs to, and the text that it is about."""
    prompt = request.question
    text = prompt.rpartition("Description: ")[2].partition("\n")[0]
    starts = {
        "smallest statements": "statements",
        "Turn each statement": "questions",
        "must be right for it": "dependencies",
        "whether an image shows": "tifa",
        "one of the choices": "choice",
        "a word or two": "answer",
    }
    return next(name for start, name in starts.items() if start in prompt), text


def well(request):
    replies = {"statements": STATEMENTS, "questions": QUESTIONS, "dependencies": DEPENDENCIES}
    return Reply(sampled({**replies, "tifa": TIFA}[step(request)[0]]))


def cut(text):
    body = sampled(text)
    body["choices"][0]["finish_reason"] = "length"
    return Reply(body)


@pytest.fixture
def call(tmp_path):
    def run(server, *more, texts=("a red cube",), kind="dsg", out="q.jsonl", code=0):
        done = CliRunner().invoke(app, arguments(tmp_path, server, *more, texts=texts, kind=kind))
        assert done.exit_code == code, done.output
        return done

    return run


def arguments(folder, server, *more, texts=("a red cube",), kind="dsg"):
    (folder / "prompts.txt").write_text("\n".join(texts))
    words = ["questions", "make", folder / "prompts.txt", "--kind", kind, "--out"]
    words += [folder / "q.jsonl", "-m", "openai-compatible:m", "--store", folder / "s.db"]
    options = (f"base_url={server.url}", "backoff=0.01", "concurrency=1", "retries=1")
    words += [word for option in options for word in ("--option", option)]
    return [str(word) for word in (*words, *more)]


def test_dsg_asks_for_statements_and_then_for_questions_and_dependencies(call, tmp_path):
    with Server(well) as server:
        # Equal texts are asked about once.
        done = call(server, texts=("a red cube", "a red cube"))
        assert [step(request)[0] for request in server.requests] == [
            "statements", "questions", "dependencies",
        ]  # fmt: skip
        assert all(not request.images for request in server.requests)
        assert all(STATEMENTS in request.question for request in server.requests[1:])
        call(server, texts=("a red cube", "a red cube"))
        assert len(server.requests) == 3  # all from the store
    assert "2 questions about 1 texts" in done.stdout and "1 repeated" in done.stdout
    first, second = read_questions(tmp_path / "q.jsonl")
    assert (first.question, first.type, first.parents) == (
        "Is there a cube?", "entity - whole", (),
    )  # fmt: skip
    assert (second.text, second.parents, second.answer) == ("a red cube", ("1",), "yes")


def test_tifa_with_its_filter(call, tmp_path):
    # The model does not know what is red, and knows the colour only from the choices.
    answers = {"is there a cube?": "yes", "what color is the cube?": "Red."}

    def behave(request):
        kind, _ = step(request)
        if kind == "tifa":
            return well(request)
        question = request.question.partition("Question: ")[2].partition("\n")[0]
        free = {"what color is the cube?": "a shade"} if kind == "answer" else {}
        return Reply(sampled({**answers, **free}.get(question, "a ball")))

    with Server(behave) as server:
        call(server, kind="tifa")
        assert len(server.requests) == 1
        questions = read_questions(tmp_path / "q.jsonl")
        assert [q.question for q in questions] == [
            "is there a cube?", "what is red?", "what color is the cube?", "is there a cube?",
        ]  # fmt: skip
        assert (
            questions[1].choices == ("cube", "ball", "dog", "car") and questions[2].type == "color"
        )
        call(server, "--filter", kind="tifa")
        # Two requests for each of three different questions, the first reply from the store.
        assert len(server.requests) == 1 + 2 * 3
        assert [q.question for q in read_questions(tmp_path / "q.jsonl")] == ["is there a cube?"]
        answers.clear()
        done = call(server, "--filter", "--no-store", kind="tifa", code=1)
    assert "the filter leaves none of its 4 questions" in done.stderr


REPLIES = {
    "good": lambda: Reply(sampled(f"Sure! Here they are:\n```\n{STATEMENTS}\n```\nAnything else?")),
    "chat": lambda: Reply(sampled("I'd love to help. Which image do you mean?")),
    "no bar": lambda: Reply(sampled("1 | entity - whole (cube)\nand red\n2 | color")),
    "twice": lambda: Reply(sampled("1 | entity - whole (cube)\n1 | attribute (red)")),
    "lacking": lambda: Reply(sampled(f"{STATEMENTS}\n3 | entity - whole (dog)")),
    "empty": lambda: Reply(sampled("")),
    "lengthy": lambda: cut(STATEMENTS + "\n3 | entity - whole (d" * 200),
    "thinks": lambda: Reply(sampled("<think>A cube, then")),
    "chinese": lambda: Reply(sampled(STATEMENTS)),
    "refused": lambda: error(400, "No questions about this"),
    "no JSON": FAULTS["malformed"],
}


def odd(request):
    kind, text = step(request)
    if kind == "statements":
        return REPLIES[text]()
    chinese = text == "chinese" and kind == "questions"
    return Reply(sampled("1 | 有一个立方体吗?\n2 | 它是红色的吗?")) if chinese else well(request)


def test_each_reply_is_counted_with_its_reason_and_paid_for_once(call):
    with Server(odd) as server:
        content = json.loads(call(server, "--json", texts=[*REPLIES]).stdout)
        before = Counter(step(request) for request in server.requests)
        again = json.loads(call(server, "--json", texts=[*REPLIES]).stdout)
        after = Counter(step(request) for request in server.requests)
    assert (content["questions"], content["texts"]) == (2, 1)
    reasons = dict(zip([*REPLIES][1:], content["failures"].values(), strict=True))
    expected = {
        "chat": "no line with a number",
        "no bar": "the line 'and red'",
        "twice": "lists number 1 twice",
        "lacking": "statement 3 has no question",
        "empty": "is empty",
        "lengthy": "cut at 2048 tokens; pass a larger `max_tokens=`",
        "thinks": "thinks",
        "chinese": "in another language than the text: it has letters of CJK",
        "refused": "No questions about this",
        "no JSON": "",
    }
    for text, reason in expected.items():
        assert reason in reasons[text], text
    assert again["failures"].keys() == content["failures"].keys()
    # Only what brought no reply is asked again.
    assert {text for _, text in after - before} == {"refused", "no JSON"}


def test_killed_it_goes_on_and_pays_for_nothing_twice(call, tmp_path):
    texts, stuck = [f"{n} red cubes" for n in range(6)], threading.Event()

    def behave(request):
        if request.number in (5, 10):
            stuck.set()
            return FAULTS["hang"]()
        return well(request)

    with Server(behave) as server:
        for stop, answered in ((signal.SIGKILL, 4), (signal.SIGTERM, 8)):
            process = Forked(COMMAND, arguments(tmp_path, server, texts=texts))
            wait_for(stuck, process)
            while sum(entry.cells for entry in Store(tmp_path / "s.db").stats()) < answered:
                stuck.wait(0)
            stuck.clear()
            process.send_signal(stop)
            _, message = process.communicate()
            assert not (tmp_path / "q.jsonl").exists()
        assert process.returncode == 143 and "run the same command again to continue" in message
        call(server, texts=texts)
        replied = Counter(
            request.question for request, reply in server.released if reply.fault != "hang"
        )
        assert set(replied.values()) == {1} and len(replied) == 3 * len(texts)
    assert len(read_questions(tmp_path / "q.jsonl").items) == len(texts)


def test_limits_are_counted_and_kept(call):
    with Server(well) as server:
        done = call(server, "--max-requests", "2", texts=("a cube", "a ball", "a dog"), code=1)
        assert len(server.requests) == 2  # of the first step; none is left for the others
        assert "the limit of 2 requests was reached" in done.stderr


def test_a_limit_of_seconds_holds_for_all_steps_together(call, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("t2v_eval.remote.scorer.monotonic", lambda: clock[0])

    def pass_time(request):
        clock[0] += 101.0
        return well(request)

    with Server(pass_time) as server:
        done = call(server, "--option", "max_seconds=100", code=1)
        assert [step(request)[0] for request in server.requests] == ["statements"]
        assert "the run's limit of 100 s was over" in done.stderr
        call(server, "--option", "max_seconds=100")  # a command has a limit of its own


def test_a_dry_run_counts_requests_and_sends_nothing(call, tmp_path):
    options = ("--dry-run", "--json", "--option", "price=[1,2]")
    with Server(well) as server:
        (estimate,) = json.loads(call(server, *options, texts=("a red cube", "a ball")).stdout)
        assert not server.requests and not (tmp_path / "q.jsonl").exists()
        assert estimate["requests"] == 6 and estimate["output_tokens"] == 6 * 2048
        assert estimate["us_dollars"] == pytest.approx(
            (estimate["input_tokens"] + 2 * estimate["output_tokens"]) / 1e6
        )
        call(server)
        sent = len(server.requests)
        (estimate,) = json.loads(call(server, *options, texts=("a red cube", "a ball")).stdout)
        assert (estimate["requests"], estimate["stored"], len(server.requests)) == (3, 3, sent)


def test_files_of_the_originals_and_refusals(call, tmp_path):
    with Server(well) as server:
        call(server, "--out", tmp_path / "q.csv")
        with (tmp_path / "q.csv").open() as stream:
            assert [row["dependency"] for row in csv.DictReader(stream)] == ["0", "1"]
        call(server, "--out", tmp_path / "q.json", kind="tifa")
        assert json.loads((tmp_path / "q.json").read_text())[0]["element_type"] == "object"
        message = call(server, "--out", tmp_path / "q.json", code=2).stderr
        assert "ends in .jsonl or .csv" in message
    words = ("make", tmp_path / "prompts.txt", "--kind", "dsg", "-m", "tiny-clip", "--no-store")
    done = CliRunner().invoke(app, ["questions", *map(str, words), "--out", f"{tmp_path}/o.jsonl"])
    message = done.stderr
    assert done.exit_code == 2 and "'tiny-clip' writes no text without an image" in message
    assert not (tmp_path / "o.jsonl").exists()
