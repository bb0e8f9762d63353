"""Ask with a provider's batch API: half the price, results within 24 h.

Submitted batches are recorded beside the store, so that an interrupted run resumes with them and
nothing is submitted twice; see `PendingBatches`.
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
from t2v_eval.remote.scorer import CellScore
from t2v_eval.scoring.plan import Cells, Text, caption_text
from t2v_eval.scoring.results import ScoreChunk
from t2v_eval.scoring.scorer import OnError
from t2v_eval.store import Store, text_key

from ..json_fields import parse_inner_error
from ..messages import ErrorInfo
from .lines import iter_lines
from .pending import PendingBatches, question_id

MAX_QUESTIONS_PER_FILE = 50_000
MAX_MESSAGE_CHARS = 300  # of an error
STORE_EVERY = 500  # answers that are stored together


class BatchOutcome(NamedTuple):
    """The end of a batch: files of answers, and the reason why other questions have none."""

    reason: str
    files: Sequence[str] = ()


class LineError(ServiceError):
    """An error in place of the answer of a line.

    Attributes:
        info: the service's error.
    """

    def __init__(self, message: str, info: ErrorInfo) -> None:
        super().__init__(message)
        self.info = info


def line_error(status: str, error: object, message: object) -> LineError:
    """Return the error for a line without an answer.

    Args:
        status: how the status is written in the message.
        error: the error, as JSON.
        message: the service's words.
    """
    inner = parse_inner_error({"error": error}) or ErrorInfo(0)
    text = f"the service answers{status}: {message}"[:MAX_MESSAGE_CHARS]
    return LineError(text, inner._replace(message=str(message)))


class BatchClient(Protocol):
    """The batch API of a provider; files and batches go by the provider's names."""

    max_file_bytes: int
    id_field: str  # the field of a line of answers that holds the id of its question

    def request_line(self, request_id: str, body: Any) -> dict[str, Any]:
        """Return a question as a line of an input file."""

    def upload(self, file: IO[bytes]) -> str:
        """Upload an input file; return its name."""

    def create_batch(self, file: str) -> str:
        """Create a batch from an uploaded file; return the batch's name."""

    def list_batches(self) -> Iterable[tuple[str, str]]:
        """Yield the input file and the name of each batch, the latest first."""

    def poll(self, name: str) -> BatchOutcome | None:
        """Return the outcome of a batch; None while it runs."""

    def output_chunks(self, file: str) -> Iterator[bytes]:
        """Yield an output file in chunks; nothing where the provider has deleted it."""

    def parse_line(self, row: Mapping[str, Any]) -> Any:
        """Return the answer of an output line, or the error in its place."""


Answers = list[tuple[str, Any]]  # id of a question, its answer or error


class BatchRunner:
    """Submit questions in batches, poll, and yield answers.

    Args:
        client: the provider's batch API.
        pending: the record of submitted batches.
        server: the address; batches of another server are ignored.
        poll: seconds between two polls.
        redact: removes secrets from a line.
    """

    def __init__(
        self,
        client: BatchClient,
        pending: PendingBatches,
        server: str,
        poll: float,
        redact: Callable[[str], str],
    ) -> None:
        self.client, self.pending, self.server, self.poll = client, pending, server, poll
        self.redact = redact

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
            deadline: until when to wait, on the monotonic clock.

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
        except Exception as error:
            problem = error  # raised once the answers of ended batches are yielded
        if refused:
            yield refused
        while waiting:
            for entry in list(waiting):
                try:
                    outcome = self.client.poll(entry["batch"])
                    if outcome is None:
                        continue
                    yield from self._collect(requested & set(entry["ids"]), outcome)
                except Exception as error:
                    problem = problem or error
                    continue
                waiting.remove(entry)
                self.pending.remove(entry)  # its answers are in the store by now
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
                    row = json.loads(self.redact(line))
                    request_id = str(row[self.client.id_field])
                except Exception:
                    damaged += 1
                    continue
                if request_id not in ids:
                    continue
                missing.discard(request_id)
                try:
                    answers.append((request_id, self.client.parse_line(row)))
                except Exception as error:
                    answers.append((request_id, as_answer_error(error)))
                if len(answers) == STORE_EVERY:
                    yield answers
                    answers = []
        except Exception as error:
            problem = error  # the next run reads the rest of the file
        if answers:
            yield answers
        if problem is not None:
            raise problem
        reason = outcome.reason
        if damaged:
            reason += f"; {damaged} lines of its files cannot be read"
        if missing:
            yield [(request_id, ServiceError(reason)) for request_id in sorted(missing)]


