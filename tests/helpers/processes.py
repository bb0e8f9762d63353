"""Python run in a process of its own."""

from __future__ import annotations

import functools
import io
import json
import multiprocessing
import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TextIO
from unittest import mock

ROOT = Path(__file__).parents[2]
HANGING = 900.0  # seconds that nothing takes unless it hangs, however busy the machine is
COMMAND = "from t2v_eval.cli.main import main; main()"


@functools.cache
def forks() -> Any:
    """Where processes are forked: one that has imported what commands import, and done no more.

    Most of the time of a command that a test starts goes into importing PyTorch and transformers.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["t2v_eval.backends.clip.hf_clip", "t2v_eval.report.html", "t2v_eval.cli.main", "openai"]
    )
    return context


def run_python(code: str) -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    loaded: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return loaded


class Forked:
    """A forked process that runs code; has what tests use of `subprocess.Popen`.

    Args:
        code: what it runs.
        arguments: of its command line.
        cwd: where it runs.
        env: its environment; by default that of the test.
        stdout: a file descriptor; by default a pipe that `stdout` reads.
        stderr: as `stdout`.
    """

    def __init__(
        self,
        code: str,
        arguments: Sequence[object] = (),
        *,
        cwd: Path = ROOT,
        env: Mapping[str, str] | None = None,
        stdout: int | None = None,
        stderr: int | None = None,
    ) -> None:
        reads, self._input = os.pipe()
        self.stdout, out = _output(stdout)
        self.stderr, err = _output(stderr)
        connections = [Connection(reads), out, err]
        task = (code, [*map(str, arguments)], str(cwd), dict(os.environ if env is None else env))
        # As a daemon it ends with the tests, also where one fails before it has stopped it.
        self._process: Any = forks().Process(target=_run, args=(connections, *task), daemon=True)
        with mock.patch.dict(os.environ, OMP_NUM_THREADS="1"):  # threads do not survive a fork
            self._process.start()
        for connection in connections:
            connection.close()
        self.pid: int = self._process.pid

    def poll(self) -> int | None:
        code: int | None = self._process.exitcode
        return code

    returncode = property(poll)

    def wait(self, timeout: float = HANGING) -> int:
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired("a forked process", timeout)
        return self.returncode

    def communicate(self, timeout: float = HANGING) -> tuple[str, str]:
        """End its input, and read what it writes until it ends."""
        os.close(self._input)
        with ThreadPoolExecutor(2) as threads:
            out, err = threads.map(lambda stream: stream.read(), (self.stdout, self.stderr))
        self.wait(timeout)
        return out, err

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        self._process.kill()


def _output(fd: int | None) -> tuple[TextIO, Connection]:
    """A stream that reads what is written to a connection; an empty one where that is a file."""
    if fd is not None:
        return io.StringIO(), Connection(os.dup(fd))
    reads, writes = os.pipe()
    return os.fdopen(reads), Connection(writes)


def _run(
    connections: Sequence[Connection],
    code: str,
    arguments: list[str],
    cwd: str,
    env: dict[str, str],
) -> None:
    for number, connection in enumerate(connections):
        os.dup2(connection.fileno(), number)
        connection.close()
    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115
    os.environ.clear()
    os.environ |= env
    sys.path[:0] = [path for path in env.get("PYTHONPATH", "").split(os.pathsep) if path]
    os.chdir(cwd)
    sys.argv = ["t2v-eval", *arguments]
    exec(compile(code, "<code>", "exec"), {"__name__": "__main__"})


def wait_for(event: threading.Event, process: subprocess.Popen[str] | Forked) -> None:
    """Wait for an event that a process causes; fail if it ends without."""
    while not event.wait(0.05):
        assert process.poll() is None, process.communicate()
