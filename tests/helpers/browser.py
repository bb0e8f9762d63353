"""A real browser for tests of pages; its fixtures are in `tests/unit/conftest.py`.

A module of tests imports `pytestmark`, which skips them where there is no browser.
"""

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from helpers.processes import HANGING

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
sync_api.expect.set_options(timeout=1000 * HANGING)
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


def wait_until(page, condition):
    """Wait until an expression of JavaScript is true on a page.

    `page.wait_for_function` reads its expression anew each time, which the content security policy
    of a page refuses where the expression is not true at once.
    """
    page.evaluate(
        """async (limit) => {
            while (!(CONDITION)) {
                if (performance.now() > limit) throw new Error("it did not become true");
                await new Promise(requestAnimationFrame);
            }
        }""".replace("CONDITION", condition),
        page.evaluate("performance.now()") + 1000 * HANGING,
    )
