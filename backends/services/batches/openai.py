"""OpenAI's Batch API: files of questions, and what becomes of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import IO, Any, Final

import openai

from t2v_eval.errors import ServiceError, T2VError
from t2v_eval.remote.request_pool import RetryError

from .batch import Ended

ENDPOINT: Final = "/v1/chat/completions"
MOST = 300  # characters of what is said of an error
ENDED = ("completed", "failed", "expired", "cancelled")


class ChatDesk:
    """Hands in files of questions; see `Desk`."""

    most_bytes = 180 * 2**20
    called = "custom_id"

    def __init__(self, client: openai.OpenAI) -> None:
        self.client = client

    def line(self, one: str, body: Any) -> dict[str, Any]:
        return {"custom_id": one, "method": "POST", "url": ENDPOINT, "body": body}

    def upload(self, file: IO[bytes]) -> str:
        return self.client.files.create(file=("questions.jsonl", file), purpose="batch").id

    def start(self, file: str) -> str:
        return self.client.batches.create(
            input_file_id=file, endpoint=ENDPOINT, completion_window="24h"
        ).id

    def started(self) -> Iterable[tuple[str, str]]:
        return ((batch.input_file_id, batch.id) for batch in self.client.batches.list(limit=100))

    def look(self, name: str) -> Ended | None:
        try:
            batch = self.client.batches.retrieve(name)
        except openai.NotFoundError:
            return Ended(f"the service does not know {name} any more")
        if batch.status not in ENDED:
            return None
        problems = (batch.errors and batch.errors.data) or []
        why = "".join(f"; {problem.message}" for problem in problems[:3])
        files = [file for file in (batch.output_file_id, batch.error_file_id) if file]
        return Ended(f"the batch ended without an answer ({batch.status}{why})", files)

    def content(self, file: str) -> Iterator[bytes]:
        try:
            with self.client.files.with_streaming_response.content(file) as response:
                try:
                    yield from response.iter_bytes()
                except (T2VError, RetryError):
                    raise
                except Exception as error:  # which the client leaves as it is
                    raise openai.APIConnectionError(request=response.http_request) from error
        except openai.NotFoundError:
            return

    def answer(self, row: Mapping[str, Any]) -> Any:
        error, response = row.get("error"), row.get("response")
        if isinstance(error, Mapping):
            return ServiceError(f"the service answers: {error.get('message') or error}"[:MOST])
        if not isinstance(response, Mapping) or not isinstance(response.get("body"), dict):
            return ServiceError("the batch's output holds no answer")
        if response.get("status_code") != 200:
            problem = response["body"].get("error")
            message = problem.get("message", "") if isinstance(problem, Mapping) else ""
            return ServiceError(
                f"the service answers {response.get('status_code')}: {message}"[:MOST]
            )
        return response["body"]
