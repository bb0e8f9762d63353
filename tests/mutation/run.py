"""Plant faults in a copy of the repository, one at a time, and see whether a test catches each.

    python tests/mutation/run.py                     all faults of mutants.toml
    python tests/mutation/run.py stats/bootstrap     those whose file or description holds a text
    python tests/mutation/run.py --write             also write docs/mutation.md

The working tree is not touched. Each fault runs the test files that mutants.toml names for its
file, up to the first failure; all of them together take about half an hour on one core.
"""

from __future__ import annotations

import argparse
import datetime
import gc
import importlib
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LIST = Path(__file__).with_name("mutants.toml")
PAGE = ROOT / "docs" / "mutation.md"
SECONDS = 600  # after which the tests of a fault are ended
COMMAND = "python tests/mutation/run.py --write"


@dataclass(frozen=True)
class Mutant:
    """A planted fault.

    Attributes:
        file: the file, relative to the repository.
        fault: what goes wrong, in words.
        old, new: the text that is replaced, and by what.
        tests: the test files that may catch it.
    """

    file: str
    fault: str
    old: str
    new: str
    tests: tuple[str, ...]

    def apply(self, root: Path) -> str:
        """Replace the text in a copy of the repository; return the file as it was.

        Raises:
            ValueError: the old text is not in the file exactly once.
        """
        path = root / self.file
        before = path.read_text(encoding="utf-8")
        if before.count(self.old) != 1:
            raise ValueError(f"{self.file} holds {before.count(self.old)} times {self.old!r}")
        path.write_text(before.replace(self.old, self.new), encoding="utf-8")
        return before


def mutants(path: Path = LIST) -> list[Mutant]:
    """Return the faults of a list, in its order."""
    return [
        Mutant(entry["path"], *fault, tuple(entry["tests"]))
        for entry in tomllib.loads(path.read_text(encoding="utf-8"))["file"]
        for fault in entry["faults"]
    ]


def copy_repository(target: Path) -> None:
    """Copy what git tracks, and files that it would, as they are in the working tree."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout
    for name in filter(None, listed.decode().split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)


def preload() -> None:
    """Import the libraries that tests need, so that forked processes share them."""
    for library in (
        "numpy",
        "scipy.stats",
        "sklearn.metrics",
        "torch",
        "PIL.Image",
        "hypothesis",
        "asyncio",
        "typer",
    ):
        importlib.import_module(library)
    gc.freeze()  # so that no forked process walks through them


def run_tests(root: Path, tests: Iterable[str]) -> int | None:
    """Run test files up to the first failure, in a process of their own.

    Returns:
        pytest's exit code, or None where the tests did not end in time.
    """
    process = multiprocessing.get_context("fork").Process(target=_run_pytest, args=(root, [*tests]))
    process.start()
    process.join(SECONDS)
    if process.is_alive():
        process.kill()
        process.join()
        return None
    return process.exitcode


class FastestFirst:
    """A pytest plugin that runs tests in the order of their durations last time.

    Args:
        file: where durations are kept between runs.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.seconds: dict[str, float] = json.loads(file.read_text()) if file.exists() else {}
        self.now: dict[str, float] = {}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items.sort(key=lambda item: self.seconds.get(item.nodeid, 0.0))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.now[report.nodeid] = self.now.get(report.nodeid, 0.0) + report.duration

    def pytest_sessionfinish(self) -> None:
        self.file.write_text(json.dumps(self.seconds | self.now))


def _run_pytest(root: Path, tests: list[str]) -> None:
    os.chdir(root)
    # Files of one size that are written within a second share their byte code, so none is written.
    # Plugins of other packages take longer to load than most tests.
    os.environ |= {"PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"}
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(root))
    with open(root.with_suffix(".log"), "w", encoding="utf-8") as log:  # noqa: PTH123
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        options = ["-x", "-q", "-p", "no:cacheprovider", *tests]
        code = pytest.main(options, plugins=[FastestFirst(root.with_suffix(".json"))])
        sys.stdout.flush()
    os._exit(int(code))


def try_mutant(root: Path, mutant: Mutant) -> str:
    """Return "caught", "survived", "no end" in time, or "invalid": its tests cannot be run."""
    before = mutant.apply(root)
    try:
        code = run_tests(root, mutant.tests)
    finally:
        (root / mutant.file).write_text(before, encoding="utf-8")
    return {0: "survived", 1: "caught", None: "no end"}.get(code, "invalid")


def page(results: Sequence[tuple[Mutant, str]], day: str) -> str:
    """Return the text of docs/mutation.md."""
    files = dict.fromkeys(mutant.file for mutant, _ in results)
    rows = []
    for file in files:
        count = Counter(result for mutant, result in results if mutant.file == file)
        rows.append(f"| `{file}` | {count.total()} | {count['caught']} |")
    survivors = [
        f"- `{mutant.file}`: {mutant.fault} ({result})"
        for mutant, result in results
        if result != "caught"
    ]
    caught = sum(result == "caught" for _, result in results)
    return "\n".join(
        [
            "# Mutation check",
            "",
            f"Tried on {day}: {caught} of {len(results)} planted faults are caught by a test. "
            f"`{COMMAND}` tries them again and writes this page.",
            "",
            "`tests/mutation/mutants.toml` lists the faults, each one that a person could make: a "
            "wrong comparison, a missing normalisation, a value that is not restored. The script "
            "plants one at a time in a copy of the repository and runs the unit tests of its file.",
            "",
            "| file | faults | caught |",
            "|---|---|---|",
            *rows,
            "",
            "## Faults that survive or were not tried",
            "",
            *(survivors or ["None."]),
            "",
        ]
    )


def main() -> int:
    """Try the faults and print the result of each; return 1 where one survives."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "text", nargs="?", default="", help="only faults whose file or words hold it"
    )
    parser.add_argument("--write", action="store_true", help="write docs/mutation.md")
    options = parser.parse_args()
    chosen = [m for m in mutants() if options.text in f"{m.file} {m.fault}"]
    results = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "t2v-eval"
        copy_repository(root)
        preload()
        if run_tests(root, dict.fromkeys(test for m in chosen for test in m.tests)):
            log = root.with_suffix(".log").read_text(encoding="utf-8")
            raise SystemExit(f"the tests fail without any fault:\n{log[-3000:]}")
        for mutant in chosen:
            results.append((mutant, try_mutant(root, mutant)))
            print(f"{results[-1][1]:8} {mutant.file}: {mutant.fault}", flush=True)
    if options.write:
        day = datetime.datetime.now(datetime.UTC).date().isoformat()
        PAGE.write_text(page(results, day), encoding="utf-8")
    counts = Counter(result for _, result in results)
    print(", ".join(f"{count} {result}" for result, count in counts.items()))
    return int(set(counts) != {"caught"})


if __name__ == "__main__":
    raise SystemExit(main())
