"""Requests and responses in terms common to all services."""

from __future__ import annotations

import re
from codecs import getincrementaldecoder
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from t2v_eval.errors import ScoringError

from .answer_text import MAX_TOKENS_HINT, strip_reasoning

# Turn off the sampling defaults of a server, so that it samples from the model's distribution. A
# server that rejects a parameter is asked again without it.
NEUTRAL_PARAMS = {"top_k": -1, "min_p": 0, "repetition_penalty": 1}
OMISSIBLE = {"temperature": 1, "top_p": 1, **NEUTRAL_PARAMS}  # values that a request can omit
SAMPLING_PARAMS = {*OMISSIBLE}
_UNKNOWN_PARAM = re.compile(
    r"(unknown|unrecogni[sz]ed|unsupported|unexpected|extra|additional|invalid)\W+(\w+\W+)?"
    r"(param|arg|field|input|propert|key)",
    re.IGNORECASE,
)


class SamplingParams(NamedTuple):
    """Parameters of a request.

    Attributes:
        max_tokens: maximum length of a completion.
        temperature: 0 for the likeliest tokens.
        top_logprobs: number of likeliest first tokens to list with their log-probabilities.
        num_samples: number of completions.
        top_p: tokens are sampled among the likeliest that have this probability together.
        top_k: tokens are sampled among this many likeliest; 0 for all.

    >>> SamplingParams(max_tokens=1, temperature=1.0, top_logprobs=20).num_samples
    1
    """

    max_tokens: int
    temperature: float
    top_logprobs: int = 0
    num_samples: int = 1
    top_p: float = 1.0
    top_k: int = 0

    @property
    def chosen(self) -> dict[str, float]:
        """What tokens are sampled from, where it is not the full distribution.

        >>> SamplingParams(1, 1.0, top_k=5).chosen
        {'top_k': 5}
        """
        top_p = {"top_p": self.top_p} if self.top_p < 1 else {}
        return {**top_p, **({"top_k": self.top_k} if self.top_k else {})}


class Completion(NamedTuple):
    """One completion of a response.

    Attributes:
        text: the generated text.
        truncated: whether the length limit ended it.
        top_logprobs: the likeliest first tokens, where the service lists them.
        sampled_token: the first token that was sampled.
        has_reasoning: whether the service returns reasoning beside the text.
        error: why the completion is not valid.
        digits: each token that is a digit, where the service lists tokens.
        is_void: whether the service sends no text at all, not even an empty one.

    >>> Completion("Yes", truncated=True).top_logprobs is None
    True
    """

    text: str
    truncated: bool = False
    top_logprobs: Sequence[TokenLogprob] | None = None
    sampled_token: str | None = None
    has_reasoning: bool = False
    error: Exception | None = None
    digits: Sequence[ListedDigit] | None = None
    is_void: bool = False

    def check_written(self) -> None:
        """Check that the service sends a text, which may be empty.

        Raises:
            ScoringError: it sends none, and neither reasoning nor a reason.

        >>> Completion("").check_written()
        """
        if self.is_void and not (self.text or self.truncated or self.has_reasoning):
            raise ScoringError("the service's answer has no text")

    def final_text(self, more: str = MAX_TOKENS_HINT) -> str:
        """Return the text behind the reasoning; `more` is the remedy that an error names.

        Raises:
            ScoringError: there is only reasoning, or no text before the length limit.

        >>> Completion("<think>A cat?</think> A dog.").final_text()
        'A dog.'
        """
        text = strip_reasoning(self.text, more)
        if not text and (self.truncated or self.has_reasoning or self.text.strip()):
            raise ScoringError(f"thinks and gives no answer; {more}")
        return text


class InnerError(Exception):
    """An error that a service reports within a response, in place of a completion.

    Args:
        info: the error.

    >>> InnerError(ErrorInfo(503, "overloaded")).info.status
    503
    """

    def __init__(self, info: ErrorInfo) -> None:
        super().__init__(info.message)
        self.info = info


class Response(NamedTuple):
    """The response to a request.

    Attributes:
        completions: the completions, at least one.
        model: the full name of the model that generated them.

    >>> Response([Completion("Yes")], "gpt-4o-2024-08-06").single().text
    'Yes'
    """

    completions: Sequence[Completion]
    model: str | None = None

    def single(self) -> Completion:
        """Return the first completion; raise its error if it is not valid."""
        completion = self.completions[0]
        if completion.error is not None:
            raise completion.error
        return completion

    @property
    def details(self) -> dict[str, str]:
        """The details of the response that are stored beside the score."""
        return {"model": self.model} if self.model else {}


