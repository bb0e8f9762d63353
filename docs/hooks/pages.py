"""Build hook of MkDocs: pages and tables made from the cards, the commands and files of the root.

`mkdocs.yml` names this file. Nothing that it adds is written into the repository, so that the site
cannot contradict the code: the tables stand for ``<!-- table NAME -->`` lines of the pages.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from commands import command_page
from geometry_figures import figures, geometry_section
from options import options_page
from report_schema import schema_section
from tables import TABLES

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]

# Files of the repository's root that are pages, and where their links lead on the site.
ROOT_PAGES = {
    "ARCHITECTURE.md": "project/architecture.md",
    "CHANGELOG.md": "project/changelog.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "SECURITY.md": "project/security.md",
}
TABLE = re.compile(r"^<!-- table ([\w-]+) -->$", re.MULTILINE)
LOADED_FROM_ELSEWHERE = re.compile(
    r"<(?:script|img|iframe)\b[^>]*\bsrc=\"?https?:|<link\b[^>]*\bhref=\"?https?:"
)


def section(file: str, heading: str) -> str:
    """Return a second-level section of a file of the root, without its heading.

    Raises:
        ValueError: the file has no such section.
    """
    text = (ROOT / file).read_text(encoding="utf-8")
    match = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", text, re.M | re.S)
    if match is None:
        raise ValueError(f"{file} has no section {heading!r}")
    return match[1].strip() + "\n"


def content(name: str) -> str:
    """Return the Markdown that stands for ``<!-- table NAME -->``.

    Raises:
        ValueError: there is no such table.
    """
    if name in TABLES:
        return TABLES[name]()
    if name == "glossary":
        return section("ARCHITECTURE.md", "Glossary")
    if name == "report-schema":
        return schema_section()
    if name == "geometry-figures":
        return geometry_section()
    raise ValueError(f"no table is called {name!r}")


def filled(markdown: str) -> str:
    """Put every table in its place."""
    return TABLE.sub(lambda match: content(match[1]), markdown)


def root_page(name: str) -> str:
    """Return a file of the root as a page: its links lead to pages, or are plain code."""

    def relink(match: re.Match[str]) -> str:
        label, target = match[1], match[2]
        if target.startswith(("http", "#")):
            return match[0]
        path, _, anchor = target.partition("#")
        if path in ROOT_PAGES:
            page = Path(ROOT_PAGES[path]).name
        elif path.startswith("docs/"):
            page = "../" + path.removeprefix("docs/")
        else:
            return label
        return f"[{label}]({page}{'#' + anchor if anchor else ''})"

    text = (ROOT / name).read_text(encoding="utf-8")
    return re.sub(r"\[([^\]]+)\]\(([^)\s]+)\)", relink, text)


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the pages and the figures that no file of ``docs`` holds."""
    from mkdocs.structure.files import File

    pages = {path: root_page(name) for name, path in ROOT_PAGES.items()}
    pages["reference/command-line.md"] = command_page()
    pages["reference/options.md"] = options_page()
    for path, text in pages.items():
        files.append(File.generated(config, path, content=text))
    for path, image in figures().items():
        files.append(File.generated(config, path, content=image))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Fill the tables of a page in."""
    return filled(markdown)


def on_post_page(output: str, *, page: Page, config: MkDocsConfig) -> str:
    """Refuse pages that load anything from another server."""
    from mkdocs.exceptions import PluginError

    match = LOADED_FROM_ELSEWHERE.search(output)
    if match:
        raise PluginError(f"{page.file.src_uri} loads a file of another server: {match[0]}")
    return output
