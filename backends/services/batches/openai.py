"""OpenAI's Batch API."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import IO, Any, Final

import openai
from typing_extensions import override

from t2v_eval.errors import ServiceError, T2VError
from t2v_eval.remote.request_pool import RetryError

from ..json_fields import as_mapping
from .client import BatchClient, BatchOutcome, line_error

ENDPOINT: Final = "/v1/chat/completions"
FINISHED = ("completed", "failed", "expired", "cancelled")


class OpenAIBatchClient(BatchClient):
    """OpenAI's batch API; see `BatchClient`.

    Args:
        client: the client of the account; its owner closes it.

    >>> batches = OpenAIBatchClient(openai.OpenAI(api_key="k"))
    >>> batches.request_line("1", {"model": "gpt-4o"})["custom_id"]
    '1'
    >>> batches.parse_line({"response": {"status_code": 200, "body": {"choices": []}}})
    {'choices': []}
    """

    max_file_bytes = 180 * 2**20
    id_field = "custom_id"

    def __init__(self, client: openai.OpenAI) -> None:
        self.client = client

    @override
    def request_line(self, request_id: str, body: Any) -> dict[str, Any]:
        return {"custom_id": request_id, "method": "POST", "url": ENDPOINT, "body": body}

    @override
    def upload(self, file: IO[bytes]) -> str:
        return self.client.files.create(file=("questions.jsonl", file), purpose="batch").id

    @override
    def create_batch(self, file: str) -> str:
        return self.client.batches.create(
            input_file_id=file, endpoint=ENDPOINT, completion_window="24h"
        ).id

    @override
    def list_batches(self) -> Iterable[tuple[str, str]]:
        return ((batch.input_file_id, batch.id) for batch in self.client.batches.list(limit=100))

    @override
    def poll(self, name: str) -> BatchOutcome | None:
        try:
            batch = self.client.batches.retrieve(name)
        except openai.NotFoundError:
            return BatchOutcome(f"the service does not know {name} any more")
        if batch.status not in FINISHED:
            return None
        problems = (batch.errors and batch.errors.data) or []
        why = "".join(f"; {problem.message}" for problem in problems[:3])
        files = [file for file in (batch.output_file_id, batch.error_file_id) if file]
        return BatchOutcome(f"the batch ended without an answer ({batch.status}{why})", files)

    @override
    def output_chunks(self, file: str) -> Iterator[bytes]:
        try:
            with self.client.files.with_streaming_response.content(file) as response:
                try:
                    yield from response.iter_bytes()
                except (T2VError, RetryError):
                    raise
                except Exception as error:  # which the client does not convert
                    raise openai.APIConnectionError(request=response.http_request) from error
        except openai.NotFoundError:
            return

    @override
    def parse_line(self, row: Mapping[str, Any]) -> Any:
        error, response = row.get("error"), as_mapping(row.get("response"))
        if isinstance(error, Mapping):
            return line_error("", error, error.get("message") or error)
        body, status = response.get("body"), response.get("status_code")
        if not isinstance(body, dict):
            return ServiceError("the batch's output holds no answer")
        if status != 200:
            problem = body.get("error")
            message = problem.get("message", "") if isinstance(problem, Mapping) else ""
            return line_error(f" {status}", {"code": status}, message)
        return body
