"""The base of all services: keys, prices, questions about images, and errors.

A scorer combines a protocol, which writes requests and parses responses (`openai_protocol.py`,
`gemini_protocol.py`), with a question, which says what to ask and how to turn the answer into a
score (`yes_no.py`, `grade.py`, `pairwise.py`). Both derive from `Service`.
"""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, ClassVar, Unpack

from PIL import Image

from t2v_eval.errors import InputError, ScoringError, ServiceError, T2VError
from t2v_eval.inputs.media import Media, Video
from t2v_eval.inputs.video import Sampling, clip, sampling_of
from t2v_eval.remote.cost import Price
from t2v_eval.remote.request_pool import BudgetExhaustedError, RetryError
from t2v_eval.remote.scorer import ApiOptions, ApiScorer, CellScore, isolate_answer_errors
from t2v_eval.scoring.plan import Cells, Text
from t2v_eval.scoring.results import ScoreChunk
from t2v_eval.utils.printable import redact_userinfo

from .api_key import Key
from .batches.batch import BatchClient, batch_cells
from .credentials import check_base_url, parse_price, require_int_in, resolve_api_key
from .image_file import frame_file, image_file, smaller
from .json_fields import NOT_JSON, extract_message, parse_inner_error, parse_json
from .messages import ErrorInfo, Response, SamplingParams
from .prices import image_tokens, lookup_price, text_tokens
from .sampling import rejected_params

RETRY_STATUS = (408, 409, 429)  # and every 5xx
FILE_TIMEOUT = 3600.0  # seconds for a file of questions or answers
DEFAULT_FRAMES = Sampling(4, choose="steps")  # of a video, as the reference
FILTERED_MESSAGE = "the service's content filter withheld the answer"


class ServiceOptions(ApiOptions, total=False):
    """Options of every protocol; see `Service`."""

    api_key: str | None
    key_file: str | os.PathLike[str] | None
    base_url: str | None
    max_pixels: int | None
    frames: int | Mapping[str, Any] | None
    price: Sequence[float] | None
    batch: bool
    poll: float


