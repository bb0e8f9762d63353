"""Questions that a model answers in words: a grade from 0 to 100 by a rubric, or any text.

Unlike a probability, a grade has few distinct values and may differ when the model is asked again.
It needs no log-probabilities.
"""

from __future__ import annotations

import json
import re
import string
from abc import abstractmethod

from typing_extensions import override

from t2v_eval.errors import ScoringError, TemplateError, UnsupportedError
from t2v_eval.inputs.template import Template
from t2v_eval.remote.scorer import CellScore
from t2v_eval.scoring.replies import EMPTY

from .answer_probability import read_probabilities
from .answer_text import MAX_TOKENS_HINT, extract_answer
from .credentials import require_int_in
from .messages import Completion, Response, SamplingParams
from .protocol import ServiceProtocol
from .scorer import Question, UnlistedAnswers

JUDGE_TOKENS_HINT = "pass a larger `max_new_tokens=`"  # as judges call it
_ROUTE = re.compile(r":(?:free|nitro|floor|exacto|extended|online)\Z")  # of OpenRouter, no model
_VERSION = re.compile(r"[-@:](?:v?\d[\d.-]*|latest|preview[\w.-]*)")
# The number alone, perhaps in bold, "out of 100", or followed by a full stop.
# No other mark stands before it: "<85" and "~85" are not 85.
GRADE = re.compile(
    r"[\s*_`\"'“#:(\[$]*((?:0|[1-9][0-9]*)(?:\.[0-9]+)?)(?: ?(?:/|out of) ?100)?"
    r"[\s*_`\"'”.,;!)\]$%]*"
)


class WrittenAnswer(Question):
    """Score with the text that a model generates; the base of both judges.

    Args:
        max_tokens: length of an answer; a model that reasons first needs many.
        temperature: 0 for the likeliest answer; some reasoning models accept 1 only.

    Raises:
        InputError: an option is not valid.

    >>> class Words(WrittenAnswer):
    ...     default_template = "judge-100"
    ...
    ...     def parse_score(self, completion):
    ...         return float(len(completion.text.split()))
    >>> Words().score_response(Response([Completion("a red cat")]), "", protocol=None).value
    3.0
    """

    def __init__(self, max_tokens: int = 16, temperature: float = 0.0) -> None:
        require_int_in("max_tokens", max_tokens, 1, 10**6)
        facts = {"max_tokens": str(max_tokens)}
        facts |= {"temperature": f"{temperature:g}"} if temperature else {}
        super().__init__(SamplingParams(max_tokens, float(temperature)), facts, max_tokens)

    @override
    def check_template(self, name: str, template: Template) -> None:
        if template.answer:
            raise TemplateError(
                f"{name!r} reads what the model writes and no answer, so the answer template "
                f"{template.answer!r} has no meaning; pass `question_template=` alone"
            )

    @override
    def score_response(
        self, response: Response, answer: str, protocol: ServiceProtocol
    ) -> CellScore:
        check_model(response, protocol)
        completion = response.single()
        detail = json.dumps({"written": completion.text, **response.details})
        try:
            return CellScore(self.parse_score(completion), detail)
        except ScoringError as error:
            error.detail = detail
            raise

    @abstractmethod
    def parse_score(self, completion: Completion) -> float:
        """Return the score that a completion states.

        Raises:
            ScoringError: it states none.
        """

    @override
    def explain_rejection(self, message: str, protocol: ServiceProtocol) -> Exception | None:
        if self.params.top_logprobs and "logprob" in message.lower():
            return UnsupportedError(no_digits(protocol, message))
        for name in self.params.chosen:
            if re.search(name.replace("_", "_?"), message, re.IGNORECASE):
                return UnsupportedError(
                    f"the model {protocol.model!r} takes no `{name}`: {message} Leave it out"
                )
        if "temperature" in message and not self.params.temperature:
            return UnsupportedError(
                f"the model {protocol.model!r} draws its answers at random: {message} Pass "
                "`temperature=1` (its scores then differ from run to run)"
            )
        return None


class Grade(WrittenAnswer):
    """Ask for a grade, from 0 to 100.

    Args:
        max_tokens: length of an answer; a model that reasons first needs many.
        temperature: 0 for the likeliest answer; some reasoning models accept 1 only.

    >>> Grade().parse_score(Completion("85"))
    85.0
    """

    default_template = "judge-100"

    @override
    def parse_score(self, completion: Completion) -> float:
        return parse_grade(completion.text, completion.truncated)


