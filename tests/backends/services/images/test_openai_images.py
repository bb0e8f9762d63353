"""Images by OpenAI's images API: what is sent, what is read, and what failures cost."""

from __future__ import annotations

import base64
import json
import re

import pytest
from helpers.services.images_server import answer, colour, file, right
from helpers.services.loopback import Reply, Server
from helpers.services.openai_server import error
from PIL import Image

import t2v_eval
from t2v_eval.cli.main import app
from t2v_eval.errors import GenerationError, InputError, OutputError, ServiceError
from t2v_eval.generators.plan import seed_of

KEY = "sk-of-the-tests-0123456789"
PROMPTS = {"00000": "a cat", "00001": "a dog", "00002": "a red cube"}
FAST = {"backoff": 0.0, "api_key": KEY}


@pytest.fixture(autouse=True)
def no_keys_of_the_machine(monkeypatch):
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


def made_by(server, folder, model="openai:gpt-image-1", prompts=PROMPTS, **options):
    return t2v_eval.generate(model, prompts, folder, base_url=server.url, **{**FAST, **options})


def colours(folder):
    return {path.name: Image.open(path).getpixel((0, 0)) for path in folder.glob("*.png")}


def listed(folder):
    return [json.loads(line) for line in (folder / "images.jsonl").read_text().splitlines()]


RIGHT = {f"{name}_0.png": colour(prompt) for name, prompt in PROMPTS.items()}


def test_one_request_an_image_with_what_was_asked_for(tmp_path):
    with Server(right) as server:
        made_by(server, tmp_path, height=1024, width=1536, quality="low")
    assert colours(tmp_path) == RIGHT
    assert {request.path for request in server.requests} == {"/v1/images/generations"}
    assert sorted((request.body for request in server.requests), key=str) == sorted(
        (
            {
                "model": "gpt-image-1",
                "prompt": prompt,
                "n": 1,
                "size": "1536x1024",
                "quality": "low",
            }
            for prompt in PROMPTS.values()
        ),
        key=str,
    )
    assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"
    recipe = json.loads((tmp_path / "recipe.json").read_text())
    assert recipe["pipeline"] == "openai:gpt-image-1"
    assert recipe["options"] == {"quality": "low"} and not recipe["seed_sent"]
    assert KEY not in (tmp_path / "recipe.json").read_text()


def test_a_compatible_server_gets_seed_steps_and_scale(tmp_path):
    with Server(right) as server:
        made_by(server, tmp_path, "openai-compatible:sdxl", steps=20, guidance_scale=5.0)
    sent = {request.body["prompt"]: request.body for request in server.requests}
    assert sent["a dog"]["seed"] == seed_of(0, "a dog", 0) == listed(tmp_path)[1]["seed"]
    assert (sent["a dog"]["num_inference_steps"], sent["a dog"]["guidance_scale"]) == (20, 5.0)
    assert colours(tmp_path)["00001_0.png"] == colour("a dog", seed_of(0, "a dog", 0))


def test_images_may_come_by_url_from_the_same_address_and_in_other_formats(tmp_path):
    def behave(request):
        if request.method == "GET":
            return Reply(file(request.path.rpartition("/")[2].replace("%20", " "), form="WEBP"))
        name = request.body["prompt"].replace(" ", "%20")
        return answer(url=f"{server.address}/files/{name}", revised_prompt="drawn: a thing")

    with Server(behave) as server:
        made_by(server, tmp_path)
    with Image.open(tmp_path / "00001_0.png") as image:
        assert image.format == "PNG"
        assert all(
            abs(a - b) < 16 for a, b in zip(image.getpixel((9, 9)), colour("a dog"), strict=True)
        )
    assert listed(tmp_path)[0]["revised_prompt"] == "drawn: a thing"
    assert all("authorization" not in r.headers for r in server.requests if r.method == "GET")


def test_an_answer_does_not_lead_to_other_private_addresses(tmp_path):
    with Server(lambda request: Reply(file("secret"))) as inside:
        with Server(lambda request: answer(url=f"{inside.address}/secret.png")) as server:
            result = made_by(server, tmp_path, on_error="skip")
        assert not inside.requests
    assert all("not public" in reason for reason in result.failures.values())
    assert not colours(tmp_path)


