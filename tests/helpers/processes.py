"""Python run in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

ROOT = Path(__file__).parents[2]
HANGING = 900.0  # seconds that nothing takes unless it hangs, however busy the machine is


def run_python(code: str) -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    loaded: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return loaded


def wait_for(event: threading.Event, process: subprocess.Popen[str]) -> None:
    """Wait for an event that a process causes; fail if it ends without."""
    while not event.wait(0.05):
        assert process.poll() is None, process.communicate()