class WrittenText(WrittenAnswer):
    """Ask for a text, which is the detail of the cell; its score is 1 where the text is whole.

    A text that is empty, cut at `max_tokens` or reasoning alone has the score 0 and the reason in
    its detail, since it has been paid for and would be the same again.

    Args:
        max_tokens: length of a text; a model that reasons first needs more.
        temperature: 0 for the likeliest text; some reasoning models accept 1 only.

    >>> WrittenText().score_response(Response([Completion("1 | a cat")]), "", protocol=None)
    CellScore(value=1.0, detail='{"written": "1 | a cat"}')
    >>> WrittenText().score_response(Response([Completion("1 |", True)]), "", protocol=None).value
    0.0
    """

    default_template = "plain"

    def __init__(self, max_tokens: int = 2048, temperature: float = 0.0) -> None:
        super().__init__(max_tokens, temperature)
        self.facts = {"question": "text", **self.facts}

    @override
    def score_response(
        self, response: Response, answer: str, protocol: ServiceProtocol
    ) -> CellScore:
        check_model(response, protocol)
        completion = response.single()
        completion.check_written()
        fields = {"written": completion.text, **response.details}
        try:
            fields["written"] = completion.final_text()
            value = self.parse_score(completion)
        except ScoringError as error:
            value, fields["problem"] = 0.0, str(error)
        return CellScore(value, json.dumps(fields, ensure_ascii=False))

    @override
    def parse_score(self, completion: Completion) -> float:
        if completion.truncated:
            raise ScoringError(f"is cut at {self.params.max_tokens} tokens; {MAX_TOKENS_HINT}")
        if not completion.text.strip():
            raise ScoringError(EMPTY)
        return 1.0


class WrittenSamples(WrittenText):
    """Ask for texts; they are the detail of the cell, in the form of `scoring.generation.Written`.

    The value is 1: grades, and whether a text is complete, are read from the detail.

    Args:
        max_tokens: largest length of a text, in tokens; a model that reasons first needs more.
        temperature: 0 for the likeliest text; some reasoning models accept only 1.
        passes: number of texts.
        grades: for each digit of a text, the number of likeliest tokens that are stored with their
            probabilities, 0 to 20.
        top_p: tokens are sampled among the likeliest that have this probability together.
        top_k: tokens are sampled among this many likeliest; 0 for all.

    >>> WrittenSamples().score_response(Response([Completion("4", True)]), "", protocol=None)
    CellScore(value=1.0, detail='{"written": [{"text": "4", "truncated": true}]}')
    """

    def __init__(
        self,
        max_tokens: int = 512,
        temperature: float = 0.0,
        passes: int = 1,
        grades: int = 0,
        top_p: float = 1.0,
        top_k: int = 0,
    ) -> None:
        super().__init__(max_tokens, temperature)
        require_int_in("passes", passes, 1, 128)
        require_int_in("grades", grades, 0, 20)
        self.params = self.params._replace(
            top_logprobs=grades, num_samples=passes, top_p=top_p, top_k=top_k
        )
        self.max_answer_tokens = max_tokens * passes
        self._unlisted = UnlistedAnswers()
        self.facts = {**self.facts, "question": "written"}
        self.facts |= {"passes": str(passes)} if passes > 1 else {}
        self.facts |= {"grades": str(grades)} if grades else {}
        self.facts |= {"top_p": f"{top_p:g}"} if top_p < 1 else {}
        self.facts |= {"top_k": str(top_k)} if top_k else {}

    @override
    def score_response(
        self, response: Response, answer: str, protocol: ServiceProtocol
    ) -> CellScore:
        check_model(response, protocol)
        texts = []
        for completion in response.completions[: self.params.num_samples]:
            if completion.error is not None:
                raise completion.error
            if not completion.text.strip() and completion.has_reasoning:
                raise ScoringError(f"the model thinks and gives no answer; {JUDGE_TOKENS_HINT}")
            completion.check_written()
            fields: dict[str, object] = {"text": completion.text}
            fields |= {"truncated": True} if completion.truncated else {}
            if self.params.top_logprobs and not completion.truncated:
                if completion.digits is None and re.search("[0-9]", completion.text):
                    raise self._unlisted.error(UnsupportedError(no_digits(protocol)))
                self._unlisted.are_listed |= completion.digits is not None
                fields["digits"] = _digits(completion)
            texts.append(fields)
        detail = {"written": texts, **response.details}
        return CellScore(1.0, json.dumps(detail, ensure_ascii=False))


