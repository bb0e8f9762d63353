"""Gemini's Batch API."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from io import IOBase
from typing import IO, Any, cast

import google.genai
import httpx2
from google.genai import errors, types
from typing_extensions import override

from t2v_eval.errors import ServiceError

from ..api_key import Key
from .client import BatchClient, BatchOutcome, line_error

RUNNING = ("UNSPECIFIED", "QUEUED", "PENDING", "RUNNING", "CANCELLING", "PAUSED", "UPDATING")


class GeminiBatchClient(BatchClient):
    """Google's batch API; see `BatchClient`.

    The display name of a batch is the name of its input file, by which it is found again.

    Args:
        client: Google's client.
        model: the service's name of the model.
        http: the client that reads files of answers.
        address: where these files are, such as "https://.../v1beta".
        key: the key of the account.

    >>> client = google.genai.Client(api_key="k")
    >>> with httpx2.Client() as http:
    ...     batches = GeminiBatchClient(client, "gemini-2.5-flash", http, "https://a/v1", Key("k"))
    ...     batches.parse_line({"key": "1", "response": {"candidates": []}})
    {'candidates': []}
    """

    max_file_bytes = 1900 * 2**20
    id_field = "key"

    def __init__(
        self, client: google.genai.Client, model: str, http: httpx2.Client, address: str, key: Key
    ) -> None:
        self.client, self.model = client, model
        self.http, self.address, self.key = http, address, key

    @override
    def request_line(self, request_id: str, body: Any) -> dict[str, Any]:
        dump_options = {"mode": "json", "by_alias": True, "exclude_none": True}
        contents = [body["contents"].model_dump(**dump_options)]
        config = body["config"].model_dump(**dump_options)
        system = config.pop("systemInstruction", None)  # of the request, not of its configuration
        request = {"contents": contents, "generationConfig": config}
        if system is not None:
            request["systemInstruction"] = {"parts": [{"text": system}]}
        return {"key": request_id, "request": request}

    @override
    def upload(self, file: IO[bytes]) -> str:
        about = types.UploadFileConfig(mime_type="jsonl", display_name="questions.jsonl")
        name = self.client.files.upload(file=cast(IOBase, file), config=about).name
        if not name:
            raise ServiceError("the service did not say what the file is called")
        return str(name)

    @override
    def create_batch(self, file: str) -> str:
        about = types.CreateBatchJobConfig(display_name=file)
        name = self.client.batches.create(model=self.model, src=file, config=about).name
        if not name:
            raise ServiceError("the service did not say what the batch is called")
        return str(name)

    @override
    def list_batches(self) -> Iterable[tuple[str, str]]:
        for batch in self.client.batches.list(config={"page_size": 100}):
            yield str(batch.display_name), str(batch.name)

    @override
    def poll(self, name: str) -> BatchOutcome | None:
        try:
            batch = self.client.batches.get(name=name)
        except errors.ClientError as error:
            if error.code == 404:
                return BatchOutcome(f"the service does not know {name} any more")
            raise
        state = batch.state.value.removeprefix("JOB_STATE_") if batch.state else "UNSPECIFIED"
        if state in RUNNING:
            return None
        why = f"; {batch.error.message}" if batch.error and batch.error.message else ""
        file = batch.dest and batch.dest.file_name
        return BatchOutcome(
            f"the batch ended without an answer ({state.lower()}{why})", [file] if file else []
        )

    @override
    def output_chunks(self, file: str) -> Iterator[bytes]:
        # Not with the client, which reads a file into memory.
        where, sent = f"{self.address}/{file}:download", {"x-goog-api-key": self.key.reveal()}
        with self.http.stream("GET", where, params={"alt": "media"}, headers=sent) as response:
            if response.status_code == 404:
                return
            errors.APIError.raise_for_response(response)
            yield from response.iter_bytes()

    @override
    def parse_line(self, row: Mapping[str, Any]) -> Any:
        if "response" in row:
            return row["response"]
        error = row.get("error") or row.get("status") or {}
        message = error.get("message", "no reason given") if isinstance(error, Mapping) else error
        return line_error("", error, message)
