"""The rules of the code: who may import whom, what an import costs, what is public."""

from __future__ import annotations

import ast
import doctest
import functools
import graphlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from helpers.processes import run_python

import t2v_eval
from t2v_eval.inputs.questions.layouts import LAYOUTS
from t2v_eval.registry import benchmarks, models
from t2v_eval.stats.question_rules import RULES

ROOT = Path(__file__).parents[2]
CORE = ROOT / "t2v_eval"
PACKAGES = {"t2v_eval": CORE}
PACKAGES |= {f"t2v_eval.{name}": ROOT / name for name in ("backends", "benchmarks")}

# In import order: a package, or a module beside it, imports those before it; see ARCHITECTURE.md.
ORDER = {
    "t2v_eval": (
        "errors utils stats cards registry inputs store scoring local remote api "
        "cluster t2v_metrics extractors evaluation verification generators votes review report "
        "bridges protocol server cli __main__"
    ).split(),
    "t2v_eval.backends": (
        "common clip flant5 blip video preference vlm services own remote questions detection "
        "safety edits text_rendering written"
    ).split(),
    "t2v_eval.benchmarks": ["forms", "*"],  # adapters lie flat, and may import each other
}
APART = [("local", "remote"), ("vlm", "services"), ("vlm", "preference"), ("vlm", "clip")]
MOST_FILES = 20  # Python files in a folder
# Adapters of benchmarks lie flat, a module each, and so do their tests.
FLAT = {ROOT / "benchmarks", ROOT / "tests" / "benchmarks"}


def modules_of(package: str) -> dict[str, Path]:
    """Dotted names of the modules of a package and their files."""
    folder = PACKAGES[package]
    result = {}
    for path in folder.rglob("*.py"):
        parts = path.relative_to(folder).with_suffix("").parts
        result[".".join((package, *(p for p in parts if p != "__init__")))] = path
    return result


MODULES = {name: path for package in PACKAGES for name, path in modules_of(package).items()}


@functools.cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@functools.cache
def imports(name: str) -> set[str]:
    """The modules of ours that a module imports, anywhere in its file."""
    path = MODULES[name]
    package = name if path.stem == "__init__" else name.rpartition(".")[0]
    targets = set()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            targets |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, *filter(None, [node.module])])
            submodules = {f"{base}.{alias.name}" for alias in node.names} & MODULES.keys()
            targets |= submodules or {base}
    return targets & MODULES.keys() - {name}


def place(name: str) -> tuple[str, str]:
    """The top package of a module, and the entry of `ORDER` that it belongs to."""
    top = max((p for p in PACKAGES if f"{name}.".startswith(f"{p}.")), key=len)
    package = name.removeprefix(top).strip(".").partition(".")[0]
    return top, package if package in ORDER[top] or "*" not in ORDER[top] else "*"


@pytest.mark.parametrize("top", PACKAGES)
def test_packages_import_in_one_direction(top):
    order = ORDER[top]
    for name in modules_of(top):
        _, package = place(name)
        if not package:  # the top package's own __init__, which names what is public
            continue
        assert package in order, (
            f"{name}: {package!r} has no place in the import order: add it to ORDER of this file "
            "and to the table of packages in ARCHITECTURE.md"
        )
        for target in imports(name):
            other_top, other = place(target)
            if other_top != top or not other or other == package:
                continue
            assert order.index(other) < order.index(package), (
                f"{name} imports {target}, but {package!r} comes before {other!r} in ORDER"
            )
            assert (other, package) not in APART and (package, other) not in APART, (
                f"{name} imports {target}, but {package!r} and {other!r} do not import each other"
            )


@pytest.mark.parametrize("package", PACKAGES)
def test_no_modules_import_each_other_in_a_circle(package):
    graph = {name: imports(name) for name in modules_of(package) if name not in PACKAGES}
    try:
        list(graphlib.TopologicalSorter(graph).static_order())
    except graphlib.CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_the_core_imports_no_backend_and_backends_and_benchmarks_not_each_other():
    for name in MODULES:
        package, _ = place(name)
        for target in imports(name):
            other, _ = place(target)
            assert other in (package, "t2v_eval"), f"{name} imports {target}"


def test_no_folder_is_crowded():
    files = [*MODULES.values(), *(ROOT / "tests").rglob("*.py")]
    for folder in {path.parent for path in files} - FLAT:
        assert len(list(folder.glob("*.py"))) <= MOST_FILES, folder


