"""Features of a set of images, and the files that hold them.

| file | holds |
|---|---|
| `features`, or clean-fid's `feats` | a row for each image |
| `logits` | the classifier's outputs for each image, before the softmax |
| `mu`, `sigma` | mean and covariance, as pytorch-fid and clean-fid write them |
| `names` | the file name of each row |
| `extractor` | what made the rows, as JSON |

An `.npz` file holds any of them. Nothing in it is run: pickled objects are refused.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from t2v_eval.errors import InputError
from t2v_eval.stats.bootstrap import IntArray
from t2v_eval.stats.distances.features import Features, check_features
from t2v_eval.stats.distances.frechet import Moments, moments
from t2v_eval.stats.distances.manifold import ball_radii
from t2v_eval.utils.arguments import check_path
from t2v_eval.utils.arrays import FloatArray
from t2v_eval.utils.regular_file import open_regular

Source: TypeAlias = "str | os.PathLike[str] | NDArray[Any] | FeatureSet"

ROWS = ("features", "feats")
"""Names of arrays of features, a row for each image: ours, and clean-fid's."""


@dataclass(frozen=True)
class FeatureSet:
    """Features of a set of images: rows, logits, or only mean and covariance.

    Attributes:
        name: what the set is called, for example its file.
        features: shape (n, d); None where there are none.
        logits: shape (n, classes); None where there are none.
        known_moments: of a file without rows.
        names: the file name of each row; empty where they are unknown.
        extractor: what made the features, as JSON can hold it; empty where that is unknown.
        folder: what `names` are relative to; None where there is none.

    >>> FeatureSet("mine", np.ones((3, 2))).count
    3
    """

    name: str
    features: Features | None = None
    logits: Features | None = None
    known_moments: Moments | None = None
    names: tuple[str, ...] = ()
    extractor: Mapping[str, Any] = field(default_factory=dict)
    folder: Path | None = None

    @property
    def count(self) -> int | None:
        """The number of images; None where only mean and covariance are known."""
        rows = self.features if self.features is not None else self.logits
        return None if rows is None else len(rows)

    @property
    def dimensions(self) -> int | None:
        """The number of features of an image; None where there are only logits."""
        if self.features is not None:
            return int(self.features.shape[1])
        return None if self.known_moments is None else len(self.known_moments.mean)

    @property
    def is_singular(self) -> bool:
        """Whether there are no more rows than features, so that the covariance is singular."""
        return self.features is not None and len(self.features) <= self.features.shape[1]

    @cached_property
    def moments(self) -> Moments:
        """Mean and covariance.

        Raises:
            InputError: there are no features.
        """
        if self.features is not None:
            return moments(self.features)
        if self.known_moments is None:
            raise InputError(f"{self.name} holds no features; this metric needs them")
        return self.known_moments

    @cached_property
    def _radii(self) -> dict[int, FloatArray]:
        return {}

    def ball_radii(self, k: int) -> FloatArray:
        """Return `manifold.ball_radii` of the rows, computed once for each k."""
        if k not in self._radii:
            assert self.features is not None
            self._radii[k] = ball_radii(self.features, k)
        return self._radii[k]

    def rows(self, chosen: IntArray, name: str) -> FeatureSet:
        """Return some rows as a set of its own, without what is known of the files of all.

        Args:
            chosen: the rows.
            name: what the set is called.
        """
        return FeatureSet(
            name,
            None if self.features is None else self.features[chosen],
            None if self.logits is None else self.logits[chosen],
            names=tuple(self.names[row] for row in chosen) if self.names else (),
            extractor={key: fact for key, fact in self.extractor.items() if key != "files"},
            folder=self.folder,
        )

    def name_of(self, row: int) -> str:
        """Return the name of a row, or its number where names are unknown.

        Args:
            row: the row.
        """
        return self.names[row] if self.names else f"row {row} (from 0)"

    def file_of(self, row: int) -> Path | None:
        """Return the file of a row; None where it is unknown, outside the folder, or gone.

        Args:
            row: the row.
        """
        if self.folder is None or not self.names:
            return None
        name = PurePosixPath(self.names[row])
        if name.is_absolute() or ".." in name.parts:  # a file of features may name any file
            return None
        file = self.folder / name
        return file if file.is_file() else None


def as_feature_set(
    source: Source, name: str, extract: Callable[[Path], FeatureSet] | None = None
) -> FeatureSet:
    """Return the features of a file, a folder or an array.

    Args:
        source: a feature set, a matrix with a row for each image, an `.npz` file, or a folder.
        name: what an array is called.
        extract: extracts the features of a folder of images.

    Raises:
        InputError: it cannot be used; see `read_features`.

    >>> as_feature_set(np.ones((3, 2)), "mine").name
    'mine'
    """
    if isinstance(source, FeatureSet):
        return source
    if isinstance(source, (str, os.PathLike)):
        path = Path(source).expanduser()
        return extract(path) if extract is not None and path.is_dir() else read_features(source)
    return FeatureSet(name, check_features(name, source, least=1))


