"""Score images by the grades that a model writes when a judge's questions are asked.

A judge is a card: its questions, the images that they show, the grades of an answer and how they
are combined (`judge.py`). Any model that writes about images can answer, here or behind an API.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from typing_extensions import override

from t2v_eval.cards import BenchmarkCard, ModelCard
from t2v_eval.errors import InputError, ScoringError, UnsupportedError
from t2v_eval.inputs.media import EDIT, EDIT_PAIR, PAIR, Media, roles_of
from t2v_eval.remote.cost import Estimate
from t2v_eval.remote.scorer import estimate, shared_limits
from t2v_eval.scoring.generation import Explanation, Written
from t2v_eval.scoring.plan import Block, Cells, Plan, Text, caption_text
from t2v_eval.scoring.preferences import PreferenceMixin
from t2v_eval.scoring.results import Progress, ScoreChunk, ScoringResult
from t2v_eval.scoring.scorer import Scorer
from t2v_eval.utils.toml import read_toml

from ..common.composed import takes_any_option
from .judge import WRITING, Judge, Wording, authors_questions, check_keys, count_points
from .reading import join, read_outputs
from .writers import for_roles, load_writer, models_in, texts_in

IMAGES_TOGETHER = 256  # images that are asked about in one run of the writer
QUOTED = 80  # last characters of an answer in the message of an error
NO_POINTS = "the text has no points to grade: its lines but the first"
QUESTION_OF_CARD = "{}"  # the template of every judge, whose questions are in its card


class Judgement(NamedTuple):
    """What a model wrote about an image and a text, and the grades in it.

    Attributes:
        score: the mean of the passes that can be read; None if it is missing.
        error: why it is missing.
        grades: the mean of each grade; None where it does not apply.
        texts: what the model wrote, by question and pass.
        problems: why passes cannot be read.
        passes: the number of passes.
        model: the full name of the model that wrote it, where a service names it.

    >>> Judgement(4.0, "", {"style": 4.0}, [["Style: 4"]], [], 1).fields()
    {'grades': {'style': 4.0}, 'written': ['Style: 4']}
    """

    score: float | None
    error: str
    grades: Mapping[str, float | None]
    texts: Sequence[Sequence[str]]
    problems: Sequence[str]
    passes: int
    model: str = ""

    def fields(self) -> dict[str, Any]:
        """Return the detail of the score."""
        detail: dict[str, Any] = {"grades": dict(self.grades)} if self.grades else {}
        detail["written"] = [text for texts in self.texts for text in texts]
        if self.passes > 1:
            read = self.passes - len(self.problems)
            detail["passes"] = f"{read} of {self.passes} can be read"
        if self.problems and not self.error:
            detail["problems"] = list(self.problems)
        if self.model:
            detail["model"] = self.model
        return detail


@dataclass(frozen=True, slots=True)
class JudgeExplanation(Explanation):
    """A score, with its grades and what the model wrote.

    >>> judgement = Judgement(4.0, "", {"style": 4.0}, [["Style: 4"]], [], 1)
    >>> print(JudgeExplanation(4.0, "a cat", (), judgement))
    4.0000
    a cat
      style: 4
      written: 'Style: 4'
    """

    judgement: Judgement | None = None

    def __str__(self) -> str:
        lines = [f"{self.score:.4f}", self.prompt]
        if self.judgement is not None:
            for name, grade in self.judgement.grades.items():
                lines.append(f"  {name}: {'does not apply' if grade is None else f'{grade:g}'}")
            lines += [f"  missing: {self.judgement.error}"] if self.judgement.error else []
            lines += [f"  {p}" for p in self.judgement.problems if p != self.judgement.error]
            lines += [f"  written: {text!r}" for texts in self.judgement.texts for text in texts]
        return "\n".join(lines)


class WrittenScorer(Scorer):
    """Score images by grades that a model writes.

    Args:
        judge: the questions, the grades and how they are combined.
        writer: writes the answers; see `load_writer`.
        options: see `Scorer`; templates are refused, as the questions are in the card.

    Raises:
        InputError: a template is given.

    >>> from t2v_eval.scoring.generation import Writing
    >>> outputs = {"style": {"pattern": "Style:{number}", "range": [1, 5]}}
    >>> table = {"score": "style", "questions": [{"text": "Grade {}", "outputs": outputs}]}
    >>> judge = Judge.from_table(table, "mine")
    >>> scorer = WrittenScorer(judge, load_writer("gpt-4o", judge.writing, {"api_key": "k"}))
    >>> scorer.judge_text([[Written("Style:4")]], "a cat").score
    4.0
    """

    def __init__(self, judge: Judge, writer: Scorer, **options: Any) -> None:
        card = options.pop("card", None) or ModelCard("judge", type(self).__name__, __name__)
        super().__init__(card=card, **options)
        if self.template.question != QUESTION_OF_CARD or self.template.answer:
            raise InputError(
                f"the questions of {self.name!r} are in its card: leave templates out, or write a "
                "card with another question"
            )
        self.judge, self.writer = judge, writer
        self.image_roles = judge.roles
        self._usage: dict[str, float] = {}

    @property
    @override
    def uses_text(self) -> bool:  # type: ignore[override]
        """Whether a question contains the text."""
        return self.judge.uses_text

    @override
    def to(self, device: Any) -> Self:
        self.writer.to(device)
        return self

    @override
    def identity(self) -> dict[str, str]:
        questions = repr([(q.text, q.images) for q in self.judge.questions])
        facts = {"questions": questions, "reading": self.judge.reading}
        return {**facts, "writer": f"[{self.writer.id}]", **super().identity()}

    @override
    def check_template(self) -> None:
        """Refuse templates, as the questions are in the card.

        Raises:
            InputError: a template is given.
        """
        if self.template.question != QUESTION_OF_CARD or self.template.answer:
            raise InputError(f"the questions of {self.name!r} are in its card: leave templates out")

    @override
    def evaluate_blocks(
        self, blocks: Sequence[Block], progress: Progress | bool | None = None
    ) -> ScoringResult:
        self._usage = {}
        with shared_limits(self.writer):
            return replace(super().evaluate_blocks(blocks, progress), usage=self._usage)

    def estimate(self, blocks: Sequence[Block]) -> Estimate:
        """Estimate the requests to a model behind an API.

        Args:
            blocks: the images and texts to score.

        Raises:
            UnsupportedError: the model runs here.
        """
        plan = Plan.of(blocks, skip_errors=self.on_error == "skip", allow_urls=self.allow_urls)
        plan.check_roles(self.name, self.image_roles)
        texts = [caption_text(text) for text in plan.texts]
        rows: dict[int, list[str]] = {}
        for i, j in plan.cells.tolist():
            rows.setdefault(i, []).append(texts[j])
        media = [plan.images[i] for i in rows]
        estimates = [
            estimate(writer, parts) for _, writer, parts in self._runs(media, [*rows.values()])
        ]
        return _total(estimates, len(plan.cells))

    def _runs(
        self, media: Sequence[Media], texts: Sequence[Sequence[str]]
    ) -> Iterator[tuple[Sequence[int], Scorer, list[Block]]]:
        """Yield the numbers of questions that show the same images, their writer, and their blocks.

        The block of an image holds the texts of one question after another, so that a model that
        runs here encodes it once.
        """
        self.writer.store, self.writer.on_error = self.store, self.on_error
        runs: dict[tuple[int, ...], list[int]] = {}
        for n, question in enumerate(self.judge.questions):
            runs.setdefault(question.images, []).append(n)
        for numbers in runs.values():
            questions = [self.judge.questions[n] for n in numbers]
            selected = [questions[0].select(item) for item in media]
            roles = next((roles_of(item) for item in selected if not item.is_broken), ())
            blocks = [
                Block([item], [q.fill(text) for q in questions for text in per_image])
                for item, per_image in zip(selected, texts, strict=True)
            ]
            yield numbers, for_roles(self.writer, roles), blocks

    @override
    def score_cells(
        self, images: Sequence[Media], texts: Sequence[Text], cells: Cells
    ) -> Iterator[ScoreChunk]:
        without_points = [self.judge.lacks_points(caption_text(text)) for text in texts]
        positions = np.arange(len(cells))
        ungraded = positions[[without_points[j] for j in cells[:, 1].tolist()]]
        if len(ungraded):
            yield ScoreChunk(ungraded, None, NO_POINTS)
        remaining = np.setdiff1d(positions, ungraded)
        rows, starts = np.unique(cells[remaining, 0], return_index=True)
        spans = np.split(remaining, starts[1:])
        for first in range(0, len(rows), IMAGES_TOGETHER):
            part = slice(first, first + IMAGES_TOGETHER)
            media = [images[row] for row in rows[part]]
            listed = [[caption_text(texts[j]) for j in cells[s, 1].tolist()] for s in spans[part]]
            for span, judgements in zip(spans[part], self.judge_images(media, listed), strict=True):
                for position, judgement in zip(span, judgements, strict=True):
                    # An error that ends the run quotes the answer; those that are counted do not.
                    yield _chunk(position, judgement, quote=self.on_error == "raise")

    def judge_images(
        self, media: Sequence[Media], texts: Sequence[Sequence[str]]
    ) -> list[list[Judgement]]:
        """Let the model write about images, and read the grades.

        Args:
            media: M images, or groups of images.
            texts: the texts of each.

        Returns:
            A judgement for each text of each image.
        """
        # By question: the result of its run, and its place among the questions of the run.
        results: dict[int, tuple[ScoringResult, int]] = {}
        for numbers, writer, blocks in self._runs(media, texts):
            result = writer.evaluate_blocks(blocks, progress=False)
            for name, value in result.usage.items():
                self._usage[name] = self._usage.get(name, 0) + value
            results |= {number: (result, place) for place, number in enumerate(numbers)}
        judgements = []
        for n, per_image in enumerate(texts):
            row = []
            for column, text in enumerate(per_image):
                answers = [
                    (result, (n, 0, place * len(per_image) + column))
                    for _, (result, place) in sorted(results.items())
                ]
                failure = next((r.failures[cell] for r, cell in answers if cell in r.failures), "")
                details = [result.details.get(cell) for result, cell in answers]
                written = [texts_in(detail) for detail in details]
                if failure:
                    judgement = Judgement(None, failure, {}, _plain(written), (), 1)
                else:
                    judgement = self.judge_text(written, text)
                row.append(judgement._replace(model=models_in(details)))
            judgements.append(row)
        return judgements

    def judge_text(self, written: Sequence[Sequence[Written]], text: str) -> Judgement:
        """Read what a model wrote.

        A score is the mean of the passes that can be read, which must be half of them at least.

        Args:
            written: the texts of each question, one for each pass.
            text: the text that is judged.
        """
        points = count_points(text)
        scores, problems = [], []
        grades: dict[str, list[float]] = {output.name: [] for output in self.judge.outputs}
        passes = list(zip(*written, strict=False))
        for texts in passes:
            try:
                read: dict[str, float | None] = {}
                for question, entry in zip(self.judge.questions, texts, strict=True):
                    read |= read_outputs(entry, question.outputs, points, self.judge.expected)
                scores.append(join(self.judge.score, read))
            except ScoringError as error:
                problems.append(f"the judge's answer {error}")
                continue
            for name, grade in read.items():
                grades[name] += [] if grade is None else [grade]
        if not scores or len(scores) < len(problems):
            reason = problems[0] if problems else "the judge wrote nothing"
            if len(passes) > 1:
                reason = f"{len(scores)} of {len(passes)} passes can be read; {reason}"
            return Judgement(None, reason, {}, _plain(written), problems, len(passes))
        means = {name: _mean(values) for name, values in grades.items()}
        score = math.fsum(scores) / len(scores)
        return Judgement(score, "", means, _plain(written), problems, len(passes))

    @override
    def explain_image(self, image: Media, texts: Sequence[str], top: int) -> list[Explanation]:
        Plan((image,), tuple(texts), np.zeros((0, 2), np.int64), ()).check_roles(
            self.name, self.image_roles
        )
        self._usage = {}
        skipping = self.with_template()  # a judgement without a score is explained, too
        skipping.on_error = "skip"
        (judgements,) = skipping.judge_images([image], [texts])
        return [
            JudgeExplanation(math.nan if j.score is None else j.score, text, (), j)
            for text, j in zip(texts, judgements, strict=True)
        ]

    @override
    def generate_texts(
        self, images: Sequence[Media], prompts: Sequence[str], max_new_tokens: int
    ) -> Sequence[str | None]:
        raise UnsupportedError(
            f"{self.name!r} writes grades alone; load the model that answers to generate texts"
        )


class WrittenPreference(PreferenceMixin, WrittenScorer):
    """Compare two images, or two edits, by what a model writes about both; call `prefer`.

    >>> WrittenPreference.prefer is PreferenceMixin.prefer
    True
    """


def load_written_scorer(
    judge: Mapping[str, Any],
    vlm: str | Scorer | None = None,
    wording: Wording = "authors",
    local: Mapping[str, Any] | None = None,
    system: str | None = None,
    card: Any = None,
    question_template: str | None = None,
    answer_template: str | None = None,
    template: str | None = None,
    store: Any = None,
    **of_vlm: Any,
) -> WrittenScorer:
    """Load the model that writes, and compose it with the judge of a card.

    Args:
        judge: the table `judge` of a card.
        vlm: the name of the scorer that writes, here or behind an API, or a loaded one that runs
            here; by default that of the card.
        wording: "authors" asks as the authors' script does, for which `t2v-eval data NAME --fetch`
            may be needed; "ours" asks in words of our own, where the card has them.
        local: options of a model that runs here, from the card; an `adapter` is that of the
            card's `vlm` alone.
        system: the system message, from the card; a loaded scorer keeps its own.
        card: the card of the scorer.
        question_template: refused, as are the other templates.
        answer_template: refused.
        template: refused.
        store: as for `load`; it also keeps each text that the model writes.
        of_vlm: options of the scorer that writes, as for `load`; `max_new_tokens`, `temperature`,
            `top_p`, `top_k` and `passes` override those of the card.

    Raises:
        InputError: no scorer is named, or the judge or an option is invalid.

    >>> outputs = {"style": {"pattern": "Style:{number}", "range": [1, 5]}}
    >>> table = {"score": "style", "questions": [{"text": "Grade {}", "outputs": outputs}]}
    >>> load_written_scorer(table, "gpt-4o", api_key="k").judge.score
    'style'
    """
    if wording not in ("authors", "ours"):
        raise InputError(f"`wording={wording!r}`; use 'authors' or 'ours'")
    name = getattr(card, "name", "judge")
    writing = {key: of_vlm.pop(key) for key in WRITING if key in of_vlm}
    definition = Judge.from_table({**judge, **writing}, name, wording)
    if vlm is None:
        raise InputError(
            f"{name!r} is asked of another scorer: name that with `vlm=NAME`, for example "
            "`vlm='qwen2.5-vl-7b'`"
        )
    scorer_options = {
        key: of_vlm[key] for key in ("image_mode", "on_error", "allow_urls") if key in of_vlm
    }
    if isinstance(vlm, str):
        of_card = {} if vlm_is_remote(vlm) else dict(local or {})
        if card is None or vlm != card.args.get("vlm"):
            of_card.pop("adapter", None)  # which belongs to the weights of the card's own model
        of_vlm = {**of_card, **({"system": system} if system else {}), **of_vlm}
    writer = load_writer(vlm, definition.writing, of_vlm)
    make = WrittenPreference if definition.roles in (PAIR, EDIT_PAIR) else WrittenScorer
    return make(
        definition,
        writer,
        card=card,
        question_template=question_template,
        answer_template=answer_template,
        template=template,
        store=store,
        **scorer_options,
    )


def load_judge_file(file: str, card: Any = None, **options: Any) -> WrittenScorer:
    """Load a judge from a user's own TOML file, which has the keys of a card.

    Args:
        file: the path; the file has `judge`, and perhaps `vlm`, `local`, `kind` and `range`.
        card: the card of the family.
        options: as for `load_written_scorer`.

    Raises:
        InputError: the file is missing or malformed, or a key or option is invalid.

    >>> load_judge_file("gone.toml")
    Traceback (most recent call last):
    t2v_eval.errors.InputError: gone.toml: no such file
    """
    path = Path(file)
    if not path.is_file():
        raise InputError(f"{file}: no such file")
    table = read_toml(path)
    try:
        check_keys("file", table)
    except InputError as error:
        raise InputError(f"{file}: {error}") from None
    if "judge" not in table:
        raise InputError(f"{file} has no table `judge`")
    questions = table["judge"].get("questions")
    listed = questions if isinstance(questions, list) else ()
    if any(isinstance(question, Mapping) and "authors" in question for question in listed):
        raise InputError(
            f"{file}: `authors` is for cards of packages; write the question as `text`"
        )
    _check_kind(file, table.get("kind", "judge"))
    facts = {key: table.pop(key) for key in ("kind", "range", "summary", "license") if key in table}
    if card is not None:
        card = replace(card, **facts, args={**card.args, "vlm": table.get("vlm")})
    scorer = load_written_scorer(**{**table, **options}, card=card)
    if facts.get("kind") == "edit" and not {*EDIT_PAIR} & {*scorer.image_roles}:
        raise InputError(f"{file}: kind = 'edit' needs images = {[*EDIT]} in `judge`")
    return scorer


def _check_kind(file: str, kind: str) -> None:
    from t2v_eval.registry import models

    kinds = sorted({card.kind for card in models.cards.values()})
    if kind not in kinds:
        raise InputError(f"{file}: kind = {kind!r}; use one of {', '.join(kinds)}")


def vlm_is_remote(name: str) -> bool:
    """Return whether the scorer of a name is behind an API.

    >>> vlm_is_remote("gpt-4o"), vlm_is_remote("qwen2.5-vl-7b")
    (True, False)
    """
    from t2v_eval.registry import models

    return models.card(name).remote


def files_of(card: ModelCard) -> list[BenchmarkCard]:
    """Return the files of authors that the questions of a judge are read from, each once.

    >>> from t2v_eval.registry import models
    >>> [source.files for source in files_of(models.card("editscore"))]
    [['editscore/vie_prompts.py']]
    """
    sources = authors_questions(card.args.get("judge", {}))
    unique = {(source.repository, source.commit, source.file): source for source in sources}
    return [source.card(card.name) for source in unique.values()]


load_written_scorer.files_of = files_of  # type: ignore[attr-defined]
load_written_scorer.takes = takes_any_option  # type: ignore[attr-defined]
load_judge_file.takes = takes_any_option  # type: ignore[attr-defined]


def _chunk(position: int, judgement: Judgement, quote: bool) -> ScoreChunk:
    detail, where = json.dumps(judgement.fields(), ensure_ascii=False), np.array([position])
    if judgement.score is None:
        ends = [text[-QUOTED:] for texts in judgement.texts for text in texts if text.strip()]
        written = f"; it ends in {ends[-1]!r}" if quote and ends else ""
        return ScoreChunk(where, None, f"{judgement.error}{written}", [detail])
    return ScoreChunk(where, torch.tensor([judgement.score], dtype=torch.float32), None, [detail])


def _plain(answers: Iterable[Sequence[Written]]) -> list[list[str]]:
    return [[entry.text for entry in texts] for texts in answers]


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


def _total(estimates: Sequence[Estimate], cells: int) -> Estimate:
    """Add the requests of several questions; a figure that one lacks is unknown."""

    def total(name: str) -> Any:
        values = [getattr(part, name) for part in estimates]
        return None if None in values else sum(values)

    sums = ("requests", "input_tokens", "output_tokens", "us_dollars")
    stored = min(part.stored for part in estimates)
    return replace(estimates[0], cells=cells, stored=stored, **{name: total(name) for name in sums})
