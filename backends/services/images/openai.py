"""Images by OpenAI's images API, which other servers speak too."""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, ClassVar
from urllib.parse import urlsplit

from PIL import Image
from typing_extensions import override

from t2v_eval.cards import ModelCard
from t2v_eval.errors import GenerationError, InputError
from t2v_eval.generators.generator import Generated, Generator, check_json, check_sampling
from t2v_eval.inputs.image_file import decoding, open_image
from t2v_eval.inputs.urls import download
from t2v_eval.remote.request_pool import Limits, Pool, RetryError
from t2v_eval.remote.scorer import isolate_answer_errors

from ..credentials import require_int_in
from ..json_fields import as_list, as_mapping, as_text, parse_inner_error
from ..openai_protocol import CompatibleProtocol, OpenAIProtocol
from ..protocol import AccessOptions

MAX_ANSWER_BYTES = 96 * 2**20  # of an image in base64
RESUME_HINT = "run it again to go on; finished images are kept"
NO_IMAGE = "the service's answer holds no image"
# How servers word that they do not take a parameter.
REJECTION = re.compile(r"param|argument|field|propert|input|support|permitted", re.IGNORECASE)
MODES = ("L", "LA", "RGB", "RGBA", "I;16")  # which PNG holds as they are
# Arguments of requests that are said otherwise here.
PARAMETER_OF = {"n": "per_prompt", "num_inference_steps": "steps", "prompt": "benchmark"}
# Options of pipelines that run here, which a service would get as fields of its requests.
LOCAL = ("batch_size", "device", "dtype", "offload", "revision", "safety_checker", "variant")


class ImagesProtocol(OpenAIProtocol):
    """OpenAI's protocol with answers as large as images.

    >>> ImagesProtocol("gpt-image-1", api_key="k").max_answer_bytes >> 20
    96
    """

    max_answer_bytes = MAX_ANSWER_BYTES


class CompatibleImagesProtocol(CompatibleProtocol):
    """The protocol of compatible servers with answers as large as images.

    >>> CompatibleImagesProtocol("sdxl", base_url="http://localhost:8000/v1").max_answer_bytes >> 20
    96
    """

    max_answer_bytes = MAX_ANSWER_BYTES


