"""Check the objects in an image against what its prompt asks for, in GenEval's manner.

Source of the checks: `t2v_eval.stats.detection_rules` (Ghosh et al. 2023, GenEval). The detector is
another than GenEval's, so that its published figures cannot be expected here.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self, Unpack

import numpy as np
import torch
from PIL import Image, ImageOps
from typing_extensions import override

from t2v_eval.api import load
from t2v_eval.errors import InputError, ScoringError
from t2v_eval.inputs.media import Media
from t2v_eval.inputs.object_requirements import Requirement, Requirements, read_requirements
from t2v_eval.local.base import LocalScorer, Options
from t2v_eval.local.weights import weight_files
from t2v_eval.scoring.generation import Explanation
from t2v_eval.scoring.plan import Block, Cells, Text, by_image, caption_text
from t2v_eval.scoring.results import Progress, ScoreChunk, ScoringResult
from t2v_eval.scoring.scorer import Scorer
from t2v_eval.stats.detection_rules import check_objects, select_boxes

from .colours import ColourClassifier, crop_object
from .detector import Detection, Detector, check_classes
from .transformers_detectors import load_detector

MAX_FIRST_BATCH = 16  # images; larger ones only where the caller asks for them
_SHARED = ("device", "dtype", "cache_dir", "local_files_only")


class Input(NamedTuple):
    """An image as the detector takes it, and its pixels, which colours are read from.

    >>> Input("key", Image.new("RGB", (4, 4)), None).image.size
    (4, 4)
    """

    key: str
    image: Image.Image
    prepared: Any


class ObjectCheck(NamedTuple):
    """The check of an image against what a prompt asks for.

    Attributes:
        requirement: what it asks for.
        objects: by class, the objects that count, the most confident first.
        colours: by class, the colours of those that were looked at.
        reasons: why the image is not as it should be; empty where it is.
        error: why it could not be checked; empty where it was.

    >>> dog = {"class": "dog", "count": 1, "color": "red"}
    >>> check = ObjectCheck(Requirement("a red dog", "colors", (dog,)), {}, {}, ["none"])
    >>> check.score, str(check)
    (0.0, 'asked for: 1 red dog; detected: nothing; wrong: none')
    """

    requirement: Requirement
    objects: Mapping[str, Sequence[Detection]]
    colours: Mapping[str, Sequence[str]]
    reasons: Sequence[str]
    error: str = ""

    @property
    def score(self) -> float:
        """1 for an image that is as it should be, else 0; NaN where it could not be checked."""
        return float("nan") if self.error else float(not self.reasons)

    def __str__(self) -> str:
        """Say what was asked for, what was detected, and what is wrong."""
        required = self.requirement
        requirements = [_describe(clause, required.include) for clause in required.include]
        requirements += [
            f"fewer than {clause['count']} {clause['class']}" for clause in required.exclude
        ]
        detected = [f"{len(listed)} {name}" for name, listed in self.objects.items()]
        outcome = f"failed: {self.error}" if self.error else f"wrong: {'; '.join(self.reasons)}"
        parts = [
            f"asked for: {', '.join(requirements)}",
            f"detected: {', '.join(detected) or 'nothing'}",
        ]
        return "; ".join([*parts, outcome if self.error or self.reasons else "correct"])

    def as_json(self) -> str:
        """Return requirement, objects, colours and reasons as a JSON object."""
        objects = {
            name: [
                {"box": [round(edge, 2) for edge in d.box[:4]], "confidence": round(d.box[4], 4)}
                for d in listed
            ]
            for name, listed in self.objects.items()
        }
        content = {
            "tag": self.requirement.tag,
            **self.requirement.clauses,
            "objects": objects,
            "colors": self.colours,
            "reasons": self.reasons,
            "error": self.error or None,
        }
        return json.dumps(content, ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class ObjectExplanation(Explanation):
    """How a score came about: what was asked for, the objects, and what is wrong.

    >>> dog = {"class": "dog", "count": 1}
    >>> check = ObjectCheck(Requirement("a dog", "single_object", (dog,)), {}, {}, ["no dog"])
    >>> print(ObjectExplanation(0.0, "a dog", (), check))
    0.0000
    a dog
      asked for: 1 dog; detected: nothing; wrong: no dog
    """

    check: ObjectCheck | None = None

    def __str__(self) -> str:
        lines = [f"{self.score:.4f}", self.prompt]
        if self.check is not None:
            lines.append(f"  {self.check}")
            for name, listed in self.check.objects.items():
                colours = [*self.check.colours.get(name, ())]
                for n, detection in enumerate(listed):
                    box = ", ".join(f"{edge:.0f}" for edge in detection.box[:4])
                    colour = f" {colours[n]}" if n < len(colours) else ""
                    lines.append(f"  {name}{colour} {detection.box[4]:.2f} at ({box})")
        return "\n".join(lines)


class ObjectScorer(LocalScorer):
    """Score 1 where the objects of an image are as its prompt asks for, else 0.

    Args:
        metadata: what the images of every text that will be scored must show: a file in the layout
            of GenEval's evaluation_metadata.jsonl, or `Requirements`. Without it, a benchmark that
            says it is asked (`with_requirements`).
        detector: a hub id, a folder, or a `Detector`; default: `checkpoint`.
        checkpoint: a hub id or a folder.
        colors: the name of a dual encoder that recognises colours, or a loaded one. One that is
            named is loaded only where a text asks for a colour.
        threshold: objects must be more confident than this, 0 to 1.
        counting_threshold: the same for prompts whose tag is `counting`.
        options: options of `LocalScorer`; `device`, `dtype`, `cache_dir` and `local_files_only`
            also hold for the dual encoder.

    Raises:
        InputError: no detector, a threshold that is not from 0 to 1, `colors` is missing or no
            dual encoder, or a template is set.
        TableError: the file of metadata is not as it should be.
        CheckpointError: the detector cannot be loaded.

    >>> class Everywhere:
    ...     classes = None
    ...     def identity(self):
    ...         return {"version": "1"}
    ...     def prepare(self, image):
    ...         return image.size
    ...     def detect(self, prepared, classes, minimum):
    ...         return [{name: [Detection((0, 0, *size, 1.0))] for name in names}
    ...                 for size, names in zip(prepared, classes)]
    >>> dogs = [Requirement(f"{n} dogs", "counting", ({"class": "dog", "count": n},))
    ...         for n in (1, 2)]
    >>> scorer = ObjectScorer(detector=Everywhere(), metadata=Requirements(dogs), device="cpu")
    >>> scorer(Image.new("RGB", (8, 8)), ["1 dogs", "2 dogs"])
    tensor([[1., 0.]])
    """

    sharing_mode = "objects of an image found once for all texts"

    def __init__(
        self,
        *,
        metadata: str | os.PathLike[str] | Requirements | None = None,
        detector: str | os.PathLike[str] | Detector | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
        colors: str | Scorer | None = None,
        threshold: float = 0.3,
        counting_threshold: float = 0.9,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(**options)
        for name, value in (("threshold", threshold), ("counting_threshold", counting_threshold)):
            if type(value) not in (int, float) or not 0 <= value < 1:
                raise InputError(f"`{name}={value!r}`: use a number from 0 to less than 1")
        self.check_template()
        self.threshold, self.counting_threshold = threshold, counting_threshold
        if metadata is not None and not isinstance(metadata, Requirements):
            metadata = read_requirements(metadata)
        named = "checkpoint" if detector is None else "detector"
        self.detector = self._load_detector(checkpoint if detector is None else detector, named)
        self.colours: ColourClassifier | None = None
        self._colors = colors
        self._shared_options = {name: options[name] for name in _SHARED if name in options}  # type: ignore[literal-required]
        self._metadata: Requirements | None = None
        if metadata is not None:
            self.metadata = metadata

    @property
    def metadata(self) -> Requirements:
        """What images must show.

        Raises:
            InputError: it is not known.
        """
        if self._metadata is None:
            raise InputError(
                "what an image must show is not guessed from its text: pass a file in the layout "
                "of GenEval's evaluation_metadata.jsonl as `metadata=FILE`, or evaluate on a "
                "benchmark that says it"
            )
        return self._metadata

    @metadata.setter
    def metadata(self, metadata: Requirements) -> None:
        self._metadata = metadata
        if self.colours is None and any(requirement.has_colour for requirement in metadata):
            self.colours = self._load_colours(metadata.name)

    @property
    def needs_requirements(self) -> bool:
        """Whether it does not know what images must show, so that a benchmark is asked."""
        return self._metadata is None

    def with_requirements(self, metadata: Requirements) -> Self:
        """Return a copy that checks these requirements, with the same detector.

        Raises:
            InputError: they ask for colours, and `colors` is missing or no dual encoder.
        """
        other = self.with_template()
        other.metadata = metadata
        return other

    @property
    @override
    def _first_batch_size(self) -> int:
        """The first batch size that is tried: inputs of detectors have a million pixels."""
        size = super()._first_batch_size
        return min(size, MAX_FIRST_BATCH) if self._chosen_batch_size is None else size

    def _load_detector(
        self, source: str | os.PathLike[str] | Detector | None, argument: str
    ) -> Detector:
        if isinstance(source, (str, os.PathLike)):
            folder = self.locate_weights(os.fspath(source), argument=argument)
            files = [file for end in ("json", "txt") for file in folder.glob(f"*.{end}")]
            self.files = [*weight_files(folder), *sorted(files)]
            # The name and the commit on the hub; the files of a folder are hashed all the same.
            hub = "" if Path(source).exists() else f"{os.fspath(source)}@{folder.name}"
            return load_detector(folder, hub, self.device, self.dtype)
        if not isinstance(source, Detector):
            raise InputError(
                f"`detector={source!r}` is neither a hub id nor a folder, and lacks `classes`, "
                "`identity`, `prepare` or `detect`"
            )
        return source

    def _load_colours(self, asking: str) -> ColourClassifier:
        """Load the dual encoder; `asking` is the name of the requirements with colours."""
        if self._colors is None:
            raise InputError(
                f"{asking} asks for colours: name a dual encoder that recognises them, as "
                "`colors='openai:ViT-L-14'`"
            )
        if isinstance(self._colors, str):
            return ColourClassifier(load(self._colors, **self._shared_options))
        return ColourClassifier(self._colors)

    @override
    def check_template(self) -> None:
        """Check that there is no template.

        Raises:
            InputError: there is one.
        """
        if (self.template.question, self.template.answer) != ("{}", ""):
            raise InputError(
                f"{self.name!r} finds a text in its metadata as it is, and reads it nowhere else: "
                "leave templates out"
            )

    @override
    def to(self, device: str | torch.device) -> Self:
        super().to(device)
        if self.colours is not None:
            self.colours.encoder.to(device)
        return self

    @override
    def identity(self) -> dict[str, str]:
        return {
            **self.detector.identity(),
            "metadata": "none" if self._metadata is None else self._metadata.hash,
            "threshold": repr(float(self.threshold)),
            "counting_threshold": repr(float(self.counting_threshold)),
            "colors": "none" if self.colours is None else f"[{self.colours.encoder.id}]",
            **super().identity(),
        }

    @override
    def evaluate_blocks(
        self, blocks: Sequence[Block], progress: Progress | bool | None = None
    ) -> ScoringResult:
        """Score as `Scorer.evaluate_blocks` does.

        Raises:
            InputError: the metadata say nothing of a text, or name a class that the detector does
                not know; nothing was computed.
        """
        for text in dict.fromkeys(text for block in blocks for text in block.texts):
            self._requirement(text)
        return super().evaluate_blocks(blocks, progress)

    def _requirement(self, text: str) -> Requirement:
        requirement = self.metadata.of_prompt(text)
        check_classes(self.detector, requirement.classes)
        return requirement

    @override
    def load(self, media: Media) -> tuple[str, Image.Image]:
        return media.key, self.load_image(media)

    @override
    def preprocess(self, image: Any) -> Input:
        key, decoded = image
        upright = decoded
        if self.image_mode == "original":  # which is upright there too, and has no alpha
            upright = ImageOps.exif_transpose(decoded).convert("RGB")
        return Input(key, upright, self.detector.prepare(upright))

    @override
    def score_cells(
        self, images: Sequence[Media], texts: Sequence[Text], cells: Cells
    ) -> Iterator[ScoreChunk]:
        rows, spans = by_image(cells)
        media = [images[row] for row in rows]
        of_text = [self.metadata.of_prompt(caption_text(text)) for text in texts]
        required = {
            item.key: [of_text[j] for j in cells[span, 1].tolist()]
            for item, span in zip(media, spans, strict=True)
        }
        for encoded, failed in self._encode_in_batches(
            media, lambda batch: self._check(batch, [required[image.key] for image in batch])
        ):
            for n, reason in failed.items():
                yield ScoreChunk(spans[n], None, reason)
            for n, checks in encoded.items():
                for position, check in zip(spans[n], checks, strict=True):
                    where, detail = np.array([position]), [check.as_json()]
                    if check.error:
                        yield ScoreChunk(where, None, f"{media[n].name}: {check.error}", detail)
                    else:
                        value = torch.tensor([check.score], dtype=torch.float32)
                        yield ScoreChunk(where, value, None, detail)

    def _check(
        self, batch: Sequence[Input], required: Sequence[Sequence[Requirement]]
    ) -> list[list[ObjectCheck]]:
        """Find the objects of each image once, and check them against each of its requirements."""
        classes = [
            list(dict.fromkeys(name for requirement in listed for name in requirement.classes))
            for listed in required
        ]
        minimum = min(self.threshold, self.counting_threshold)
        detections = self.detector.detect([image.prepared for image in batch], classes, minimum)
        selected = [
            [
                select_boxes(
                    {name: of_class.get(name, ()) for name in requirement.classes},
                    requirement.tag,
                    self.threshold,
                    self.counting_threshold,
                )
                for requirement in listed
            ]
            for of_class, listed in zip(detections, required, strict=True)
        ]
        embeddings = self._embed_crops(batch, required, selected)
        return [
            [
                self._check_requirement(requirement, objects, embeddings)
                for requirement, objects in zip(listed, of_image, strict=True)
            ]
            for listed, of_image in zip(required, selected, strict=True)
        ]

    def _embed_crops(
        self,
        batch: Sequence[Input],
        required: Sequence[Sequence[Requirement]],
        selected: Sequence[Sequence[Mapping[str, Sequence[Detection]]]],
    ) -> dict[Detection, torch.Tensor | ScoringError]:
        """Embed all objects whose colour will be looked at, together."""
        crops: dict[Detection, Image.Image] = {}
        embeddings: dict[Detection, torch.Tensor | ScoringError] = {}
        for image, listed, of_image in zip(batch, required, selected, strict=True):
            for requirement, objects in zip(listed, of_image, strict=True):
                for detection in _coloured(requirement, objects):
                    try:
                        crops[detection] = crop_object(image.image, detection)
                    except ScoringError as error:
                        embeddings[detection] = error
        if crops and self.colours is not None:
            rows = self.colours.embed([*crops.values()])
            embeddings.update(zip(crops, rows, strict=True))
        return embeddings

    def _check_requirement(
        self,
        requirement: Requirement,
        objects: Mapping[str, Sequence[Detection]],
        embeddings: Mapping[Detection, torch.Tensor | ScoringError],
    ) -> ObjectCheck:
        colours: dict[str, list[str]] = {}

        def colour_of(name: str, detection: Detection) -> str:
            embedding = embeddings[detection]
            if isinstance(embedding, ScoringError):
                raise embedding
            assert self.colours is not None  # checked when the scorer was made
            colour = self.colours.colour(name, embedding)
            colours.setdefault(name, []).append(colour)
            return colour

        try:
            outcome = check_objects(objects, requirement.clauses, colour_of)
        except ScoringError as error:
            return ObjectCheck(requirement, objects, colours, [], str(error))
        return ObjectCheck(requirement, objects, colours, outcome.reasons)

    @override
    def explain_image(self, image: Media, texts: Sequence[str], top: int) -> list[Explanation]:
        required = [self._requirement(text) for text in texts]
        (checks,) = self._check([self.prepare(image)], [required])
        return [
            ObjectExplanation(check.score, text, (), check)
            for text, check in zip(texts, checks, strict=True)
        ]


def _coloured(
    requirement: Requirement, objects: Mapping[str, Sequence[Detection]]
) -> Iterator[Detection]:
    """Yield the objects whose colour `check_objects` asks for."""
    for clause in requirement.include:
        looked_at = objects.get(clause["class"], ())[: clause["count"]]
        if "color" in clause and len(looked_at) == clause["count"]:
            yield from looked_at


def _describe(clause: Mapping[str, Any], clauses: Sequence[Mapping[str, Any]]) -> str:
    """Return a clause in words, as "1 red dog left of cat"."""
    words = [str(clause["count"]), clause.get("color", ""), clause["class"]]
    if "position" in clause:
        relation, index = clause["position"]
        words += [relation, clauses[index]["class"]]
    return " ".join(filter(None, words))