class Service(ApiScorer[Any]):
    """Score an image, or the frames of a video in one question, with a model of a service.

    Nothing is sent to another host than the service's: redirects are not followed, and a proxy of
    the environment (HTTPS_PROXY) is used for https addresses only, as a tunnel that it cannot read;
    http addresses are reached directly, whatever HTTP_PROXY says.

    Args:
        model: the service's name of the model.
        api_key: default: the file `key_file`, then an environment variable (`key_variables`).
        base_url: another address of the service; keys of environment variables are not sent there.
            Default: the environment variable `base_url_variable`, then the service's own.
        max_pixels: shrink larger images before they are sent; default: never.
        frames: frames of a video to send, as images in order: a number of frames at equal steps, or
            the options of `Sampling`. Default: 4.
        price: US dollars for a million tokens, input and output, in place of the table's price.
        batch: use the provider's batch API (half price, results within 24 h); needs a store. An
            interrupted run resumes with the batches that it submitted.
        poll: seconds between two polls of a batch.
        options: see `ApiScorer`.

    Raises:
        InputError: an option is not valid, or options contradict each other.
    """

    price_table: ClassVar[str]  # the section of `_prices.toml`
    default_base_url: str
    base_url_variable: str
    key_variables: tuple[str, ...]
    image_first: ClassVar[bool] = False  # the reference puts the question first
    max_samples = 128  # of one request
    max_answer_tokens = 1  # for an estimate

    def __init__(
        self,
        model: str,
        api_key: str | None = None,
        key_file: str | os.PathLike[str] | None = None,
        base_url: str | None = None,
        max_pixels: int | None = None,
        frames: int | Mapping[str, Any] | None = None,
        price: Sequence[float] | None = None,
        batch: bool = False,
        poll: float = 30.0,
        **options: Unpack[ApiOptions],
    ) -> None:
        super().__init__(**options)
        require_int_in("max_pixels", max_pixels or 1, 1, 10**9)
        if isinstance(poll, bool) or not isinstance(poll, (int, float)) or not poll >= 0:
            raise InputError(f"poll={poll!r}; pass a number of seconds")
        self.model_name, self.max_pixels, self.batch, self.poll = model, max_pixels, batch, poll
        self.price = self.table_price(model) if price is None else parse_price(price)
        if self.max_cost is not None and self.price is None:
            raise InputError(
                f"max_cost= needs a price, and that of {model!r} is not known here: pass "
                "price=[in, out], US dollars for a million tokens, or use max_requests="
            )
        if batch and (self.max_cost is not None or self.limits.max_requests is not None):
            raise InputError(
                "a batch is submitted as a whole, so batch=True keeps no max_cost= or "
                "max_requests=; see what it would cost with --dry-run"
            )
        if batch and self.price is not None:
            self.price = self.price.halved()
        self._rejected_params = set[str]()
        self.custom_address = base_url is not None
        self.base_url, self._key = self.resolve_endpoint(base_url, api_key, key_file)
        self.identity_facts = (
            {"server": self.base_url} if self.base_url != self.default_base_url else {}
        )
        self.identity_facts |= {
            "model": model,
            "order": "image-text" if self.image_first else "text-image",
        }
        self.identity_facts |= {"max_pixels": str(max_pixels)} if max_pixels else {}
        if isinstance(frames, int):
            self.sampling = sampling_of({"count": frames, "choose": DEFAULT_FRAMES.choose})
        else:
            self.sampling = DEFAULT_FRAMES if frames is None else sampling_of(frames)
        if self.sampling != DEFAULT_FRAMES:
            self.identity_facts["frames"] = repr(frames)

    def resolve_endpoint(
        self, base_url: str | None, key: str | None, key_file: str | os.PathLike[str] | None
    ) -> tuple[str, Key]:
        """Return the address and the key."""
        key, source = resolve_api_key(key, key_file), "base_url="
        if base_url is None:
            source = self.base_url_variable
            base_url = os.environ.get(source) or self.default_base_url
            for name in self.key_variables:
                key = key or resolve_api_key(os.environ.get(name), source=name)
        return check_base_url(base_url, source), Key(key)

    @classmethod
    def table_price(cls, model: str) -> Price | None:
        """Return the price in the table beside this file; None where it has none."""
        return lookup_price(cls.price_table, model)

    def require_key(self) -> str:
        """Return the key; called only before a request, as stored scores need no key."""
        if not self._key.reveal():
            variables = " or ".join(self.key_variables)
            raise InputError(
                f"a key is needed: pass api_key= or key_file=, or set {variables} (which is "
                "not sent to a base_url= of yours)" + self.missing_key_hint
            )
        return self._key.reveal()

    missing_key_hint: ClassVar[str] = ""  # added to the error where there is no key

    # Implemented by a protocol:

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
    async def send(self, body: Any) -> Any:
        """Send a request once; return what `parse_response` and `parse_usage` read."""

    @abstractmethod
    def parse_response(self, content: Any) -> Response:
        """Parse the response to a request.

        Raises:
            RetryError: it is not a valid response.
            ScoringError: a content filter withheld it.
        """

    @abstractmethod
    def parse_usage(self, content: Any) -> tuple[object, object, object]:
        """Return the reported input, output and cached tokens; `note_usage` validates them."""

    @abstractmethod
    def parse_error(self, error: Exception) -> ErrorInfo | RetryError | None:
        """Return what an exception of the client means; None if the service did not cause it."""

    @abstractmethod
    def batch_client(self) -> AbstractContextManager[BatchClient]:
        """Open the provider's batch API."""

    # Implemented by a question:

    @abstractmethod
    def build_question(self, image: Any, text: str) -> Any:
        """Return the request for a cell; see `request_body`."""

    @abstractmethod
    def score_response(self, response: Response, text: str) -> CellScore:
        """Return the score that a response gives; raises as `score_cell` does."""

    def explain_rejection(self, message: str) -> Exception | None:
        """Return the error where the service rejects a parameter of every question, else None."""
        return None

    # Common to all:

    def build_parts(self, question: str, *packed: Sequence[Any]) -> list[Any]:
        """Return the parts of a message: the question and images or videos, in order."""
        image_parts: list[Any] = []
        for name, images in zip("AB", packed, strict=False):
            if len(packed) > 1:
                kind = "Picture" if len(images) == 1 else "Video"
                image_parts.append(self.text_part(f"{kind} {name}:"))
            image_parts += images
        text_parts = [self.text_part(question)]
        return image_parts + text_parts if self.image_first else text_parts + image_parts

    def pack(self, media: Media) -> Any:
        """Return an image, or the frames of a video, as parts of a message."""
        if isinstance(media, Video):
            frames = clip(media, self.sampling, self.load_image).frames
            files = [frame_file(frame, self.max_pixels) for frame in frames]
        else:
            image = self.load_image(media)
            files = [image_file(media, image, self.image_mode, self.max_pixels)]
        return [self.image_part(*file) for file in files]

    def catch_answer_errors(self, content: Any) -> AbstractContextManager[None]:
        """Return `isolate_answer_errors` with the service's own message for the reason."""
        return isolate_answer_errors(lambda: self.error_text(content))

    def parse_json(self, text: str) -> Any:
        """Parse a JSON response; raise `RetryError` where it is not valid."""
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

    def error_within_answer(self, info: ErrorInfo) -> Exception:
        """Return the exception for an error within a response; it never ends a run."""
        message = self.redact_message(info.message or "no reason given")
        reason = f"the service answers {info.status or 'with an error'}: {message}"
        if info.status in (400, 413, 415, 422) and self.explain_rejection(info.message) is None:
            return ScoringError(f"the service refuses it (status {info.status}): {message}")
        return RetryError(reason, info.retry_after, rate_limited=info.status == 429)

    def read_score(self, content: Any, text: str) -> CellScore:
        """Parse the response to the question of a cell; see `score_response`."""
        with self.catch_answer_errors(content):
            return self.score_response(self.parse_response(content), text)

    async def score_cell(self, image: Any, text: str) -> CellScore:
        return self.read_score(await self.ask(self.build_question(image, text)), text)

    def score_cells(
        self, images: Sequence[Media], texts: Sequence[Text], cells: Cells
    ) -> Iterator[ScoreChunk]:
        if self.batch:
            return batch_cells(self, images, texts, cells)
        return super().score_cells(images, texts, cells)

    async def complete(self, image: Any, prompt: str, max_new_tokens: int) -> str:
        body = self.request_body(
            self.build_parts(prompt, image), SamplingParams(max_new_tokens, 0.0)
        )
        content = await self.ask(body)
        with self.catch_answer_errors(content):
            completion = self.parse_response(content).single()
        try:
            return completion.final_text("pass a larger max_new_tokens=")
        except ScoringError as error:
            raise ScoringError(f"the model {error}") from None

    def expected_tokens(self, media: Media, text: str) -> tuple[int, int] | None:
        if isinstance(media, Video):
            first = clip(media, Sampling(1, choose="first"))
            image, count = first.frames[0], len(self.sampling.indices(first.total, first.fps))
        else:
            image, count = self._header(media), 1
        width, height = smaller(image.width, image.height, self.max_pixels)
        detail = self.identity_facts.get("detail")
        tokens = image_tokens(self.price_table, self.model_name, width, height, detail)
        if tokens is None:
            return None
        input_tokens = count * tokens + text_tokens(self.template.fill(text)[0])
        return input_tokens * self.requests_for_a_cell, self.max_answer_tokens

    def _header(self, media: Media) -> Image.Image:
        """Return an image whose size is known, though perhaps only its header was read."""
        try:
            return media.load()
        except Exception:
            return self.load_image(media)  # which raises a readable error

    async def ask(self, body: Any) -> Any:
        """Send a request, count its usage and return the response; raise classified errors.

        Where the service rejects sampling parameters, the request is sent again without them, and
        so are all later ones.
        """
        while True:
            sent = self.without_rejected(body)
            content, problem = None, None
            try:
                content = await self.send(sent)
                info = parse_inner_error(content)
            except Exception as error:
                info, problem = self._error_info(error), self.classify_exception(error)
            if info is not None and self.learn_rejected(info, sent):
                self.reserve_request()
                continue
            if problem is not None:
                raise problem  # outside `except`: the cause may hold the key
            self.note_usage(*self.parse_usage(content))
            return content

    def without_rejected(self, body: Any) -> Any:
        """Return a request without the sampling parameters that the service has rejected."""
        return self.omit_params(body, self._rejected_params) if self._rejected_params else body

    def learn_rejected(self, info: ErrorInfo, sent: Any) -> bool:
        """Remember the sampling parameters that an error rejects.

        Args:
            info: the error.
            sent: the request that it answers.

        Returns:
            Whether the request can be sent again without them.
        """
        rejected = rejected_params(info, self.sampling_params(sent))
        self._rejected_params |= rejected
        return bool(rejected)

    def _error_info(self, error: Exception) -> ErrorInfo | None:
        """Return the service's error behind an exception of the client, if there is one."""
        try:
            info = self.parse_error(error)
        except Exception:  # the error's body has an unknown form
            return None
        return info if isinstance(info, ErrorInfo) else None

    def classify_exception(self, error: Exception) -> Exception:
        """Return what an exception of the client means, for a cell or for all of them."""
        cause: BaseException | None = error
        while cause is not None:  # an error of this library may be wrapped by the client's
            if isinstance(cause, (T2VError, RetryError, BudgetExhaustedError, Warning)):
                return cause
            cause = cause.__cause__
        try:
            info = self.parse_error(error)
            if isinstance(info, ErrorInfo):
                return self.classify_error(info)
        except Exception:  # the error's body has an unknown form
            info = None
        # Any other failure to parse an answer costs this answer alone.
        return info or RetryError(f"the service's answer cannot be read ({type(error).__name__})")

    def classify_error(self, info: ErrorInfo) -> Exception:
        """Return the exception for an error of the service: retry, skip the cell or stop."""
        message, status = self.redact_message(info.message or "no reason given")[:300], info.status
        if status in (400, 403, 422) and (rejection := self.explain_rejection(message)) is not None:
            return rejection
        if status in (401, 403) or info.invalid_key:
            suffix = f": {message}" if status == 403 else ""  # others may repeat a part of the key
            places = ", ".join(("api_key=", "key_file=", *self.key_variables))
            return ServiceError(
                f"{self.base_url} refuses the key (status {status}){suffix}; check {places}, "
                f"and that it may use the model {self.model_name!r}"
            )
        if status == 404:
            return ServiceError(
                f"{self.base_url} does not know the model {self.model_name!r} or the address: "
                f"{message}"
            )
        if info.quota_exhausted:
            return ServiceError(f"the account at {self.base_url} is used up: {message}")
        if status in RETRY_STATUS or status >= 500:
            # Truncated, so that a request id at the end does not make equal reasons differ.
            suffix = f": {message[:100]}" if info.message else ""
            reason = f"the service answers {status}{suffix}"
            return RetryError(reason, info.retry_after, rate_limited=status == 429)
        if 300 <= status < 400:
            return ServiceError(
                f"{self.base_url} points to another address, which is not followed; "
                "pass the right one as base_url="
            )
        return ScoringError(f"the service refuses it (status {status}): {message}")

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
        return self._key.redact(text)
