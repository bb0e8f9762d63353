"""Sample quality: distances of the images of both generators to a reference."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from scipy import special

from t2v_eval.errors import InputError
from t2v_eval.evaluation.distances.distance import distance
from t2v_eval.evaluation.distances.feature_set import FeatureSet, as_feature_set
from t2v_eval.evaluation.distances.folders import extract_folder
from t2v_eval.evaluation.distances.metrics import METRICS
from t2v_eval.evaluation.distances.parts import Tags, split
from t2v_eval.evaluation.distances.result import PairDistances
from t2v_eval.extractors.extractor import Extractor
from t2v_eval.extractors.names import default_extractor
from t2v_eval.protocol.figures import Figure, PillarResult, Source, two_sided
from t2v_eval.protocol.generated import GeneratedImages, ProtocolImages
from t2v_eval.protocol.plan import Distance, ProtocolPlan
from t2v_eval.stats.bootstrap import Interval

HIGHER = frozenset(
    "precision recall density coverage precision-k3 recall-k3 inception-score is-infinity vendi "
    "authpct".split()
)
"""Metrics of which a higher value is better; of the others, a lower one is."""

MISSING = (
    "write a folder of reference images as `reference` under [sample_quality] in the plan, and "
    "which distances to compute; 500 images suffice for kid and cmmd, fid needs 10,000"
)
LEAST = 10
"""Images and reference images from which on a distance has limits: resamples of a few images are
nearly those images again, so that their limits are much too narrow."""
LEAST_OF_TAG = 50
"""Images of a tag from which on its distances are computed; of fewer, they say nothing."""
GAMED_BY = {
    "fid": "a larger number of images; images resized as the reference was",
    "precision": "a few safe images, repeated: recall falls",
    "recall": "noise and variety without quality: precision falls",
    "inception-score": "one clear object of each class, whatever the prompt",
    "vendi": "variety without quality",
}
GAMED_BY_ANY = (
    "copies of the reference, its style, resolution and compression; nothing here reads the prompt"
)


def measure_quality(
    plan: ProtocolPlan,
    images: ProtocolImages,
    extractors: Sequence[tuple[Distance, Extractor]],
    command: str,
    *,
    cache: str | os.PathLike[str] | None = None,
    progress: Callable[[str], None] | None = None,
) -> PillarResult:
    """Compute the distances of a plan for both generators, of all prompts and by tag.

    Args:
        plan: the plan.
        images: the images of both generators.
        extractors: the networks of `plan.sample_quality.distances`, loaded.
        command: the command of the report.
        cache: the folder of files that keep features between runs; None keeps none.
        progress: called with a line from time to time.

    Raises:
        InputError: a folder cannot be read.
    """
    quality = plan.sample_quality
    if not quality.reference or not quality.distances:
        return PillarResult("sample_quality", missing=MISSING)
    figures: list[Figure] = []
    by_tag: dict[str, list[Figure]] = {}
    warnings: dict[str, None] = {}
    reference = Path(plan.path(quality.reference))
    for entry, extractor in extractors:
        extract = partial(extract_folder, extractor=extractor, cache=cache, progress=progress)
        base = as_feature_set(reference, "reference", extract)
        sets = [features_of(g, extractor, cache, progress) for g in images.generators]
        measure = _Measure(plan, entry, base, command, images, progress)
        of_all, notes = measure.figures(sets)
        figures += of_all
        warnings |= dict.fromkeys(notes)
        if quality.by_category:
            for tag, of_tag, notes_of_tag in measure.by_tag(sets):
                by_tag.setdefault(tag, []).extend(of_tag)
                warnings |= dict.fromkeys(notes_of_tag)
    return PillarResult("sample_quality", figures, by_tag, warnings=list(warnings))


def features_of(
    generator: GeneratedImages,
    extractor: Extractor,
    cache: str | os.PathLike[str] | None = None,
    progress: Callable[[str], None] | None = None,
) -> FeatureSet:
    """Return the features of the images of a generator, seed by seed.

    Args:
        generator: its images.
        extractor: turns images into features.
        cache: the folder of files that keep features between runs; None keeps none.
        progress: called with a line from time to time.

    Raises:
        InputError: no image can be read.
    """
    files = [path for seed in sorted(generator.images) for path in generator.images[seed]]
    rows: dict[str, tuple[FeatureSet, int]] = {}
    facts: dict[str, object] = {}
    unreadable: dict[str, str] = {}
    for folder in generator.folders:
        names = {path.relative_to(folder).as_posix() for path in files if _is_in(path, folder)}
        part = extract_folder(folder, extractor, cache=cache, only=names, progress=progress)
        facts = dict(part.extractor)
        unreadable |= part.extractor["files"]["unreadable"]
        rows |= {str(folder / name): (part, row) for row, name in enumerate(part.names)}
    present = [str(path) for path in files if str(path) in rows]
    parts = [rows[name] for name in present]
    logits = [part.logits[row] for part, row in parts if part.logits is not None]
    return FeatureSet(
        generator.name,
        np.stack([part.features[row] for part, row in parts if part.features is not None]),
        np.stack(logits) if logits else None,
        names=tuple(present),
        extractor={**facts, "files": {"count": len(present), "unreadable": unreadable}},
    )


def _is_in(path: Path, folder: Path) -> bool:
    return folder in path.parents


@dataclass(frozen=True)
class _Measure:
    """Computes the metrics of one network."""

    plan: ProtocolPlan
    distance: Distance
    reference: FeatureSet
    command: str
    images: ProtocolImages
    progress: Callable[[str], None] | None

    def figures(self, sets: Sequence[FeatureSet]) -> tuple[list[Figure], list[str]]:
        """Return the figures of all prompts, with the spread between seeds, and warnings."""
        pairs = self._distances(sets, self.plan.resamples)
        by_seed = [
            [self._distances([part], 0)[0] for part in self._seeds(features, generator)]
            for features, generator in zip(sets, self.images.generators, strict=True)
        ]
        figures = []
        for name in pairs[0].metrics:
            spread = tuple(_sd([p.metrics[name].value for p in seeds]) for seeds in by_seed)
            figures.append(self._figure(name, pairs, spread))
        return figures, [line for pair in pairs for line in pair.warnings]

    def by_tag(
        self, sets: Sequence[FeatureSet]
    ) -> Iterator[tuple[str, list[Figure], Sequence[str]]]:
        """Yield each tag with its figures and warnings."""
        tags_of = dict(self._tags())
        if not any(tags_of.values()):
            return
        tags = Tags(Path("prompts"), tags_of, {})
        parts = [
            {_label(part.images): part for part in split(self.reference, side, "tag", tags)}
            for side in sets
        ]
        for label in [name for name in parts[0] if name in parts[1]]:
            both = [side[label] for side in parts]
            if min(part.images.count or 0 for part in both) < LEAST_OF_TAG:
                continue
            reference = both[0].reference or self.reference
            pairs = self._distances([part.images for part in both], self.plan.resamples, reference)
            lines = [line for pair in pairs for line in pair.warnings]
            figures = [self._figure(name, pairs) for name in pairs[0].metrics]
            yield label, figures, [*both[0].notes, *lines]

    def _tags(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Yield the tags of each image; of the reference, the sub-folder that it lies in."""
        for generator in self.images.generators:
            for paths in generator.images.values():
                for path, item in zip(paths, self.images.items, strict=True):
                    yield str(path), tuple(item.tags)
        for name in self.reference.names:
            folder, slash, _ = name.partition("/")
            yield name, (folder,) if slash else ()

    def _seeds(self, features: FeatureSet, generator: GeneratedImages) -> Iterator[FeatureSet]:
        """Yield the images of each seed, where there are several."""
        place = {name: row for row, name in enumerate(features.names)}
        for seed in sorted(generator.images) if generator.seeds > 1 else ():
            rows = [place[str(p)] for p in generator.images[seed] if str(p) in place]
            if len(rows) > 1:
                yield features.rows(np.array(rows), f"{generator.name}, seed {seed}")

    def _distances(
        self, sets: Sequence[FeatureSet], resamples: int, reference: FeatureSet | None = None
    ) -> list[PairDistances]:
        """Return the distances of sets; a metric that cannot be computed is NaN with its reason."""
        base = self.reference if reference is None else reference
        names = list(self.distance.metrics)
        reasons: dict[str, str] = {}
        options = {"resamples": resamples, "seed": self.plan.seed, "progress": self.progress}
        while names:
            try:
                pairs = distance(base, list(sets), names, **options).pairs  # type: ignore[arg-type]
                return [_with_reasons(pair, self.distance.metrics, reasons) for pair in pairs]
            except InputError as error:
                # Which metric cannot be computed is known by trying each alone.
                failing = _failing(base, sets, names)
                reasons |= failing or {name: str(error) for name in names}
                names = [name for name in names if name not in reasons]
        return [
            _with_reasons(
                PairDistances(base.name, s.name, {"images": s.count}, {}, ()),
                self.distance.metrics,
                reasons,
            )
            for s in sets
        ]

    def _figure(
        self,
        name: str,
        pairs: Sequence[PairDistances],
        seed_sd: Sequence[float] = (math.nan, math.nan),
    ) -> Figure:
        model, baseline = (pair.metrics[name] for pair in pairs)
        counts = [n for pair in pairs for n in pair.counts.values() if n is not None]
        few = min(counts, default=0) < LEAST
        if few:
            model, baseline = (Interval(v.value, math.nan, math.nan) for v in (model, baseline))
        difference = model.minus(baseline)
        network = self.distance.features or default_extractor()
        notes = dict.fromkeys(pair.reasons[name] for pair in pairs if name in pair.reasons)
        if few:
            notes[f"no limits: they need {LEAST} images and {LEAST} of reference"] = None
        generators = self.images.generators
        return Figure(
            name=f"{name} ({network})",
            measures=METRICS[name].meaning,
            model=model,
            baseline=baseline,
            difference=difference,
            higher_is_better=name in HIGHER,
            p=_p_value(difference),
            seed_sd=(seed_sd[0], seed_sd[1]),
            gamed_by=f"{GAMED_BY[name]}; {GAMED_BY_ANY}" if name in GAMED_BY else GAMED_BY_ANY,
            notes=list(notes),
            source=Source(
                command=self.command,
                made_by=_made_by(self.reference),
                n=min(pair.counts["images"] or 0 for pair in pairs),
                unit="images",
                files=[
                    self.plan.path(self.plan.sample_quality.reference),
                    *(str(folder) for g in generators for folder in g.folders),
                ],
            ),
        )


