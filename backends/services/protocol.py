"""The protocol of a service: how requests and responses look, and what errors mean.

A scorer has a protocol (`openai_protocol.py`, `gemini_protocol.py`) and a question
(`answer_probability.py`, `grade.py`, `pairwise.py`); `scorer.py` joins them.
"""

from __future__ import annotations

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any, ClassVar, TypedDict

from t2v_eval.errors import InputError, ScoringError, ServiceError, T2VError
from t2v_eval.remote.cost import Price
from t2v_eval.remote.request_pool import BudgetExhaustedError, Limits, RetryError
from t2v_eval.scoring.generation import IMAGE_PLACE
from t2v_eval.utils.printable import redact_userinfo

from .api_key import Key
from .batches.client import BatchClient
from .credentials import check_base_url, resolve_api_key
from .json_fields import NOT_JSON, extract_message, parse_json
from .messages import ErrorInfo, Response, SamplingParams
from .prices import lookup_price

RETRY_STATUS = (408, 409, 429)  # and every 5xx
# Status 403 is about one question where OpenRouter, among others, has its content checked.
_MODERATION = re.compile(r"flagged|moderat|content.?(?:policy|filter)|harmful", re.IGNORECASE)
FILE_TIMEOUT = 3600.0  # seconds for a file of questions or answers
FILTERED_MESSAGE = "the service's content filter withheld the answer"

# Returns the error where a message rejects a parameter of every question, else None.
ExplainRejection = Callable[[str], Exception | None]


class AccessOptions(TypedDict, total=False):
    """Options of every protocol that say where and by whom it is spoken.

    >>> access: AccessOptions = {"base_url": "http://localhost:8000/v1", "api_key": "k"}
    """

    api_key: str | None
    key_file: str | os.PathLike[str] | None
    base_url: str | None
    answers_as: str | Sequence[str]


