"""Score images by a model's answers to questions about their text: TIFA, DSG and Soft-TIFA.

Sources of the rules: `t2v_eval.stats.question_rules`. Any scorer of kind "vqa" answers, here or
behind an API: its texts are the questions, so that all questions of an image share its prefix, and
its store keeps each answer.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self, TypeAlias, get_args

import numpy as np
import torch
from typing_extensions import override

from t2v_eval.api import load
from t2v_eval.cards import ModelCard
from t2v_eval.errors import InputError, MediaError, UnsupportedError
from t2v_eval.inputs.media import Media
from t2v_eval.inputs.questions.answers import (
    DEFAULT_ENCODER,
    MATCHES,
    YES_NO,
    Match,
    answer_value,
    describe_answer,
    normalise,
)
from t2v_eval.inputs.questions.files import read_questions
from t2v_eval.inputs.questions.question import Question, Questions
from t2v_eval.inputs.template import Template
from t2v_eval.local.sentence_encoder import SentenceEncoder
from t2v_eval.remote.cost import Estimate
from t2v_eval.remote.scorer import estimate, shared_limits
from t2v_eval.scoring.generation import Explanation
from t2v_eval.scoring.plan import Block, Cells, Text, caption_text
from t2v_eval.scoring.results import Progress, ScoreChunk, ScoringResult
from t2v_eval.scoring.scorer import Scorer
from t2v_eval.stats.question_rules import DEPENDENCIES, RULES, score_questions

from ..common.composed import takes_any_option

Answers: TypeAlias = Literal["probability", "first-tokens", "generated"]
ANSWERS: tuple[str, ...] = get_args(Answers)
FIRST_TOKENS = "first-tokens"  # of `ANSWERS`, and the rule of the scorer that answers
IMAGES_TOGETHER = 64  # images whose questions are asked in one run, and stored as texts after it
MAX_NEW_TOKENS = 32  # of a generated answer
# In the id of the scorer that answers; never sent, since `QuestionTemplate` fills it otherwise.
QUESTION_AND_ANSWER = "{text}, whose last line is the expected answer"
_SOFT = "soft-tifa"


@dataclass(frozen=True, slots=True)
class QuestionTemplate(Template):
    """A template whose texts are a question and, in their last line, the expected answer.

    >>> QuestionTemplate(QUESTION_AND_ANSWER, "Yes").fill("Is there a cube?" + chr(10) + "No")
    ('Is there a cube?', 'No')
    """

    @override
    def fill(self, text: str) -> tuple[str, str]:
        question, _, answer = text.rpartition("\n")
        return question, answer


class Answered(NamedTuple):
    """A question as it was answered for an image.

    Attributes:
        question: the question.
        answer: the generated answer; None where its probability was computed.
        value: the probability of the expected answer, or 1 or 0 for a right or wrong one; None
            where there is no answer.
        error: why there is none.
        zeroed_by: the id of the question whose wrong answer makes it count 0.

    >>> Answered(Question("1", "1", "a cube", "Is there a cube?"), None, 0.9).error
    ''
    """

    question: Question
    answer: str | None
    value: float | None
    error: str = ""
    zeroed_by: str | None = None

    def fields(self) -> dict[str, Any]:
        """Return the arguments of `describe_answer`, which are the detail of a score."""
        return {
            "id": self.question.id,
            "question": self.question.question,
            "expected": self.question.answer,
            "answer": self.answer,
            "value": self.value,
            "error": self.error or None,
            "zeroed_by": self.zeroed_by,
        }

    def __str__(self) -> str:
        return describe_answer(**self.fields())


@dataclass(frozen=True, slots=True)
class QuestionExplanation(Explanation):
    """How a score came about: the questions and their answers.

    >>> answered = Answered(Question("1", "1", "a cube", "Is there a cube?"), None, 0.9)
    >>> print(QuestionExplanation(0.9, "a cube", (), (answered,)))
    0.9000
    a cube
      1. Is there a cube? (yes: 0.9000)
    """

    questions: tuple[Answered, ...] = ()

    def __str__(self) -> str:
        return "\n".join([f"{self.score:.4f}", self.prompt, *(f"  {q}" for q in self.questions)])


class QuestionScorer(Scorer):
    """Score images by the answers of a scorer to the questions of a text; 0 to 1.

    Args:
        vlm: the scorer that answers, of kind "vqa".
        questions: the questions of every text that will be scored; None where those of a benchmark
            are asked (`with_questions`).
        rule: "tifa", "dsg", "soft-tifa-am" or "soft-tifa-gm"; see `score_questions`.
        answers: "probability" takes the probability of the expected answer as the value of a
            question; its questions share the prefix of an image. "first-tokens" asks and sums as
            GenEval 2's script does, which needs a scorer with the rule of that name. "generated"
            lets the model answer
            and compares, as TIFA's and DSG's code does, one question at a time; Soft-TIFA has no
            generated answers.
        match: how generated answers are compared: "exact", "normalised" or "nearest"; see
            `answer_value`.
        dependency: how far a wrong answer reaches under "dsg": "direct", "transitive", "in-order"
            or "none"; see `zero_dependents`.
        sentence_encoder: finds the nearest choice; needed by `match="nearest"`.
        options: see `Scorer`. `question_template` is applied to each question.

    Raises:
        InputError: an option that there is not, an answer template, a scorer that answers no
            questions, or an expected answer that it cannot score (`TemplateError`).

    >>> import t2v_eval
    >>> questions = Questions([Question("1", "1", "a red cube", "Is the cube red?")])
    >>> vlm = t2v_eval.load("tiny-clip-flant5", device="cpu")
    >>> QuestionScorer(vlm, questions, rule="dsg").template.question
    '{}'
    """

    def __init__(
        self,
        vlm: Scorer,
        questions: Questions | None,
        rule: str,
        answers: Answers = "probability",
        match: Match = "normalised",
        dependency: Literal["direct", "transitive", "in-order", "none"] = "direct",
        sentence_encoder: SentenceEncoder | None = None,
        **options: Any,
    ) -> None:
        for name, value, choices in (
            ("rule", rule, RULES),
            ("answers", answers, ANSWERS),
            ("match", match, MATCHES),
            ("dependency", dependency, DEPENDENCIES),
        ):
            if value not in choices:
                raise InputError(f"`{name}={value!r}`; use {' or '.join(map(repr, choices))}")
        if rule.startswith(_SOFT) and answers == "generated":
            raise InputError(f"{rule} is a mean of probabilities: leave `answers='generated'` out")
        if answers == "generated" and match == "nearest" and sentence_encoder is None:
            raise InputError("`match='nearest'` needs `sentence_encoder=`")
        if vlm.card.kind != "vqa" or isinstance(vlm, QuestionScorer):
            raise InputError(
                f"`vlm={vlm.name!r}` answers no questions; use a scorer of kind 'vqa' "
                "(`t2v-eval list models --kind vqa`)"
            )
        if answers == FIRST_TOKENS and vlm.identity().get("rule") != FIRST_TOKENS:
            raise InputError(
                f"`answers={FIRST_TOKENS!r}` needs a vision-language model that runs here, loaded "
                f"with `rule={FIRST_TOKENS!r}`, and {vlm.name!r} is none"
            )
        card = options.pop("card", None) or ModelCard(rule, type(self).__name__, __name__)
        # What the model expects of images is said once, by this scorer.
        expected = {"expects_size": vlm.card.expects_size, "caution": vlm.card.caution}
        super().__init__(card=replace(card, **expected), **options)
        self.vlm = vlm.with_template()
        self.vlm.template = QuestionTemplate(QUESTION_AND_ANSWER, "Yes")
        self.vlm.card = replace(self.vlm.card, expects_size=None)
        self._usage: dict[str, float] = {}
        self.rule, self.answers, self.match, self.dependency = rule, answers, match, dependency
        self._encoder = sentence_encoder
        self.check_template()
        self._questions: Questions | None = None
        if questions is not None:
            self.questions = questions

    @property
    def questions(self) -> Questions:
        """The questions.

        Raises:
            InputError: there are none.
        """
        if self._questions is None:
            raise InputError(
                f"{self.name!r} has no questions to ask: name a file of them with "
                "`questions=FILE`, or evaluate it on a benchmark that has questions"
            )
        return self._questions

    @questions.setter
    def questions(self, questions: Questions) -> None:
        if self.answers != "generated":
            for answer in {self._prompt(q).rpartition("\n")[2] for q in questions}:
                self._check_answer(answer)
        self._questions = questions

    @property
    def needs_questions(self) -> bool:
        """Whether it has none, so that a benchmark's are asked."""
        return self._questions is None

    def with_questions(self, questions: Questions) -> Self:
        """Return a copy that asks these questions, with the same scorer that answers.

        Raises:
            TemplateError: the scorer cannot score an expected answer.

        >>> import t2v_eval
        >>> scorer = t2v_eval.load("dsg", vlm="tiny-clip-flant5", device="cpu")
        >>> questions = Questions([Question("1", "1", "a red cube", "Is the cube red?")])
        >>> scorer.needs_questions, scorer.with_questions(questions).needs_questions
        (True, False)
        """
        other = self.with_template()
        other.questions = questions
        return other

    def _check_answer(self, answer: str) -> None:
        """Raise TemplateError where the scorer cannot score an answer, such as one of two words."""
        bound = self.vlm.with_template()
        bound.template = Template("{}", answer.replace("{", "{{").replace("}", "}}"))
        bound.check_template()

    @override
    def check_template(self) -> None:
        """Check that there is no answer template, and that the question holds the text.

        Raises:
            InputError: there is an answer template.
        """
        if self.template.answer:
            raise InputError(
                f"the answers that {self.name!r} expects are those of its questions: leave "
                f"`answer_template={self.template.answer!r}` out"
            )
        super().check_template()

    @override
    def to(self, device: Any) -> Self:
        self.vlm.to(device)
        return self

    @override
    def identity(self) -> dict[str, str]:
        options: dict[str, str] = {"answers": self.answers}
        if self.answers == "generated":
            options["match"] = self.match
            if self.match == "nearest" and self._encoder is not None:
                options["sentence_encoder"] = self._encoder.id
        if self.rule == "dsg":
            options["dependency"] = self.dependency
        questions = "none" if self._questions is None else self._questions.hash
        facts = {"questions": questions, **options, "vlm": f"[{self.vlm.id}]"}
        return {**facts, **super().identity()}

    @override
    def evaluate_blocks(
        self, blocks: Sequence[Block], progress: Progress | bool | None = None
    ) -> ScoringResult:
        """Score as `Scorer.evaluate_blocks` does; `usage` is that of the questions.

        Raises:
            InputError: a text has no questions, or, unless errors are skipped, questions that
                depend on one that is not there; nothing was asked.
        """
        for text in dict.fromkeys(text for block in blocks for text in block.texts):
            self._check_parents(text, self.questions.of_text(text))
        self._usage = {}
        with shared_limits(self.vlm):
            return replace(super().evaluate_blocks(blocks, progress), usage=self._usage)

    def _check_parents(self, text: str, questions: Sequence[Question]) -> None:
        if self.rule != "dsg" or self.dependency == "none" or self.on_error == "skip":
            return
        ids = {question.id for question in questions}
        for question in questions:
            if lacking := set(question.parents) - ids:
                raise InputError(
                    f"{self.questions.name}: question {question.id!r} about {text!r} depends on "
                    f"question {min(lacking)!r}, which is not there, so that the text has no "
                    "score: `on_error='skip'` goes on without it, and `dependency='none'` ignores "
                    "dependencies"
                )

    def estimate(self, blocks: Sequence[Block]) -> Estimate:
        """Estimate the requests of the scorer that answers, where it is behind an API.

        Args:
            blocks: the images and texts to score.

        Raises:
            UnsupportedError: the scorer that answers runs here.
        """
        self.vlm.store, self.vlm.on_error = self.store, self.on_error
        requests = [
            Block(block.images, list(dict.fromkeys(self._prompts(block.texts)))) for block in blocks
        ]
        return estimate(self.vlm, requests)

    def _prompts(self, texts: Sequence[str]) -> list[str]:
        """Return what is asked about an image with some texts."""
        return [self._prompt(q) for text in texts for q in self.questions.of_text(text)]

    @override
    def score_cells(
        self, images: Sequence[Media], texts: Sequence[Text], cells: Cells
    ) -> Iterator[ScoreChunk]:
        rows, starts = np.unique(cells[:, 0], return_index=True)
        spans = np.split(np.arange(len(cells)), starts[1:])
        of_text = [self.questions.of_text(caption_text(text)) for text in texts]
        for first in range(0, len(rows), IMAGES_TOGETHER):
            part = slice(first, first + IMAGES_TOGETHER)
            listed = [[of_text[text] for text in cells[span, 1].tolist()] for span in spans[part]]
            media = [images[row] for row in rows[part]]
            replies = self._ask(
                media, [[q for questions in per for q in questions] for per in listed]
            )
            for span, per_text, answers in zip(spans[part], listed, replies, strict=True):
                for position, questions in zip(span, per_text, strict=True):
                    yield self._chunk(position, questions, answers)

    def _chunk(
        self, position: int, questions: Sequence[Question], replies: dict[str, Answered]
    ) -> ScoreChunk:
        score, answered, error = self._score(questions, replies)
        detail = json.dumps([a.fields() for a in answered], ensure_ascii=False)
        where = np.array([position])
        if score is None:
            return ScoreChunk(where, None, error, [detail])
        return ScoreChunk(where, torch.tensor([score], dtype=torch.float32), None, [detail])

    def _score(
        self, questions: Sequence[Question], replies: dict[str, Answered]
    ) -> tuple[float | None, list[Answered], str]:
        """Return the score of a text, its answered questions, and why there is no score."""
        answered = [replies[self._prompt(q)]._replace(question=q) for q in questions]
        failed = [a for a in answered if a.value is None]
        if failed:
            first = failed[0]
            more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
            return None, answered, f"question {first.question.id!r}: {first.error}{more}"
        try:
            verdict = score_questions(
                self.rule,
                {a.question.id: a.value or 0.0 for a in answered},
                {q.id: q.parents for q in questions},
                {q.id: q.weight for q in questions},
                self.dependency,
            )
        except InputError as error:
            return None, answered, str(error)
        by = verdict.zeroed_by
        return verdict.score, [a._replace(zeroed_by=by.get(a.question.id)) for a in answered], ""

    def _prompt(self, question: Question) -> str:
        """Return what the model is asked, and in the last line the answer that is expected."""
        wording = self.template.fill(question.question)[0].replace("\n", " ")
        if self.answers == FIRST_TOKENS:
            return f"{wording} Answer in one word.\n{question.answer}"
        choices = tuple(normalise(choice) for choice in question.choices)
        if sorted(choices) == sorted(YES_NO):
            # As VQAScore asks and answers.
            return f"{wording} Please answer yes or no.\n{question.answer.capitalize()}"
        if choices:
            return f"{wording} Please answer with one of: {', '.join(question.choices)}.\n" + (
                question.answer
            )
        return f"{wording} Please answer in one word.\n{question.answer}"

    def _ask(
        self, media: Sequence[Media], questions: Sequence[Sequence[Question]]
    ) -> list[dict[str, Answered]]:
        """Ask the questions of each image, each once; return the answers by prompt."""
        prompts = [{self._prompt(q): q for q in listed} for listed in questions]
        self.vlm.store, self.vlm.on_error = self.store, self.on_error
        if self.answers == "generated":
            return self._generate(media, prompts)
        blocks = [Block([m], list(per_image)) for m, per_image in zip(media, prompts, strict=True)]
        result = self.vlm.evaluate_blocks(blocks, progress=False)
        for name, value in result.usage.items():
            self._usage[name] = self._usage.get(name, 0) + value
        return [
            {
                prompt: Answered(question, None, None, result.failures[n, 0, column])
                if (n, 0, column) in result.failures
                else Answered(question, None, min(float(result.scores[n][0, column]), 1.0))
                for column, (prompt, question) in enumerate(per_image.items())
            }
            for n, per_image in enumerate(prompts)
        ]

    def _generate(
        self, media: Sequence[Media], prompts: Sequence[dict[str, Question]]
    ) -> list[dict[str, Answered]]:
        """Let the model answer; an image that cannot be read fails alone."""
        failed: dict[int, str] = {}
        for n, image in enumerate(media):
            try:
                self.load_image(image)
            except MediaError as error:
                if self.on_error == "raise":
                    raise
                failed[n] = str(error)
        pairs = [
            (n, p) for n, per_image in enumerate(prompts) if n not in failed for p in per_image
        ]
        replies: Sequence[str | None] = []
        if pairs:
            asked_texts = [prompt.rpartition("\n")[0] for _, prompt in pairs]
            replies = self.vlm.generate(
                [media[n] for n, _ in pairs], asked_texts, max_new_tokens=MAX_NEW_TOKENS
            )
        reply_of = dict(zip(pairs, replies, strict=True))
        return [
            {
                prompt: self._judge(question, reply_of.get((n, prompt)), failed.get(n))
                for prompt, question in per_image.items()
            }
            for n, per_image in enumerate(prompts)
        ]

    def _judge(self, question: Question, reply: str | None, error: str | None) -> Answered:
        if reply is None:
            return Answered(question, None, None, error or "the model gave no answer")
        reply = reply.strip()
        choose = None if self._encoder is None else self._encoder.nearest
        try:
            value = answer_value(reply, question.answer, question.choices, self.match, choose)
        except InputError as problem:
            return Answered(question, reply, None, str(problem))
        return Answered(question, reply, value)

    @override
    def explain_image(self, image: Media, texts: Sequence[str], top: int) -> list[Explanation]:
        self._usage = {}
        listed = [self.questions.of_text(text) for text in texts]
        (replies,) = self._ask([image], [[q for questions in listed for q in questions]])
        explained: list[Explanation] = []
        for text, questions in zip(texts, listed, strict=True):
            score, answered, _ = self._score(questions, replies)
            value = float("nan") if score is None else score
            explained.append(QuestionExplanation(value, text, (), tuple(answered)))
        return explained

    @override
    def generate_texts(
        self, images: Sequence[Media], prompts: Sequence[str], max_new_tokens: int
    ) -> Sequence[str | None]:
        raise UnsupportedError(
            f"{self.name!r} generates no text; `t2v_eval.load({self.vlm.name!r})` does"
        )


