"""What a report says about itself: title, date, command, duration and versions."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from t2v_eval.evaluation.comparison import by_benchmark
from t2v_eval.evaluation.run import Run
from t2v_eval.utils.printable import redact_userinfo

_SECRET_NAME = re.compile(r"key|token|secret|passw|auth|credential", re.IGNORECASE)
_SECRET_VALUE = re.compile(r"\b(?:sk|pk|hf|ghp|gsk|xai|AIza)[-_][\w-]{12,}|\bAIza[\w-]{20,}")
_PER_RUN = ("device", "platform")  # of the environment, that may differ between runs


@dataclass(frozen=True, slots=True)
class About:
    """What a report says about itself.

    Attributes:
        title: what was evaluated by what.
        created: when, as ISO 8601 with the offset from UTC.
        command: the arguments of the command line; None where Python was called.
        seconds: how long it took, from loading the first scorer on; None if unknown.
        versions: of Python and packages.

    >>> About(title="drawbench").command is None
    True
    """

    title: str = ""
    created: str = ""
    command: Sequence[str] | None = None
    seconds: float | None = None
    versions: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, runs: Sequence[Run], seconds: float | None = None) -> About:
        """Describe runs that have just ended.

        >>> About.of([]).title
        'Report without runs'
        """
        versions = {
            name: version
            for run in runs
            for name, version in run.environment.items()
            if name not in _PER_RUN
        }
        now = datetime.now().astimezone().isoformat(timespec="seconds")
        return cls(
            title_of(runs), now, None, None if seconds is None else round(seconds, 3), versions
        )

    @classmethod
    def from_json(cls, content: Mapping[str, Any], runs: Sequence[Run]) -> About:
        """Read what `to_json` returned; reports of earlier versions have none of it.

        >>> About.from_json({"title": "drawbench"}, []).title
        'drawbench'
        """
        command = content.get("command")
        return cls(
            str(content.get("title") or title_of(runs)),
            str(content.get("created") or ""),
            None if command is None else [str(argument) for argument in command],
            content.get("seconds"),
            dict(content.get("versions") or {}),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the keys of ``report.json`` that it stands for.

        >>> About(title="drawbench").to_json()["title"]
        'drawbench'
        """
        return {
            "title": self.title,
            "created": self.created,
            "command": None if self.command is None else list(self.command),
            "seconds": self.seconds,
            "versions": dict(self.versions),
        }

    @property
    def date(self) -> str:
        """Return the day and minute of its creation, with the offset.

        >>> About(created="2026-05-04T03:02:01+00:00").date
        '2026-05-04 03:02 +00:00'
        """
        return re.sub(r"(\d)T(\d\d:\d\d):\d\d", r"\1 \2 ", self.created)

    @property
    def command_line(self) -> str:
        """Return the command as it is typed into a shell; empty if there was none.

        >>> About(command=["eval", "-m", "clip", "-b", "my set.csv"]).command_line
        "t2v-eval eval -m clip -b 'my set.csv'"
        """
        if self.command is None:
            return ""
        import shlex

        return shlex.join(["t2v-eval", *self.command])


def title_of(runs: Sequence[Run]) -> str:
    """Return a title: what is compared, on what.

    >>> import t2v_eval
    >>> names, few = ["tiny-clip", "tiny-negclip"], {"n": 2}
    >>> title_of(t2v_eval.compare(names, "scenes", benchmark_options=few, resamples=5).runs)
    'tiny-clip and tiny-negclip on scenes'
    """
    if not runs:
        return "Report without runs"
    scorers = list(dict.fromkeys(run.scorer.name for run in runs))
    sets = list(by_benchmark(runs))
    generators = list(dict.fromkeys(f.folder for run in runs for f in run.benchmark.folders))
    if generators and all(run.benchmark.folders for run in runs):
        return f"{_names(generators, 'generators')} on {_names(sets, 'sets of prompts')}"
    return f"{_names(scorers, 'scorers')} on {_names(sets, 'benchmarks')}"


def without_secrets(arguments: Sequence[str]) -> list[str]:
    """Return the arguments of a command with keys, passwords and users of URLs as ``***``.

    >>> without_secrets(["--option", "api_key=abc", "--base-url", "https://me:pw@host/v1"])
    ['--option', 'api_key=***', '--base-url', 'https://***@host/v1']
    """
    return list(_redacted(arguments))


def _redacted(arguments: Sequence[str]) -> Iterator[str]:
    hide_next = False
    for argument in arguments:
        name, equals, _ = argument.partition("=")
        if hide_next and not argument.startswith("-"):
            yield "***"
        elif equals and _SECRET_NAME.search(name):
            yield f"{name}=***"
        else:
            yield _SECRET_VALUE.sub("***", redact_userinfo(argument))
        hide_next = argument.startswith("--") and not equals and bool(_SECRET_NAME.search(argument))


def _names(names: Sequence[str], kind: str) -> str:
    if len(names) > 3:
        return f"{len(names)} {kind}"
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
