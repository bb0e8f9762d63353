"""Flickr8K-Expert and -CF (Hodosh et al. 2013): how well does a caption describe a photograph?

    https://github.com/jbrownlee/Datasets/releases/tag/Flickr8k    Flickr8k_text, Flickr8k_Dataset
    ROOT/Flickr8k.token.txt             photograph#number, tab, caption; or in ROOT/Flickr8k_text
    ROOT/ExpertAnnotations.txt          photograph, photograph#number, three ratings from 1 to 4
    ROOT/CrowdFlowerAnnotations.txt     photograph, photograph#number, share of yes, yes, no
    ROOT/Flicker8k_Dataset/...jpg       the photographs (the archive spells it so), or ROOT/Images

An item is a photograph with all captions that were judged for it; its own five captions are the
references. Captions are as in the file, with single spaces.

Expert: pairs whose caption is one of the photograph's own are left out, as everywhere since SPICE;
5,664 pairs stay. Each of the three ratings is an observation, 16,992 in all, and tau-c is the
published metric: with the ratings averaged it comes out higher.
CF: the target is the share of yes, tau-b is the published metric. A caption of the photograph
itself is scored without itself among the references; such captions are items of their own.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, TypeAlias

from t2v_eval.errors import BenchmarkDataError
from t2v_eval.evaluation.benchmark import Item

from .forms.published import Published, number, tab_separated
from .forms.ratings import RatingsForm

Judged: TypeAlias = list[tuple[str, list[float]]]  # a caption's name, what people said of it
TEXT = "Flickr8k_text"


class Flickr8k(Published, RatingsForm):
    """What both sets of judgements have in common."""

    judgements: ClassVar[str]
    columns: ClassVar[int]
    keeps_own: ClassVar[bool]

    def read(self, folder: Path) -> Iterator[Item]:
        captions = self._captions()
        own: dict[str, list[str]] = {}
        for name in captions:
            own.setdefault(name.partition("#")[0], []).append(name)
        for photograph, judged in self._judged(captions).items():
            if photograph not in own:
                raise BenchmarkDataError(
                    f"Flickr8k.token.txt has no caption of {photograph}, which was judged"
                )
            others = [one for one in judged if one[0] not in own[photograph]]
            parts = [(photograph, others, own[photograph])] if others else []
            if self.keeps_own:
                for name, values in judged:
                    if name in own[photograph]:
                        rest = [one for one in own[photograph] if one != name]
                        parts.append((f"{photograph} {name}", [(name, values)], rest))
            for name, some, references in parts:
                yield Item(
                    images=[self.image_path(photograph, "Flicker8k_Dataset", "Images", ".")],
                    texts=[captions[one] for one, _ in some],
                    labels={"human": [values for _, values in some]},
                    references=[[captions[one] for one in references]],
                    id=name,
                )

    def _captions(self) -> dict[str, str]:
        path = self.file("Flickr8k.token.txt", f"{TEXT}/Flickr8k.token.txt")
        found: dict[str, str] = {}
        for name, caption in tab_separated(path, 2):
            if name in found:
                raise BenchmarkDataError(f"{path}: {name} occurs twice")
            found[name] = " ".join(caption.split())
        return found

    def _judged(self, captions: dict[str, str]) -> dict[str, Judged]:
        path = self.file(self.judgements, f"{TEXT}/{self.judgements}")
        found: dict[str, Judged] = {}
        seen = set()
        for photograph, name, *values in tab_separated(path, self.columns):
            where = f"{path}: {photograph} with {name}"
            if name not in captions:
                raise BenchmarkDataError(f"{where}: Flickr8k.token.txt has no caption {name}")
            if (photograph, name) in seen:
                raise BenchmarkDataError(f"{where} occurs twice")
            seen.add((photograph, name))
            found.setdefault(photograph, []).append((name, self._values(values, where)))
        return found

    @abstractmethod
    def _values(self, values: list[str], where: str) -> list[float]:
        """The ratings of one row of the file."""


class Expert(Flickr8k):
    """Three ratings a pair, each on its own."""

    metric_names = ("tau_c", "tau_b", "spearman", "pearson", "acc23")
    judgements = "ExpertAnnotations.txt"
    columns = 5
    keeps_own = False

    def _values(self, values: list[str], where: str) -> list[float]:
        return [number(one, f"{where}: a rating", 1, 4) for one in values]


class CrowdFlower(Flickr8k):
    """The share of people who said yes."""

    metric_names = ("tau_b", "tau_c", "spearman", "pearson", "acc23")
    judgements = "CrowdFlowerAnnotations.txt"
    columns = 5
    keeps_own = True

    def _values(self, values: list[str], where: str) -> list[float]:
        return [number(values[0], f"{where}: the share of yes", 0, 1)]
