"""Gemini's protocol for a server of the tests: generateContent, files and batches."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from typing import Any

from helpers.services import loopback
from helpers.services.loopback import Reply, Request, likely


def token(text: str, p: float) -> dict[str, Any]:
    return {"token": text, "logProbability": math.log(p), "tokenId": 1}


def generated(
    listed: dict[str, float] | None = None,
    text: str | None = None,
    ended: str = "STOP",
    before: Sequence[str] = (),
    **usage: int,
) -> dict[str, Any]:
    """An answer whose first token, after those of `before`, has these probabilities."""
    ordered = sorted((listed or {}).items(), key=lambda pair: -pair[1])
    message = text if text is not None else (ordered[0][0] if ordered else "Yes")
    answer = candidate(message, ended)
    if listed:
        rows = [[token(name, 1.0)] for name in before] + [[token(*pair) for pair in ordered]]
        answer["logprobsResult"] = {
            "topCandidates": [{"candidates": row} for row in rows],
            "chosenCandidates": [row[0] for row in rows],
        }
    return answering([answer], **usage)


def sampled(*texts: str) -> dict[str, Any]:
    """Several answers without log-probabilities; they name no model."""
    reply = answering([candidate(text) for text in texts])
    del reply["modelVersion"]
    return reply


def candidate(text: str, ended: str = "STOP") -> dict[str, Any]:
    return {"content": {"role": "model", "parts": [{"text": text}]}, "finishReason": ended}


def answering(candidates: list[dict[str, Any]], **usage: int) -> dict[str, Any]:
    counts = {"promptTokenCount": 300, "candidatesTokenCount": len(candidates), **usage}
    about = {"usageMetadata": counts, "modelVersion": "served-model-1"}
    return {"candidates": candidates, **about}


def unlisted() -> dict[str, Any]:
    """An answer that is neither yes nor no."""
    return generated({"The": 0.5})


def right(request: Request) -> Reply:
    """The right answer."""
    return Reply(generated(likely(request)))


def error(
    status: int,
    message: str,
    name: str = "INVALID_ARGUMENT",
    details: Sequence[dict[str, Any]] = (),
    **headers: str,
) -> Reply:
    """An error as the real service words it."""
    body = {"code": status, "message": message, "status": name, "details": [*details]}
    return Reply({"error": body}, status, {k.replace("_", "-"): v for k, v in headers.items()})


BAD_KEY = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}
A_DAY = {"violations": [{"quotaId": "GenerateRequestsPerDayPerProjectPerModel"}]}

FAULTS: dict[str, Callable[[], Reply]] = {
    "429": lambda: error(429, "Resource exhausted", "RESOURCE_EXHAUSTED"),
    "429 after": lambda: error(429, "Slow", details=[{"retryDelay": "0.05s"}]),
    "408": lambda: error(408, "Deadline exceeded"),
    "409": lambda: error(409, "Aborted"),
    "500": lambda: error(500, "Internal error", "INTERNAL"),
    "503": lambda: error(503, "The model is overloaded", "UNAVAILABLE"),
    "hang": lambda: Reply(fault="hang"),
    "cut": lambda: Reply(generated({"Yes": 0.5, "No": 0.5}), fault="cut"),
    "malformed": lambda: Reply('{"candidates": [{"cont'),
    "not a completion": lambda: Reply({"candidates": "none"}),
    "no logprobs": lambda: Reply(generated()),
    "slow": lambda: Reply(generated(), fault="slow"),
}


class BatchService(loopback.BatchService):
    """Gemini's files and batches."""

    address = ""  # where a file is to be sent, if not here

    def __init__(self, behave: Callable[[Request], Reply] = right, looks: int = 2) -> None:
        super().__init__(behave, looks)

    def __call__(self, request: Request) -> Reply:
        path = request.path.partition("?")[0]
        if path == "/upload/v1beta/files":
            return self.upload(request)
        if path.endswith(":batchGenerateContent"):
            return Reply(self.start(request.body["batch"]))
        if path.endswith(":download"):
            return Reply(self.files[path.split("/")[-1].removesuffix(":download")])
        if path == "/v1beta/batches":
            return Reply(
                {"operations": [self.told(item) for item in [*self.batches.values()][::-1]]}
            )
        if path.startswith("/v1beta/batches/"):
            name = path.removeprefix("/v1beta/")
            if name not in self.batches:
                return error(404, "No such batch", "NOT_FOUND")
            return Reply(self.look(self.batches[name]))
        return self.behave(request)

    def upload(self, request: Request) -> Reply:
        command = request.headers["x-goog-upload-command"]
        if command == "start":
            here = self.address or f"http://{request.headers['host']}"
            return Reply(
                {}, headers={"x-goog-upload-url": f"{here}/upload/v1beta/files?upload_id=1"}
            )
        assert command == "upload, finalize"
        name = self.kept(request.body.decode())
        result = {"file": {"name": f"files/{name}", "mimeType": "jsonl", "state": "ACTIVE"}}
        return Reply(result, headers={"x-goog-upload-status": "final"})

    def start(self, asked: dict[str, Any]) -> dict[str, Any]:
        result = {"name": f"batches/{len(self.batches)}", "looks": self.looks, "state": "PENDING"}
        result |= {"file": asked["inputConfig"]["fileName"], "displayName": asked["displayName"]}
        self.batches[str(result["name"])] = result
        return self.told(result)

    def told(self, batch: dict[str, Any]) -> dict[str, Any]:
        about = {"state": f"BATCH_STATE_{batch['state']}", "displayName": batch["displayName"]}
        if "output" in batch:
            about["output"] = {"responsesFile": f"files/{batch['output']}"}
        return {"name": batch["name"], "metadata": about, "done": batch["looks"] <= 0}

    def look(self, batch: dict[str, Any]) -> dict[str, Any]:
        answered = self.ended(batch, batch["file"].removeprefix("files/"))
        if answered is not None:
            batch["state"] = {"completed": "SUCCEEDED"}.get(self.ends_as, self.ends_as.upper())
            rows = []
            for line, reply in answered:
                what = {"response": reply.body} if reply.status == 200 else reply.body
                rows.append(json.dumps({"key": line["key"], **what}, ensure_ascii=False))
            batch["output"] = self.kept("\n".join(rows))
        return self.told(batch)
