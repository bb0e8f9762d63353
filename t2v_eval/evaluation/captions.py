"""Captions of the pictures and videos of a folder, in the JSON form of the CLIPScore repository.

Candidates are ``{"image id": "caption"}``, references ``{"image id": ["caption", ...]}``; the id of
a picture is its file's name without the ending. Results are ``{"image id": {"CLIPScore": 0.7}}``.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from t2v_eval.errors import InputError, T2VWarning, TableError
from t2v_eval.inputs.media import VIDEOS, check_texts
from t2v_eval.inputs.tables import rescuing
from t2v_eval.scoring.plan import Block
from t2v_eval.scoring.results import CellCounts, Progress
from t2v_eval.scoring.scorer import Scorer
from t2v_eval.utils.files import write_text
from t2v_eval.utils.regular_file import read_text

ENDINGS = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp", *VIDEOS})


@dataclass(frozen=True, slots=True)
class CaptionScores:
    """What `score_captions` found out.

    `scores` holds a value for each key by image id, None where the picture could not be scored;
    `failures` says why. `unused` are the ids of candidates that have no picture.
    """

    scores: Mapping[str, Mapping[str, float | None]]
    counts: CellCounts
    failures: Mapping[str, str] = field(default_factory=dict)
    unused: Sequence[str] = ()

    def means(self) -> dict[str, float]:
        """The mean of each key over the pictures that were scored; NaN where none was."""
        keys = dict.fromkeys(key for row in self.scores.values() for key in row)
        found = {k: [v for r in self.scores.values() if (v := r[k]) is not None] for k in keys}
        return {k: math.fsum(v) / len(v) if v else math.nan for k, v in found.items()}

    def write(self, path: str | Path) -> None:
        """Write `scores` as JSON, whole or not at all.

        Raises:
            OutputError: the file cannot be written; the message says where the scores are instead.
        """
        rows = {image: dict(row) for image, row in self.scores.items()}
        listed = [{"image": image, **row} for image, row in rows.items()]
        with rescuing(Path(path), listed):
            write_text(path, json.dumps(rows, indent=1, ensure_ascii=False) + "\n")


@dataclass(frozen=True, slots=True)
class Captions:
    """The captions of the pictures of a folder, and their references, where there are any.

    `files` are the pictures by image id; `unused` the ids of captions without a picture, and `bad`
    says of pictures that cannot be scored why.
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
            skip: whether pictures that lack a caption or references go to `bad`.

        Raises:
            TableError: a file that is not of this form, or a picture without a caption or
                references; the message names those that lack one. With `skip`, only if no picture
                is left.
        """
        files = _pictures(Path(images).expanduser())
        bad: dict[str, str] = {}
        captions = _read(candidates, files, bad if skip else None)
        listed = None
        if references is not None:
            listed = _read(references, files, bad if skip else None, True)
        unused = [name for name in captions if name not in files]
        files = {name: path for name, path in files.items() if name not in bad}
        if not files:
            raise TableError(f"no picture can be used: {next(iter(bad.values()))}")
        if unused:
            warnings.warn(
                f"{len(unused)} of {len(captions)} captions in {candidates} have no picture in "
                f"{images} and are left out: {_some(unused)}",
                T2VWarning,
                stacklevel=3,
            )
        return cls(files, captions, listed, unused, bad)

    def score(self, scorer: Scorer, progress: Progress | None = None) -> CaptionScores:
        """Score each picture's caption; see `score_captions`."""
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
    progress: Progress | None = None,
) -> CaptionScores:
    """Score the candidate caption of every picture of a folder.

    With references, a scorer that uses them gives both what it says with and without them, as the
    original does; every picture and text is encoded once for both.

    Args:
        candidates, references: the JSON files.
        images: the folder; files of `ENDINGS` in any case are pictures or videos, which scorers
            of pictures fail on; others are left alone.

    Raises:
        TableError: a file that is not of this form, or a picture without a caption or references;
            the message names those that lack one.
        InputError: references for a scorer that uses none, or the other way round.
    """
    _check_uses(scorer, references is not None)
    skip = scorer.on_error == "skip"
    return Captions.read(candidates, images, references, skip).score(scorer, progress)


def _check_uses(scorer: Scorer, references: bool) -> None:
    if scorer.uses_references != references:
        remedy = "pass a file of references" if scorer.uses_references else "leave references away"
        uses = "uses references" if scorer.uses_references else "does not use references"
        raise InputError(f"{scorer.name!r} {uses}: {remedy} or take another scorer")


def _pictures(folder: Path) -> dict[str, str]:
    """The pictures and videos of a folder by image id, sorted."""
    try:
        listed = sorted(folder.iterdir())
    except OSError as error:
        raise TableError(f"{folder} is not a folder of pictures: {error.strerror}") from error
    files: dict[str, str] = {}
    for path in listed:
        if path.suffix.lower() in ENDINGS and not path.name.startswith("."):
            if path.stem in files:
                raise TableError(
                    f"{folder}: {Path(files[path.stem]).name} and {path.name} are both the picture "
                    f"{path.stem!r}; keep one of them"
                )
            files[path.stem] = str(path)
    if not files:
        raise TableError(f"{folder} holds no pictures ({', '.join(sorted(ENDINGS))})")
    return files


def _read(
    path: str | Path, files: Mapping[str, str], bad: dict[str, str] | None, listed: bool = False
) -> dict[str, Any]:
    """A JSON object of captions, or of lists of captions; a single one may stand without a list.

    Where `bad` is a dictionary, pictures without a usable one are put into it instead of raising.
    """
    path = Path(path).expanduser()
    try:
        table = json.loads(read_text(path, "utf-8-sig"))
    except FileNotFoundError:
        raise TableError(f"{path}: no such file") from None
    except OSError as error:
        raise TableError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise TableError(f"{path} is not JSON: {error}") from None
    form = "a list of captions" if listed else "a caption"
    if not isinstance(table, dict):
        raise TableError(f"{path} holds {type(table).__name__}; expected {{image id: {form}}}")
    rows = {}
    for name, value in table.items():
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
            f"{len(lacking)} pictures have no {what} in {path}: {_some(lacking)}. Add them, or "
            "move those pictures away; the id of a picture is its file's name without the ending"
        )
    if bad is not None:
        bad |= dict.fromkeys(lacking, f"no {what} in {path}")
    return rows if listed else {name: texts[0] for name, texts in rows.items()}


def _some(names: Sequence[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(repr, names[:most])) + more
