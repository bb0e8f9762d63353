"""Score captions of the images in a folder, in the JSON form of the CLIPScore repository.

Candidates are ``{"image id": "caption"}``, references ``{"image id": ["caption", ...]}``; an image
id is the file name without its ending. Results are ``{"image id": {"CLIPScore": 0.7}}``.
"""

from __future__ import annotations

import json
import math
import unicodedata
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from t2v_eval.errors import InputError, T2VWarning, TableError
from t2v_eval.evaluation.captioning.baselines import Baselines, compute_baselines
from t2v_eval.evaluation.captioning.bert import BertModel
from t2v_eval.evaluation.captioning.java import TIMEOUT
from t2v_eval.evaluation.captioning.measured import Measured
from t2v_eval.evaluation.captioning.tokens import Tokenizer
from t2v_eval.evaluation.selection import first_few
from t2v_eval.inputs.folders import GLOB, IMAGES, files_in
from t2v_eval.inputs.media import VIDEOS, check_texts
from t2v_eval.inputs.tables import rescuing, write_table
from t2v_eval.scoring.plan import Block
from t2v_eval.scoring.results import CellCounts, Progress
from t2v_eval.scoring.scorer import Scorer
from t2v_eval.stats.bootstrap import IntArray, Interval, Statistic, bootstrap_interval
from t2v_eval.utils.arguments import check_path
from t2v_eval.utils.files import write_text
from t2v_eval.utils.text_file import parse_json, read_text

TABLES = (".csv", ".jsonl", ".parquet")  # endings of tables that scores are written to
ENDINGS = frozenset({*IMAGES, *VIDEOS})


@dataclass(frozen=True, slots=True)
class CaptionScores:
    """The result of `score_captions`.

    Attributes:
        scores: for each image id a value by key, None where the image could not be scored.
        counts: the number of scored and failed cells.
        failures: why an image could not be scored, by image id.
        unused: the ids of candidates without an image.

    >>> CaptionScores({"cat": {"CLIPScore": 0.7}, "dog": {"CLIPScore": 0.5}}, CellCounts(2)).means()
    {'CLIPScore': 0.6}
    """

    scores: Mapping[str, Mapping[str, float | None]]
    counts: CellCounts
    failures: Mapping[str, str] = field(default_factory=dict)
    unused: Sequence[str] = ()

    def means(self) -> dict[str, float]:
        """Return the mean of each key over the scored images; NaN without any."""
        keys = dict.fromkeys(key for row in self.scores.values() for key in row)
        values = {k: [v for r in self.scores.values() if (v := r[k]) is not None] for k in keys}
        return {k: math.fsum(v) / len(v) if v else math.nan for k, v in values.items()}

    def beside(self, baselines: Baselines, images: Sequence[str]) -> CaptionScores:
        """Return the scores with those of baselines behind them.

        Args:
            baselines: the baselines of the same captions.
            images: the image ids of the captions, in their order.

        >>> import numpy as np
        >>> scores = CaptionScores({"cat": {"CLIPScore": 0.7}}, CellCounts(1))
        >>> scores.beside(Baselines({"CIDEr": np.array([2.5])}, {}), ["cat"]).scores["cat"]
        {'CLIPScore': 0.7, 'CIDEr': 2.5}
        """
        at = {image: index for index, image in enumerate(images)}
        none = dict.fromkeys(baselines.each)
        rows = {
            image: {**row, **(baselines.of_caption(at[image]) if image in at else none)}
            for image, row in self.scores.items()
        }
        return replace(self, scores=rows)

    def intervals(self) -> dict[str, Interval]:
        """Return the mean of each key with its 95 % interval over the scored images."""
        result = {}
        for key, mean in self.means().items():
            scored = np.array([v for row in self.scores.values() if (v := row[key]) is not None])
            result[key] = Interval(mean, math.nan, math.nan)
            if len(scored):
                corpus = Measured.mean(scored).corpus
                result[key] = bootstrap_interval(_named(key, corpus), len(scored))[key]
        return result

    def write(self, path: str | Path) -> None:
        """Write `scores`, completely or not at all.

        Args:
            path: a ``.csv``, ``.jsonl`` or ``.parquet`` file for a table with a row for each image;
                any other file gets the JSON of the CLIPScore repository.

        Raises:
            OutputError: the file cannot be written; the message names the file that has the scores
                instead.
        """
        rows = {image: dict(row) for image, row in self.scores.items()}
        listed = [{"image": image, **row} for image, row in rows.items()]
        with rescuing(Path(path), listed):
            if Path(path).suffix.lower() in TABLES:
                write_table(path, listed)
            else:
                write_text(path, json.dumps(rows, indent=1, ensure_ascii=False) + "\n")


