"""Judges for tests: models that write what a test says, here and behind an API."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from helpers.services.loopback import Reply, Request, Server
from helpers.services.openai_server import completion, tokens

from t2v_eval.registry import models
from t2v_eval.scoring.generation import Written
from t2v_eval.scoring.scorer import Scorer

KEY = "sk-test-0123456789abcdef"


class Reciting(Scorer):
    """A model that runs here and writes what `answer` returns for a prompt.

    Args:
        answer: the texts of a prompt, one for each pass, or a `Written` for each.
    """

    version = "1"

    def __init__(self, answer: Callable[[str], Sequence[Any]], **options: Any) -> None:
        super().__init__(**options)
        self.answer, self.prompts = answer, []

    def score_cells(self, images, texts, cells):
        raise NotImplementedError

    def write_passes(self, images, prompts, writing):
        self.prompts += prompts
        for n, prompt in enumerate(prompts):
            texts = [*self.answer(prompt)] * (writing.passes if writing.passes > 1 else 1)
            listed = [t if isinstance(t, Written) else Written(t) for t in texts]
            yield [n], [listed[: writing.passes]]


def written_reply(*texts: str, end: str = "stop", model: str = "m", **fields: Any) -> Reply:
    """A chat completion with these texts."""
    choices = [
        {"index": n, "message": {"role": "assistant", "content": text}, "finish_reason": end}
        for n, text in enumerate(texts)
    ]
    return Reply({**completion(choices=choices), "model": model, **fields})


def card_of(judge: dict[str, Any], name: str = "mine", **facts: Any) -> Any:
    """A loaded judge of a table, as a card would have it; `vlm` and others are options."""
    card = models.card("unified-reward-2")
    return models.build(replace(card, name=name, args={"judge": judge}), **facts)


def over_service(judge: dict[str, Any], server: Server, **options: Any) -> Scorer:
    """A judge whose answers are those of a server."""
    access = {"base_url": server.url, "api_key": KEY, "backoff": 0.01, "retries": 1}
    return card_of(judge, vlm="openai-compatible:m", **{**access, **options})


def asked(request: Request) -> str:
    """The question of a request."""
    parts = request.body["messages"][-1]["content"]
    return "".join(part.get("text", "") for part in parts)


def shown(request: Request) -> list[str]:
    """The images of a request."""
    parts = request.body["messages"][-1]["content"]
    return [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]


def token_list(*words):
    """The tokens of a text: words, or probabilities of digits of which the first is written."""
    content = []
    for word in words:
        top = tokens(word) if isinstance(word, dict) else []
        token = next(iter(word)) if isinstance(word, dict) else word
        content.append({"token": token, "logprob": -0.1, "top_logprobs": top})
    return {"content": content}
