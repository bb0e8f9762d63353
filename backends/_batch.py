"""Asking through the Batch API: files of questions at half the price, answered within a day.

What was submitted is written down beside the store before and after, so that a run that was
interrupted goes on with it and nothing is submitted twice. Each question is called by the hash of
what the store would look its answer up by.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

import numpy as np
import openai
import torch

from t2v_eval.errors import InputError, MediaError, ScoringError, ServiceError
from t2v_eval.files import write_text
from t2v_eval.media import Media
from t2v_eval.outcome import Scored
from t2v_eval.plan import Cells, Text
from t2v_eval.pool import RetryError
from t2v_eval.scorer import plain
from t2v_eval.store import text_key

if TYPE_CHECKING:
    from ._chat import Chat

ENDPOINT: Final = "/v1/chat/completions"
MOST_QUESTIONS = 50_000  # in one file
MOST_BYTES = 180 * 2**20
ENDED = ("completed", "failed", "expired", "cancelled")


def question_id(scorer: str, image: str, text: str) -> str:
    """What a question is called: the same for the same cell of the same scorer."""
    key = "\0".join((scorer, image, text)).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(key, digest_size=16).hexdigest()


class Ledger:
    """What was submitted and not yet collected: [{"file", "batch", "server", "ids"}], as JSON."""

    def __init__(self, store: Path) -> None:
        self.path = store.with_name(f"{store.name}.batches.json")

    def read(self) -> list[dict[str, Any]]:
        """Every entry."""
        if not self.path.exists():
            return []
        try:
            entries: list[dict[str, Any]] = json.loads(self.path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise InputError(f"{self.path} is damaged: {error}; move it away") from None
        return entries

    def put(self, entry: dict[str, Any]) -> None:
        """Add an entry, or replace that of the same file."""
        rest = [one for one in self.read() if one["file"] != entry["file"]]
        write_text(self.path, json.dumps([*rest, entry]))

    def drop(self, entry: dict[str, Any]) -> None:
        """Forget an entry."""
        write_text(
            self.path, json.dumps([one for one in self.read() if one["file"] != entry["file"]])
        )


class Batches:
    """Submits questions, waits, and hands out answers.

    Args:
        client: of the service.
        ledger: where what was submitted is written down.
        server: the address, since another server knows nothing of it.
        poll: seconds between two looks.
    """

    def __init__(self, client: openai.OpenAI, ledger: Ledger, server: str, poll: float) -> None:
        self.client, self.ledger, self.server, self.poll = client, ledger, server, poll

    def answers(
        self,
        ids: Sequence[str],
        body: Callable[[int], dict[str, Any] | Exception],
        deadline: float,
    ) -> Iterator[list[tuple[str, dict[str, Any] | Exception]]]:
        """Yield [(id, the answer's content or why there is none)], a list for each that ends.

        Args:
            body: the question by its number in `ids`, or why it cannot be asked.
            deadline: until when to wait, on the monotonic clock.

        Raises:
            ServiceError: it took longer; what was submitted goes on.
        """
        wanted = set(ids)
        waiting = [entry for entry in self._known() if wanted & set(entry["ids"])]
        asked = {one for entry in waiting for one in entry["ids"]}
        new = [n for n, one in enumerate(ids) if one not in asked]
        refused: list[tuple[str, dict[str, Any] | Exception]] = []
        waiting += self._submit(ids, new, body, refused)
        if refused:
            yield refused
        while waiting:
            for entry in list(waiting):
                try:
                    batch = self.client.batches.retrieve(entry["batch"])
                except openai.NotFoundError:
                    waiting.remove(entry)
                    gone = ServiceError(f"the service does not know {entry['batch']} any more")
                    yield [(one, gone) for one in sorted(wanted & set(entry["ids"]))]
                    self.ledger.drop(entry)
                    continue
                if batch.status in ENDED:
                    waiting.remove(entry)
                    yield list(self._collect(entry, batch, wanted))
                    self.ledger.drop(entry)  # what was handed out is in the store by now
            if waiting and time.monotonic() + self.poll > deadline:
                raise ServiceError(
                    f"{len(waiting)} batches have not ended in the time that max_seconds= allows; "
                    "they go on: run it again to collect their answers"
                )
            if waiting:
                time.sleep(self.poll)

    def _known(self) -> list[dict[str, Any]]:
        """What was submitted to this server; where a run was killed in between, the batch is
        found again by its file."""
        entries = [entry for entry in self.ledger.read() if entry["server"] == self.server]
        lost = {entry["file"]: entry for entry in entries if not entry["batch"]}
        if lost:
            for batch in self.client.batches.list(limit=100):
                if batch.input_file_id in lost:
                    entry = lost.pop(batch.input_file_id)
                    entry["batch"] = batch.id
                    self.ledger.put(entry)
            for entry in lost.values():
                self._start(entry)
        return entries

    def _submit(
        self,
        ids: Sequence[str],
        new: Iterable[int],
        body: Callable[[int], dict[str, Any] | Exception],
        refused: list[tuple[str, dict[str, Any] | Exception]],
    ) -> list[dict[str, Any]]:
        entries = []
        numbers = iter(new)
        over = False
        left: list[bytes] = []  # the question that the last file had no room for
        while not over:
            with tempfile.TemporaryFile() as file:
                written: list[str] = []
                for line in left:
                    file.write(line)
                    written.append(json.loads(line)["custom_id"])
                left = []
                for n in numbers:
                    made = body(n)
                    if isinstance(made, Exception):
                        refused.append((ids[n], made))
                        continue
                    asked = {"custom_id": ids[n], "method": "POST", "url": ENDPOINT, "body": made}
                    line = json.dumps(asked).encode() + b"\n"
                    if written and (
                        len(written) == MOST_QUESTIONS or file.tell() + len(line) > MOST_BYTES
                    ):
                        left = [line]
                        break
                    file.write(line)
                    written.append(ids[n])
                else:
                    over = True
                if written:
                    entries.append(self._upload(file, written))
        return entries

    def _upload(self, file: IO[bytes], written: list[str]) -> dict[str, Any]:
        file.seek(0)
        made = self.client.files.create(file=("questions.jsonl", file), purpose="batch")
        entry = {"file": made.id, "batch": "", "server": self.server, "ids": written}
        self.ledger.put(entry)
        self._start(entry)
        return entry

    def _start(self, entry: dict[str, Any]) -> None:
        batch = self.client.batches.create(
            input_file_id=entry["file"], endpoint=ENDPOINT, completion_window="24h"
        )
        entry["batch"] = batch.id
        self.ledger.put(entry)

    def _collect(
        self, entry: dict[str, Any], batch: Any, wanted: set[str]
    ) -> Iterator[tuple[str, dict[str, Any] | Exception]]:
        left = wanted & set(entry["ids"])
        for file in (batch.output_file_id, batch.error_file_id):
            lines = self.client.files.content(file).text.splitlines() if file else []
            for line in lines:
                one, answer = _answer(line)
                if one in left:
                    left.remove(one)
                    yield one, answer
        why = f"the batch ended without an answer ({batch.status}{_reasons(batch)})"
        for one in sorted(left):
            yield one, ServiceError(why)


def _answer(line: str) -> tuple[str, dict[str, Any] | Exception]:
    """A line of an output file: the question's id, and its answer or why there is none."""
    try:
        row = json.loads(line)
        one = str(row["custom_id"])
    except (ValueError, KeyError, TypeError):
        return "", ServiceError("a line of the batch's output is not JSON")
    error, response = row.get("error"), row.get("response")
    if isinstance(error, Mapping):
        return one, ServiceError(f"the service answers: {error.get('message') or error}")
    if not isinstance(response, Mapping) or not isinstance(response.get("body"), dict):
        return one, ServiceError("the batch's output holds no answer")
    if response.get("status_code") != 200:
        problem = response["body"].get("error")
        message = problem.get("message", "") if isinstance(problem, Mapping) else ""
        return one, ServiceError(f"the service answers {response.get('status_code')}: {message}")
    return one, response["body"]


def _reasons(batch: Any) -> str:
    errors = getattr(batch.errors, "data", None) or []
    return "".join(f"; {error.message}" for error in errors[:3])


def batch_cells(
    scorer: Chat, images: Sequence[Media], texts: Sequence[Text], cells: Cells
) -> Iterator[Scored]:
    """What `score_cells` yields, by way of batches."""
    if scorer.store is None:
        raise InputError("batch=True needs a store, beside which it writes down what it submitted")
    pairs = [(images[i], plain(texts[j])) for i, j in cells.tolist()]
    ids = [question_id(scorer.id, media.key, text_key(text)) for media, text in pairs]
    number = {one: n for n, one in enumerate(ids)}
    packed: tuple[str, str | MediaError] = "", ""

    def body(n: int) -> dict[str, Any] | Exception:
        nonlocal packed
        media, text = pairs[n]
        if packed[0] != media.key:
            try:
                packed = media.key, scorer.packed(media)
            except MediaError as error:
                if scorer.on_error == "raise":
                    raise
                packed = media.key, error
        return packed[1] if isinstance(packed[1], MediaError) else scorer.body(packed[1], text)

    failure: tuple[int, str] | None = None
    deadline = time.monotonic() + (scorer.limits.max_seconds or float("inf"))
    with scorer.blocking_client() as client:
        batches = Batches(client, Ledger(scorer.store.path), scorer.base_url, scorer.poll)
        found = batches.answers(ids, body, deadline)
        while True:
            problem: Exception | None = None
            try:
                came = next(found)
            except StopIteration:
                break
            except openai.APIStatusError as error:
                problem = scorer.refused(error)
            except openai.APIConnectionError:
                problem = RetryError(f"no connection to {scorer.base_url}")
            if problem is not None:
                again = isinstance(problem, RetryError)
                raise ServiceError(str(problem)) if again else problem
            values: dict[int, tuple[float, str | None]] = {}
            reasons: dict[str, list[int]] = {}
            for one, content in came:
                n = number[one]
                try:
                    if isinstance(content, Exception):
                        raise content
                    scorer.note_usage(*scorer.used(content))
                    values[n] = scorer.read(content, pairs[n][1])
                except (ScoringError, MediaError, ServiceError, RetryError) as error:
                    reasons.setdefault(scorer.without_key(str(error)), []).append(n)
            if values:
                scores, details = zip(*values.values(), strict=True)
                yield Scored(np.array([*values]), torch.tensor(scores), details=details)
            for reason, numbers in reasons.items():
                if scorer.on_error == "skip":
                    yield Scored(np.array(numbers), None, reason)
                elif failure is None:
                    failure = numbers[0], reason
    if failure is not None:
        n, reason = failure
        where = f"{pairs[n][0].name} with {pairs[n][1]!r}"
        yield Scored(np.array([n]), None, f"{where}: {reason}")
