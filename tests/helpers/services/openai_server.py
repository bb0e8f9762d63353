"""OpenAI's protocol for a server of the tests: chat completions, files and batches."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

from helpers.services import loopback
from helpers.services.loopback import Reply, Request, likely


def tokens(listed: dict[str, float]) -> list[dict[str, Any]]:
    ordered = sorted(listed.items(), key=lambda pair: -pair[1])
    return [{"token": t, "logprob": math.log(p), "bytes": [*t.encode()]} for t, p in ordered]


def completion(
    listed: dict[str, float] | None = None, choices: list[dict[str, Any]] | None = None
) -> dict[str, Any]:
    """A chat completion whose first token has these probabilities."""
    if choices is None:
        top = tokens(listed or {})
        first = top[0] if top else {"token": "Yes"}
        logprobs = {"content": [{**first, "top_logprobs": top}], "refusal": None} if top else None
        message = {"role": "assistant", "content": first["token"], "refusal": None}
        choices = [
            {"index": 0, "message": message, "logprobs": logprobs, "finish_reason": "length"}
        ]
    usage = {"prompt_tokens": 300, "completion_tokens": len(choices)}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "served-model-1",
        "choices": choices,
        "usage": usage | {"total_tokens": sum(usage.values())},
    }


def sampled(*texts: str) -> dict[str, Any]:
    """A chat completion with several answers and no log-probabilities; it names no model."""
    reply = completion(
        choices=[
            {
                "index": n,
                "message": {"role": "assistant", "content": text, "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
            for n, text in enumerate(texts)
        ]
    )
    del reply["model"]
    return reply


def unlisted() -> dict[str, Any]:
    """An answer that is neither yes nor no."""
    return completion({"The": 0.5})


def right(request: Request) -> Reply:
    """The right answer."""
    return Reply(completion(likely(request)))


def error(status: int, message: str, code: str = "", **headers: str) -> Reply:
    """An error as the real service words it."""
    body = {"error": {"message": message, "type": "some_error", "param": None, "code": code}}
    return Reply(body, status, {k.replace("_", "-"): v for k, v in headers.items()})


FAULTS: dict[str, Callable[[], Reply]] = {
    "429": lambda: error(429, "Rate limit reached"),
    "429 after": lambda: error(429, "Rate limit reached", retry_after="0.05"),
    "408": lambda: error(408, "Request timeout"),
    "409": lambda: error(409, "Conflict"),
    "500": lambda: error(500, "The server had an error"),
    "503": lambda: error(503, "Overloaded"),
    "hang": lambda: Reply(fault="hang"),
    "cut": lambda: Reply(completion({"Yes": 0.5, "No": 0.5}), fault="cut"),
    "malformed": lambda: Reply('{"id": "chatcmpl-1", "choices": [{"ind'),
    "not a completion": lambda: Reply({"choices": "none"}),
    "no logprobs": lambda: Reply(completion()),
    "slow": lambda: Reply(completion(), fault="slow"),
}


class BatchService(loopback.BatchService):
    """OpenAI's files and batches."""

    def __init__(self, behave: Callable[[Request], Reply] = right, looks: int = 2) -> None:
        super().__init__(behave, looks)

    def __call__(self, request: Request) -> Reply:
        parts = request.path.partition("?")[0].split("/")[2:]
        if request.method == "POST" and parts == ["files"]:
            body = request.body.split(b'name="file"')[1].split(b"\r\n\r\n", 1)[1]
            name = self.kept(body.split(b"\r\n--")[0].decode())
            about = {"bytes": 1, "created_at": 1, "filename": "questions.jsonl", "status": "ok"}
            return Reply({"id": name, "object": "file", "purpose": "batch", **about})
        if parts[0] == "files":
            return Reply(self.files[parts[1]])
        if parts[0] != "batches":
            return self.behave(request)
        if request.method == "POST":
            result = {"id": f"batch_{len(self.batches)}", "object": "batch", "looks": self.looks}
            result |= {**request.body, "status": "validating", "created_at": 1}
            self.batches[str(result["id"])] = result
            return Reply(result)
        if len(parts) == 1:
            listed = [*self.batches.values()][::-1]
            return Reply({"object": "list", "data": listed, "has_more": False})
        if parts[1] not in self.batches:
            return error(404, "No such batch")
        return Reply(self.look(self.batches[parts[1]]))

    def look(self, batch: dict[str, Any]) -> dict[str, Any]:
        answered = self.ended(batch, batch["input_file_id"])
        if answered is None:
            return batch
        batch["status"] = self.ends_as
        valid, bad = [], []
        for line, reply in answered:
            response = {"status_code": reply.status, "request_id": "r", "body": reply.body}
            row = {"id": "r", "custom_id": line["custom_id"], "response": response, "error": None}
            line = json.dumps(row, ensure_ascii=False)
            (valid if reply.status == 200 else bad).append(line)
        for name, rows in (("output_file_id", valid), ("error_file_id", bad)):
            if rows:
                batch[name] = self.kept("\n".join(rows))
        return batch