@dataclass(frozen=True, slots=True)
class Captions:
    """The captions of the images in a folder, with their references, if any.

    Attributes:
        files: the image files by image id.
        captions: the captions by image id.
        references: the reference captions by image id.
        unused: the ids of captions without an image.
        bad: why an image cannot be scored, by image id.

    >>> import tempfile
    >>> from PIL import Image
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Image.new("RGB", (48, 48), "red").save(Path(folder) / "red.png")
    ...     _ = (Path(folder) / "captions.json").write_text('{"red": "a red square"}')
    ...     captions = Captions.read(Path(folder) / "captions.json", folder)
    >>> captions.captions
    {'red': 'a red square'}
    """

    files: Mapping[str, str]
    captions: Mapping[str, str]
    references: Mapping[str, Sequence[str]] | None
    unused: Sequence[str]
    bad: Mapping[str, str]

    @classmethod
    def read(
        cls,
        candidates: str | Path,
        images: str | Path,
        references: str | Path | None = None,
        skip: bool = False,
    ) -> Captions:
        """Read the files; see `score_captions`.

        Args:
            candidates: the JSON file of the captions.
            references: the JSON file of the reference captions.
            images: the folder, or a glob of files.
            skip: whether images without a caption or references go to `bad`.

        Raises:
            TableError: a file has another form, or an image has no caption or references; the
                message names the images. With `skip`, only if no image is left.
        """
        files = _image_files(check_path("images", images))
        bad: dict[str, str] = {}
        captions = _read(candidates, files, bad if skip else None)
        listed = None
        if references is not None:
            listed = _read(references, files, bad if skip else None, True)
        unused = [name for name in captions if name not in files]
        files = {name: path for name, path in files.items() if name not in bad}
        if not files:
            raise TableError(f"no image can be scored: {next(iter(bad.values()))}")
        if unused:
            warnings.warn(
                f"{len(unused)} of {len(captions)} captions in {candidates} have no image in "
                f"{images} and are left out: {_first_few(unused)}",
                T2VWarning,
                stacklevel=3,
            )
        return cls(files, captions, listed, unused, bad)

    def baselines(
        self,
        *,
        tokenizer: Tokenizer = "ptb",
        bert: BertModel | None = None,
        timeout: float = TIMEOUT,
    ) -> Baselines:
        """Compare the caption of each image in `files`, in that order, with its references.

        Args:
            tokenizer: as in `compute_baselines`.
            bert: the model of BERTScore; None leaves it out.
            timeout: seconds after which each Java program is stopped.

        Raises:
            InputError: there are no references.
            MissingPackageError: pycocoevalcap is not installed, or there is no Java for the
                tokenizer.
            ScoringError: the tokenizer fails.
        """
        if self.references is None:
            raise InputError("baselines compare captions with `references`: pass a file of them")
        references = self.references
        return compute_baselines(
            [self.captions[name] for name in self.files],
            [references[name] for name in self.files],
            tokenizer=tokenizer,
            bert=bert,
            timeout=timeout,
        )

    def score(self, scorer: Scorer, progress: Progress | bool | None = None) -> CaptionScores:
        """Score the caption of each image; see `score_captions`."""
        _check_uses(scorer, self.references is not None)
        files, references = self.files, self.references
        keys = scorer.caption_keys or (scorer.name,)
        columns: dict[str, Mapping[str, Any]] = {keys[0]: dict.fromkeys(files)}
        if references is not None:
            columns |= {keys[-1]: references} if len(keys) > 1 else {keys[0]: references}
        blocks = [
            Block(
                [path], [self.captions[name]], None if references is None else [column[name] or ()]
            )
            for column in columns.values()
            for name, path in files.items()
        ]
        outcome = scorer.evaluate_blocks(blocks, progress)
        lost = len(self.bad) * len(columns)
        counts = replace(
            outcome.counts,
            cells=outcome.counts.cells + lost,
            failed=outcome.counts.failed + lost,
        )
        reasons = {[*files][at[0] % len(files)]: reason for at, reason in outcome.failures.items()}
        values = iter(float(score[0, 0]) for score in outcome.scores)
        by_key = {key: dict(zip(files, values, strict=False)) for key in columns}
        scores: dict[str, dict[str, float | None]] = {
            name: {key: None if math.isnan(v[name]) else v[name] for key, v in by_key.items()}
            for name in files
        }
        scores |= {name: dict.fromkeys(columns) for name in self.bad}
        return CaptionScores(scores, counts, {**self.bad, **reasons}, self.unused)


