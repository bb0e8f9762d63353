"""Asking in files of questions, at half the price, answered within a day.

What was submitted is written down beside the store, so that a run that was interrupted goes on with
it and nothing is submitted twice; see `Ledger`.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from itertools import chain
from typing import IO, Any, NamedTuple, Protocol

import numpy as np
import torch

from t2v_eval.errors import InputError, MediaError, ScoringError, ServiceError, T2VError
from t2v_eval.inputs.media import Media
from t2v_eval.remote.request_pool import Limits, RetryError
from t2v_eval.remote.scorer import Answer
from t2v_eval.scoring.plan import Cells, Text, caption_text
from t2v_eval.scoring.results import ScoreChunk
from t2v_eval.scoring.scorer import OnError
from t2v_eval.store import Store, text_key

from .lines import lines
from .pending import Ledger, question_id

MOST_QUESTIONS = 50_000  # in one file
AT_ONCE = 500  # answers that are stored together


class Ended(NamedTuple):
    """A batch that goes on no more: files of answers, and why the others have none."""

    why: str
    files: Sequence[str] = ()


class Desk(Protocol):
    """Where a service takes files of questions; everything is called by the service's names."""

    most_bytes: int
    called: str  # under which name a line of answers says whose it is

    def line(self, one: str, body: Any) -> dict[str, Any]:
        """A question called `one`, as a line of a file."""

    def upload(self, file: IO[bytes]) -> str:
        """Hand in a file; its name."""

    def start(self, file: str) -> str:
        """Have a file answered; the batch's name."""

    def started(self) -> Iterable[tuple[str, str]]:
        """Files and the batches that were started of them, the latest first."""

    def look(self, name: str) -> Ended | None:
        """What became of a batch; None while it goes on."""

    def content(self, file: str) -> Iterator[bytes]:
        """A file of answers, bit by bit; nothing where the service does not have it any more."""

    def answer(self, row: Mapping[str, Any]) -> Any:
        """What came, by a line of a file, or the error why nothing did."""


Came = list[tuple[str, Any]]


