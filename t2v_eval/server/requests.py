"""Read requests to score: JSON of a client that is not trusted, checked against limits."""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Any

from t2v_eval.errors import InputError, MediaError
from t2v_eval.inputs.media import EDIT, Edit, Media, Video, open_media, roles_of
from t2v_eval.inputs.urls import AllowUrls
from t2v_eval.scoring.plan import Block
from t2v_eval.scoring.scorer import Scorer

TEMPLATES = ("question_template", "answer_template", "template")
FIELDS = ("models", "images", "texts", "references", "pairs", "timeout", *TEMPLATES)
EDIT_FORM = '{"source": IMAGE, "result": IMAGE}'


class RequestError(Exception):
    """Raised for a request that is refused.

    Args:
        status: the HTTP status.
        message: what is wrong, and what to send instead.
        retry_after: seconds after which the request may be sent again.

    >>> RequestError(413, "the body has more than 10 bytes").status
    413
    """

    def __init__(self, status: int, message: str, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status, self.retry_after = status, retry_after


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerLimits:
    """What a server accepts.

    Attributes:
        body_bytes: bytes of a request.
        pending_bytes: bytes of all requests that are read or wait, together.
        images: images of a request, two of each edit, and frames of a video.
        texts: texts of a request, and references of an image.
        text_chars: characters of a text.
        pixels: pixels of an image.
        waiting: requests that wait for a scorer; further ones get status 429.
        cells: images times texts of a request, and of requests that are scored together.
        seconds: time for a request, from its first byte to its answer; also the longest `timeout`
            that a client may ask for.
        body_seconds: time in which the body of a request must arrive.
        allow_urls: whether images may be URLs; see `open_media`.

    Raises:
        InputError: a number is not above 0, or not finite.

    >>> ServerLimits(images=4).texts
    256
    """

    body_bytes: int = 64 << 20
    pending_bytes: int = 1 << 30
    images: int = 256
    texts: int = 256
    text_chars: int = 20_000
    pixels: int = 50_000_000
    waiting: int = 256
    cells: int = 4096
    seconds: float = 120.0
    body_seconds: float = 30.0
    allow_urls: AllowUrls = False

    def __post_init__(self) -> None:
        for name in (limit.name for limit in fields(self) if limit.name != "allow_urls"):
            if not 0 < (value := getattr(self, name)) < math.inf:
                raise InputError(f"`{name}={value!r}`; pass a finite number above 0")


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """A request to score images with texts.

    Attributes:
        models: names of the scorers; empty for all of the server.
        images: M images, videos or edits. One that cannot be opened raises when it is loaded, so
            that its scores fail and no others do.
        downloads: functions that open the images at these positions, which are downloaded.
        texts: N texts, or None.
        references: reference captions of each image, or None.
        pairs: whether image b is scored with text b alone.
        templates: templates of the call, by the names that `Scorer.with_template` takes.
        seconds: time after which the client does not wait any more.

    >>> from PIL import Image
    >>> image = open_media(Image.new("RGB", (4, 4)))
    >>> ScoreRequest((), (image,), ("a cat", "a dog")).pairs
    False
    """

    models: Sequence[str]
    images: Sequence[Media]
    texts: Sequence[str] | None
    references: Sequence[Sequence[str]] | None = None
    pairs: bool = False
    templates: Mapping[str, str] = field(default_factory=dict)
    seconds: float = math.inf
    downloads: Mapping[int, Callable[[], Media]] = field(default_factory=dict)

    def blocks(self, scorer: Scorer) -> list[Block]:
        """Return the blocks for a scorer: one, or one for each pair.

        Raises:
            InputError: the scorer needs texts or references that the request has not, or takes
                edits and the images are none, or the reverse.
        """
        for n, media in enumerate(self.images):
            if roles_of(media) != scorer.image_roles and not media.is_broken:
                takes, is_a = ("edits", "no edit") if scorer.image_roles else ("images", "an edit")
                raise InputError(
                    f"{scorer.name!r} scores {takes}, and `images[{n}]` is {is_a}: "
                    + (f"send {EDIT_FORM}" if scorer.image_roles else "send its images alone")
                )
        texts = list(scorer.texts_or_empty(self.texts))
        if scorer.uses_references and self.references is None:
            raise InputError(f"{scorer.name!r} needs `references`: a list of texts for each image")
        references = self.references if scorer.uses_references else None
        if not self.pairs:
            return [Block.of(self.images, texts or "", references)]
        texts = texts or [""] * len(self.images)
        rows: Sequence[Sequence[str] | None] = references or [None] * len(texts)
        return [
            Block.of(image, text, None if row is None else [row])
            for image, text, row in zip(self.images, texts, rows, strict=True)
        ]


def parse_request(body: bytes, limits: ServerLimits) -> ScoreRequest:
    """Parse the body of a request.

    Args:
        body: JSON: ``{"images": [{"base64": "..."}], "texts": ["a cat"]}``, and fields of `FIELDS`.
            An image is ``{"base64": FILE}``, ``{"url": ADDRESS}``, of a video
            ``{"frames": [{"base64": FILE}, ...], "fps": NUMBER}`` or, of an edit,
            ``{"source": IMAGE, "result": IMAGE}``; the content of a file says whether it is an
            image or a video.
        limits: what the server accepts.

    Raises:
        RequestError: the body is not such JSON (status 400), or beyond a limit (413).

    >>> parse_request(b'{"images": [{"base64": "AAAA"}], "texts": ["a cat"]}', ServerLimits()).texts
    ('a cat',)
    >>> parse_request(b'{"images": []}', ServerLimits())
    Traceback (most recent call last):
    ...
    t2v_eval.server.requests.RequestError: `images` must be a list of at least one image
    """
    content = _parse_json(body)
    if unknown := sorted(content.keys() - {*FIELDS}):
        raise RequestError(400, f"there is no field {unknown[0][:80]!r}; use {', '.join(FIELDS)}")
    images = _listed(content.get("images"), "images", "image", limits.images)
    models, texts = content.get("models"), content.get("texts")
    references, pairs = content.get("references"), content.get("pairs", False)
    if models is not None:
        models = _texts(models, "models", limits, 64)
        if len({*models}) < len(models):
            raise RequestError(400, "`models` names a scorer twice")
    if texts is not None:
        texts = _texts(texts, "texts", limits, limits.texts)
    if references is not None:
        references = tuple(
            _texts(row, f"references[{n}]", limits, limits.texts)
            for n, row in enumerate(_listed(references, "references", "list", limits.images))
        )
        if len(references) != len(images):
            raise RequestError(400, "`references` must have one list for each image")
    if not isinstance(pairs, bool):
        raise RequestError(400, "`pairs` must be true or false")
    if pairs and texts is not None and len(texts) != len(images):
        raise RequestError(
            400, f"`pairs` has {len(images)} images and {len(texts)} texts; send as many of each"
        )
    templates = {name: content[name] for name in TEMPLATES if content.get(name) is not None}
    for name, template in templates.items():
        _text(template, name, limits)
    cells = len(images) * (1 if pairs or texts is None else len(texts))
    if cells > limits.cells:
        raise RequestError(
            413, f"{cells} images times texts; this server takes {limits.cells} in a request"
        )
    seconds, downloads = _seconds(content, limits), dict[int, Callable[[], Media]]()
    opened = []
    edits = sum(isinstance(image, dict) and "source" in image for image in images)
    if len(images) + edits > limits.images:
        raise RequestError(
            413, f"`images` has {edits} edits of 2 images; this server takes {limits.images} images"
        )
    for n, image in enumerate(images):
        opener = _opener(image, f"images[{n}]", limits)
        if isinstance(opener, Media):
            opened.append(opener)
        else:
            downloads[n] = opener
            opened.append(Media.broken(f"images[{n}]", MediaError("it is not downloaded yet")))
    return ScoreRequest(
        models or (), opened, texts, references, pairs, templates, seconds, downloads
    )


def _parse_json(body: bytes) -> dict[str, Any]:
    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no JSON")

    def unique_fields(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        fields = dict(pairs)
        if len(fields) < len(pairs):
            ((name, _),) = Counter(name for name, _ in pairs).most_common(1)
            raise ValueError(f"an object has the field {name[:80]!r} more than once")
        return fields

    try:
        content = json.loads(
            body.decode("utf-8"), parse_constant=refuse, object_pairs_hook=unique_fields
        )
    except (ValueError, RecursionError) as error:
        raise RequestError(400, f"the body is not JSON in UTF-8: {str(error)[:200]}") from None
    if not isinstance(content, dict):
        raise RequestError(400, "the body must be a JSON object with `images` and `texts`")
    return content


def _listed(value: object, name: str, what: str, most: int) -> list[Any]:
    if not isinstance(value, list) or not value:
        raise RequestError(400, f"`{name}` must be a list of at least one {what}")
    if len(value) > most:
        raise RequestError(413, f"`{name}` has {len(value)} entries; this server takes {most}")
    return value


def _texts(value: object, name: str, limits: ServerLimits, most: int) -> tuple[str, ...]:
    listed = _listed(value, name, "text", most)
    return tuple(_text(text, f"{name}[{n}]", limits) for n, text in enumerate(listed))


def _text(value: object, name: str, limits: ServerLimits) -> str:
    if not isinstance(value, str):
        raise RequestError(400, f"`{name}` must be a text")
    if len(value) > limits.text_chars:
        raise RequestError(
            413,
            f"`{name}` has {len(value)} characters; this server takes {limits.text_chars}",
        )
    try:
        value.encode()
    except UnicodeEncodeError:
        raise RequestError(400, f"`{name}` has a lone surrogate, half of a character") from None
    return value


def _seconds(content: Mapping[str, Any], limits: ServerLimits) -> float:
    value = content.get("timeout")
    if value is None:
        return limits.seconds
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
        raise RequestError(400, "`timeout` must be a number of seconds above 0")
    return min(float(min(value, 10**9)), limits.seconds)


def _opener(value: object, name: str, limits: ServerLimits) -> Media | Callable[[], Media]:
    """Open an image, video or edit of a request; return a function if that needs a download."""
    if not isinstance(value, dict) or not value.keys() & {"url", *EDIT}:
        return _image(value, name, limits)
    if "url" in value:
        return _download(value, name, limits)
    if value.keys() != {*EDIT}:
        raise RequestError(400, f"`{name}` must be {EDIT_FORM}, the image before and after an edit")
    parts = {}
    for role in EDIT:
        if isinstance(value[role], dict) and value[role].keys() & {*EDIT}:
            raise RequestError(400, f"`{name}.{role}` must be an image")
        parts[role] = _opener(value[role], f"{name}.{role}", limits)
    open_edit = partial(_open_edit, parts["source"], parts["result"])
    return open_edit() if all(isinstance(part, Media) for part in parts.values()) else open_edit


def _open_edit(source: Media | Callable[[], Media], result: Media | Callable[[], Media]) -> Media:
    images = (part if isinstance(part, Media) else part() for part in (source, result))
    return open_media(Edit(*images))


def _image(value: object, name: str, limits: ServerLimits) -> Media:
    """Open an image or a video that a request holds."""
    if isinstance(value, dict) and value.keys() <= {"frames", "fps"} and "frames" in value:
        return _video(value, name, limits)
    if not isinstance(value, dict) or value.keys() != {"base64"}:
        forms = '{"base64": FILE}, {"url": ADDRESS}, {"frames": [...], "fps": NUMBER}'
        raise RequestError(400, f"`{name}` must be {forms} or, of an edit, {EDIT_FORM}")
    return _open(_decode_base64(value["base64"], name), name, limits)


def _download(value: dict[str, Any], name: str, limits: ServerLimits) -> Callable[[], Media]:
    """Check an image that is a URL; return a function that downloads it."""
    url = _text(value["url"], f"{name}.url", limits)
    if not limits.allow_urls:
        raise RequestError(400, f"`{name}`: this server takes no URLs; send the file as base64")
    if len(value) > 1 or not url.startswith(("http://", "https://")):
        raise RequestError(400, f'`{name}` must be {{"url": "http://..."}} or https')
    return partial(_open, url, name, limits)


def _open(source: str | bytes, name: str, limits: ServerLimits) -> Media:
    """Open an image or a video; where its content cannot be read, loading it raises."""
    try:
        media = open_media(source, name, limits.allow_urls)
        if isinstance(media, Video):
            return media
        width, height = media.load().size  # of the header; pixels are decoded later
    except MediaError as error:
        return Media.broken(name, error)
    if width * height > limits.pixels:
        message = f"{width} x {height} pixels; this server takes {limits.pixels} in all"
        return Media.broken(name, MediaError(f"{media.name}: {message}"))
    return media


def _video(value: Mapping[str, Any], name: str, limits: ServerLimits) -> Media:
    frames = _listed(value["frames"], f"{name}.frames", "image", limits.images)
    fps = value.get("fps", 1.0)
    if isinstance(fps, bool) or not isinstance(fps, (int, float)) or not 0 < fps <= 1000:
        raise RequestError(400, f"`{name}.fps` must be a number of frames per second up to 1000")
    opened = []
    for n, frame in enumerate(frames):
        if not isinstance(frame, dict) or frame.keys() != {"base64"}:
            # URLs would be many downloads of one request, one after another.
            raise RequestError(400, f'`{name}.frames[{n}]` must be an image: {{"base64": FILE}}')
        opened.append(_image(frame, f"{name}.frames[{n}]", limits))
    try:
        return Video.of(opened, float(fps), name)
    except InputError as error:  # a frame that is a video itself
        return Media.broken(name, MediaError(str(error)))


def _decode_base64(value: object, name: str) -> bytes:
    if not isinstance(value, str):
        raise RequestError(400, f"`{name}.base64` must be a text")
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise RequestError(
            400,
            f"`{name}.base64` is not base64: send the characters of the file's base64 alone, "
            "without line breaks, and without `data:...,` before them",
        ) from None
