"""The rules of the house: who may import whom, what an import costs, what is public."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.processes import ROOT, run_python

import t2v_eval
from t2v_eval.registry import benchmarks, models

CORE = ROOT / "t2v_eval"

# A module may import those before it, never those after.
ORDER = (
    "errors stopping _toml printable regular_file budget image_file urls open_file _torch media "
    "video plan outcome cautions cost store _arguments registry template speaking "
    "checkpoint_files weights batching devices precision kept scorer embeddings pixels local "
    "pair_scorer images_first pool remote api values ranking pairwise metrics sensitivity "
    "weighted bootstrap permutation files tables agree caption selection benchmark data "
    "comparison svg chart plots browse pictures catalogue html markdown report console "
    "estimates arguments store_commands agree_command data_command prefer_command cli __main__"
).split()


def imports(path: Path) -> list[str]:
    """What a file imports, with relative imports as they are written (leading dots)."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append("." * node.level + (node.module or ""))
    return found


def test_the_core_imports_in_one_direction():
    modules = [path for path in CORE.glob("*.py") if path.stem != "__init__"]
    assert {path.stem for path in modules} <= set(ORDER), "a new module takes its place in ORDER"
    for path in modules:
        for name in imports(path):
            if name.startswith("t2v_eval."):
                other = name.split(".")[1]
                assert ORDER.index(other) < ORDER.index(path.stem), f"{path.stem} imports {other}"


@pytest.mark.parametrize("folder", ["backends", "benchmarks"])
def test_backends_and_benchmarks_import_the_core_and_siblings_only(folder):
    for path in (ROOT / folder).glob("*.py"):
        for name in imports(path):
            inside = name.split(".")[1] if name.startswith("t2v_eval.") else ""
            assert inside not in ("backends", "benchmarks"), f"{path.name} imports {name}"
            assert not name.startswith(".."), f"{path.name} imports {name}"


def test_the_core_names_no_backend_and_no_benchmark():
    names = [*models.names(), *benchmarks.names()]
    names += [
        path.stem for f in ("backends", "benchmarks") for path in (ROOT / f).glob("[a-z]*.py")
    ]
    for path in CORE.glob("*.py"):
        strings = {
            node.value
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        }
        for name in set(names) - {"plain"}:
            for string in strings:
                assert not re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", string), (
                    f"{path.name} names {name!r}: {string[:80]!r}"
                )


# Libraries of which more is asked than they document, and the modules that may do so.
INTERNALS = {
    "transformers": ("_transformers.py", "_transformers_seeing.py"),
    "open_clip": ("_open_clip.py",),
    "torch": ("_torch.py",),
}
DOCUMENTED = {"torch.nn", "torch.nn.functional", "torch.nn.utils.rnn"}
OWN = {  # names with an underscore of our own classes, and of named tuples
    *("_asdict", "_make", "_replace", "_new", "_sample", "_embedding", "_of_texts", "_of_images"),
    *("_of_sigma", "_keys", "_key_base", "_reach", "_given", "_caution", "_warn_truncated"),
    *("_truncated", "_fields"),
}


def reaches(path: Path) -> list[tuple[str, str]]:
    """Imports of parts of libraries, and what of a library is named with an underscore."""
    tree = ast.parse(path.read_text())
    found = [
        (name.partition(".")[0], name)
        for name in imports(path)
        if name.partition(".")[0] in INTERNALS and "." in name and name not in DOCUMENTED
    ]
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Attribute)
            and node.attr.startswith("_")
            and not node.attr.startswith("__")
            and node.attr not in OWN
            and not (isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"))
            and not ast.unparse(node.value).startswith(("super()", "self._"))
        ):
            found.append(("", ast.unparse(node)))
    return found


@pytest.mark.parametrize("folder", ["backends", "t2v_eval", "benchmarks"])
def test_internals_of_libraries_are_reached_in_one_place_each(folder):
    allowed = {name for names in INTERNALS.values() for name in names}
    allowed |= {"urls.py"}  # http.client has no other place for the function that opens a socket
    for path in (ROOT / folder).glob("*.py"):
        for library, what in reaches(path):
            assert path.name in INTERNALS.get(library, allowed), f"{path.name} reaches {what}"


def test_files_are_short():
    for path in [
        p for p in ROOT.rglob("*.py") if ".venv" not in p.parts and "build" not in p.parts
    ]:
        assert len(path.read_text().splitlines()) <= 600, path


@pytest.mark.parametrize(
    "code",
    [
        "import t2v_eval",
        "import t2v_eval; t2v_eval.list_models(); t2v_eval.list_benchmarks()",
        "import sys\nfrom t2v_eval.cli.main import main\n"
        "sys.argv = ['t2v-eval', 'list', 'models']\n"
        "try: main()\nexcept SystemExit: pass",
    ],
)
def test_importing_and_listing_import_no_model_library(code):
    heavy = run_python(
        f"{code}\nimport sys, json\n"
        "print(json.dumps({m: m in sys.modules for m in ('torch', 'transformers', 'open_clip')}))"
    )
    assert heavy == {"torch": False, "transformers": False, "open_clip": False}


def test_the_public_names_are_this_list_and_exist():
    assert t2v_eval.__all__ == sorted(t2v_eval.__all__, key=lambda n: (not n[0].isupper(), n)) or (
        t2v_eval.__all__ == sorted(t2v_eval.__all__)
    )
    assert set(t2v_eval.__all__) == set(t2v_eval._HOME)
    for name in t2v_eval.__all__:
        value = getattr(t2v_eval, name)
        assert value.__doc__, name
        assert value.__module__.startswith("t2v_eval."), name
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        t2v_eval.nonsense  # noqa: B018


def test_bare_names_are_refused():
    done = subprocess.run(
        [sys.executable, "-c", "import backends"], capture_output=True, text=True, cwd=ROOT
    )
    assert "import it as t2v_eval.backends" in done.stderr