class TokenLogprob(NamedTuple):
    """A listed token.

    Attributes:
        token: its text; None where that is not valid.
        logprob: its natural log-probability, at most 0 up to rounding; None where it is not valid.

    >>> TokenLogprob("Yes", -0.5).logprob
    -0.5
    """

    token: str | None
    logprob: float | None


class ListedDigit(NamedTuple):
    """A token of a text that consists of digits.

    Attributes:
        start: the index of its first digit in the text.
        token: its digits.
        likeliest: the likeliest tokens in its place.

    >>> ListedDigit(7, "4", [TokenLogprob("4", -0.5)]).token
    '4'
    """

    start: int
    token: str
    likeliest: Sequence[TokenLogprob]


def digit_places(text: str, tokens: Sequence[bytes]) -> list[tuple[int, int]] | None:
    """Find the digits among the tokens of a text.

    Args:
        text: the text.
        tokens: its tokens, perhaps behind those of reasoning, which are no part of the text.

    Returns:
        The number of each token that consists of digits, and where they begin in the text; None
        where the tokens are not those of the text.

    >>> digit_places("Style: 4", [b"2", b"</think>", b"Style", b":", b" 4", b"<end>"])
    [(4, 7)]
    """
    behind = b"".join(tokens).rfind(text.encode())
    if behind < 0:
        return None
    places, decoder, start = [], getincrementaldecoder("utf-8")("replace"), 0
    for number, token in enumerate(tokens):
        part, behind = token[behind:], max(0, behind - len(token))
        if part.strip().isdigit() and part == token and start < len(text):
            places.append((number, start + len(part) - len(part.lstrip())))
        start += len(decoder.decode(part))
    return places


def with_sampled(likeliest: Sequence[TokenLogprob], sampled: TokenLogprob) -> list[TokenLogprob]:
    """Return the likeliest tokens in a place, and the sampled one where it is not among them.

    >>> with_sampled([TokenLogprob("5", -0.1)], TokenLogprob("4", -3.0))[1].token
    '4'
    """
    is_listed = not likeliest or sampled.token in {row.token for row in likeliest}
    return [*likeliest, *([] if is_listed else [sampled])]


class ErrorInfo(NamedTuple):
    """An error of a service, in the fields that all services have.

    Attributes:
        status: the HTTP status; 0 where it is not known.
        message: the service's message, not yet redacted; "" without one.
        retry_after: seconds that the service asks to wait; None where it does not say.
        invalid_key: whether the service refuses the key.
        quota_exhausted: whether the account's quota is used up.

    >>> ErrorInfo(429, "slow down", retry_after=2.0).quota_exhausted
    False
    """

    status: int
    message: str = ""
    retry_after: float | None = None
    invalid_key: bool = False
    quota_exhausted: bool = False


def rejected_params(info: ErrorInfo, params: Mapping[str, Any]) -> set[str]:
    """Return the sampling parameters that an error rejects and a request can omit.

    Args:
        info: the error of the service.
        params: the sampling parameters of the request and their values.

    Returns:
        Names in `params` with values that change nothing. The temperature is among them only where
        the error names no other parameter.

    >>> params = {"temperature": 1, "top_p": 1, "top_k": -1}
    >>> rejected_params(ErrorInfo(400, "Unsupported parameter: 'top_p'"), params)
    {'top_p'}
    >>> rejected_params(ErrorInfo(400, "topK is not supported"), params)
    {'top_k'}
    >>> rejected_params(ErrorInfo(400, "temperature must be 1"), {"temperature": 0.0})
    set()
    """
    if info.status not in (400, 422):
        return set()
    names = {
        name
        for name in SAMPLING_PARAMS
        if re.search(name.replace("_", "_?"), info.message, re.IGNORECASE)
    }
    if not names and (not info.message or _UNKNOWN_PARAM.search(info.message)):
        names = set(NEUTRAL_PARAMS)
    names = (names - {"temperature"} or names) & params.keys()
    return {name for name in names if params[name] == OMISSIBLE[name]}
