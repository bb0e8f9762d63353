"""A server on 127.0.0.1 that answers as it is told, and misbehaves on demand.

    python tests/helpers/services/loopback.py SERVICE [LATENCY]

prints its address and serves until it is killed.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

REASONS = {200: "OK", 429: "Too Many Requests", 500: "Oops", 307: "Temporary Redirect"}


@dataclass
class Request:
    """What came: `number` counts requests, `tries` those with the same content, from 1."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any
    number: int = 1
    tries: int = 1
    at: float = 0.0

    @property
    def _parts(self) -> list[dict[str, Any]]:
        spoken = "messages" if "messages" in self.body else "contents"
        content = self.body[spoken][-1]
        return content["content"] if spoken == "messages" else content["parts"]  # type: ignore[no-any-return]

    @property
    def question(self) -> str:
        """The first text, in whichever protocol."""
        return str(next(part["text"] for part in self._parts if "text" in part))

    @property
    def images(self) -> list[str]:
        """What was sent as images: data URLs, or the base64 of the files."""
        result = (part.get("image_url", part.get("inlineData")) for part in self._parts)
        return [str(item.get("url") or item["data"]) for item in result if item]

    @property
    def cell(self) -> str:
        return f"{self.images} {self.question}"


@dataclass
class Reply:
    """What goes back. `fault`: "" or "hang", "cut" (the connection is closed mid-body)."""

    body: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    fault: str = ""
    delay: float = 0.0


def p_yes(image: str, question: str) -> float:
    """The right answer: any number that depends on all of the image and the question."""
    digest = hashlib.blake2b(f"{image} {question}".encode(), digest_size=4).digest()
    return 0.01 + 0.9 * int.from_bytes(digest, "big") / 2**32


def wanted(request: Request) -> float:
    """The right answer to what was asked."""
    return p_yes(request.images[0], request.question)


def likely(request: Request) -> dict[str, float]:
    """First tokens that add up to the right answer."""
    p = wanted(request)
    return {"Yes": 0.75 * p, " yes": 0.25 * p, "No": 0.99 - p, "The": 0.005}


class BatchService:
    """Files and batches for a `Server`: pass a protocol's own as `behave`.

    Args:
        behave: what each question of a batch is answered with.
        looks: how often one must look at a batch before it ends.
    """

    def __init__(self, behave: Callable[[Request], Reply], looks: int = 2) -> None:
        self.behave, self.looks, self.ends_as = behave, looks, "completed"
        self.files: dict[str, Any] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        self.cells: list[str] = []  # every question that was ever submitted

    def kept(self, content: str) -> str:
        """Keep a file; its name."""
        name = f"file-{len(self.files)}"
        self.files[name] = content
        return name

    def ended(self, batch: dict[str, Any], file: str) -> list[tuple[dict[str, Any], Reply]] | None:
        """The lines of a batch's file with their answers, at the look at which it ends."""
        batch["looks"] -= 1
        if batch["looks"] > 0 or batch.setdefault("asked", False):
            return None
        batch["asked"] = True
        lines = [json.loads(line) for line in self.files[file].splitlines()]
        wanted = {"failed": 0, "expired": len(lines) // 2}.get(self.ends_as, len(lines))
        answered = []
        for line in lines[:wanted]:
            request = Request("POST", "", {}, line.get("body") or line["request"])
            self.cells.append(request.cell)
            answered.append((line, self.behave(request)))
        return answered[::-1]


class Server:
    """Serves in a thread of its own until the end of the `with` block.

    Args:
        behave: request -> reply.
        latency: seconds before each reply.
        hold: while it is true of a request, its reply waits; it may look at `open`, `answered` and
            whatever a client has received.
        port: 0 takes any that is free.
    """

    def __init__(
        self,
        behave: Callable[[Request], Reply],
        latency: float = 0.0,
        port: int = 0,
        hold: Callable[[Request], bool] = lambda request: False,
    ) -> None:
        self.behave, self.latency, self.port, self.hold = behave, latency, port, hold
        self.requests: list[Request] = []
        self.released: list[tuple[Request, Reply]] = []  # requests whose reply is sent
        self.stuck: Counter[str] = Counter()  # how often a cell is left without its answer
        self.open = self.most_open = self.answered = 0
        self._tries: dict[str, int] = {}
        self._loop = asyncio.new_event_loop()
        self._connections: set[asyncio.Task[None]] = set()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """Where OpenAI's protocol is spoken."""
        return f"{self.address}/v1"

    def allowed(self, concurrency: int = 64) -> int:
        """The number of requests that may be open: one, then 8, then one more for each answer."""
        return min(concurrency, 7 + self.answered) if self.answered else 1

    def awaits_more(self, cells: int, concurrency: int = 64) -> bool:
        """Whether a client with so many questions has fewer requests open than it may."""
        return self.open < min(self.allowed(concurrency), cells - self.answered)

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
        spoken = raw and headers.get("content-type") == "application/json"
        spoken = spoken and "x-goog-upload-offset" not in headers  # a file
        request = Request(
            *head[0].split()[:2],
            headers,
            json.loads(raw) if spoken else raw,
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
            while self.hold(request):
                await asyncio.sleep(0.001)
            self.answered += 1
            self.released.append((request, reply))
            if reply.fault in ("hang", "slow"):
                self.stuck[request.cell] += 1
            return await self._send(writer, reply)
        finally:
            self.open -= 1

    async def _send(self, writer: asyncio.StreamWriter, reply: Reply) -> bool:
        if reply.fault == "hang":
            await asyncio.sleep(3600)
        content = reply.body if isinstance(reply.body, (str, bytes)) else json.dumps(reply.body)
        body = content.encode() if isinstance(content, str) else content
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
    sys.path.insert(0, str(Path(__file__).parents[2]))
    behave = importlib.import_module(f"helpers.services.{sys.argv[1]}_server").right
    with Server(behave, latency=float(sys.argv[2]) if len(sys.argv) > 2 else 0.0) as serving:
        print(serving.address, flush=True)
        threading.Event().wait()
