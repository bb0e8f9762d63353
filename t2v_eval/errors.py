"""The exceptions and the warning category of the library.

T2VError
├── InputError (ValueError)            an argument cannot be used
│   ├── MediaError                     an image or video: missing, unreadable, too large, NaN ...
│   ├── TemplateError                  a question or answer template cannot be filled
│   ├── TableError                     a table, JSON file or data set with the wrong columns or rows
│   └── UnknownTagError                no item of a benchmark has a tag
├── UnknownNameError (LookupError)     no such model, benchmark or template ("did you mean ...")
├── ScoringError (RuntimeError)        a model gave no usable score
├── GenerationError (RuntimeError)     a generator made no image
├── UnsupportedError (TypeError)       this scorer or benchmark cannot do this
├── MissingPackageError (ImportError)  an optional package is not installed
├── CheckpointError (OSError)          weights: missing, unsafe to read, or of another model
├── ServiceError (OSError)             a service cannot be reached, or refuses the key
├── BenchmarkDataError (OSError)       a benchmark's files are missing or not as published
│   └── MissingDataError               they are missing
├── StoreError (OSError)               the score store cannot be opened, read or written
└── OutputError (OSError)              a result cannot be written

Each class also derives from the built-in exception in brackets. Every message names the item, the
value and what to do. `T2VWarning` is the category of every warning.

>>> try:
...     raise MediaError("cat.png: no such file")
... except ValueError as error:
...     print(error)
cat.png: no such file
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class T2VError(Exception):
    """Base class of the errors that this library raises.

    >>> try:
    ...     raise T2VError("the device has failed")
    ... except Exception as error:
    ...     print(error)
    the device has failed
    """


class InputError(T2VError, ValueError):
    """An argument has the wrong type, shape or value.

    >>> try:
    ...     raise InputError("seed=-1: use 0 or more")
    ... except ValueError as error:
    ...     print(error)
    seed=-1: use 0 or more
    """


class MediaError(InputError):
    """An image or video cannot be found, read or decoded; the message names it.

    >>> try:
    ...     raise MediaError("cat.png: no such file")
    ... except InputError as error:
    ...     print(error)
    cat.png: no such file
    """


class TemplateError(InputError):
    """A question or answer template cannot be filled.

    >>> try:
    ...     raise TemplateError("the template 'Is it?' has no {}")
    ... except InputError as error:
    ...     print(error)
    the template 'Is it?' has no {}
    """


class TableError(InputError):
    """A table, JSON file or data set lacks a column or has a malformed row.

    >>> try:
    ...     raise TableError("ratings.csv: there is no column 'image'")
    ... except InputError as error:
    ...     print(error)
    ratings.csv: there is no column 'image'
    """


class UnknownTagError(InputError):
    """No item of a benchmark has a tag of `subset`; the message lists its tags.

    >>> try:
    ...     raise UnknownTagError("no item of scenes-of-mine has the tag 'colr'")
    ... except InputError as error:
    ...     print(error)
    no item of scenes-of-mine has the tag 'colr'
    """


class UnknownNameError(T2VError, LookupError):
    """No model, benchmark or template has this name.

    >>> try:
    ...     raise UnknownNameError("there is no model called 'blipp'")
    ... except LookupError as error:
    ...     print(error)
    there is no model called 'blipp'
    """

    @classmethod
    def nearest(cls, kind: str, name: str, known: Iterable[str], remedy: str) -> UnknownNameError:
        """Return an error whose message suggests the known names nearest to `name`.

        Args:
            name: the unknown name.
            known: all known names.
            kind: what the name should be, for example "model".
            remedy: a last sentence that says what to do.

        >>> print(UnknownNameError.nearest("model", "blipp", ["blip", "clip"], "See the list."))
        there is no model called 'blipp'. Did you mean 'blip' or 'clip'? See the list.
        """
        close = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
        hint = f" Did you mean {' or '.join(repr(c) for c in close)}?" if close else ""
        return cls(f"there is no {kind} called {name!r}.{hint} {remedy}")


class ScoringError(T2VError, RuntimeError):
    """A model gave no finite score; `detail` is its answer as JSON, where there is one.

    >>> try:
    ...     raise ScoringError("the model's score is not finite")
    ... except RuntimeError as error:
    ...     print(error)
    the model's score is not finite
    """

    detail: str | None = None


class GenerationError(T2VError, RuntimeError):
    """A generator made no image of a prompt, or none at all.

    >>> try:
    ...     raise GenerationError("'a cat': the service refuses it")
    ... except RuntimeError as error:
    ...     print(error)
    'a cat': the service refuses it
    """


class UnsupportedError(T2VError, TypeError):
    """This scorer or benchmark cannot do this; the message says what can.

    >>> try:
    ...     raise UnsupportedError("this scorer compares no pairs")
    ... except TypeError as error:
    ...     print(error)
    this scorer compares no pairs
    """


class MissingPackageError(T2VError, ImportError):
    """An optional package is not installed; the message has the pip command.

    >>> try:
    ...     raise MissingPackageError("this scorer needs the package 'openai': pip install openai")
    ... except ImportError as error:
    ...     print(error)
    this scorer needs the package 'openai': pip install openai
    """

    def __str__(self) -> str:
        """Return the message, which a command may have changed; ImportError keeps the first."""
        return " ".join(map(str, self.args))


class CheckpointError(T2VError, OSError):
    """Weights are missing, unsafe to unpickle, or do not fit the model.

    >>> try:
    ...     raise CheckpointError("weights.pt holds no weights of this model")
    ... except OSError as error:
    ...     print(error)
    weights.pt holds no weights of this model
    """


class ServiceError(T2VError, OSError):
    """An API does not answer, or refuses the key or the model.

    >>> try:
    ...     raise ServiceError("https://example.org refuses the key")
    ... except OSError as error:
    ...     print(error)
    https://example.org refuses the key
    """


class BenchmarkDataError(T2VError, OSError):
    """A benchmark's files are missing or differ from the published layout.

    >>> try:
    ...     raise BenchmarkDataError("ratings.json is not as published")
    ... except OSError as error:
    ...     print(error)
    ratings.json is not as published
    """


class MissingDataError(BenchmarkDataError):
    """A benchmark's folder or one of its files is missing; the message says how to get it.

    >>> try:
    ...     raise MissingDataError("there is no folder data/mine")
    ... except BenchmarkDataError as error:
    ...     print(error)
    there is no folder data/mine
    """


class StoreError(T2VError, OSError):
    """The score store is locked, damaged, of another program, or cannot be written.

    >>> try:
    ...     raise StoreError("scores.sqlite is damaged")
    ... except OSError as error:
    ...     print(error)
    scores.sqlite is damaged
    """


class OutputError(T2VError, OSError):
    """A report or table cannot be written to its path.

    >>> try:
    ...     raise OutputError("report/: permission denied")
    ... except OSError as error:
    ...     print(error)
    report/: permission denied
    """


class T2VWarning(UserWarning):
    """Category of all warnings, for example about a caption that was truncated.

    >>> import warnings
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     warnings.warn("1 of 3 texts is longer than the model reads", T2VWarning)
    >>> print(caught[0].message)
    1 of 3 texts is longer than the model reads
    """