def score_captions(
    scorer: Scorer,
    candidates: str | Path,
    images: str | Path,
    references: str | Path | None = None,
    progress: Progress | bool | None = None,
) -> CaptionScores:
    """Score the candidate caption of every image in a folder.

    With references, a scorer that uses them returns its score with and without them, as the
    original does; every image and text is encoded once for both.

    Args:
        scorer: any scorer; one that uses references needs them, and no other takes them.
        candidates: the JSON file of the captions.
        references: the JSON file of the reference captions.
        images: the folder, or a glob of files. Files with an ending in `ENDINGS`, in any case, are
            images or videos (on which image scorers fail); other files are ignored.
        progress: called with the counts as they grow.

    Raises:
        TableError: a file has another form, or an image has no caption or references; the message
            names the images.
        InputError: references for a scorer that does not use them, or none for one that does.

    >>> import tempfile, t2v_eval
    >>> from PIL import Image
    >>> scorer = t2v_eval.load("tiny-clip", device="cpu")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Image.new("RGB", (48, 48), "red").save(Path(folder) / "red.png")
    ...     _ = (Path(folder) / "captions.json").write_text('{"red": "a red square"}')
    ...     result = score_captions(scorer, Path(folder) / "captions.json", folder)
    >>> result.counts.used, list(result.scores["red"])
    (1, ['tiny-clip'])
    """
    _check_uses(scorer, references is not None)
    skip = scorer.on_error == "skip"
    return Captions.read(candidates, images, references, skip).score(scorer, progress)


def _named(name: str, corpus: Callable[[IntArray], float]) -> Statistic:
    """Return the statistic of one metric."""
    return lambda indices: {name: corpus(indices)}


def _check_uses(scorer: Scorer, references: bool) -> None:
    if scorer.uses_references != references:
        remedy = "pass a file of references" if scorer.uses_references else "pass no references"
        uses = "uses references" if scorer.uses_references else "does not use references"
        raise InputError(f"{scorer.name!r} {uses}: {remedy} or use another scorer")


def _image_files(folder: Path) -> dict[str, str]:
    """Return the image and video files of a folder, or that match a glob, by image id, sorted."""
    try:
        if set(str(folder)) & GLOB and not folder.exists():
            start = Path(folder.anchor)
            listed = files_in(start, str(folder.relative_to(start)))
        else:
            next(folder.iterdir(), None)  # raises where there is no folder to list
            listed = files_in(folder)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise TableError(f"{folder} is not a folder of images: {why}") from error
    files: dict[str, str] = {}
    for path in listed:
        if path.suffix.lower() in ENDINGS:
            if path.stem in files:
                raise TableError(
                    f"{folder}: {Path(files[path.stem]).name} and {path.name} are both the image "
                    f"{path.stem!r}; remove or rename one of them"
                )
            files[path.stem] = str(path)
    if not files:
        raise TableError(f"{folder} holds no images ({', '.join(sorted(ENDINGS))})")
    return files


def _read(
    path: str | Path, files: Mapping[str, str], bad: dict[str, str] | None, listed: bool = False
) -> dict[str, Any]:
    """Read a JSON object of captions, or of lists of captions; one caption may replace a list.

    Args:
        path: the JSON file.
        files: the image files by image id.
        bad: where to note images without a usable caption; None raises instead.
        listed: whether values are lists of captions.
    """
    path = check_path("path", path)
    try:
        table = parse_json(read_text(path), path)
    except FileNotFoundError:
        raise TableError(f"{path}: no such file") from None
    except OSError as error:
        raise TableError(f"{path} cannot be read: {error.strerror}") from error
    form = "a list of captions" if listed else "a caption"
    if not isinstance(table, dict):
        raise TableError(f"{path} holds {type(table).__name__}; expected {{image id: {form}}}")
    rows: dict[str, list[str]] = {}
    alike = {unicodedata.normalize("NFC", name): name for name in files}
    for key, value in table.items():
        # macOS writes names in NFD, which look the same.
        name = str(key if key in files else alike.get(unicodedata.normalize("NFC", key), key))
        texts = [value] if isinstance(value, str) else value if listed else None
        try:
            if not isinstance(texts, list) or not all(isinstance(t, str) for t in texts):
                raise TableError(f"{path}: {name!r} has {str(value)[:60]!r}; expected {form}")
            rows[name] = check_texts(texts, f"{path}: {name!r}")
        except InputError as error:
            if bad is None:
                raise TableError(str(error)) from None
            if name in files:
                bad[name] = str(error)
    lacking = [name for name in files if name not in rows and name not in (bad or ())]
    what = "references" if listed else "caption"
    if lacking and bad is None:
        raise TableError(
            f"{len(lacking)} images have no {what} in {path}: {_first_few(lacking)}. Add them, or "
            "move those images away; an image id is the file name without its ending"
        )
    if bad is not None:
        bad |= dict.fromkeys(lacking, f"no {what} in {path}")
    return rows if listed else {name: texts[0] for name, texts in rows.items()}


def _first_few(names: Sequence[str]) -> str:
    return first_few([repr(name) for name in names], 5)