def as_answer_error(error: Exception) -> Exception:
    """Return the error for one answer; any that is not of this library becomes a `ScoringError`."""
    if isinstance(error, (T2VError, RetryError)):
        return error
    return ScoringError(f"the service's answer cannot be read ({type(error).__name__})")


class BatchScorer(Protocol):
    """The part of a scorer behind a service that `batch_cells` uses."""

    on_error: OnError
    base_url: str
    poll: float
    limits: Limits

    @property
    def id(self) -> str:
        """The scorer's id."""

    @property
    def store(self) -> Store | None:
        """The store of scores."""

    def batch_client(self) -> AbstractContextManager[BatchClient]:
        """Open the provider's batch API."""

    def pack_safely(self, media: Media) -> Any:
        """Prepare an image for a question."""

    def build_question(self, image: Any, text: str) -> Any:
        """Return the question of a cell."""

    def read_score(self, content: Any, text: str) -> CellScore:
        """Parse the answer of a cell."""

    def without_rejected(self, body: Any) -> Any:
        """Return a question without the sampling parameters that the service has rejected."""

    def learn_rejected(self, info: ErrorInfo, sent: Any) -> bool:
        """Remember the sampling parameters that an error rejects; return whether there are any."""

    def parse_usage(self, content: Any) -> tuple[object, object, object]:
        """Return the token counts of an answer."""

    def note_usage(
        self, input_tokens: object, output_tokens: object, cached_tokens: object = 0
    ) -> None:
        """Add token counts to the usage of the run."""

    def redact_result(self, result: CellScore) -> CellScore:
        """Redact an answer before it is stored."""

    def redact_error(self, error: Exception) -> None:
        """Redact the message of an error."""

    def redact_text(self, text: str) -> str:
        """Redact text of the service that is stored."""

    def redact_message(self, message: str) -> str:
        """Redact a message."""

    def classify_exception(self, error: Exception) -> Exception:
        """Return what an exception of the client means."""


