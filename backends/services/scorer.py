"""A scorer behind a service: a protocol, which formats requests, and a question, which scores."""

from __future__ import annotations

import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from typing import Any, ClassVar, Unpack

from PIL import Image
from typing_extensions import override

from t2v_eval.errors import InputError, ScoringError, T2VWarning, UnsupportedError
from t2v_eval.inputs.media import NO_IMAGE, ImageGroup, Media, Video
from t2v_eval.inputs.template import Template
from t2v_eval.inputs.video import Sampling, clip, sampling_of
from t2v_eval.remote.request_pool import RetryError
from t2v_eval.remote.scorer import ApiOptions, ApiScorer, CellScore, isolate_answer_errors
from t2v_eval.scoring.call_options import FrameReader
from t2v_eval.scoring.plan import Cells, Text
from t2v_eval.scoring.results import ScoreChunk

from .batches.cells import batch_cells
from .batches.client import BatchClient
from .credentials import parse_price, require_int_in
from .image_encoding import frame_file, image_file, smaller
from .json_fields import parse_inner_error
from .messages import ErrorInfo, InnerError, Response, SamplingParams, rejected_params
from .prices import image_tokens, text_tokens
from .protocol import ServiceProtocol

DEFAULT_FRAMES = Sampling(4, choose="steps")  # of a video, as the reference
MAX_UNLISTED_ANSWERS = 3  # in a run in which none was listed; then the model counts as without


class UnlistedAnswers:
    """Count answers without log-probabilities until one comes with them.

    >>> answers = UnlistedAnswers()
    >>> [type(answers.error(UnsupportedError("it has none"))).__name__ for _ in range(3)]
    ['RetryError', 'RetryError', 'UnsupportedError']
    >>> answers.are_listed = True
    >>> answers.error(UnsupportedError("it has none"))
    RetryError('the answer came without log-probabilities')
    """

    def __init__(self) -> None:
        self.are_listed = False
        self._count = 0

    def error(self, never: UnsupportedError) -> RetryError | UnsupportedError:
        """Count an answer, and return the error to raise: try again, or `never` listed."""
        self._count += 1
        if not self.are_listed and self._count >= MAX_UNLISTED_ANSWERS:
            return never
        return RetryError("the answer came without log-probabilities")


class Question(ABC):
    """A question about an image and a text, and how its answer becomes a score.

    It knows no protocol: methods get the protocol of the service that is asked, for what their
    messages say.

    Args:
        params: the parameters of a request; `num_samples` is the number of completions that a score
            needs.
        facts: what decides scores, as facts of a scorer's id.
        max_answer_tokens: tokens of all completions of a score, for estimates.

    >>> from t2v_eval.backends.services.openai_protocol import CompatibleProtocol
    >>> class LengthOfAnswer(Question):
    ...     default_template = "plain"
    ...
    ...     def __init__(self):
    ...         super().__init__(SamplingParams(99, 0.0), {"question": "length"}, 99)
    ...
    ...     def check_template(self, name, template):
    ...         pass
    ...
    ...     def score_response(self, response, answer, protocol):
    ...         return CellScore(float(len(response.single().text)))
    >>> protocol = CompatibleProtocol("my-model", base_url="http://localhost:8000/v1")
    >>> ServiceScorer(protocol, LengthOfAnswer()).read_score(
    ...     {"choices": [{"message": {"content": "A cat."}, "finish_reason": "stop"}]}, "a cat"
    ... )
    CellScore(value=6.0, detail=None)
    """

    default_template: ClassVar[str]

    def __init__(
        self, params: SamplingParams, facts: dict[str, str], max_answer_tokens: int
    ) -> None:
        self.params, self.facts, self.max_answer_tokens = params, facts, max_answer_tokens

    @abstractmethod
    def check_template(self, name: str, template: Template) -> None:
        """Check the template of a scorer.

        Args:
            name: the name of the scorer, for messages.
            template: the template.

        Raises:
            TemplateError: the question cannot use it.
        """

    @abstractmethod
    def score_response(
        self, response: Response, answer: str, protocol: ServiceProtocol
    ) -> CellScore:
        """Return the score that a response gives.

        Args:
            response: the response, without errors of the service.
            answer: the expected answer, from the template.
            protocol: the protocol of the service.

        Raises:
            RetryError: the question may be asked again.
            ScoringError: the response gives no score.
            UnsupportedError: no question will have a score.
        """

    def explain_rejection(self, message: str, protocol: ServiceProtocol) -> Exception | None:
        """Return the error where the service rejects a parameter of the question, else None."""
        return None

    def caution(self, protocol: ServiceProtocol) -> str:
        """Return a warning about the responses so far, once; "" without one."""
        return ""


