"""Print the lowest version that pyproject.toml allows of each requirement, as pip constraints."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

EXTRAS = ("video", "gemini", "datasets", "generate", "server")
PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"


def lowest_versions(requirements: list[str]) -> Iterator[str]:
    """Turn ``name>=1.2`` into ``name==1.2``.

    Raises:
        ValueError: a requirement has no lower bound.
    """
    for requirement in requirements:
        match = re.fullmatch(r"([\w.-]+)>=([\w.]+)", requirement)
        if match is None:
            raise ValueError(f"{requirement!r} in pyproject.toml has no lower bound")
        yield f"{match[1]}=={match[2]}"


def main() -> None:
    project = tomllib.loads(PYPROJECT.read_text())["project"]
    extras = project["optional-dependencies"]
    used = [r for name in EXTRAS for r in extras[name]]
    # Tools that only test or check the code are installed as they are locked.
    print("\n".join(sorted(set(lowest_versions(project["dependencies"] + used)))))


if __name__ == "__main__":
    main()