def _label(features: FeatureSet) -> str:
    """Return the tag in the name of a part, which `split` writes behind that of the whole set."""
    return features.name.partition(", ")[2]


def _made_by(reference: FeatureSet) -> str:
    facts = {key: fact for key, fact in reference.extractor.items() if key != "files"}
    return json.dumps(facts, ensure_ascii=False, sort_keys=True)


def _failing(
    reference: FeatureSet, sets: Sequence[FeatureSet], names: Sequence[str]
) -> dict[str, str]:
    """Return why metrics cannot be computed at all, by name."""
    reasons = {}
    for name in names:
        try:
            distance(reference, list(sets), name, resamples=0)
        except InputError as error:
            reasons[name] = str(error)
    return reasons


def _with_reasons(
    pair: PairDistances, names: Sequence[str], reasons: Mapping[str, str]
) -> PairDistances:
    unknown = Interval(math.nan, math.nan, math.nan)
    metrics = {name: pair.metrics.get(name, unknown) for name in [*names, *pair.metrics]}
    return PairDistances(
        pair.reference,
        pair.images,
        pair.counts,
        metrics,
        pair.warnings,
        {**pair.reasons, **{name: why for name, why in reasons.items() if name in metrics}},
    )


def _p_value(difference: Interval) -> float:
    """Return the p-value of a difference being 0, from its 95 % interval.

    The standard error is that of the side on which 0 lies, so that p is below 0.05 exactly where
    the interval excludes 0.
    """
    side = difference.low if difference.value > 0 else difference.high
    error = abs(difference.value - side) / float(special.ndtri(0.975))
    return two_sided(difference.value, error, math.inf)


def _sd(values: Sequence[float]) -> float:
    finite = [value for value in values if not math.isnan(value)]
    return float(np.std(finite, ddof=1)) if len(finite) > 1 else math.nan