class OpenAIImages(Generator):
    """Make images with OpenAI's models; one request for each.

    Args:
        model: the service's name of the model.
        card: the card of its family.
        steps: not taken by OpenAI's models, nor is the next.
        guidance_scale: see `steps`.
        height: pixels; with `width`.
        width: pixels; with `height`.
        timeout: seconds for one request.
        api_key: the key; see `ServiceProtocol`, also for the next two.
        key_file: a file that holds the key.
        base_url: another address.
        concurrency: see `Limits`, also for the next five.
        retries: maximum of retries for an image.
        patience: seconds after the first attempt within which it is repeated.
        backoff: seconds before the second attempt.
        max_seconds: time of a run.
        max_requests: number of requests of a run.
        options: further fields of each request, such as `quality`.

    Raises:
        InputError: an option is not valid.

    >>> OpenAIImages("gpt-image-1", api_key="k", quality="low").facts()["options"]
    {'quality': 'low'}
    """

    remote = True
    protocol_type: ClassVar[type[OpenAIProtocol]] = ImagesProtocol
    seeded: bool = False  # whether requests have a seed

    def __init__(
        self,
        model: str,
        *,
        card: ModelCard | None = None,
        steps: int | None = None,
        guidance_scale: float | None = None,
        height: int | None = None,
        width: int | None = None,
        timeout: float = 300.0,
        api_key: str | None = None,
        key_file: str | None = None,
        base_url: str | None = None,
        concurrency: int = 16,
        retries: int = 6,
        patience: float = 600.0,
        backoff: float = 0.5,
        max_seconds: float | None = None,
        max_requests: int | None = None,
        **options: Any,
    ) -> None:
        check_sampling(steps, guidance_scale, height, width)
        if (height is None) != (width is None):
            raise InputError("`height=` and `width=` go together here: pass both or neither")
        self._settings = {"steps": steps, "guidance_scale": guidance_scale}
        self._size = (height, width)
        self._check_settings()
        for name in options:
            if name in PARAMETER_OF:
                raise InputError(
                    f"`{name}={options[name]!r}`: it is called `{PARAMETER_OF[name]}=` here"
                )
            if name in LOCAL:
                raise InputError(
                    f"`{name}={options[name]!r}`: an images API takes none, as it is for a "
                    "pipeline that runs here; leave it out"
                )
        self._options = check_json(options)
        require_int_in("concurrency", concurrency, 1, 10_000)
        require_int_in("retries", retries, 0, 10_000)
        if max_requests is not None:
            require_int_in("max_requests", max_requests, 1, 10**9)
        for name, seconds in (("timeout", timeout), ("patience", patience), ("backoff", backoff)):
            if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or seconds < 0:
                raise InputError(f"`{name}={seconds!r}`; pass a number of seconds")
        self._timeout = float(timeout)
        self._limits = Limits(concurrency, retries, patience, backoff, max_seconds, max_requests)
        access: AccessOptions = {"api_key": api_key, "key_file": key_file, "base_url": base_url}
        self.protocol = self.protocol_type(model, **access)
        self._name = card.name if card is not None else model
        self._pool: Pool[tuple[Image.Image, dict[str, Any]]] | None = None

    def _check_settings(self) -> None:
        for name, value in self._settings.items():
            if value is not None:
                raise InputError(
                    f"`{name}={value!r}`: OpenAI's images API takes none; leave it out"
                )

    @override
    def facts(self) -> Mapping[str, Any]:
        custom = self.protocol.base_url != self.protocol_type.default_base_url
        more = {"server": self.protocol.base_url} if custom else {}
        height, width = self._size
        return {
            "pipeline": self._name,
            **self._settings,
            "height": height,
            "width": width,
            "options": self._options,
            "more": {**more, "seed_sent": self.seeded},
        }

    @override
    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> Iterator[Generated]:
        self.protocol.require_key()

        async def ask(number: int) -> tuple[Image.Image, dict[str, Any]]:
            body = self.request_body(prompts[number], seeds[number])
            try:
                return await asyncio.wait_for(self._ask(body), self._timeout)
            except TimeoutError:
                raise RetryError(f"no answer within {self._timeout:g} s") from None

        self._pool = Pool(len(prompts), ask, self._connected, self._limits, resume_hint=RESUME_HINT)
        for finished in self._pool.run():
            for number, result in finished:
                if isinstance(result, tuple):
                    yield Generated(number, result[0], notes=result[1])
                else:
                    yield Generated(number, error=GenerationError(str(result)))

    @override
    def stop(self) -> None:
        if self._pool is not None:
            self._pool.stop()

    def request_body(self, prompt: str, seed: int) -> dict[str, Any]:
        """Return the request for an image.

        Args:
            prompt: the prompt.
            seed: the seed, which only some servers take.
        """
        height, width = self._size
        size = {} if width is None else {"size": f"{width}x{height}"}
        return {"model": self.protocol.model, "prompt": prompt, "n": 1, **size, **self._options}

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[None]:
        async with self.protocol.connect(self._timeout, self._limits) as self._client:
            yield

    async def _ask(self, body: Mapping[str, Any]) -> tuple[Image.Image, dict[str, Any]]:
        """Ask for an image once; raise classified errors."""
        content, problem = None, None
        try:
            content = await self._send(body)
        except Exception as error:  # of any client; `classify_exception` sorts them
            problem = self.protocol.classify_exception(
                error, lambda message: self._explain_rejection(message, body)
            )
        if problem is not None:
            raise problem  # outside `except`: the cause may hold the key
        with isolate_answer_errors(lambda: self.protocol.error_text(content)):
            if (info := parse_inner_error(content)) is not None:
                raise self.protocol.classify_inner_error(info, lambda message: None)
            answer = as_mapping(next(iter(as_list(as_mapping(content).get("data"))), None))
            image = await asyncio.to_thread(self._read, answer, content)
        revised = self.protocol.redact_text(as_text(answer.get("revised_prompt")))
        return image, {"revised_prompt": revised} if revised else {}

    async def _send(self, body: Mapping[str, Any]) -> Any:
        named = {name: body[name] for name in ("model", "prompt", "n")}
        extra = {name: value for name, value in body.items() if name not in named}
        ask = self._client.images.with_raw_response.generate
        response = await ask(**named, extra_body=extra)
        return self.protocol.parse_json(response.text)

    def _explain_rejection(self, message: str, body: Mapping[str, Any]) -> Exception | None:
        rejected = [
            name
            for name in body.keys() - {"model", "prompt", "n"}
            if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", message)
        ]
        if not rejected or not REJECTION.search(message):
            return None
        remedy = "; pass `send_seed=False`" if "seed" in rejected else ""
        return InputError(
            f"{self._name} does not take {', '.join(sorted(rejected))}: {message}{remedy}"
        )

    def _read(self, answer: Mapping[str, Any], content: Any) -> Image.Image:
        """Return the image of an answer, decoded.

        Raises:
            RetryError: there is none, or it is no valid base64.
            MediaError: it cannot be downloaded or decoded.
        """
        name = f"the image of {self._name}"
        if encoded := as_text(answer.get("b64_json")):
            try:
                file = base64.b64decode(re.sub(r"^data:[^,]*,", "", encoded), validate=True)
            except (binascii.Error, ValueError):
                raise RetryError("the service's image is no valid base64") from None
        elif url := as_text(answer.get("url")):
            file = self._fetch(url, name)
        else:
            raise self.protocol.invalid_answer(NO_IMAGE, content)
        image = open_image(file, name)
        with decoding(name):
            image.load()
            return image if image.mode in MODES else image.convert("RGB")

    def _fetch(self, url: str, name: str) -> bytes:
        """Download an image; a private address only where the service itself is there."""
        if url.startswith("data:"):
            return base64.b64decode(url.partition(",")[2])
        same_host = urlsplit(self.protocol.base_url).netloc == urlsplit(url).netloc
        return download(url, name, "private" if same_host else True)


class CompatibleImages(OpenAIImages):
    """Make images with a server that speaks OpenAI's images API, such as vLLM-Omni or LocalAI.

    Requests also have `seed`, and `num_inference_steps` and `guidance_scale` where they are set.

    Args:
        model: the server's name of the model.
        send_seed: False for a server that takes no seed.
        options: see `OpenAIImages`; `base_url` is needed.

    Raises:
        InputError: an option is not valid, or there is no address.

    >>> images = CompatibleImages("sdxl", base_url="http://localhost:8000/v1", steps=20)
    >>> images.request_body("a cat", 7)["num_inference_steps"]
    20
    """

    protocol_type = CompatibleImagesProtocol

    def __init__(self, model: str, *, send_seed: bool = True, **options: Any) -> None:
        super().__init__(model, **options)
        self.seeded = send_seed

    @override
    def _check_settings(self) -> None:
        """Any server may take them."""

    @override
    def request_body(self, prompt: str, seed: int) -> dict[str, Any]:
        steps, scale = self._settings["steps"], self._settings["guidance_scale"]
        settings = {"num_inference_steps": steps, "guidance_scale": scale}
        chosen = {name: value for name, value in settings.items() if value is not None}
        return {
            **super().request_body(prompt, seed),
            **chosen,
            **({"seed": seed} if self.seeded else {}),
        }
