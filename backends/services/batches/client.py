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
    """

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

    >>> error = line_error(" 400", {"code": 400}, "Unsupported parameter: 'top_p'")
    >>> error.info.status, str(error)
    (400, "the service answers 400: Unsupported parameter: 'top_p'")
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


def as_answer_error(error: Exception) -> Exception:
    """Return the error for one answer; any that is not of this library becomes a `ScoringError`.

    >>> as_answer_error(KeyError("choices"))
    ScoringError("the service's answer cannot be read (KeyError)")
    """
    if isinstance(error, (T2VError, RetryError)):
        return error
    return ScoringError(f"the service's answer cannot be read ({type(error).__name__})")