class ServiceScorer(FrameReader, ApiScorer[Any]):
    """Score an image, or the frames of a video in one question, with a model of a service.

    Args:
        protocol: the protocol of the service.
        question: the question for each cell.
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
        UnsupportedError: the API has no such parameter.

    >>> from t2v_eval.backends.services.grade import Grade
    >>> from t2v_eval.backends.services.openai_protocol import CompatibleProtocol
    >>> protocol = CompatibleProtocol("my-model", base_url="http://localhost:8000/v1")
    >>> scorer = ServiceScorer(protocol, Grade(max_tokens=8), on_error="skip")
    >>> scorer.template.answer, scorer.price
    ('', None)
    """

    def __init__(
        self,
        protocol: ServiceProtocol,
        question: Question,
        max_pixels: int | None = None,
        frames: int | Mapping[str, Any] | None = None,
        price: Sequence[float] | None = None,
        batch: bool = False,
        poll: float = 30.0,
        **options: Unpack[ApiOptions],
    ) -> None:
        options["template"] = options.get("template") or question.default_template
        super().__init__(**options)
        require_int_in("max_pixels", max_pixels or 1, 1, 10**9)
        if isinstance(poll, bool) or not isinstance(poll, (int, float)) or not poll >= 0:
            raise InputError(f"`poll={poll!r}`; pass a number of seconds")
        if question.params.top_k and not protocol.has_top_k:
            raise UnsupportedError(
                f"the API of {protocol.model!r} has no `top_k`: pass `top_k=0`, or use a server "
                "(`openai-compatible:...`) or a model that runs here"
            )
        self.protocol, self.question = protocol, question
        self.max_pixels, self.batch, self.poll = max_pixels, batch, poll
        self.price = protocol.table_price() if price is None else parse_price(price)
        self.requests_for_a_cell = math.ceil(question.params.num_samples / protocol.max_samples)
        self._check_limits()
        if batch and self.price is not None:
            self.price = self.price.halved()
        if isinstance(frames, int):
            self.sampling = sampling_of({"count": frames, "choose": DEFAULT_FRAMES.choose})
        else:
            self.sampling = DEFAULT_FRAMES if frames is None else sampling_of(frames)
        image_facts = {"max_pixels": str(max_pixels)} if max_pixels else {}
        if self.sampling != DEFAULT_FRAMES:
            image_facts["frames"] = repr(frames)
        self.identity_facts = (
            protocol.address_facts | image_facts | protocol.settings | question.facts
        )
        self._rejected_params = set[str]()
        self._client: Any  # of `protocol`, while a run is connected

    @property
    @override
    def frame_sampling(self) -> Sampling:
        return self.sampling

    @override
    def read_frames(self, sampling: Sampling) -> None:
        self.sampling = sampling
        self.identity_facts = {**self.identity_facts, "frames": repr(sampling)}

    def _check_limits(self) -> None:
        """Raise InputError where limits and batches contradict each other."""
        if self.max_cost is not None and self.price is None:
            raise InputError(
                f"`max_cost=` needs a price, and that of {self.protocol.model!r} is not known "
                "here: pass `price=[in, out]`, US dollars for a million tokens, or use "
                "`max_requests=`"
            )
        if not self.batch:
            return
        if self.protocol.batch_problem:
            raise InputError(self.protocol.batch_problem)
        if self.max_cost is not None or self.limits.max_requests is not None:
            raise InputError(
                "a batch is submitted as a whole, so `batch=True` keeps no `max_cost=` or "
                "`max_requests=`; `t2v-eval eval --dry-run` says what it would cost"
            )
        if self.requests_for_a_cell > 1:
            maximum = self.protocol.max_samples
            raise InputError(
                f"`n={self.question.params.num_samples}`: a question of a batch is asked once, and "
                f"this service gives {maximum} answers at most; pass `n={maximum}`"
            )

    @property
    def base_url(self) -> str:
        """The address of the service."""
        return self.protocol.base_url

    @override
    def check_template(self) -> None:
        super().check_template()
        self.question.check_template(self.name, self.template)

    # Requests:

    @override
    def pack(self, media: Media) -> Any:
        if media is NO_IMAGE:
            return []
        if isinstance(media, ImageGroup):
            return [part for image in media.images for part in self.pack(image)]
        if isinstance(media, Video):
            frames = clip(media, self.sampling, self.load_image).frames
            files = [frame_file(frame, self.max_pixels) for frame in frames]
        else:
            image = self.load_image(media)
            files = [image_file(media, image, self.image_mode, self.max_pixels)]
        return [self.protocol.image_part(*file) for file in files]

    def build_question(self, image: Any, text: str) -> Any:
        """Return the request for a cell.

        Args:
            image: the result of `pack`.
            text: the text of the cell.
        """
        return self._request([image], text, self.question.params.num_samples)

    def _request(self, packed: Sequence[Any], text: str, num_samples: int) -> Any:
        samples = min(num_samples, self.protocol.max_samples)
        parts = self.protocol.message_parts(self.template.fill(text)[0], *packed)
        params = self.question.params._replace(num_samples=samples)
        return self.protocol.request_body(parts, params)

    def without_rejected(self, body: Any) -> Any:
        """Return a request without the sampling parameters that the service has rejected."""
        if not self._rejected_params:
            return body
        return self.protocol.omit_params(body, self._rejected_params)

    def learn_rejected(self, info: ErrorInfo, request: Any) -> bool:
        """Remember the sampling parameters that an error rejects.

        Args:
            info: the error.
            request: the request that it answers.

        Returns:
            Whether the request can be sent again without them.
        """
        rejected = rejected_params(info, self.protocol.sampling_params(request))
        self._rejected_params |= rejected
        return bool(rejected)

    async def ask(self, body: Any) -> Any:
        """Send a request, count its usage and return the response; raise classified errors.

        Where the service rejects sampling parameters, the request is sent again without them, and
        so are all later ones.
        """
        while True:
            request = self.without_rejected(body)
            content, problem = None, None
            try:
                content = await self.protocol.send(self._client, request)
                info = parse_inner_error(content)
            except Exception as error:  # of any client; `classify_exception` sorts them
                info, problem = self.protocol.error_info(error), self.classify_exception(error)
            if info is not None and self.learn_rejected(info, request):
                self.reserve_request()
                continue
            if problem is not None:
                raise problem  # outside `except`: the cause may hold the key
            self.note_usage(*self.parse_usage(content))
            return content

    @override
    @asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        async with self.protocol.connect(self.timeout, self.limits) as self._client:
            try:
                yield
            finally:
                del self._client

    def batch_client(self) -> AbstractContextManager[BatchClient]:
        """Open the provider's batch API."""
        return self.protocol.batch_client(self.limits)

    # Responses:

    def parse_response(self, content: Any) -> Response:
        """Parse a response, in which any error of the service becomes an exception.

        Raises:
            RetryError: it is not valid, or the service reports an error.
            ScoringError: the service refuses to answer.
        """
        if (info := parse_inner_error(content)) is not None:
            raise self._inner_error(info)
        response = self.protocol.parse_response(content)
        completions = [
            completion._replace(error=self._inner_error(completion.error.info))
            if isinstance(completion.error, InnerError)
            else completion
            for completion in response.completions
        ]
        return response._replace(completions=completions)

    def parse_usage(self, content: Any) -> tuple[object, object, object]:
        """Return the reported input, output and cached tokens, unvalidated."""
        return self.protocol.parse_usage(content)

    def read_score(self, content: Any, text: str) -> CellScore:
        """Parse the response to the question of a cell.

        Raises:
            RetryError, ScoringError, UnsupportedError: as `score_cell`.
        """
        with self._isolate_errors(content):
            return self._score(self.parse_response(content), text)

    def _score(self, response: Response, text: str) -> CellScore:
        return self.question.score_response(response, self.template.fill(text)[1], self.protocol)

    def _isolate_errors(self, content: Any) -> AbstractContextManager[None]:
        """Return `isolate_answer_errors` with the service's own message for the reason."""
        return isolate_answer_errors(lambda: self.protocol.error_text(content))

    @override
    async def score_cell(self, image: Any, text: str) -> CellScore:
        content = await self.ask(self.build_question(image, text))
        with self._isolate_errors(content):
            response = self.parse_response(content)
        completions = [*response.completions]
        while (missing := self.question.params.num_samples - len(completions)) > 0:
            self.reserve_request()
            content = await self.ask(self._request([image], text, missing))
            with self._isolate_errors(content):
                more = self.parse_response(content)
                if more.model != response.model:
                    raise ScoringError(
                        f"{response.model!r} and {more.model!r} answered one question, and are no "
                        "samples of one model"
                    )
            completions += more.completions
        with self._isolate_errors(content):
            return self._score(response._replace(completions=completions), text)

    @override
    def score_cells(
        self, images: Sequence[Media], texts: Sequence[Text], cells: Cells
    ) -> Iterator[ScoreChunk]:
        if self.batch:
            chunks = batch_cells(self, images, texts, cells)
        else:
            chunks = super().score_cells(images, texts, cells)
        for chunk in chunks:
            if caution := self.question.caution(self.protocol):
                warnings.warn(caution, T2VWarning, 2)
            yield chunk

    @override
    async def complete(self, image: Any, prompt: str, max_new_tokens: int) -> str:
        parts = self.protocol.message_parts(prompt, image)
        content = await self.ask(
            self.protocol.request_body(parts, SamplingParams(max_new_tokens, 0.0))
        )
        with self._isolate_errors(content):
            completion = self.parse_response(content).single()
        completion.check_written()
        try:
            return completion.final_text("pass a larger `max_new_tokens=`")
        except ScoringError as error:
            raise ScoringError(f"the model {error}") from None

    # Errors:

    def explain_rejection(self, message: str) -> Exception | None:
        """Return the error where the service rejects a parameter of all questions, else None."""
        return self.question.explain_rejection(
            message, self.protocol
        ) or self.protocol.explain_rejection(message)

    def classify_exception(self, error: Exception) -> Exception:
        """Translate an exception of the client into an error of one cell or of the run."""
        problem = self.protocol.classify_exception(error, self.explain_rejection)
        if isinstance(problem, TimeoutError):
            return RetryError(f"no answer within {self.timeout:g} s")
        return problem

    def _inner_error(self, info: ErrorInfo) -> Exception:
        return self.protocol.classify_inner_error(info, self.explain_rejection)

    def redact_message(self, message: str) -> str:
        """Remove the key, what looks like a key, and passwords in URLs from a message."""
        return self.protocol.redact_message(message)

    @override
    def redact_text(self, text: str) -> str:
        return self.protocol.redact_text(text)

    # Estimates:

    @override
    def expected_tokens(self, media: Media, text: str) -> tuple[int, int] | None:
        images = media.images if isinstance(media, ImageGroup) else (media,)
        counts = [0 if image is NO_IMAGE else self._image_tokens(image) for image in images]
        tokens = None if None in counts else sum(filter(None, counts))
        if tokens is None:
            return None
        input_tokens = tokens + text_tokens(self.template.fill(text)[0])
        output_tokens = self.question.max_answer_tokens
        output_tokens += self.protocol.num_reasoning_tokens * self.requests_for_a_cell
        return input_tokens * self.requests_for_a_cell, output_tokens

    def _image_tokens(self, media: Media) -> int | None:
        """Return the tokens of an image or of a video's frames; None where that is not known."""
        if isinstance(media, Video):
            first = clip(media, Sampling(1, choose="first"))
            image, count = first.frames[0], len(self.sampling.indices(first.total, first.fps))
        else:
            image, count = self._header(media), 1
        width, height = smaller(image.width, image.height, self.max_pixels)
        protocol = self.protocol
        detail = protocol.settings.get("detail")
        tokens = image_tokens(protocol.price_table, protocol.model, width, height, detail)
        return None if tokens is None else count * tokens

    def _header(self, media: Media) -> Image.Image:
        """Return an image whose size is known, though perhaps only its header was read."""
        try:
            return media.load()
        except Exception:  # any decoder; `load_image` raises a readable error
            return self.load_image(media)