def test_overload_and_broken_answers_are_asked_again(tmp_path):
    faults = {
        1: lambda: error(429, "Rate limit reached", retry_after="0"),
        2: lambda: answer(b64_json="no base64!"),
        3: lambda: error(500, "The server had an error"),
        4: lambda: answer(),
        5: lambda: Reply({"data": "none"}),
    }

    def behave(request):
        return faults[request.number]() if request.number in faults else right(request)

    with Server(behave) as server:
        result = made_by(server, tmp_path)
    assert result.made == 3 and colours(tmp_path) == RIGHT
    assert len(server.requests) == 8


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (lambda: error(400, "Rejected by the safety system", "moderation_blocked"), "safety"),
        (lambda: answer(b64_json=base64.b64encode(b"GIF89a").decode()), "not an image|decoded"),
        (lambda: answer(b64_json="no base64!"), "no valid base64"),
        (lambda: answer(), "holds no image"),
    ],
)
def test_a_refusal_is_counted_and_is_no_image(reply, message, tmp_path):
    def behave(request):
        return reply() if request.body["prompt"] == "a dog" else right(request)

    with Server(behave) as server:
        result = made_by(server, tmp_path, on_error="skip", retries=1)
    assert [*result.failures] == ["00001_0.png"] and result.made == 2
    assert re.search(message, result.failures["00001_0.png"])
    assert sorted(colours(tmp_path)) == ["00000_0.png", "00002_0.png"]
    assert "error" in listed(tmp_path)[1]
    with Server(behave) as server, pytest.raises(GenerationError, match="00001_0.png, 'a dog'"):
        made_by(server, tmp_path / "other", retries=1)


def test_a_limit_of_requests_is_kept_and_the_next_run_goes_on(tmp_path):
    with Server(right) as server:
        result = made_by(server, tmp_path, on_error="skip", max_requests=2)
        assert len(server.requests) == 2 and result.made == 2
        assert "limit of 2 requests" in next(iter(result.failures.values()))
        assert made_by(server, tmp_path).reused == 2
        assert len(server.requests) == 3
    assert colours(tmp_path) == RIGHT
    assert not any("error" in row for row in listed(tmp_path))


@pytest.mark.parametrize(
    ("reply", "kind", "message"),
    [
        (lambda: error(401, "Incorrect key"), ServiceError, "refuses the key"),
        (lambda: error(404, "no such model"), ServiceError, "does not know the model"),
        (lambda: error(400, "Unknown parameter: 'quality'."), InputError, "not take quality"),
    ],
)
def test_what_holds_for_every_prompt_stops_the_run(reply, kind, message, tmp_path):
    with Server(lambda request: reply()) as server, pytest.raises(kind, match=message):
        made_by(server, tmp_path, on_error="skip", quality="low")
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("openai:gpt-image-1", {"api_key": None}, "a key is needed"),
        ("openai:gpt-image-1", {"steps": 20}, "`steps=20`"),
        ("openai:gpt-image-1", {"height": 512}, "go together"),
        ("openai:gpt-image-1", {"n": 2}, "it is called `per_prompt=`"),
        ("openai-compatible:x", {"batch_size": 2}, "an images API takes none"),
        ("openai:gpt-image-1", {"max_requests": 0}, "`max_requests=0`"),
        ("openai:gpt-image-1", {"timeout": "long"}, "`timeout='long'`"),
        ("openai-compatible:x", {"base_url": None}, "`base_url=` is needed"),
    ],
)
def test_impossible_options_are_named_before_anything_is_sent(model, options, message, tmp_path):
    with Server(right) as server, pytest.raises(InputError, match=message):
        t2v_eval.generate(model, PROMPTS, tmp_path, **{**FAST, "base_url": server.url, **options})
    assert not server.requests


def test_another_address_or_option_is_another_recipe(tmp_path):
    with Server(right) as server:
        made_by(server, tmp_path)
        with pytest.raises(OutputError, match="options was {} and is"):
            made_by(server, tmp_path, quality="low")


def test_the_command_says_what_it_would_ask_and_what_failed(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    (tmp_path / "prompts.txt").write_text("a cat\na dog\n")

    def behave(request):
        blocked = error(400, "Rejected by the safety system", "moderation_blocked")
        return blocked if request.body["prompt"] == "a dog" else right(request)

    with Server(behave) as server:
        command = ["generate", "--pipeline", "openai-compatible:sdxl", "--benchmark"]
        command += ["prompts.txt", "--out", "made", "--base-url", server.url]
        assert run(*command, "--dry-run", "--per-prompt", "3") == 0
        assert capsys.readouterr().out.split()[-5:] == ["2", "6", "0", "6", "6"]
        assert not server.requests
        assert run(*command) == 2
        assert "safety" in capsys.readouterr().err
        assert run(*command, "--on-error", "skip") == 0
        out, err = capsys.readouterr()
        assert out.startswith("1 of 2 images are in made")
        assert "1 x the service refuses it (status 400): Rejected by the safety" in err
        (tmp_path / "dogs.txt").write_text("a dog\n")
        assert (
            run(*command[:4], "dogs.txt", "--out", "dogs", *command[7:], "--on-error", "skip") == 1
        )
        assert "every image failed" in capsys.readouterr().err


def run(*arguments):
    """Run a command; its exit code."""
    try:
        app(list(arguments), prog_name="t2v-eval")
    except SystemExit as stop:
        return stop.code or 0
    return 0
