"""Questions of authors that are too long for a card: read from their own script, once fetched.

A card names the repository, the commit, the file and its SHA-256, and the strings of the file that
make the question, each by words that it alone contains. `t2v-eval data NAME --fetch` brings it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from t2v_eval.cards import BenchmarkCard
from t2v_eval.errors import BenchmarkDataError, InputError
from t2v_eval.evaluation import download
from t2v_eval.utils.text_file import read_text

RAW = "https://raw.githubusercontent.com"
_BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class AuthorsQuestion:
    """Where the question of authors is, and how it is made of the strings there.

    Attributes:
        repository: on GitHub, as OWNER/NAME.
        commit: its commit.
        file: a Python file there, or a Markdown page with blocks of Python.
        sha256: of the file.
        strings: words of each string of the file that is a part, in order.
        join: what stands between the parts.
        fields: what the variables of formatted strings stand for: ``{prompt = "text"}``.
        replace: texts that are replaced at last, each with its replacement.

    >>> source = AuthorsQuestion("me/mine", "0" * 40, "ask.py", "", ["Is"], fields={"p": "text"})
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

    def card(self, name: str) -> BenchmarkCard:
        """Return the file as a card that `download.fetch` takes.

        Args:
            name: the name of the judge.
        """
        page = f"https://github.com/{self.repository}"
        return BenchmarkCard(
            name,
            "",
            "",
            url=f"{RAW}/{self.repository}/{self.commit}",
            files=[self.file],
            sha256={self.file: self.sha256},
            page=page,
            obtain=f"download {page}/blob/{self.commit}/{self.file}",
        )

    def read(self, name: str, root: Path | None = None) -> str:
        """Return the question, as a template.

        Args:
            name: the name of the judge.
            root: the folder that the file was fetched to.

        Raises:
            BenchmarkDataError: the file is missing, or is not the one that the card names.
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
        """Return the question in the source of the file, as a template.

        Raises:
            InputError: a string is not there, or is there twice with different texts.
        """
        blocks = _BLOCK.findall(source) if self.file.endswith(".md") else [source]
        texts = [t for block in blocks for t in _strings(ast.parse(block), self.fields)]
        parts: list[str] = []
        for words in self.strings:
            matches = {text for text in texts if words in text}
            if len(matches) != 1:
                raise InputError(
                    f"{self.file} of {self.repository} has {len(matches)} strings with {words!r}"
                )
            parts += matches
        question = self.join.join(parts)
        for old, new in self.replace:
            question = question.replace(old, new)
        return question


def _strings(tree: ast.AST, fields: Mapping[str, str]) -> Iterator[str]:
    """Yield the strings of a source as templates, whose literal braces are doubled."""
    if isinstance(tree, ast.JoinedStr):
        yield "".join(_part(value, fields) for value in tree.values)
        return
    if isinstance(tree, ast.Constant) and isinstance(tree.value, str):
        yield tree.value.replace("{", "{{").replace("}", "}}")
    for child in ast.iter_child_nodes(tree):
        yield from _strings(child, fields)


def _part(value: ast.expr, fields: Mapping[str, str]) -> str:
    if isinstance(value, ast.Constant):
        return str(value.value).replace("{", "{{").replace("}", "}}")
    name = ast.unparse(value.value) if isinstance(value, ast.FormattedValue) else ""
    return f"{{{fields[name]}}}" if name in fields else f"{{{{{name}}}}}"