class Batches:
    """Submits questions, waits, and hands out answers.

    Args:
        desk: of the service.
        ledger: where what was submitted is written down.
        server: the address, since another server knows nothing of it.
        poll: seconds between two looks.
        redacted: takes out of a line what may not be kept.
    """

    def __init__(
        self,
        desk: Desk,
        ledger: Ledger,
        server: str,
        poll: float,
        redacted: Callable[[str], str],
    ) -> None:
        self.desk, self.ledger, self.server, self.poll = desk, ledger, server, poll
        self.redacted = redacted

    def answers(
        self,
        ids: Sequence[str],
        numbers: Sequence[int],
        body: Callable[[int], Any],
        submitted: Sequence[dict[str, Any]],
        deadline: float,
    ) -> Iterator[Came]:
        """Yield [(id, what came or the error why nothing did)], a list for each that ends.

        Args:
            ids, numbers: what questions are called, and which of them are wanted.
            body: a question by its number, or the error why it cannot be asked.
            submitted: what `submitted` says.
            deadline: until when to wait, on the monotonic clock.

        Raises:
            ServiceError: it took longer; what was submitted goes on.
        """
        wanted = {ids[n] for n in numbers}
        waiting = [entry for entry in submitted if wanted & set(entry["ids"])]
        asked = {one for entry in waiting for one in entry["ids"]}
        new = [n for n in numbers if ids[n] not in asked]
        refused: Came = []
        problem: Exception | None = None
        try:
            waiting += self._submit(ids, new, body, refused)
        except Exception as error:
            problem = error  # raised when what has ended is handed out
        if refused:
            yield refused
        while waiting:
            for entry in list(waiting):
                try:
                    ended = self.desk.look(entry["batch"])
                    if ended is None:
                        continue
                    yield from self._collect(wanted & set(entry["ids"]), ended)
                except Exception as error:
                    problem = problem or error
                    continue
                waiting.remove(entry)
                self.ledger.drop(entry)  # what was handed out is in the store by now
            if problem is not None:
                raise problem
            if waiting and time.monotonic() + self.poll > deadline:
                raise ServiceError(
                    f"{len(waiting)} batches have not ended in the time that max_seconds= allows; "
                    "they go on: run it again to collect their answers"
                )
            if waiting:
                time.sleep(self.poll)
        if problem is not None:
            raise problem

    def submitted(self) -> list[dict[str, Any]]:
        """What was submitted to this server and is not yet collected; where a run was killed in
        between, the batch is found again by its file."""
        entries = [entry for entry in self.ledger.read() if entry["server"] == self.server]
        lost = {entry["file"]: entry for entry in entries if not entry["batch"]}
        if lost:
            for file, batch in self.desk.started():
                if file in lost:
                    entry = lost.pop(file)
                    entry["batch"] = batch
                    self.ledger.put(entry)
            for entry in lost.values():
                self._start(entry)
        return entries

    def _submit(
        self,
        ids: Sequence[str],
        new: Iterable[int],
        body: Callable[[int], Any],
        refused: Came,
    ) -> list[dict[str, Any]]:
        entries = []
        numbers = iter(new)
        left: tuple[str, bytes] | None = None  # the question that the last file had no room for
        over = False
        while not over:
            with tempfile.TemporaryFile() as file:
                written: list[str] = []
                if left is not None:
                    written.append(left[0])
                    file.write(left[1])
                    left = None
                for n in numbers:
                    made = body(n)
                    if isinstance(made, Exception):
                        refused.append((ids[n], made))
                        continue
                    line = json.dumps(self.desk.line(ids[n], made)).encode() + b"\n"
                    full = file.tell() + len(line) > self.desk.most_bytes
                    if written and (full or len(written) == MOST_QUESTIONS):
                        left = ids[n], line
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
        name = self.desk.upload(file)
        entry = {"file": name, "batch": "", "server": self.server, "ids": written}
        self.ledger.put(entry)
        self._start(entry)
        return entry

    def _start(self, entry: dict[str, Any]) -> None:
        entry["batch"] = self.desk.start(entry["file"])
        self.ledger.put(entry)

    def _collect(self, left: set[str], ended: Ended) -> Iterator[Came]:
        """Every line that says whose it is, by itself, and at last who has none."""
        silent, damaged = set(left), 0
        came: Came = []
        problem: Exception | None = None
        try:
            for line in chain.from_iterable(lines(self.desk.content(file)) for file in ended.files):
                try:
                    row = json.loads(self.redacted(line))
                    one = str(row[self.desk.called])
                except Exception:
                    damaged += 1
                    continue
                if one not in left:
                    continue
                silent.discard(one)
                try:
                    came.append((one, self.desk.answer(row)))
                except Exception as error:
                    came.append((one, unread(error)))
                if len(came) == AT_ONCE:
                    yield came
                    came = []
        except Exception as error:
            problem = error  # the rest of the file is asked for by the next run
        if came:
            yield came
        if problem is not None:
            raise problem
        why = f"{ended.why}; {damaged} lines of its files cannot be read" if damaged else ended.why
        if silent:
            yield [(one, ServiceError(why)) for one in sorted(silent)]


def unread(error: Exception) -> Exception:
    """Why an answer counts for nothing; what is none of our errors may be about anything."""
    if isinstance(error, (T2VError, RetryError)):
        return error
    return ScoringError(f"the service's answer cannot be read ({type(error).__name__})")


class BatchScorer(Protocol):
    """What `batch_cells` needs of a scorer behind a service."""

    on_error: OnError
    base_url: str
    poll: float
    limits: Limits

    @property
    def id(self) -> str:
        """The scorer's id."""

    @property
    def store(self) -> Store | None:
        """Where scores are kept."""

    def desk(self) -> AbstractContextManager[Desk]:
        """Open the service's batch API."""

    def packed(self, media: Media) -> Any:
        """Prepare an image for a question."""

    def question(self, image: Any, text: str) -> Any:
        """Write the question of a cell."""

    def read(self, content: Any, text: str) -> Answer:
        """Read the answer of a cell."""

    def used(self, content: Any) -> tuple[object, object, object]:
        """Count the tokens of an answer."""

    def note_usage(
        self, input_tokens: object, output_tokens: object, cached_tokens: object = 0
    ) -> None:
        """Add tokens to the cost of the run."""

    def kept(self, found: Answer) -> Answer:
        """Redact an answer before it is stored."""

    def redact(self, error: Exception) -> None:
        """Redact the message of an error."""

    def redacted(self, words: str) -> str:
        """Redact words of the service."""

    def without_key(self, message: str) -> str:
        """Redact a message."""

    def problem(self, error: Exception) -> Exception:
        """Tell what an error of the client means."""


