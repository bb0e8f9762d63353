"""CapArena (Cheng et al. 2025): which of two models described a photograph better, to people?

    https://github.com/njucckevin/CapArena    its link to the annotations, on box.nju.edu.cn
    ROOT/caparena_annots_eval.json    [{"img", "source1", "source2", "caption1", "caption2", "ref",
                                      "winner", "cluster"}]
    ROOT/images/...jpg                the photographs of DOCCI by `img`, here or in ROOT

The file was not seen: these are the keys that the authors' scripts read. `winner` is one of the two
sources, or anything else for a tie. An item is a battle; tags are the clusters, levels of how near
two models are. As in the scripts, battles with a person's description are left out, which is the
reference of the others.

`agreement` is that of vlm_as_a_judge.py at the level of captions. The scripts then compare Elo by a
judge with a fixed ranking by people; ..._system compares win rates in the same battles instead.
`read_results` reads files as caparena_annots_eval_gpt.json, which hold the battles with a `judge`:
"Caption 1 is better.", "Caption 2 is better." or "Tie."; other verdicts are left out, as there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from typing_extensions import override

from t2v_eval.evaluation.benchmark import Benchmark, Item, Scores
from t2v_eval.stats.bootstrap import IntArray, Statistic
from t2v_eval.stats.intervals import Estimate, share_of
from t2v_eval.stats.metrics import FloatArray, kendall_tau_b, spearman
from t2v_eval.stats.ranking import preference_rows

from .forms.published import Published, field, read_json

PERSON = "human"
JUDGED = {"Caption 1 is better": (1, 0), "Caption 2 is better": (0, 1), "Tie": (0.5, 0.5)}


class CaptionBattlesForm(Benchmark):
    """An image and captions of two models, of which people preferred one, or neither.

    ``labels["models"]`` names the models of both captions.

    >>> labels = {"human": [1, 0], "models": ["llava", "gpt-4o"]}
    >>> class Mine(CaptionBattlesForm):
    ...     def items(self):
    ...         return [Item(["cat.jpg"], ["a cat", "a dog"], labels)]
    >>> mine = Mine()
    >>> metrics = mine.metrics(mine.items(), [np.array([[0.9, 0.1]])])
    >>> metrics["agreement"], metrics["tau_b_system"]
    (1.0, 1.0)
    """

    headline = "agreement"
    chance: ClassVar[Mapping[str, float]] = {"accuracy": 0.5}
    meanings: ClassVar[Mapping[str, str]] = {
        "agreement": "the share of battles with the same outcome as people's, first, second or "
        "tie, 0 to 1",
        "accuracy": "the share of battles that people do not tie where the preferred caption "
        "scores higher, 0 to 1, guessing 0.5",
        "spearman_system": "Spearman correlation of the models' win rates by scores and by people "
        "in the same battles, -1 to 1",
        "tau_b_system": "Kendall's tau-b of the same win rates, -1 to 1",
    }

    @override
    def metrics(self, items: Sequence[Item], scores: Scores) -> Mapping[str, float]:
        return self.statistic(items, scores)(np.arange(len(items)))

    @override
    def statistic(self, items: Sequence[Item], scores: Scores) -> Statistic:
        cells = np.array([np.ravel(s) for s in scores], np.float64).reshape(-1, 2)
        human = np.array([item.labels["human"][0] for item in items], np.float64)
        alike = preference_rows(cells, human)
        same = np.where(np.isnan(alike), np.nan, alike == 1)
        names = np.array([item.labels["models"] for item in items]).reshape(-1, 2)
        models = np.unique(names, return_inverse=True)[1].reshape(names.shape)
        outcome = np.sign(cells[:, 0] - cells[:, 1]) / 2 + 0.5

        def compute(index: IntArray) -> Mapping[str, float]:
            decided = index[~np.isnan(outcome[index])]
            rates = [_win_rates(side[decided], models[decided]) for side in (outcome, human)]
            return {
                "agreement": share_of(same[index]),
                "accuracy": share_of(same[index][human[index] != 0.5]),
                "spearman_system": Estimate(spearman(*rates), "percentile"),
                "tau_b_system": Estimate(kendall_tau_b(*rates), "percentile"),
            }

        return compute


class CapArena(Published, CaptionBattlesForm):
    """The battles of the published file in `root`."""

    @override
    def read(self, folder: Path) -> Iterator[Item]:
        for n, row, where in _battles(self.file("caparena_annots_eval.json")):
            yield Item(
                images=[self.image_path(field(row, "img", str, where), "images", ".")],
                texts=[field(row, f"caption{k}", str, where) for k in (1, 2)],
                references=[[field(row, "ref", str, where)]],
                **_facts(n, row, where),
            )

    @override
    def read_results(self, path: str | Path) -> tuple[Sequence[Item], Scores]:
        items, scores = [], []
        for n, row, where in _battles(Path(path)):
            verdict = str(row.get("judge", "")).removesuffix(".")
            items.append(Item((), (), **_facts(n, row, where)))
            scores.append(np.array([JUDGED.get(verdict, (np.nan, np.nan))], np.float32))
        return items, scores


def _battles(path: Path) -> Iterator[tuple[int, Any, str]]:
    """Yield the number and the object of each battle of two models, and where it is."""
    for n, row in enumerate(read_json(path, list), 1):
        where = f"{path}, row {n}"
        if PERSON not in (field(row, "source1", str, where), field(row, "source2", str, where)):
            yield n, row, where


def _facts(n: int, row: Any, where: str) -> dict[str, Any]:
    """Return the labels, the tag, the name and the group of a battle."""
    models = [row["source1"], row["source2"]]
    winner = field(row, "winner", str, where)
    first = models.index(winner) if winner in models else 0.5
    return {
        "labels": {"human": [1 - first, first], "models": models},
        "tags": (field(row, "cluster", str, where),),
        "id": str(n),
        "group": field(row, "img", str, where),
    }


def _win_rates(outcome: FloatArray, models: IntArray) -> FloatArray:
    """Return the win rate of each model that has battles, where a tie is half a win."""
    won = np.bincount(models.ravel(), np.stack([outcome, 1 - outcome], axis=1).ravel())
    count = np.bincount(models.ravel())
    rates: FloatArray = won[count > 0] / count[count > 0]
    return rates