class ServiceProtocol(ABC):
    """Write requests to a model of a service, send them and read responses.

    Nothing is sent to another host than the service's: redirects are not followed, and a proxy of
    the environment (HTTPS_PROXY) is used for https addresses only, as a tunnel that it cannot read;
    http addresses are reached directly, without HTTP_PROXY.

    Args:
        model: the service's name of the model.
        api_key: the key. Default: the file `key_file`, then an environment variable
            (`key_variables`).
        key_file: a file that holds the key and nothing else.
        base_url: another address of the service; keys of environment variables are not sent there.
            Default: the environment variable `base_url_variable`, then the service's own.
        answers_as: other names by which the service calls the model, such as that of its weights;
            judges take no answer of a model with another name.

    Attributes:
        model: the service's name of the model.
        base_url: the address.
        settings: what else of the protocol decides scores, as facts of a scorer's id.
        max_samples: how many completions a request may ask for.
        num_reasoning_tokens: tokens before an answer, for estimates.

    Raises:
        InputError: an option is not valid.

    >>> from t2v_eval.backends.services.openai_protocol import CompatibleProtocol
    >>> protocol = CompatibleProtocol("my-model", base_url="http://localhost:8000/v1")
    >>> isinstance(protocol, ServiceProtocol)
    True
    >>> parts = protocol.message_parts("Does it show a cat?")
    >>> protocol.request_body(parts, SamplingParams(1, 0.0))["messages"][0]["role"]
    'user'
    """

    price_table: ClassVar[str]  # the section of `_prices.toml`
    default_base_url: str
    base_url_variable: ClassVar[str]
    key_variables: ClassVar[tuple[str, ...]]
    image_first: ClassVar[bool] = False  # the reference puts the question first
    missing_key_hint: ClassVar[str] = ""  # added to the error of a missing key
    batch_problem: ClassVar[str] = ""  # why there are no batches
    has_top_k: ClassVar[bool] = True  # whether tokens can be sampled among the likeliest k
    num_reasoning_tokens = 0

    def __init__(
        self,
        model: str,
        api_key: str | None = None,
        key_file: str | os.PathLike[str] | None = None,
        base_url: str | None = None,
        answers_as: str | Sequence[str] = (),
    ) -> None:
        self.answers_as = [answers_as] if isinstance(answers_as, str) else [*answers_as]
        self.model, self.custom_address = model, base_url is not None
        self.base_url, self._key = self.resolve_endpoint(base_url, api_key, key_file)
        self.settings: dict[str, str] = {}
        self.max_samples = 128

    @property
    def address_facts(self) -> dict[str, str]:
        """The model and the address, as facts of a scorer's id."""
        server = {"server": self.base_url} if self.base_url != self.default_base_url else {}
        order = "image-text" if self.image_first else "text-image"
        names = {"answers_as": repr(self.answers_as)} if self.answers_as else {}
        return {**server, "model": self.model, "order": order, **names}

    def resolve_endpoint(
        self, base_url: str | None, key: str | None, key_file: str | os.PathLike[str] | None
    ) -> tuple[str, Key]:
        """Return the address and the key.

        Raises:
            InputError: one of them is not valid.
        """
        key, source = resolve_api_key(key, key_file), "`base_url=`"
        if base_url is None:
            source = self.base_url_variable
            base_url = os.environ.get(source) or self.default_base_url
            for name in self.key_variables:
                key = key or resolve_api_key(os.environ.get(name), source=name)
        return check_base_url(base_url, source), Key(key)

    def require_key(self) -> str:
        """Return the key; called only before a request, as stored scores need no key.

        Raises:
            InputError: the address is missing.
        """
        if not self._key.reveal():
            variables = " or ".join(self.key_variables)
            raise InputError(
                f"a key is needed: pass `api_key=` or `key_file=`, or set {variables} (which is "
                "not sent to a `base_url=` of yours)" + self.missing_key_hint
            )
        return self._key.reveal()

    def table_price(self) -> Price | None:
        """Return the price in the table beside this file; None where it has none."""
        return lookup_price(self.price_table, self.model)

    # Requests:

    @abstractmethod
    def connect(self, timeout: float, limits: Limits) -> AbstractAsyncContextManager[Any]:
        """Open connections; the context is the client that `send` uses.

        Args:
            timeout: seconds for a request.
            limits: limits of the run.
        """

    @abstractmethod
    def batch_client(self, limits: Limits) -> AbstractContextManager[BatchClient]:
        """Open the provider's batch API."""

    @abstractmethod
    def image_part(self, content: bytes, mime: str) -> Any:
        """Return an image file as a part of a message."""

    @abstractmethod
    def text_part(self, text: str) -> Any:
        """Return a text as a part of a message."""

    @abstractmethod
    def request_body(self, parts: Sequence[Any], params: SamplingParams) -> Any:
        """Return the request with these parts of a message, as `send` takes it."""

    @abstractmethod
    def sampling_params(self, body: Any) -> Mapping[str, Any]:
        """Return the sampling parameters of a request that it can omit."""

    @abstractmethod
    def omit_params(self, body: Any, names: Collection[str]) -> Any:
        """Return a request without these sampling parameters."""

    @abstractmethod
    async def send(self, client: Any, body: Any) -> Any:
        """Send a request once; return what `parse_response` and `parse_usage` read.

        Args:
            client: the context of `connect`.
            body: what `request_body` returned.
        """

    def message_parts(self, question: str, *packed: Sequence[Any]) -> list[Any]:
        """Return the parts of a message: the question and images or videos, in order.

        Args:
            question: the text, perhaps with the places of images (`IMAGE_PLACE`).
            packed: the parts of each image or video; several are called A and B.

        Raises:
            InputError: there are places for another number of images.
        """
        *leads, last = question.split(IMAGE_PLACE)
        if leads:
            images = [part for parts in packed for part in parts]
            return self._placed(leads if any(leads) else [""], last, images)
        image_parts: list[Any] = []
        for name, parts in zip("AB", packed, strict=False):
            if len(packed) > 1:
                kind = "Picture" if len(parts) == 1 else "Video"
                image_parts.append(self.text_part(f"{kind} {name}:"))
            image_parts += parts
        text_parts = [self.text_part(question)]
        return image_parts + text_parts if self.image_first else text_parts + image_parts

    def _placed(self, leads: Sequence[str], last: str, images: Sequence[Any]) -> list[Any]:
        """Return images, each behind its text, and the last text; all behind a single text.

        Raises:
            InputError: there are texts for another number of images.
        """
        if len(leads) not in (1, len(images)):
            raise InputError(f"a question has places for {len(leads)} of {len(images)} images")
        parts: list[Any] = []
        groups = [images] if len(leads) == 1 else [[image] for image in images]
        for lead, group in zip(leads, groups, strict=True):
            parts += [self.text_part(lead), *group] if lead else group
        return [*parts, self.text_part(last)] if last else parts

    # Responses:

    @abstractmethod
    def parse_response(self, content: Any) -> Response:
        """Parse the response to a request, which holds no error.

        Raises:
            RetryError: it is not a valid response.
            ScoringError: a content filter withheld it.
        """

    @abstractmethod
    def parse_usage(self, content: Any) -> tuple[object, object, object]:
        """Return the reported input, output and cached tokens, unvalidated."""

    @abstractmethod
    def parse_error(self, error: Exception) -> ErrorInfo | RetryError | TimeoutError | None:
        """Return what an exception of the client means; None if the service did not cause it."""

    def parse_json(self, text: str) -> Any:
        """Parse a JSON response.

        Raises:
            RetryError: it is not valid.
        """
        try:
            return parse_json(text)
        except ValueError:
            problem = self.invalid_answer(NOT_JSON, text)
        raise problem  # outside `except`: the cause may hold the key

    def error_text(self, content: Any) -> str:
        """Return the service's message in a response without an answer, redacted; may be ""."""
        try:
            return self.redact_message(extract_message(content))
        except RecursionError:
            return ""

    def invalid_answer(self, problem: str, content: Any) -> RetryError:
        """Return the error for an invalid response, with the service's message."""
        message = self.error_text(content)
        return RetryError(problem + (f": {message}" if message else ""))

    # Errors:

    def explain_rejection(self, message: str) -> Exception | None:
        """Return the error where the service rejects a parameter of every request, else None."""
        return None

    def advise_on_logprobs(self, message: str) -> str:
        """Return an error about missing log-probabilities, with what else helps."""
        return message

    def error_info(self, error: Exception) -> ErrorInfo | None:
        """Return the service's error behind an exception of the client, if there is one."""
        try:
            info = self.parse_error(error)
        except Exception:  # subclasses parse untrusted JSON of any form
            return None
        return info if isinstance(info, ErrorInfo) else None

    def classify_exception(self, error: Exception, explain: ExplainRejection) -> Exception:
        """Return what an exception of the client means, for a cell or for all of them.

        Args:
            error: the exception.
            explain: `explain_rejection` of the question and the protocol.

        Returns:
            An exception of this library, or a TimeoutError.
        """
        cause: BaseException | None = error
        while cause is not None:  # an error of this library may be wrapped by the client's
            if isinstance(cause, (T2VError, RetryError, BudgetExhaustedError, Warning)):
                return cause
            cause = cause.__cause__
        try:
            info = self.parse_error(error)
            if isinstance(info, ErrorInfo):
                return self.classify_error(info, explain)
        except Exception:  # subclasses parse untrusted JSON of any form
            info = None
        # Any other failure to parse an answer costs this answer alone.
        return info or RetryError(f"the service's answer cannot be read ({type(error).__name__})")

    def classify_error(self, info: ErrorInfo, explain: ExplainRejection) -> Exception:
        """Return the exception for an error of the service: retry, skip the cell or stop."""
        message, status = self.redact_message(info.message or "no reason given")[:300], info.status
        if status in (400, 403, 422) and (rejection := explain(message)) is not None:
            return rejection
        if status == 403 and _MODERATION.search(message):
            return ScoringError(f"the service refuses it (status {status}): {message}")
        if status in (401, 403) or info.invalid_key:
            suffix = f": {message}" if status == 403 else ""  # others may repeat a part of the key
            places = ", ".join(("`api_key=`", "`key_file=`", *self.key_variables))
            return ServiceError(
                f"{self.base_url} refuses the key (status {status}){suffix}; check {places}, "
                f"and that it may use the model {self.model!r}"
            )
        if status == 404:
            return ServiceError(
                f"{self.base_url} does not know the model {self.model!r} or the address: {message}"
            )
        if info.quota_exhausted or status == 402:
            return ServiceError(f"the account at {self.base_url} is used up: {message}")
        if status in RETRY_STATUS or status >= 500:
            # Truncated, so that a request id at the end does not make equal reasons differ.
            suffix = f": {message[:100]}" if info.message else ""
            reason = f"the service answers {status}{suffix}"
            return RetryError(reason, info.retry_after, rate_limited=status == 429)
        if 300 <= status < 400:
            return ServiceError(
                f"{self.base_url} points to another address, which is not followed; "
                "pass the right one as `base_url=`"
            )
        return ScoringError(f"the service refuses it (status {status}): {message}")

    def classify_inner_error(self, info: ErrorInfo, explain: ExplainRejection) -> Exception:
        """Return the exception for an error within a response; it never ends a run."""
        message = self.redact_message(info.message or "no reason given")
        reason = f"the service answers {info.status or 'with an error'}: {message}"
        if info.status in (400, 413, 415, 422) and explain(info.message) is None:
            return ScoringError(f"the service refuses it (status {info.status}): {message}")
        return RetryError(reason, info.retry_after, rate_limited=info.status == 429)

    def connection_error(self, cause: BaseException) -> RetryError:
        """Return the error for a failed connection; the innermost cause names the reason."""
        unreachable = False
        while True:
            unreachable |= type(cause).__name__ == "ConnectError"  # of either version of the client
            below = cause.__cause__ or cause.__context__
            if below is None:
                break
            cause = below
        system_message = isinstance(cause, OSError) and cause.strerror
        reason = self.redact_message(system_message or type(cause).__name__)
        return RetryError(f"no connection to {self.base_url} ({reason})", unreachable=unreachable)

    def redact_message(self, message: str) -> str:
        """Remove the key, what looks like a key, and passwords in URLs from a message."""
        return redact_userinfo(self._key.redact_message(message))

    def redact_text(self, text: str) -> str:
        """Remove the key from a text that is stored."""
        return self._key.redact(text)
