"""``samples.npz``: the bootstrap samples of each run of a report, and which items belong together.

Each array is named by the index of its run, as `run0_metrics`:

```text
metrics     (K,) names of the metrics
values      (K,) their values on all items
resampled   (K, resamples) the same on each resample; NaN is undefined
units       (items,) the unit that each item is resampled with; see `benchmark.units_of`
```

Equal items, resamples and seed mean equal resamples, so that runs of two reports can be subtracted
resample by resample.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from t2v_eval.errors import InputError
from t2v_eval.evaluation.benchmark import Items, units_of
from t2v_eval.evaluation.run import Run
from t2v_eval.stats.bootstrap import BootstrapSamples, IntArray
from t2v_eval.utils.files import replacing

NAME = "samples.npz"


class RunSamples(NamedTuple):
    """What ``samples.npz`` holds of a run.

    Attributes:
        metrics: names of the metrics.
        values: shape (metrics,), on all items.
        resampled: shape (metrics, resamples).
        units: shape (items,), the unit of each item.

    >>> RunSamples(["score"], np.ones(1), np.ones((1, 9)), np.arange(3)).bootstrap(seed=0).n
    3
    """

    metrics: Sequence[str]
    values: NDArray[np.float64]
    resampled: NDArray[np.float64]
    units: IntArray

    def bootstrap(self, seed: int) -> BootstrapSamples:
        """Return them as the samples of a bootstrap with this seed."""
        values = dict(zip(self.metrics, self.values.tolist(), strict=True))
        resampled = dict(zip(self.metrics, self.resampled, strict=True))
        units = len(np.unique(self.units))
        return BootstrapSamples(units, self.resampled.shape[1], seed, values, resampled)


def write_samples(path: str | Path, runs: Sequence[Run]) -> None:
    """Write the samples of runs over all their items, whole or not at all.

    Raises:
        OutputError: the file cannot be written.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_samples(Path(folder) / NAME, [])
    ...     read_samples(Path(folder) / NAME, 0)
    []
    """
    arrays: dict[str, NDArray[np.generic]] = {}
    for k, run in enumerate(runs):
        samples = run.bootstrap[""]
        units = np.empty(len(run.items), np.int64)
        for unit, members in enumerate(Items.of(run.items).once(units_of)):
            units[members] = unit
        names = list(samples.value)
        arrays |= {
            f"run{k}_metrics": np.array(names, np.str_),
            f"run{k}_values": np.array([samples.value[name] for name in names], np.float64),
            f"run{k}_resampled": np.reshape(
                [samples.resampled[name] for name in names], (len(names), samples.resamples)
            ),
            f"run{k}_units": units,
        }
    with replacing(path, "wb") as stream:
        np.savez(stream, allow_pickle=False, **arrays)


def read_samples(path: str | Path, runs: int) -> list[RunSamples]:
    """Read the samples of each run; code in the file is never run.

    Args:
        path: the file.
        runs: the number of runs of its report.

    Raises:
        InputError: the file cannot be read, or is not of a report with so many runs.

    >>> read_samples("missing.npz", 1)
    Traceback (most recent call last):
    ...
    t2v_eval.errors.InputError: missing.npz cannot be read: No such file or directory
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return [_of_run(arrays, k) for k in range(runs)]
    except KeyError as error:
        raise InputError(
            f"{path} is not of this report, which has {runs} runs: {error.args[0]}; write the "
            "report anew"
        ) from None
    except (OSError, ValueError, EOFError, MemoryError, zipfile.BadZipFile) as error:
        why = getattr(error, "strerror", None) or error
        raise InputError(f"{path} cannot be read: {why}") from error


def _of_run(arrays: np.lib.npyio.NpzFile, k: int) -> RunSamples:
    names, values, resampled, units = (
        arrays[f"run{k}_{name}"] for name in ("metrics", "values", "resampled", "units")
    )
    same_metrics = names.shape == values.shape == resampled.shape[:1]
    if not same_metrics or resampled.ndim != 2 or units.ndim != 1:
        raise ValueError(f"its arrays of run {k} have shapes that do not fit together")
    return RunSamples(
        [str(name) for name in names],
        values.astype(np.float64),
        resampled.astype(np.float64),
        units.astype(np.int64),
    )
