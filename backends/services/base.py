"""What all services have in common that are asked about pictures: keys, prices, and refusals.

A scorer is a protocol, which says how a question is written and an answer is read
(`openai_protocol.py`, `gemini_protocol.py`), and a question, which says what is asked and what an
answer means (`yes_no.py`, `grade.py`, `pairwise.py`). Both derive from `Service`.
"""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, ClassVar, Unpack

from PIL import Image

from t2v_eval.errors import InputError, ScoringError, ServiceError, T2VError
from t2v_eval.inputs.media import Media, Video
from t2v_eval.inputs.video import Sampling, clip, sampling_of
from t2v_eval.remote.cost import Price
from t2v_eval.remote.request_pool import NoMoreError, RetryError
from t2v_eval.remote.scorer import Answer, ApiOptions, ApiScorer, one_answer
from t2v_eval.scoring.plan import Cells, Text
from t2v_eval.scoring.results import ScoreChunk

from .api_key import Key
from .batches.batch import Desk, batch_cells
from .credentials import between, checked_address, given_key, given_price
from .image_file import frame_file, picture_file, smaller
from .json_fields import NOT_JSON, parsed, words
from .messages import How, Refusal, Reply
from .prices import picture_tokens, price_of, text_tokens

AGAIN = (408, 409, 429)  # and every 5xx
FILES = 3600.0  # seconds for a file of questions or answers
FRAMES = Sampling(4, choose="steps")  # of a video, as the reference
FILTERED = "the service's content filter withheld the answer"


class ServiceOptions(ApiOptions, total=False):
    """What every protocol takes; see `Service`."""

    api_key: str | None
    key_file: str | os.PathLike[str] | None
    base_url: str | None
    max_pixels: int | None
    frames: int | Mapping[str, Any] | None
    price: Sequence[float] | None
    batch: bool
    poll: float