def read_features(file: str | os.PathLike[str]) -> FeatureSet:
    """Read an `.npz` file of features, logits, or mean and covariance.

    Args:
        file: the file; see this module for the arrays that it may hold.

    Raises:
        InputError: it is missing, damaged, holds pickled objects, or none of these arrays, or they
            do not fit together.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.savez(Path(folder) / "a.npz", features=np.ones((3, 2)))
    ...     read_features(Path(folder) / "a.npz").count
    3
    """
    path = check_path("file", file)
    arrays = _arrays(path)
    row_arrays = [name for name in ROWS if name in arrays]
    features = arrays[row_arrays[0]] if row_arrays else None
    logits = arrays.get("logits")
    file_moments = _moments(path, arrays) if features is None and "mu" in arrays else None
    if features is None and logits is None and file_moments is None:
        content = ", ".join(map(repr, list(arrays)[:5])) or "nothing"
        raise InputError(
            f"{path} holds {content}: pass an .npz file with "
            "`features` or `logits` (a row for each image), or `mu` and `sigma`"
        )
    result = FeatureSet(
        str(file),
        None if features is None else check_features(f"{path}, {row_arrays[0]}", features, least=1),
        None if logits is None else check_features(f"{path}, logits", logits, least=1),
        file_moments,
        tuple(str(name) for name in arrays["names"].ravel()) if "names" in arrays else (),
        _extractor(path, arrays),
        path.parent,
    )
    _check_lengths(path, result)
    return result


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Return the arrays of a file that this module knows, and placeholders of others."""
    keys = {*ROWS, "logits", "mu", "sigma", "names", "extractor"}
    try:
        with open_regular(path) as stream:
            if not zipfile.is_zipfile(stream):
                raise InputError(
                    f"{path} is no complete .npz file: write one with numpy.savez(FILE, features=X)"
                )
            stream.seek(0)
            with np.load(stream, allow_pickle=False) as archive:
                if any(name.endswith("data.pkl") for name in archive):
                    raise InputError(
                        f"{path} is a file of PyTorch, which is not unpickled: write its rows with "
                        "numpy.savez(FILE, features=X)"
                    )
                return {name: archive[name] if name in keys else np.empty(0) for name in archive}
    except OSError as error:
        why = error.strerror or error
        raise InputError(f"{path}: {why}; pass an .npz file of features") from error
    except InputError:
        raise
    except Exception as error:  # whatever NumPy's parsers raise over damaged content
        why = str(error) or type(error).__name__
        raise InputError(
            f"{path} cannot be read as an .npz file of numbers ({why}): write one with "
            "numpy.savez(FILE, features=X)"
        ) from error


def _moments(path: Path, arrays: Mapping[str, NDArray[Any]]) -> Moments:
    mean, sigma = arrays["mu"], arrays.get("sigma")
    if sigma is None or mean.ndim != 1 or sigma.shape != (len(mean), len(mean)):
        shape = None if sigma is None else sigma.shape
        raise InputError(
            f"{path}: `mu` has shape {mean.shape} and `sigma` {shape}; a file of statistics has d "
            "means and d x d covariances"
        )
    check_features(f"{path}, mu", mean[None], least=1)
    covariance = check_features(f"{path}, sigma", sigma, least=1).astype(np.float64)
    if not np.allclose(covariance, covariance.T, rtol=1e-4, atol=1e-6 * np.abs(covariance).max()):
        raise InputError(f"{path}: `sigma` is not symmetric, so it is no covariance")
    covariance = (covariance + covariance.T) / 2
    # A covariance in float32 has eigenvalues that are below 0 by its rounding.
    rounding = 1e-4 * np.abs(covariance).max() + np.finfo(np.float64).tiny
    try:
        np.linalg.cholesky(covariance + rounding * np.eye(len(mean)))
    except np.linalg.LinAlgError as error:
        raise InputError(
            f"{path}: `sigma` has an eigenvalue below 0, so it is no covariance; compute it anew, "
            "with numpy.cov(features, rowvar=False)"
        ) from error
    return Moments(mean.astype(np.float64), covariance)


def _extractor(path: Path, arrays: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    if "extractor" not in arrays:
        return {}
    try:
        value = json.loads(str(arrays["extractor"].item()))
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise InputError(f"{path}: `extractor` is not a JSON object; leave the array out")
    return value


def _check_lengths(path: Path, features: FeatureSet) -> None:
    lengths = {
        "features": None if features.features is None else len(features.features),
        "logits": None if features.logits is None else len(features.logits),
        "names": len(features.names) or None,
    }
    present = {name: length for name, length in lengths.items() if length is not None}
    if len(set(present.values())) > 1:
        listing = ", ".join(f"{name}: {length}" for name, length in present.items())
        raise InputError(
            f"{path} holds arrays of different lengths ({listing}); each has a row an image"
        )