def test_cards_lie_beside_their_module_or_in_its_folder_of_cards():
    for top in ("backends", "benchmarks"):
        for file in (ROOT / top).rglob("[!_]*.toml"):
            beside = file.relative_to(ROOT / top).with_suffix("").parts
            module = tomllib.loads(file.read_text()).get("module", ".".join(beside))
            home = MODULES[f"t2v_eval.{top}.{module}"].parent
            assert file.parent in (home, home / "cards"), f"{module}: its card is {file}"


def without_examples(docstring: str) -> str:
    """A docstring without its doctests, which may load a small scorer by name."""
    if ">>>" not in docstring:
        return docstring
    parts = doctest.DocTestParser().parse(docstring)
    return "".join(part for part in parts if isinstance(part, str))


def test_the_core_names_no_backend_and_no_benchmark():
    names = [*models.names(), *benchmarks.names()]
    cards = [*models._files.values(), *benchmarks._files.values()]
    names += {card.module.rpartition(".")[2] for card in cards}
    # A rule on answers, which the core has, bears the name of the scorer that applies it, and a
    # layout of questions that of the benchmark whose files have it.
    alternatives = "|".join(re.escape(name) for name in {*names} - {"plain", *RULES, *LAYOUTS})
    named = re.compile(rf"(?<![\w-])(?:{alternatives})(?![\w-])")
    for path in CORE.rglob("*.py"):
        strings = {
            without_examples(node.value)
            for node in ast.walk(parsed(path))
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        }
        for string in strings:
            match = named.search(string)
            assert match is None, f"{path.name} names {match and match[0]!r}: {string[:80]!r}"


# Libraries of which more is asked than they document, and the modules that may do so.
INTERNALS = {
    "bert_score": ("bert_score_internals.py",),
    "transformers": ("transformers_internals.py", "transformers_vision.py"),
    "open_clip": ("open_clip_internals.py",),
    "torch": ("torch_internals.py",),
}
DOCUMENTED = {"torch.nn", "torch.nn.functional", "torch.nn.utils.rnn"}
OWN = {  # names with an underscore of our own classes, and of named tuples
    *("_asdict", "_make", "_replace", "_new", "_sample", "_embedding_call", "_embed_text_lists"),
    *(
        "_embed_image_lists",
        "_returns_sigma",
        "_reach",
        "_texts_or_empty",
        "_warn_of_size",
    ),
    *("_warn_truncated", "_truncated", "_fields"),
}


def imported_names(path: Path) -> list[str]:
    """What a file imports, with relative imports as they are written (leading dots)."""
    result = []
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            result += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            result.append("." * node.level + (node.module or ""))
    return result


def reaches(path: Path) -> list[tuple[str, str]]:
    """Imports of parts of libraries, and what of a library is named with an underscore."""
    result = [
        (name.partition(".")[0], name)
        for name in imported_names(path)
        if name.partition(".")[0] in INTERNALS and "." in name and name not in DOCUMENTED
    ]
    for node in ast.walk(parsed(path)):
        if (
            isinstance(node, ast.Attribute)
            and node.attr.startswith("_")
            and not node.attr.startswith("__")
            and node.attr not in OWN
            and not (isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"))
            and not ast.unparse(node.value).startswith(("super()", "self._"))
        ):
            result.append(("", ast.unparse(node)))
    return result


@pytest.mark.parametrize("folder", ["backends", "t2v_eval", "benchmarks"])
def test_internals_of_libraries_are_reached_in_one_place_each(folder):
    allowed = {name for names in INTERNALS.values() for name in names}
    allowed |= {"urls.py"}  # http.client has no other place for the function that opens a socket
    for path in (ROOT / folder).rglob("*.py"):
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
        "libraries = ('torch', 'transformers', 'open_clip', 'scipy')\n"
        "print(json.dumps([name for name in libraries if name in sys.modules]))"
    )
    assert heavy == []


def test_the_public_names_are_this_list_and_exist():
    assert t2v_eval.__all__ == sorted(t2v_eval.__all__, key=lambda n: (not n[0].isupper(), n)) or (
        t2v_eval.__all__ == sorted(t2v_eval.__all__)
    )
    assert set(t2v_eval.__all__) == set(t2v_eval._MODULE_OF)
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