class Service(ApiScorer[Any]):
    """Asks a model of a service about a picture, or about frames of a video in one question.

    Nothing is sent to any other host than the service's: redirects are not followed, and a proxy of
    the environment (HTTPS_PROXY) is used for an https address only, as a tunnel that it cannot read
    into; an http address is asked directly, whatever HTTP_PROXY says.

    Args:
        model: as the service calls it.
        api_key: default: the file `key_file`, then an environment variable (`key_variables`).
        base_url: another address of the service; no variable's key is sent there. Default: the
            environment variable `home_variable`, then the service's own.
        max_pixels: make larger pictures smaller before they are sent; default: never.
        frames: which frames of a video are sent, as pictures in their order: how many, at steps of
            as many whole frames, or what `Sampling` takes. Default: 4.
        price: US dollars for a million tokens, in and out, where the table is not right.
        batch: ask in files, at half the price, answered within a day; needs a store. A run that
            is interrupted goes on with what it submitted.
        poll: seconds between two looks at a batch.
        options: see `ApiScorer`.
    """

    table: ClassVar[str]  # of the prices
    home: str
    home_variable: str
    key_variables: tuple[str, ...]
    image_first: ClassVar[bool] = False  # the reference puts the question first
    most_samples = 128  # in one request
    answer_tokens = 1  # at most, for an estimate

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
        between("max_pixels", max_pixels or 1, 1, 10**9)
        if isinstance(poll, bool) or not isinstance(poll, (int, float)) or not poll >= 0:
            raise InputError(f"poll={poll!r}; pass a number of seconds")
        self.served, self.max_pixels, self.batch, self.poll = model, max_pixels, batch, poll
        self.price = self.known_price(model) if price is None else given_price(price)
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
            self.price = self.price.half()
        self.own_address = base_url is not None
        self.base_url, self._key = self.find(base_url, api_key, key_file)
        self.identity_facts = {"server": self.base_url} if self.base_url != self.home else {}
        self.identity_facts |= {
            "model": model,
            "order": "image-text" if self.image_first else "text-image",
        }
        self.identity_facts |= {"max_pixels": str(max_pixels)} if max_pixels else {}
        told = {"count": frames, "choose": FRAMES.choose} if isinstance(frames, int) else frames
        self.sampling = FRAMES if told is None else sampling_of(told)
        if self.sampling != FRAMES:
            self.identity_facts["frames"] = repr(frames)

    def find(
        self, base_url: str | None, key: str | None, key_file: str | os.PathLike[str] | None
    ) -> tuple[str, Key]:
        """Where to ask, and with which key."""
        given, where = given_key(key, key_file), "base_url="
        if base_url is None:
            where = self.home_variable
            base_url = os.environ.get(where) or self.home
            for name in self.key_variables:
                given = given or given_key(os.environ.get(name), where=name)
        return checked_address(base_url, where), Key(given)

    @classmethod
    def known_price(cls, model: str) -> Price | None:
        """What the table beside this file says."""
        return price_of(cls.table, model)

    def needed_key(self) -> str:
        """The key; asked for when it is needed, since what is in the store needs none."""
        if not self._key.reveal():
            variables = " or ".join(self.key_variables)
            raise InputError(
                f"a key is needed: pass api_key= or key_file=, or set {variables} (which is "
                "not sent to a base_url= of yours)" + self.no_key
            )
        return self._key.reveal()

    no_key: ClassVar[str] = ""  # what else to say where there is none

    # What a protocol says:

    @abstractmethod
    def picture(self, content: bytes, mime: str) -> Any:
        """A file as a part of a question."""

    @abstractmethod
    def wording(self, text: str) -> Any:
        """A text as a part of a question."""

    @abstractmethod
    def body(self, parts: Sequence[Any], how: How) -> Any:
        """A question of these parts, as `send` takes it."""

    @abstractmethod
    async def send(self, body: Any) -> Any:
        """Ask, once; what comes is for `reply` and `used`."""

    @abstractmethod
    def reply(self, content: Any) -> Reply:
        """Read what came.

        Raises:
            RetryError: it is no answer.
            ScoringError: a filter withheld it.
        """

    @abstractmethod
    def used(self, content: Any) -> tuple[object, object, object]:
        """What it says of tokens that went in and came out, and how many of the first were
        cached; `note_usage` checks it."""

    @abstractmethod
    def refusal(self, error: Exception) -> Refusal | RetryError | None:
        """What an error of the client means; None where it is none of the service's."""

    @abstractmethod
    def desk(self) -> AbstractContextManager[Desk]:
        """Where files of questions are handed in."""

    # What a question says:

    @abstractmethod
    def question(self, image: Any, text: str) -> Any:
        """What is asked for a cell; see `body`."""

    @abstractmethod
    def answer(self, reply: Reply, text: str) -> Answer:
        """What the answer means; raises as `score_cell`."""

    def unable(self, message: str) -> Exception | None:
        """What to say where the service refuses what every question asks for."""
        return None

    # What is the same for all:

    def parts(self, question: str, *packed: Sequence[Any]) -> list[Any]:
        """Question and pictures or videos in the order in which the model is asked."""
        shown: list[Any] = []
        for name, pictures in zip("AB", packed, strict=False):
            if len(packed) > 1:
                what = "Picture" if len(pictures) == 1 else "Video"
                shown.append(self.wording(f"{what} {name}:"))
            shown += pictures
        asked = [self.wording(question)]
        return shown + asked if self.image_first else asked + shown

    def pack(self, media: Media) -> Any:
        """A picture, or the frames of a video, as parts of a question."""
        if isinstance(media, Video):
            frames = clip(media, self.sampling, self.load_image).frames
            files = [frame_file(frame, self.max_pixels) for frame in frames]
        else:
            image = self.load_image(media)
            files = [picture_file(media, image, self.image_mode, self.max_pixels)]
        return [self.picture(*file) for file in files]

    def reading(self, content: Any) -> AbstractContextManager[None]:
        """See `one_answer`."""
        return one_answer(lambda: self.words(content))

    def parsed(self, text: str) -> Any:
        """What an answer says as JSON."""
        try:
            return parsed(text)
        except ValueError:
            problem = self.no_answer(NOT_JSON, text)
        raise problem  # not within `except`: what the service said may hold the key

    def words(self, content: Any) -> str:
        """What a service says where an answer should be, without the key; may be ""."""
        try:
            return self.without_key(words(content))
        except RecursionError:
            return ""

    def no_answer(self, what: str, content: Any) -> RetryError:
        """What to raise for an answer that is `what`, and what it says instead."""
        said = self.words(content)
        return RetryError(what + (f": {said}" if said else ""))

    def inner(self, no: Refusal) -> Exception:
        """What there is to do about an error within an answer; never a reason to end a run."""
        said = self.without_key(no.message or "no reason given")
        told = f"the service answers {no.status or 'with an error'}: {said}"
        if no.status in (400, 413, 415, 422) and self.unable(no.message) is None:
            return ScoringError(f"the service refuses it (status {no.status}): {said}")
        return RetryError(told, no.after, too_many=no.status == 429)

    def read(self, content: Any, text: str) -> Answer:
        """What came for a cell."""
        with self.reading(content):
            return self.answer(self.reply(content), text)

    async def score_cell(self, image: Any, text: str) -> Answer:
        return self.read(await self.ask(self.question(image, text)), text)

    def score_cells(
        self, images: Sequence[Media], texts: Sequence[Text], cells: Cells
    ) -> Iterator[ScoreChunk]:
        if self.batch:
            return batch_cells(self, images, texts, cells)
        return super().score_cells(images, texts, cells)

    async def complete(self, image: Any, prompt: str, max_new_tokens: int) -> str:
        asked = self.body(self.parts(prompt, image), How(max_new_tokens, 0.0))
        content = await self.ask(asked)
        with self.reading(content):
            said = self.reply(content).only()
        try:
            return said.written("pass a larger max_new_tokens=")
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
        tokens = picture_tokens(self.table, self.served, width, height, detail)
        if tokens is None:
            return None
        going = count * tokens + text_tokens(self.template.fill(text)[0])
        return going * self.requests_for_a_cell, self.answer_tokens

    def _header(self, media: Media) -> Image.Image:
        """A picture of which the size is known, and perhaps no more was read."""
        try:
            return media.load()
        except Exception:
            return self.load_image(media)  # which says what is wrong

    async def ask(self, body: Any) -> Any:
        """One request: what came, or what there is to do about it."""
        try:
            content = await self.send(body)
        except Exception as error:
            problem = self.problem(error)
        else:
            self.note_usage(*self.used(content))
            return content
        raise problem  # not within `except`: what the service said may hold the key

    def problem(self, error: Exception) -> Exception:
        """What an error of the client means for a cell, or for all of them."""
        cause: BaseException | None = error
        while cause is not None:  # what was said while an answer was read, in the client's wrapping
            if isinstance(cause, (T2VError, RetryError, NoMoreError, Warning)):
                return cause
            cause = cause.__cause__
        try:
            found = self.refusal(error)
            if isinstance(found, Refusal):
                return self.refused(found)
        except Exception:  # what came with it is of no form that is known
            found = None
        # Whatever else goes wrong while an answer is read costs this answer alone.
        return found or RetryError(f"the service's answer cannot be read ({type(error).__name__})")

    def refused(self, no: Refusal) -> Exception:
        """What there is to do about a refusal."""
        message, status = self.without_key(no.message or "no reason given")[:300], no.status
        if status in (400, 403, 422) and (why := self.unable(message)) is not None:
            return why
        if status in (401, 403) or no.key:
            told = f": {message}" if status == 403 else ""  # others may repeat a part of the key
            places = ", ".join(("api_key=", "key_file=", *self.key_variables))
            return ServiceError(
                f"{self.base_url} refuses the key (status {status}){told}; check {places}, "
                f"and that it may use the model {self.served!r}"
            )
        if status == 404:
            return ServiceError(
                f"{self.base_url} does not know the model {self.served!r} or the address: {message}"
            )
        if no.spent:
            return ServiceError(f"the account at {self.base_url} is used up: {message}")
        if status in AGAIN or status >= 500:
            # Cut, so that the number of a request, which comes last, does not tell reasons apart.
            told = f": {message[:100]}" if status >= 500 and no.message else ""
            said = f"the service answers {status}{told}"
            return RetryError(said, no.after, too_many=status == 429)
        if 300 <= status < 400:
            return ServiceError(
                f"{self.base_url} points to another address, which is not followed; "
                "pass the one that is meant as base_url="
            )
        return ScoringError(f"the service refuses it (status {status}): {message}")

    def no_connection(self, cause: BaseException) -> RetryError:
        """What to say where nobody answers; what lies below says best why."""
        absent = False
        while True:
            absent |= type(cause).__name__ == "ConnectError"  # of either version of the client
            below = cause.__cause__ or cause.__context__
            if below is None:
                break
            cause = below
        said = isinstance(cause, OSError) and cause.strerror
        why = self.without_key(said or type(cause).__name__)
        return RetryError(f"no connection to {self.base_url} ({why})", absent=absent)

    def without_key(self, message: str) -> str:
        """What a service says, without the key, or what looks like one."""
        return self._key.hidden_from(message)

    def redacted(self, words: str) -> str:
        return self._key.hidden(words)
