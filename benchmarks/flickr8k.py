"""Flickr8K-Expert and -CF (Hodosh et al. 2013): ratings of captions for photographs.

    https://github.com/jbrownlee/Datasets/releases/tag/Flickr8k    Flickr8k_text, Flickr8k_Dataset
    ROOT/Flickr8k.token.txt             photograph#number, tab, caption; or in ROOT/Flickr8k_text
    ROOT/ExpertAnnotations.txt          photograph, photograph#number, three ratings from 1 to 4
    ROOT/CrowdFlowerAnnotations.txt     photograph, photograph#number, share of yes, yes, no
    ROOT/Flicker8k_Dataset/...jpg       the photographs (the archive spells it so), or ROOT/Images

An item is a photograph with all captions that were rated for it; its own five captions are the
references. Captions are as in the file, with single spaces.

Expert: pairs whose caption is one of the photograph's own are left out, as everywhere since SPICE;
5,664 pairs stay. Each of the three ratings is an observation, 16,992 in all, and tau-c is the
published metric; it would be higher with averaged ratings.
CF: the human value is the share of yes, tau-b is the published metric. A caption of the photograph
itself is scored without itself among the references; such captions are items of their own.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, TypeAlias

from typing_extensions import override

from t2v_eval.errors import BenchmarkDataError
from t2v_eval.evaluation.benchmark import Item

from .forms.published import Published, number, read_tab_separated
from .forms.ratings import RatingsForm

RatedCaptions: TypeAlias = list[tuple[str, list[float]]]  # (name of a caption, its ratings)
TEXT_FOLDER = "Flickr8k_text"


class Flickr8k(Published, RatingsForm):
    """What both sets of ratings have in common."""

    judgements: ClassVar[str]
    columns: ClassVar[int]
    keeps_own: ClassVar[bool]

    @override
    def read(self, folder: Path) -> Iterator[Item]:
        captions = self._captions()
        by_photograph: dict[str, list[str]] = {}
        for name in captions:
            by_photograph.setdefault(name.partition("#")[0], []).append(name)
        for photograph, rated in self._rated_captions(captions).items():
            if photograph not in by_photograph:
                raise BenchmarkDataError(
                    f"Flickr8k.token.txt has no caption of {photograph}, which was rated"
                )
            own_names = by_photograph[photograph]
            others = [caption for caption in rated if caption[0] not in own_names]
            parts = [(photograph, others, own_names)] if others else []
            if self.keeps_own:
                for name, values in rated:
                    if name in own_names:
                        rest = [other for other in own_names if other != name]
                        parts.append((f"{photograph} {name}", [(name, values)], rest))
            for item_id, scored, references in parts:
                yield Item(
                    images=[self.image_path(photograph, "Flicker8k_Dataset", "Images", ".")],
                    texts=[captions[name] for name, _ in scored],
                    labels={"human": [values for _, values in scored]},
                    references=[[captions[name] for name in references]],
                    id=item_id,
                )

    def _captions(self) -> dict[str, str]:
        path = self.file("Flickr8k.token.txt", f"{TEXT_FOLDER}/Flickr8k.token.txt")
        captions: dict[str, str] = {}
        for name, caption in read_tab_separated(path, 2):
            if name in captions:
                raise BenchmarkDataError(f"{path}: {name} occurs twice")
            captions[name] = " ".join(caption.split())
        return captions

    def _rated_captions(self, captions: dict[str, str]) -> dict[str, RatedCaptions]:
        path = self.file(self.judgements, f"{TEXT_FOLDER}/{self.judgements}")
        rated: dict[str, RatedCaptions] = {}
        pairs = set()
        for photograph, name, *values in read_tab_separated(path, self.columns):
            where = f"{path}: {photograph} with {name}"
            if name not in captions:
                raise BenchmarkDataError(f"{where}: Flickr8k.token.txt has no caption {name}")
            if (photograph, name) in pairs:
                raise BenchmarkDataError(f"{where} occurs twice")
            pairs.add((photograph, name))
            rated.setdefault(photograph, []).append((name, self._values(values, where)))
        return rated

    @abstractmethod
    def _values(self, values: list[str], where: str) -> list[float]:
        """Parse the ratings of one row of the file."""


class Expert(Flickr8k):
    """Expert ratings: three per pair, each an observation."""

    metric_names = ("tau_c", "tau_b", "spearman", "pearson", "acc23")
    judgements = "ExpertAnnotations.txt"
    columns = 5
    keeps_own = False

    def _values(self, values: list[str], where: str) -> list[float]:
        return [number(rating, f"{where}: a rating", 1, 4) for rating in values]


class CrowdFlower(Flickr8k):
    """Crowd ratings: the share of people who said yes."""

    metric_names = ("tau_b", "tau_c", "spearman", "pearson", "acc23")
    judgements = "CrowdFlowerAnnotations.txt"
    columns = 5
    keeps_own = True

    def _values(self, values: list[str], where: str) -> list[float]:
        return [number(values[0], f"{where}: the share of yes", 0, 1)]
