"""Long texts, read from their authors' scripts instead of copied; the scripts are not run.

A card names the repository, the commit, the file and its SHA-256, and the strings of the file that
make the text. `t2v-eval data NAME --fetch` brings the file.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from t2v_eval.cards import BenchmarkCard
from t2v_eval.errors import BenchmarkDataError, CheckpointError
from t2v_eval.evaluation import download
from t2v_eval.utils.text_file import read_text

RAW = "https://raw.githubusercontent.com"
_BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class AuthorsText:
    """Location of a text in its authors' repository, and how its strings are put together.

    Attributes:
        repository: its name on GitHub, as OWNER/NAME.
        commit: its commit.
        file: a Python file there, or a Markdown page with blocks of Python.
        sha256: the digest of the file.
        strings: for each part, in order, the variable that it is assigned to, or words that no
            other string contains.
        join: the separator of the parts.
        fields: template fields for the variables of formatted strings: ``{prompt = "text"}``.
        replace: pairs of a text and its replacement, applied in order.
        around: the final text, with ``{authors}`` for what was extracted.

    >>> source = AuthorsText("me/mine", "0" * 40, "ask.py", "", ["Is"], fields={"p": "text"})
    >>> source.extract("question = f'Is it {p}? {{yes}}'")
    'Is it {text}? {{yes}}'
    """

    repository: str
    commit: str
    file: str
    sha256: str
    strings: Sequence[str]
    join: str = ""
    fields: Mapping[str, str] = field(default_factory=dict)
    replace: Sequence[tuple[str, str]] = ()
    around: str = "{authors}"

    @property
    def url(self) -> str:
        """The URL of the file."""
        return f"{RAW}/{self.repository}/{self.commit}/{self.file}"

    def card(self, name: str) -> BenchmarkCard:
        """Return the file as a card that `download.fetch` takes.

        Args:
            name: the name of the scorer.
        """
        page = f"https://github.com/{self.repository}"
        return BenchmarkCard(
            name,
            "",
            "",
            url=self.url.removesuffix(f"/{self.file}"),
            files=[self.file],
            sha256={self.file: self.sha256},
            page=page,
            obtain=f"download {page}/blob/{self.commit}/{self.file}",
        )

    def read(self, name: str, root: Path | None = None) -> str:
        """Return the text, as a template.

        Args:
            name: the name of the scorer.
            root: the folder that the file was fetched to.

        Raises:
            BenchmarkDataError: the file is missing, or its digest is not that of the card.
        """
        path = (root or download.default_root(name)) / self.file
        if not path.is_file():
            raise BenchmarkDataError(
                f"the question of {name!r} is read from its authors' script, which is not here: "
                f"`t2v-eval data {name} --fetch` brings it, and `wording='ours'` asks in words of "
                "our own"
            )
        if (actual := download.sha256(path)) != self.sha256:
            raise BenchmarkDataError(
                f"{path} is not the authors' script: its SHA-256 is {actual}, not {self.sha256}"
            )
        return self.extract(read_text(path))

    def extract(self, source: str) -> str:
        """Return the text in the source of the file, as a template.

        Raises:
            CheckpointError: the source is not Python; or a part matches no string, or several
                different ones.
        """
        blocks = _BLOCK.findall(source) if self.file.endswith(".md") else [source]
        try:
            texts = [t for block in blocks for t in _strings(ast.parse(block), self.fields)]
        except (SyntaxError, ValueError, RecursionError) as error:
            raise CheckpointError(
                f"{self.file} of {self.repository} is no Python script: {error}"
            ) from error
        parts: list[str] = []
        for part in self.strings:
            matches = {text for variable, text in texts if part == variable or part in text}
            if len(matches) != 1:
                raise CheckpointError(
                    f"{self.file} of {self.repository} has {len(matches)} strings with {part!r}"
                )
            parts += matches
        text = self.join.join(parts)
        for old, new in self.replace:
            text = text.replace(old, new)
        return self.around.replace("{authors}", text)


def _strings(
    tree: ast.AST, fields: Mapping[str, str], variable: str = ""
) -> Iterator[tuple[str, str]]:
    """Yield each string of a source as a template, with the variable that it is assigned to."""
    if isinstance(tree, ast.JoinedStr):
        yield variable, "".join(_part(value, fields) for value in tree.values)
        return
    if isinstance(tree, ast.Constant) and isinstance(tree.value, str):
        yield variable, _part(tree, fields)
        return
    if isinstance(tree, ast.Assign) and isinstance(tree.targets[0], ast.Name):
        variable = tree.targets[0].id
    for child in ast.iter_child_nodes(tree):
        yield from _strings(child, fields, variable)


def _part(value: ast.expr, fields: Mapping[str, str]) -> str:
    """Return a part of a string as a template, whose literal braces are doubled."""
    if isinstance(value, ast.Constant):
        return str(value.value).replace("{", "{{").replace("}", "}}")
    name = ast.unparse(value.value) if isinstance(value, ast.FormattedValue) else ""
    return f"{{{fields[name]}}}" if name in fields else f"{{{{{name}}}}}"
