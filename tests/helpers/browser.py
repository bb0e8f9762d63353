"""A real browser for tests of pages; its fixtures are in `tests/unit/conftest.py`.

A module of tests imports `pytestmark`, which skips them where there is no browser.
"""

import os
import shutil
import tempfile
from pathlib import Path

import pytest

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

# Continuous integration installs a Chromium, so that a missing one is a failure there.
pytestmark = pytest.mark.skipif(
    CHROMIUM is None and not os.environ.get("CI"),
    reason="no Chromium on PATH (on Debian: apt install chromium)",
)

# Containers run tests as root, where Chromium's own sandbox cannot start.
LAUNCH = {"executable_path": CHROMIUM, "args": ["--no-sandbox", "--disable-dev-shm-usage"]}

SHOTS = Path(os.environ.get("SCREENSHOTS") or tempfile.mkdtemp(prefix="t2v-eval-screenshots-"))
"""Where screenshots are written; the environment may name a folder that is kept."""

PHONE = {"width": 360, "height": 740}