def batch_cells(
    scorer: BatchScorer, images: Sequence[Media], texts: Sequence[Text], cells: Cells
) -> Iterator[ScoreChunk]:
    """What `score_cells` yields, by way of batches."""
    if scorer.store is None:
        raise InputError("batch=True needs a store, beside which it writes down what it submitted")
    pairs = [(images[i], caption_text(texts[j])) for i, j in cells.tolist()]
    ids = [question_id(scorer.id, media.key, text_key(text)) for media, text in pairs]
    number = {one: n for n, one in enumerate(ids)}
    packed: tuple[str, Any] = "", None

    def body(n: int) -> Any:
        nonlocal packed
        media, text = pairs[n]
        if packed[0] != media.key:
            try:
                packed = media.key, scorer.packed(media)
            except MediaError as error:
                if scorer.on_error == "raise":
                    raise
                packed = media.key, error
        return packed[1] if isinstance(packed[1], MediaError) else scorer.question(packed[1], text)

    scored = set[int]()
    failed: dict[int, tuple[str, str | None]] = {}
    problem: Exception | None = None
    deadline = time.monotonic() + (scorer.limits.max_seconds or float("inf"))
    with scorer.desk() as desk:
        ledger, redacted = Ledger(scorer.store.path), scorer.redacted
        batches = Batches(desk, ledger, scorer.base_url, scorer.poll, redacted)
        submitted = batches.submitted()
        # Another process may have stored and crossed out answers since the store was looked into.
        keys = [(media.key, text_key(text)) for media, text in pairs]
        known = scorer.store.get_cells(scorer.id, keys)
        if there := [n for n, key in enumerate(keys) if key in known]:
            stored = torch.tensor([known[keys[n]] for n in there], dtype=torch.float32)
            yield ScoreChunk(np.array(there), stored)
        left = [n for n, key in enumerate(keys) if key not in known]
        found = batches.answers(ids, left, body, submitted, deadline)
        while True:
            try:
                came = next(found)
            except StopIteration:
                break
            except Exception as error:
                problem = scorer.problem(error)
                break
            values: dict[int, Answer] = {}
            for one, content in came:
                n = number[one]
                if n in scored:
                    continue
                # Each by itself: one that cannot be read costs no other.
                try:
                    if isinstance(content, Exception):
                        raise content
                    with suppress(Exception):  # odd counts of tokens cost no answer
                        scorer.note_usage(*scorer.used(content))
                    values[n] = scorer.kept(scorer.read(content, pairs[n][1]))
                    scored.add(n)
                except Exception as error:
                    why = unread(error)
                    scorer.redact(why)
                    detail = getattr(why, "detail", None)
                    failed[n] = scorer.without_key(str(why)), detail
            if values:
                scores, details = zip(*values.values(), strict=True)
                answers = torch.tensor(scores, dtype=torch.float32)
                yield ScoreChunk(np.array([*values]), answers, details=details)
    # Last, since another line, or another file, may hold the answer.
    failed = {n: why for n, why in failed.items() if n not in scored}
    if scorer.on_error == "skip":
        for reason in dict.fromkeys(reason for reason, _ in failed.values()):
            alike = {n: detail for n, (other, detail) in failed.items() if other == reason}
            yield ScoreChunk(np.array([*alike]), None, reason, [*alike.values()])
    if problem is not None:
        scorer.redact(problem)
        raise ServiceError(str(problem)) if isinstance(problem, RetryError) else problem
    if failed and scorer.on_error == "raise":
        n, (reason, _) = next(iter(failed.items()))
        where = f"{pairs[n][0].name} with {pairs[n][1]!r}"
        yield ScoreChunk(np.array([n]), None, f"{where}: {reason}")
