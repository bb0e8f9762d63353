"""The newest versions that the tests are run with, by the names of their packages."""

from __future__ import annotations

NEWEST_TESTED = {"open_clip_torch": "3.3.0", "torch": "2.14.1", "transformers": "5.24.0"}
MODULES = {"open_clip_torch": "open_clip"}  # modules whose name is not that of the package
