"""The ways in which judges and their servers fail: wrong answers, and replies of a server."""

from __future__ import annotations

import tomllib
from pathlib import Path

from helpers.judges import written_reply
from helpers.services.loopback import Reply

_FILE = Path(__file__).parents[1] / "backends" / "written" / "failures.toml"
FAILURES = tomllib.loads(_FILE.read_text(encoding="utf-8"))

BEHAVIOURS = {
    "cut": lambda right: written_reply(right, end="length"),
    "max_tokens": lambda right: written_reply(right, end="max_tokens"),
    "filtered": lambda right: written_reply(right, end="content_filter"),
    "sensitive": lambda right: written_reply(right, end="sensitive"),
    "ended by an error": lambda right: written_reply(right, end="error"),
    "ended in no known way": lambda right: written_reply(right, end="abort"),
    "another model": lambda right: written_reply(right, model="gpt-retired"),
    "a smaller model": lambda right: written_reply(right, model="m-mini"),
    "no choices": lambda right: Reply({"model": "m", "choices": []}),
    "choices that are null": lambda right: Reply({"model": "m", "choices": None}),
    "choices that are none": lambda right: Reply({"model": "m", "object": "chat.completion"}),
    "choices that are a text": lambda right: Reply({"model": "m", "choices": right}),
    "an empty choice": lambda right: Reply({"model": "m", "choices": [{}]}),
    "a choice that is null": lambda right: Reply({"model": "m", "choices": [None]}),
    "no message": lambda right: Reply({"model": "m", "choices": [{"finish_reason": "stop"}]}),
    "no content": lambda right: content(None),
    "empty content": lambda right: content(""),
    "content that is a number": lambda right: content(4),
    "content that is a list of nothing": lambda right: content([]),
    "content that is an image": lambda right: content([{"type": "image_url", "image_url": {}}]),
    "a refusal": lambda right: content(None, refusal="I cannot help with that."),
    "a refusal beside an answer": lambda right: content(right, refusal="No."),
    "reasoning alone": lambda right: content("", reasoning_content="It may be a 4"),
    "an error for an answer": lambda right: Reply({"error": {"message": "bad image", "code": 400}}),
    "an error of 500 within 200": lambda right: Reply({"error": {"message": "no", "code": 500}}),
    "a page": lambda right: Reply(f"<html>{right}</html>"),
    "a text": lambda right: Reply(right),
    "a list": lambda right: Reply([right]),
    "null": lambda right: Reply(None),
    "refused": lambda right: Reply({"error": {"message": "image too small"}}, status=400),
    "moderated": lambda right: Reply({"error": {"message": "flagged by moderation"}}, status=403),
    "not processable": lambda right: Reply({"detail": "wrong"}, status=422),
    "overloaded": lambda right: Reply({"error": {"message": "overloaded"}}, status=503),
    "broken": lambda right: Reply("<html>500</html>", status=500),
}


def content(value, **fields):
    message = {"role": "assistant", "content": value, **fields}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return Reply({"model": "m", "choices": [choice]})
