"""The batch API of a provider, as `batch.py` uses it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import IO, Any, NamedTuple, Protocol

from t2v_eval.errors import ScoringError, ServiceError, T2VError
from t2v_eval.remote.request_pool import RetryError

from ..json_fields import parse_inner_error
from ..messages import ErrorInfo

MAX_MESSAGE_CHARS = 300  # of an error


class BatchOutcome(NamedTuple):
    """The end of a batch.

    Attributes:
        reason: why questions without an answer have none.
        files: the provider's names of the files of answers.

    >>> BatchOutcome("the batch ended without an answer (expired)").files
    ()
    """

    reason: str
    files: Sequence[str] = ()


class LineError(ServiceError):
    """An error in place of the answer of a line.

    Attributes:
        info: the service's error.

    >>> LineError("the service answers 400", ErrorInfo(400)).info.status
    400
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

    >>> error = line_error(" 400", {"code": 400}, "Unsupported parameter: 'top_p'")
    >>> error.info.status, str(error)
    (400, "the service answers 400: Unsupported parameter: 'top_p'")
    """
    inner = parse_inner_error({"error": error}) or ErrorInfo(0)
    text = f"the service answers{status}: {message}"[:MAX_MESSAGE_CHARS]
    return LineError(text, inner._replace(message=str(message)))


class BatchClient(Protocol):
    """The batch API of a provider; files and batches go by the provider's names.

    Attributes:
        max_file_bytes: size that an input file may have.
        id_field: the field of a line of answers that holds the id of its question.

    >>> class Recorder(BatchClient):
    ...     max_file_bytes, id_field = 2**20, "key"
    ...
    ...     def request_line(self, request_id, body):
    ...         return {"key": request_id, "request": body}
    >>> Recorder().request_line("1", {"contents": []})
    {'key': '1', 'request': {'contents': []}}
    """

    max_file_bytes: int
    id_field: str

    def request_line(self, request_id: str, body: Any) -> dict[str, Any]:
        """Return a question as a line of an input file.

        Args:
            request_id: the id by which its answer is found again.
            body: the request, as `ServiceProtocol.request_body` returns it.
        """

    def upload(self, file: IO[bytes]) -> str:
        """Upload an input file; return its name.

        Args:
            file: lines of JSON, open for reading.

        Raises:
            ServiceError: the response lacks the name of the file.
        """

    def create_batch(self, file: str) -> str:
        """Create a batch from an uploaded file; return the batch's name.

        Args:
            file: the result of `upload`.

        Raises:
            ServiceError: the response lacks the name of the batch.
        """

    def list_batches(self) -> Iterable[tuple[str, str]]:
        """Yield the input file and the name of each batch, the latest first."""

    def poll(self, name: str) -> BatchOutcome | None:
        """Return the outcome of a batch; None while it runs.

        Args:
            name: the result of `create_batch`.
        """

    def output_chunks(self, file: str) -> Iterator[bytes]:
        """Yield an output file in chunks; nothing where the provider has deleted it.

        Args:
            file: one of `BatchOutcome.files`.
        """

    def parse_line(self, row: Mapping[str, Any]) -> Any:
        """Return the answer of an output line, or the error in its place.

        Args:
            row: the line, parsed.

        Returns:
            A response for `ServiceProtocol.parse_response`, or a `ServiceError`, which is not
            raised.
        """


def as_answer_error(error: Exception) -> Exception:
    """Return the error for one answer; any that is not of this library becomes a `ScoringError`.

    >>> as_answer_error(KeyError("choices"))
    ScoringError("the service's answer cannot be read (KeyError)")
    """
    if isinstance(error, (T2VError, RetryError)):
        return error
    return ScoringError(f"the service's answer cannot be read ({type(error).__name__})")
