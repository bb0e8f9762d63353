"""Gemini's Batch API: files of questions, and what becomes of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from io import IOBase
from typing import IO, Any, cast

import google.genai
import httpx2
from google.genai import errors, types

from t2v_eval.errors import ServiceError

from ..api_key import Key
from .batch import Ended

MOST = 300  # characters of what is said of an error
GOES_ON = ("UNSPECIFIED", "QUEUED", "PENDING", "RUNNING", "CANCELLING", "PAUSED", "UPDATING")


class GoogleDesk:
    """Hands in files of questions; see `Desk`.

    A batch is called by the name of its file too, by which it is found again.
    """

    most_bytes = 1900 * 2**20
    called = "key"

    def __init__(
        self, client: google.genai.Client, model: str, http: httpx2.Client, address: str, key: Key
    ) -> None:
        self.client, self.model = client, model
        self.http, self.address, self.key = http, address, key

    def line(self, one: str, body: Any) -> dict[str, Any]:
        plain = {"mode": "json", "by_alias": True, "exclude_none": True}
        contents = [body["contents"].model_dump(**plain)]
        config = body["config"].model_dump(**plain)
        return {"key": one, "request": {"contents": contents, "generationConfig": config}}

    def upload(self, file: IO[bytes]) -> str:
        about = types.UploadFileConfig(mime_type="jsonl", display_name="questions.jsonl")
        name = self.client.files.upload(file=cast(IOBase, file), config=about).name
        if not name:
            raise ServiceError("the service did not say what the file is called")
        return str(name)

    def start(self, file: str) -> str:
        about = types.CreateBatchJobConfig(display_name=file)
        name = self.client.batches.create(model=self.model, src=file, config=about).name
        if not name:
            raise ServiceError("the service did not say what the batch is called")
        return str(name)

    def started(self) -> Iterable[tuple[str, str]]:
        for batch in self.client.batches.list(config={"page_size": 100}):
            yield str(batch.display_name), str(batch.name)

    def look(self, name: str) -> Ended | None:
        try:
            batch = self.client.batches.get(name=name)
        except errors.ClientError as error:
            if error.code == 404:
                return Ended(f"the service does not know {name} any more")
            raise
        state = batch.state.value.removeprefix("JOB_STATE_") if batch.state else "UNSPECIFIED"
        if state in GOES_ON:
            return None
        why = f"; {batch.error.message}" if batch.error and batch.error.message else ""
        file = batch.dest and batch.dest.file_name
        return Ended(
            f"the batch ended without an answer ({state.lower()}{why})", [file] if file else []
        )

    def content(self, file: str) -> Iterator[bytes]:
        # By hand, since the client reads a file whole.
        where, sent = f"{self.address}/{file}:download", {"x-goog-api-key": self.key.reveal()}
        with self.http.stream("GET", where, params={"alt": "media"}, headers=sent) as response:
            if response.status_code == 404:
                return
            errors.APIError.raise_for_response(response)
            yield from response.iter_bytes()

    def answer(self, row: Mapping[str, Any]) -> Any:
        if "response" in row:
            return row["response"]
        error = row.get("error") or row.get("status") or {}
        message = error.get("message", "no reason given") if isinstance(error, Mapping) else error
        return ServiceError(f"the service answers: {message}"[:MOST])
