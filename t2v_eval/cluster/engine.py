"""Load scorers whose images are scored by workers of Ray."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field, fields, replace
from types import TracebackType
from typing import Any, Self

from typing_extensions import override

from t2v_eval.api import ScorerOptions
from t2v_eval.cards import ModelCard
from t2v_eval.cluster.pool import Pool
from t2v_eval.cluster.ray_workers import RayOptions, RayWorkers
from t2v_eval.cluster.scorer import ClusterScorer
from t2v_eval.cluster.worker import Recipe
from t2v_eval.errors import T2VWarning
from t2v_eval.registry import models
from t2v_eval.scoring.scorer import Scorer


class RayEngine:
    """Workers of Ray that score, from the first scorer that is loaded to the end of the block.

    Args:
        options: `workers`, `gpus_per_worker` and `ray_address`; see `RayOptions`.

    Raises:
        InputError: a number is out of range.

    >>> import t2v_eval
    >>> with RayEngine(workers=2) as engine:  # doctest: +SKIP
    ...     scorer = engine.load("clip-flant5-xxl", store="scores.sqlite")
    ...     report = t2v_eval.compare(scorer, "winoground")
    """

    def __init__(self, **options: Any) -> None:
        self.options = RayOptions(**options)
        self._workers: RayWorkers | None = None
        self._pool: Pool | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the workers."""
        if self._workers is not None:
            self._workers.close()
        self._workers = self._pool = None

    def load(self, name: str, **options: Any) -> Scorer:
        """Load the scorer called `name` on the workers.

        Args:
            name: as for `t2v_eval.load`.
            options: as for `t2v_eval.load`; the store is written by this process alone.

        Raises:
            MissingPackageError: Ray is not installed.
            ServiceError: there is no cluster at the address, or Ray cannot be started.
            InputError: Ray has too few CPUs or GPUs.
            ScoringError: workers die while they load it.
            T2VError: as `t2v_eval.load`.
        """
        return self.load_card(models.card(name), ScorerOptions.from_keywords(**options))

    def load_card(self, card: ModelCard, options: ScorerOptions) -> Scorer:
        """Load the scorer of a card, as `load` does of a name.

        A scorer that asks a service is loaded in this process, with a warning: what it waits for
        are answers, which its pool of requests does already.
        """
        if options.asks_service(card):
            warnings.warn(
                f"{card.name!r} asks a service: its requests are sent from this machine, without "
                "Ray",
                T2VWarning,
                stacklevel=2,
            )
            return options.load(card)
        if self._pool is None:
            self._workers = RayWorkers(self.options)
            self._pool = Pool(self._workers)
        recipe = Recipe(card, replace(options, store=None))
        return ClusterScorer(self._pool, recipe, options.store)


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions(ScorerOptions):
    """Options of scorers that are loaded on workers of Ray.

    Attributes:
        engine: the workers.

    >>> EngineOptions.on(RayEngine(workers=2), ScorerOptions(device="cpu")).device
    'cpu'
    """

    engine: RayEngine = field(default_factory=RayEngine)

    @classmethod
    def on(cls, engine: RayEngine, options: ScorerOptions) -> EngineOptions:
        """Return options for the workers of an engine.

        Args:
            engine: the workers.
            options: all other options.
        """
        return cls(engine=engine, **_plain(options))

    @override
    def load(self, card: ModelCard) -> Scorer:
        return self.engine.load_card(card, ScorerOptions(**_plain(self)))


def _plain(options: ScorerOptions) -> dict[str, Any]:
    return {f.name: getattr(options, f.name) for f in fields(ScorerOptions)}
