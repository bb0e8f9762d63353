"""A server on 127.0.0.1 that speaks chat completions, files and batches, and misbehaves on demand.

python tests/openai_server.py [LATENCY]     # prints its address and serves until it is killed
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

REASONS = {200: "OK", 429: "Too Many Requests", 500: "Oops", 307: "Temporary Redirect"}


@dataclass
class Request:
    """What came: `number` counts requests, `tries` those with the same content, from 1."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any
    number: int
    tries: int
    at: float

    @property
    def question(self) -> str:
        return next(p["text"] for p in self.body["messages"][-1]["content"] if p["type"] == "text")

    @property
    def image(self) -> dict[str, str]:
        parts = self.body["messages"][-1]["content"]
        return next(p["image_url"] for p in parts if p["type"] == "image_url")

    @property
    def cell(self) -> str:
        return f"{self.image['url']} {self.question}"


@dataclass
class Reply:
    """What goes back. `fault`: "" or "hang", "cut" (the connection is closed mid-body)."""

    body: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    fault: str = ""
    delay: float = 0.0


def p_yes(image_url: str, question: str) -> float:
    """The right answer: any number that depends on all of the picture and the question."""
    digest = hashlib.blake2b(f"{image_url} {question}".encode(), digest_size=4).digest()
    return 0.01 + 0.9 * int.from_bytes(digest, "big") / 2**32


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
    """A chat completion with several answers and no log-probabilities."""
    return completion(
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


def right(request: Request) -> Reply:
    """The right answer."""
    p = p_yes(request.image["url"], request.question)
    listed = {"Yes": 0.75 * p, " yes": 0.25 * p, "No": 0.99 - p, "The": 0.005}
    return Reply(completion(listed))


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


class BatchService:
    """Files and batches for a `Server`: pass it as `behave`.

    Args:
        behave: what each question of a batch is answered with.
        looks: how often one must look at a batch before it ends.
    """

    def __init__(self, behave: Callable[[Request], Reply] = right, looks: int = 2) -> None:
        self.behave, self.looks, self.ends_as = behave, looks, "completed"
        self.files: dict[str, str] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        self.cells: list[str] = []  # every question that was ever submitted

    def __call__(self, request: Request) -> Reply:
        parts = request.path.partition("?")[0].split("/")[2:]
        if request.method == "POST" and parts == ["files"]:
            body = request.body.split(b'name="file"')[1].split(b"\r\n\r\n", 1)[1]
            return self.upload(body.split(b"\r\n--")[0].decode())
        if parts[0] == "files":
            return Reply(self.files[parts[1]])
        if parts[0] != "batches":
            return self.behave(request)
        if request.method == "POST":
            made = {"id": f"batch_{len(self.batches)}", "object": "batch", "looks": self.looks}
            made |= {**request.body, "status": "validating", "created_at": 1}
            self.batches[str(made["id"])] = made
            return Reply(made)
        if len(parts) == 1:
            listed = [*self.batches.values()][::-1]
            return Reply({"object": "list", "data": listed, "has_more": False})
        if parts[1] not in self.batches:
            return error(404, "No such batch")
        return Reply(self.look(self.batches[parts[1]]))

    def upload(self, content: str) -> Reply:
        name = f"file_{len(self.files)}"
        self.files[name] = content
        about = {"bytes": len(content), "created_at": 1, "filename": "questions.jsonl"}
        return Reply({"id": name, "object": "file", "purpose": "batch", "status": "ok", **about})

    def look(self, batch: dict[str, Any]) -> dict[str, Any]:
        batch["looks"] -= 1
        if batch["looks"] > 0 or batch["status"] == self.ends_as:
            return batch
        batch["status"] = self.ends_as
        lines = [json.loads(line) for line in self.files[batch["input_file_id"]].splitlines()]
        good, bad = [], []
        for n, line in enumerate(lines if self.ends_as != "failed" else []):
            if self.ends_as == "expired" and n >= len(lines) // 2:
                continue
            request = Request("POST", line["url"], {}, line["body"], n + 1, 1, 0.0)
            self.cells.append(request.cell)
            reply = self.behave(request)
            response = {"status_code": reply.status, "request_id": "r", "body": reply.body}
            row = {"id": f"r{n}", "custom_id": line["custom_id"], "response": response}
            (good if reply.status == 200 else bad).append(json.dumps(row | {"error": None}))
        for name, rows in (("output_file_id", good[::-1]), ("error_file_id", bad)):
            if rows:
                batch[name] = self.upload("\n".join(rows)).body["id"]
        return batch


class Server:
    """Serves in a thread of its own until the end of the `with` block.

    Args:
        behave: request -> reply.
        latency: seconds before each reply.
        port: 0 takes any that is free.
    """

    def __init__(
        self, behave: Callable[[Request], Reply] = right, latency: float = 0.0, port: int = 0
    ) -> None:
        self.behave, self.latency, self.port = behave, latency, port
        self.requests: list[Request] = []
        self.open = self.most_open = 0
        self._tries: dict[str, int] = {}
        self._loop = asyncio.new_event_loop()
        self._connections: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> Server:
        started = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(started,), daemon=True)
        self._thread.start()
        assert started.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    def _run(self, started: threading.Event) -> None:
        self._loop.run_until_complete(self._serve(started))
        self._loop.close()

    async def _serve(self, started: threading.Event) -> None:
        self._stop = asyncio.Event()
        server = await asyncio.start_server(
            self._connection, "127.0.0.1", self.port, limit=2**24, backlog=512
        )
        self.port = server.sockets[0].getsockname()[1]
        started.set()
        await self._stop.wait()
        server.close()
        for task in [*self._connections]:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            while await self._exchange(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._connections.discard(task)
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {
            k.lower(): v.strip() for k, _, v in (line.partition(":") for line in head[1:] if line)
        }
        raw = await reader.readexactly(int(headers.get("content-length", 0)))
        key = f"{head[0]} {hashlib.blake2b(raw).hexdigest()}"
        self._tries[key] = self._tries.get(key, 0) + 1
        request = Request(
            *head[0].split()[:2],
            headers,
            json.loads(raw) if headers.get("content-type") == "application/json" and raw else raw,
            len(self.requests) + 1,
            self._tries[key],
            time.monotonic(),
        )
        self.requests.append(request)
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            reply = self.behave(request)
            await asyncio.sleep(self.latency + reply.delay)
            return await self._send(writer, reply)
        finally:
            self.open -= 1

    async def _send(self, writer: asyncio.StreamWriter, reply: Reply) -> bool:
        if reply.fault == "hang":
            await asyncio.sleep(3600)
        content = reply.body if isinstance(reply.body, str) else json.dumps(reply.body)
        body = content.encode()
        lines = [
            f"HTTP/1.1 {reply.status} {REASONS.get(reply.status, 'Status')}",
            "content-type: application/json",
            f"content-length: {len(body)}",
            *(f"{name}: {value}" for name, value in reply.headers.items()),
        ]
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n")
        if reply.fault == "slow":  # a byte now and then, never a pause long enough to notice
            for n in range(len(body)):
                writer.write(body[n : n + 1])
                await writer.drain()
                await asyncio.sleep(0.02)
        writer.write(body[: len(body) // 2] if reply.fault == "cut" else body)
        await writer.drain()
        return reply.fault != "cut"


if __name__ == "__main__":
    with Server(latency=float(sys.argv[1]) if len(sys.argv) > 1 else 0.0) as serving:
        print(serving.url, flush=True)
        threading.Event().wait()