def no_digits(protocol: ServiceProtocol, why: str = "") -> str:
    """Return the error where a service lists no probabilities of tokens.

    Args:
        protocol: the protocol of the service.
        why: the service's own message.

    >>> from t2v_eval.backends.services.openai_protocol import OpenAIProtocol
    >>> no_digits(OpenAIProtocol("o3", api_key="k")).partition(",")[0]
    "the model 'o3' lists no probabilities of tokens"
    """
    return protocol.advise_on_logprobs(
        f"the model {protocol.model!r} lists no probabilities of tokens, which `expected` grades "
        "need; use a model that does, or one that runs here" + (f": {why}" if why else "")
    )


def _digits(completion: Completion) -> list[list[object]]:
    """Return the digits of a text as `scoring.generation.Digit` has them.

    One whose probabilities are not valid has none, so that it gives no expected grade.
    """
    digits: list[list[object]] = []
    for start, token, likeliest in completion.digits or ():
        likely: dict[str, float] = {}
        try:
            for listed, probability in read_probabilities(likeliest, tuple(string.digits)):
                word = (listed or "").strip()
                likely[word] = likely.get(word, 0.0) + probability
        except ScoringError:
            likely = {}
        digits.append([start, token, likely])
    return digits


def check_model(response: Response, protocol: ServiceProtocol) -> None:
    """Check that a response is of the requested model.

    Services answer requests for retired models with another one.

    Args:
        response: the response.
        protocol: the protocol of the service.

    Raises:
        ScoringError: it is of another model.

    >>> from t2v_eval.backends.services.openai_protocol import OpenAIProtocol
    >>> protocol = OpenAIProtocol("mine", api_key="k", answers_as="org/mine-7b")
    >>> check_model(Response([Completion("4")], "mine-7b"), protocol)
    """
    if response.model is None:
        return
    names = (protocol.model, *protocol.answers_as)
    if not any(is_same_model(name, response.model) for name in names):
        raise ScoringError(
            f"the service was asked for the model {protocol.model!r}, and {response.model!r} "
            f"answered; if that is the same, pass `answers_as={response.model!r}`"
        )


def is_same_model(requested: str, answered: str) -> bool:
    """Return whether the model that answered is the requested one, or a dated version of it.

    >>> is_same_model("gpt-4o", "gpt-4o-2024-08-06"), is_same_model("gpt-4o", "gpt-4o-mini")
    (True, False)
    >>> is_same_model("qwen/qwen2.5-vl-72b-instruct:free", "qwen/qwen2.5-vl-72b-instruct")
    True
    """
    names = [_ROUTE.sub("", name.casefold().rpartition("/")[2]) for name in (requested, answered)]
    rest = names[1].removeprefix(names[0])
    return not rest or (rest != names[1] and _VERSION.fullmatch(rest) is not None)


def parse_grade(answer: str, truncated: bool = False) -> float:
    """Return the number that an answer consists of.

    Args:
        answer: the text.
        truncated: whether the length limit ended it, so that digits may be missing.

    Returns:
        The grade, from 0 to 100.

    Raises:
        ScoringError: the answer is anything else, or truncated.

    >>> [parse_grade(answer) for answer in ("85", " **62.5**.", "70/100", "100 out of 100.")]
    [85.0, 62.5, 70.0, 100.0]
    """
    match = match_whole_answer(GRADE, "no number from 0 to 100", answer, truncated)
    if float(match[1]) > 100:
        raise unreadable_answer("no number from 0 to 100", answer, truncated)
    return float(match[1])


def match_whole_answer(
    pattern: re.Pattern[str], what: str, answer: str, truncated: bool
) -> re.Match[str]:
    """Match a whole answer against a pattern.

    Args:
        pattern: the pattern.
        what: description of an answer that does not match, for the message.
        answer: the text.
        truncated: whether the length limit ended it.

    Returns:
        The match of the answer behind reasoning and wrappers.

    Raises:
        ScoringError: it does not match, or is truncated.

    >>> match_whole_answer(GRADE, "no number", "Answer: 70", truncated=False)[1]
    '70'
    """
    try:
        match = pattern.fullmatch(extract_answer(answer))
    except ScoringError as error:
        raise ScoringError(f"the judge {error}") from None
    if match is None or truncated:
        raise unreadable_answer(what, answer, truncated)
    return match


def unreadable_answer(what: str, answer: str, truncated: bool) -> ScoringError:
    """Return the error for an answer that does not match.

    >>> print(unreadable_answer("no number", "I think so", truncated=False))
    the judge wrote no number but 'I think so'
    """
    more = f"; it was cut, so {MAX_TOKENS_HINT}" if truncated else ""
    return ScoringError(f"the judge wrote {what} but {answer[:40]!r}{more}")
