"""Submit questions to a provider's batch API, wait for the batches and collect the answers.

Submitted batches are recorded beside the store, so that an interrupted run resumes with them and
nothing is submitted twice; see `PendingBatches`.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import IO, Any

from t2v_eval.errors import ServiceError

from ..json_fields import parse_json
from .client import BatchClient, BatchOutcome, as_answer_error
from .lines import iter_lines
from .pending import PendingBatches

MAX_QUESTIONS_PER_FILE = 50_000
STORE_EVERY = 500  # answers that are stored together

Answers = list[tuple[str, Any]]  # id of a question, its answer or error


class BatchRunner:
    """Submit questions in batches, poll, and yield answers.

    Args:
        client: the provider's batch API.
        pending: the record of submitted batches.
        server: the address; batches of another server are ignored.
        poll: seconds between two polls.
        redact: removes secrets from a line.
        clock: returns seconds that never go back, for the deadline.
        wait: sleeps for some seconds; a signal interrupts it.

    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> class EchoClient(BatchClient):
    ...     max_file_bytes, id_field, content = 2**20, "key", b""
    ...
    ...     def request_line(self, request_id, body):
    ...         return {"key": request_id, "response": body}
    ...
    ...     def upload(self, file):
    ...         self.content = file.read()
    ...         return "file-1"
    ...
    ...     def create_batch(self, file):
    ...         return "batch-1"
    ...
    ...     def poll(self, name):
    ...         return BatchOutcome("no answer", ["output-1"])
    ...
    ...     def output_chunks(self, file):
    ...         return iter([self.content])
    ...
    ...     def parse_line(self, row):
    ...         return row["response"]
    >>> with TemporaryDirectory() as folder:
    ...     pending = PendingBatches(Path(folder, "scores.db"))
    ...     runner = BatchRunner(EchoClient(), pending, "https://api.example.com", 30.0, str)
    ...     list(runner.answers(["7", "8"], [0, 1], "Question {}".format, [], float("inf")))
    [[('7', 'Question 0'), ('8', 'Question 1')]]
    """

    def __init__(
        self,
        client: BatchClient,
        pending: PendingBatches,
        server: str,
        poll: float,
        redact: Callable[[str], str],
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], object] = time.sleep,
    ) -> None:
        self.client, self.pending, self.server, self.poll = client, pending, server, poll
        self.redact, self.clock, self.wait = redact, clock, wait

    def answers(
        self,
        ids: Sequence[str],
        numbers: Sequence[int],
        body: Callable[[int], Any],
        submitted: Sequence[dict[str, Any]],
        deadline: float,
    ) -> Iterator[Answers]:
        """Yield lists of (id, answer or error) as batches end.

        Args:
            ids: the id of each question.
            numbers: the questions to ask.
            body: returns a question by its number, or the error why it cannot be asked.
            submitted: the return value of `submitted`.
            deadline: end of waiting, by `clock`.

        Raises:
            ServiceError: the deadline passed; submitted batches go on.
        """
        requested = {ids[n] for n in numbers}
        waiting = [entry for entry in submitted if requested & set(entry["ids"])]
        already_submitted = {request_id for entry in waiting for request_id in entry["ids"]}
        new = [n for n in numbers if ids[n] not in already_submitted]
        refused: Answers = []
        problem: Exception | None = None
        try:
            waiting += self._submit(ids, new, body, refused)
        except Exception as error:  # any client's, or of an image: raised behind the answers
            problem = error
        if refused:
            yield refused
        while True:
            for entry in list(waiting):
                try:
                    yield from self._collect_if_ended(entry, requested, waiting)
                except Exception as error:  # any client's; the other batches are collected first
                    problem = problem or error
            if problem is not None:
                raise problem
            if not waiting:
                return
            self._wait(len(waiting), deadline)

    def _collect_if_ended(
        self, entry: dict[str, Any], requested: set[str], waiting: list[dict[str, Any]]
    ) -> Iterator[Answers]:
        """Yield the answers of a batch that has ended, and remove it from those that go on."""
        outcome = self.client.poll(entry["batch"])
        if outcome is None:
            return
        yield from self._collect(requested & set(entry["ids"]), outcome)
        waiting.remove(entry)
        self.pending.remove(entry)  # its answers are in the store by now

    def _wait(self, num_batches: int, deadline: float) -> None:
        """Wait until the next poll.

        Raises:
            ServiceError: the deadline would pass.
        """
        if self.clock() + self.poll > deadline:
            raise ServiceError(
                f"{num_batches} batches have not ended in the time that `max_seconds=` allows; "
                "they go on: run it again to collect their answers"
            )
        self.wait(self.poll)

    def submitted(self) -> list[dict[str, Any]]:
        """Return the pending batches of this server.

        Where a run was killed between upload and record, the batch is found by its input file.
        """
        entries = [entry for entry in self.pending.load() if entry["server"] == self.server]
        lost = {entry["file"]: entry for entry in entries if not entry["batch"]}
        if lost:
            for file, batch in self.client.list_batches():
                if file in lost:
                    entry = lost.pop(file)
                    entry["batch"] = batch
                    self.pending.save(entry)
            for entry in lost.values():
                self._start(entry)
        return entries

    def _submit(
        self,
        ids: Sequence[str],
        new: Iterable[int],
        body: Callable[[int], Any],
        refused: Answers,
    ) -> list[dict[str, Any]]:
        entries = []
        numbers = iter(new)
        overflow: tuple[str, bytes] | None = None  # a question that the last file had no room for
        done = False
        while not done:
            with tempfile.TemporaryFile() as file:
                file_ids: list[str] = []
                if overflow is not None:
                    file_ids.append(overflow[0])
                    file.write(overflow[1])
                    overflow = None
                for n in numbers:
                    question = body(n)
                    if isinstance(question, Exception):
                        refused.append((ids[n], question))
                        continue
                    line = json.dumps(self.client.request_line(ids[n], question)).encode() + b"\n"
                    full = file.tell() + len(line) > self.client.max_file_bytes
                    if file_ids and (full or len(file_ids) == MAX_QUESTIONS_PER_FILE):
                        overflow = ids[n], line
                        break
                    file.write(line)
                    file_ids.append(ids[n])
                else:
                    done = True
                if file_ids:
                    entries.append(self._upload(file, file_ids))
        return entries

    def _upload(self, file: IO[bytes], ids: list[str]) -> dict[str, Any]:
        file.seek(0)
        name = self.client.upload(file)
        entry = {"file": name, "batch": "", "server": self.server, "ids": ids}
        self.pending.save(entry)
        self._start(entry)
        return entry

    def _start(self, entry: dict[str, Any]) -> None:
        entry["batch"] = self.client.create_batch(entry["file"])
        self.pending.save(entry)

    def _collect(self, ids: set[str], outcome: BatchOutcome) -> Iterator[Answers]:
        """Yield the answers of a batch, each line by itself, then an error for the other ids."""
        missing, damaged = set(ids), 0
        answers: Answers = []
        problem: Exception | None = None
        chunks = (self.client.output_chunks(file) for file in outcome.files)
        try:
            for line in chain.from_iterable(iter_lines(file) for file in chunks):
                try:
                    row = parse_json(self.redact(line))
                    request_id = str(row[self.client.id_field])
                except (ValueError, LookupError, TypeError, RecursionError):  # of a damaged line
                    damaged += 1
                    continue
                if request_id not in ids:
                    continue
                missing.discard(request_id)
                try:
                    answers.append((request_id, self.client.parse_line(row)))
                except Exception as error:  # untrusted JSON; a line costs its own answer only
                    answers.append((request_id, as_answer_error(error)))
                if len(answers) == STORE_EVERY:
                    yield answers
                    answers = []
        except Exception as error:  # any client's; the next run reads the rest of the file
            problem = error
        if answers:
            yield answers
        if problem is not None:
            raise problem
        reason = outcome.reason
        if damaged:
            reason += f"; {damaged} lines of its files cannot be read"
        if missing:
            yield [(request_id, ServiceError(reason)) for request_id in sorted(missing)]