class _BatchedCells:
    """Score cells by way of batches; see `batch_cells`."""

    def __init__(
        self, scorer: BatchScorer, store: Store, pairs: Sequence[tuple[Media, str]]
    ) -> None:
        self.scorer, self.store, self.pairs = scorer, store, pairs
        self.keys = [(media.key, text_key(text)) for media, text in pairs]
        self.ids = [question_id(scorer.id, *key) for key in self.keys]
        self.numbers = {request_id: n for n, request_id in enumerate(self.ids)}
        self.scored = set[int]()
        self.failed: dict[int, tuple[str, str | None]] = {}  # reason, detail
        self.problem: Exception | None = None  # ends the run
        self.to_repeat = list[int]()  # rejected for a parameter that a question can omit
        self._packed: tuple[str, Any] = "", None
        self._sent: Any = None  # a question of this round, whose parameters are those of all

    def run(self) -> Iterator[ScoreChunk]:
        scorer = self.scorer
        deadline = time.monotonic() + (scorer.limits.max_seconds or float("inf"))
        with scorer.batch_client() as client:
            pending = PendingBatches(self.store.path)
            runner = BatchRunner(client, pending, scorer.base_url, scorer.poll, scorer.redact_text)
            submitted = runner.submitted()
            # Another process may have collected answers since the store was read.
            stored = self.store.get_cells(scorer.id, self.keys)
            if numbers := [n for n, key in enumerate(self.keys) if key in stored]:
                values = [stored[self.keys[n]] for n in numbers]
                yield ScoreChunk(np.array(numbers), torch.tensor(values, dtype=torch.float32))
            missing = [n for n, key in enumerate(self.keys) if key not in stored]
            while missing and self.problem is None:
                yield from self._ask(runner, missing, submitted, deadline)
                missing, self.to_repeat, submitted = self.to_repeat, [], []
        yield from self.failures()

    def _ask(
        self,
        runner: BatchRunner,
        numbers: Sequence[int],
        submitted: Sequence[dict[str, Any]],
        deadline: float,
    ) -> Iterator[ScoreChunk]:
        """Yield the scores of questions; an error that ends the run is kept as `problem`."""
        self._sent = None
        batches = runner.answers(self.ids, numbers, self.body, submitted, deadline)
        while True:
            try:
                answers = next(batches)
            except StopIteration:
                return
            except Exception as error:
                self.problem = self.scorer.classify_exception(error)
                return
            if scores := self.read(answers):
                yield _chunk(scores)

    def body(self, n: int) -> Any:
        """Return question `n`, or the error why its image cannot be sent."""
        media, text = self.pairs[n]
        if self._packed[0] != media.key:
            try:
                self._packed = media.key, self.scorer.pack_safely(media)
            except MediaError as error:
                if self.scorer.on_error == "raise":
                    raise
                self._packed = media.key, error
        image = self._packed[1]
        if isinstance(image, MediaError):
            return image
        question = self.scorer.without_rejected(self.scorer.build_question(image, text))
        self._sent = self._sent or question
        return question

    def read(self, answers: Answers) -> dict[int, CellScore]:
        """Parse answers, each by itself, so that one that cannot be read costs no other."""
        scorer, scores = self.scorer, dict[int, CellScore]()
        for request_id, content in answers:
            n = self.numbers[request_id]
            if n in self.scored:
                continue
            try:
                if self._rejects_params(n, content):
                    self.to_repeat.append(n)
                    continue
                if isinstance(content, Exception):
                    raise content
                with suppress(Exception):  # invalid token counts cost no answer
                    scorer.note_usage(*scorer.parse_usage(content))
                scores[n] = scorer.redact_result(scorer.read_score(content, self.pairs[n][1]))
                self.scored.add(n)
            except Exception as error:
                reason = as_answer_error(error)
                scorer.redact_error(reason)
                detail = getattr(reason, "detail", None)
                self.failed[n] = scorer.redact_message(str(reason)), detail
        return scores

    def _rejects_params(self, n: int, content: Any) -> bool:
        """Tell whether an answer rejects sampling parameters that question `n` can omit."""
        info = content.info if isinstance(content, LineError) else parse_inner_error(content)
        if info is None:
            return False
        # A batch of an earlier run was submitted elsewhere, with the same parameters.
        sent = self._sent if self._sent is not None else self.body(n)
        return not isinstance(sent, Exception) and self.scorer.learn_rejected(info, sent)

    def failures(self) -> Iterator[ScoreChunk]:
        """Yield the cells without a score, or raise; last, as another line may hold the answer."""
        scorer = self.scorer
        failed = {n: why for n, why in self.failed.items() if n not in self.scored}
        if scorer.on_error == "skip":
            for reason in dict.fromkeys(reason for reason, _ in failed.values()):
                alike = {n: detail for n, (other, detail) in failed.items() if other == reason}
                yield ScoreChunk(np.array([*alike]), None, reason, [*alike.values()])
        if (problem := self.problem) is not None:
            scorer.redact_error(problem)
            raise ServiceError(str(problem)) if isinstance(problem, RetryError) else problem
        if failed and scorer.on_error == "raise":
            n, (reason, _) = next(iter(failed.items()))
            where = f"{self.pairs[n][0].name} with {self.pairs[n][1]!r}"
            yield ScoreChunk(np.array([n]), None, f"{where}: {reason}")


def _chunk(scores: Mapping[int, CellScore]) -> ScoreChunk:
    values, details = zip(*scores.values(), strict=True)
    return ScoreChunk(
        np.array([*scores]), torch.tensor(values, dtype=torch.float32), details=details
    )


def batch_cells(
    scorer: BatchScorer, images: Sequence[Media], texts: Sequence[Text], cells: Cells
) -> Iterator[ScoreChunk]:
    """Yield what `score_cells` yields, by way of batches.

    Raises:
        InputError: the scorer has no store.
    """
    if scorer.store is None:
        raise InputError("batch=True needs store=: submitted batches are recorded beside it")
    pairs = [(images[i], caption_text(texts[j])) for i, j in cells.tolist()]
    yield from _BatchedCells(scorer, scorer.store, pairs).run()