def load_question_scorer(
    rule: str,
    vlm: str | Scorer | None = None,
    questions: str | Path | Questions | None = None,
    layout: str | None = None,
    answers: Answers = "probability",
    match: Match = "normalised",
    dependency: Literal["direct", "transitive", "in-order", "none"] = "direct",
    sentence_encoder: str | Path | SentenceEncoder = DEFAULT_ENCODER,
    card: Any = None,
    question_template: str | None = None,
    answer_template: str | None = None,
    template: str | None = None,
    store: Any = None,
    **of_vlm: Any,
) -> Scorer:
    """Load the scorer that answers, and compose it with questions.

    Args:
        rule: as for `QuestionScorer`, from the card.
        vlm: the name of the scorer that answers, or a loaded one.
        questions: a file of questions, or `Questions`; without them, those of a benchmark.
        layout: of the file; see `read_questions`.
        answers: as for `QuestionScorer`.
        match: as for `QuestionScorer`.
        dependency: as for `QuestionScorer`.
        sentence_encoder: the model that finds the nearest choice: a folder, a hub id, or loaded.
        card: the card of the scorer.
        question_template: applied to each question.
        answer_template: refused.
        template: the name of a template.
        store: as for `load`; it also keeps the answer to each question.
        of_vlm: options of the scorer that answers, as for `load`.

    Raises:
        InputError: no scorer is named, or an option that there is not.

    >>> questions = Questions([Question("1", "1", "a red cube", "Is the cube red?")])
    >>> scorer = load_question_scorer("dsg", "tiny-clip-flant5", questions, device="cpu")
    >>> scorer.rule, scorer.vlm.name
    ('dsg', 'tiny-clip-flant5')
    """
    if vlm is None:
        raise InputError(
            f"{rule} is a rule on the answers of another scorer: name that with `vlm=NAME` (a "
            "scorer of kind 'vqa'), and the file of questions with `questions=FILE`"
        )
    if questions is not None and not isinstance(questions, Questions):
        questions = read_questions(questions, layout)
    encoder = None
    if answers == "generated" and match == "nearest":
        encoder = (
            sentence_encoder
            if isinstance(sentence_encoder, SentenceEncoder)
            else SentenceEncoder(sentence_encoder, of_vlm.get("device"))
        )
    shared = {
        name: of_vlm[name] for name in ("image_mode", "on_error", "allow_urls") if name in of_vlm
    }
    if isinstance(vlm, str):
        vlm = _load_vlm(vlm, of_vlm, answers)
    elif others := of_vlm.keys() - shared.keys():
        raise InputError(
            f"`{min(others)}=` is an option of a scorer that is named; `vlm=` is loaded"
        )
    return QuestionScorer(
        vlm,
        questions,
        rule,
        answers=answers,
        match=match,
        dependency=dependency,
        sentence_encoder=encoder,
        card=card,
        question_template=question_template,
        answer_template=answer_template,
        template=template,
        store=store,
        **shared,
    )


def _load_vlm(name: str, options: dict[str, Any], answers: str) -> Scorer:
    """Load the scorer that answers, with the rule that `answers` needs."""
    if answers != FIRST_TOKENS:
        return load(name, **options)
    try:
        return load(name, rule=FIRST_TOKENS, **options)
    except InputError as error:
        raise InputError(
            f"`answers={FIRST_TOKENS!r}` needs a vision-language model that runs here: {error}"
        ) from error


load_question_scorer.takes = takes_any_option  # type: ignore[attr-defined]
