"""What every card of a service sends under which id, compared with what was recorded.

`python tests/backends/services/test_request_goldens.py` records it anew.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

GOLDENS = Path(__file__).parents[2] / "goldens" / "service_requests.json"
SAMPLING = {"estimator": "sampling", "n": 2, "max_tokens": 5}
PROBABILITY: list[dict[str, Any]] = [
    {},
    {"rule": "yes-no", "top_logprobs": 5},
    SAMPLING,
    {"template": "vqascore-capital", "max_pixels": 50, "frames": 2},
    {"frames": {"count": 3, "choose": "middle"}, "image_mode": "original"},
    {"batch": True},
]
JUDGE: list[dict[str, Any]] = [{}, {"max_tokens": 99, "temperature": 1.0}, {"batch": True}]
OPENAI: list[dict[str, Any]] = [
    {"detail": "low"},
    {"extra_body": {"top_k": 5, "seed": 1}, **SAMPLING},
    {"openai_key": "sk-9"},
]
GEMINI: list[dict[str, Any]] = [{"thinking": 128}, {"vertexai": True, "api_key": "k"}]
SCORERS: dict[str, list[dict[str, Any]]] = {
    "gpt-4o": PROBABILITY + OPENAI,
    "gpt-4o-mini": [{}],
    "gpt-4.1": [{}],
    "gpt-4-turbo": [{}],
    "openai:gpt-5-mini": [{}, SAMPLING],
    "openai-compatible:m": PROBABILITY + OPENAI,
    "gpt-4o-judge": JUDGE + OPENAI[:1],
    "openai-judge:m": JUDGE,
    "openai-compatible-judge:m": JUDGE,
    "gpt-4o-preference": JUDGE + OPENAI[:1],
    "openai-preference:m": JUDGE,
    "openai-compatible-preference:m": JUDGE,
    "gemini-2.5-flash": PROBABILITY + GEMINI,
    "gemini-2.5-pro": [{}, SAMPLING],
    "gemini:m": PROBABILITY,
    "gemini-2.5-flash-judge": JUDGE + GEMINI[:1],
    "gemini-judge:m": JUDGE,
    "gemini-2.5-flash-preference": JUDGE + GEMINI[:1],
    "gemini-preference:m": JUDGE,
}
CASES = [(name, options) for name, each in SCORERS.items() for options in each]


def service_of(name: str) -> str:
    return "gemini" if name.startswith("gemini") else "openai"


def without_images(value: Any) -> Any:
    """Replace the content of images, which depends on the version of Pillow."""
    if isinstance(value, dict):
        if isinstance(value.get("data"), str):
            return {**value, "data": "IMAGE"}
        return {key: without_images(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_images(item) for item in value]
    if isinstance(value, str) and value.startswith("data:"):
        return value.partition(",")[0]
    return value


def record(name: str, options: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return the id of a scorer and what it sends for two images, or a pair of them."""
    from helpers.services.ask_server import Spoken
    from helpers.services.loopback import Reply, Server
    from helpers.toy import draw_image

    spoken = Spoken(service_of(name))
    words = "A" if "preference" in name else "70" if "judge" in name else "Yes"
    is_probability = words == "Yes" and options.get("estimator") != "sampling"
    reply = spoken.right if is_probability else lambda _: Reply(spoken.sampled(words, words))
    service = spoken.BatchService(reply)
    own = dict(options)
    own |= {"poll": 0.0, "store": folder / "s.db"} if own.get("batch") else {}
    with Server(service if own.get("batch") else reply) as server:
        scorer: Any = spoken.load(server, name, concurrency=1, **own)
        images = [draw_image(1), draw_image(2)]
        if "preference" in name:
            scorer.prefer(*images, "a cat")
        else:
            scorer(images, ["a cat", 'two "quoted" dogs'])
            scorer.generate(images[0], "Say.", max_new_tokens=7)
        sent = [
            [request.method, request.path, without_images(request.body)]
            for request in server.requests
            if isinstance(request.body, dict)
        ]
    files = [
        [without_images(json.loads(line)) for line in content.splitlines()]
        for content in service.files.values()
    ]
    for line in [line for file in files for line in file]:  # keys that depend on Pillow
        line.update({key: "ID" for key in ("custom_id", "key") if key in line})
    identity = scorer.id.replace(server.address, "ADDRESS")
    price = None if scorer.price is None else [*scorer.price]
    unordered = [sorted(json.dumps(line, sort_keys=True) for line in file) for file in files]
    return {"id": identity, "price": price, "sent": sent, "files": unordered}


def case_id(name: str, options: dict[str, Any]) -> str:
    return f"{name} {json.dumps(options)}"


@pytest.mark.parametrize(("name", "options"), CASES, ids=lambda value: str(value)[:60])
def test_ids_and_requests_are_those_that_were_recorded(name, options, tmp_path):
    if service_of(name) == "gemini":
        pytest.importorskip("google.genai")
    expected = json.loads(GOLDENS.read_text())[case_id(name, options)]
    assert json.loads(json.dumps(record(name, options, tmp_path))) == expected


if __name__ == "__main__":
    import tempfile

    sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[3])]
    recorded = {}
    for scorer_name, scorer_options in CASES:
        with tempfile.TemporaryDirectory() as temporary:
            case = record(scorer_name, scorer_options, Path(temporary))
        recorded[case_id(scorer_name, scorer_options)] = case
    GOLDENS.write_text(json.dumps(recorded, indent=0, sort_keys=True) + "\n")
    print(len(recorded))
