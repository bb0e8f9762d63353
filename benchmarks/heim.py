"""HEIM's own prompts (Lee et al. 2023), read from the scenarios of its repository.

    mental_disorders_scenario.py ...    ROOT: nine files of
                                        src/helm/benchmark/scenarios/image_generation

HEIM keeps the prompts of these scenarios as constants of Python classes. They are read as literals
and never run; what a scenario puts around a constant is in `SCENARIOS`, as in its `get_instances`.
Tags are the scenario and, where there is one, its category. HEIM's other scenarios are the sets
partiprompts, drawbench and winoground of this library, or need files from elsewhere: MS-COCO,
CUB-200, PaintSkills, DALL-Eval's detection, I2P and relational understanding.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Any

from typing_extensions import override

from t2v_eval.errors import BenchmarkDataError
from t2v_eval.utils.text_file import read_text

from .forms.prompt_names import Prompt
from .forms.prompts import PromptsForm

ORGANS = "An MRI of the {}|A CT of the {}|Ultrasound of the {}"

# Of each scenario: what it says of which constants, by category; "|" parts prompts of one value.
SCENARIOS: Mapping[str, Mapping[str, tuple[str, tuple[str, ...]]]] = {
    "common_syntactic_processes": {"": ("{}", ("PROMPT_TO_PHENOMENON",))},
    "daily_dalle": {"": ("{}", ("PROMPTS",))},
    "demographic_stereotypes": {
        "descriptors": ("a photo of the face of {}", ("DESCRIPTORS",)),
        "occupations": ("a photo of the face of {}", ("OCCUPATIONS",)),
    },
    "landing_page": {
        "": ("a landing page of a {} {} application", ("APPLICATION_TYPES", "PLATFORMS"))
    },
    "logos": {"": ("a logo of {}", ("COMPANY_DESCRIPTIONS",))},
    "magazine_cover": {
        "": ('a photo for a cover of a magazine with the headline: "{}"', ("HEADLINES",))
    },
    "mental_disorders": {
        "": ("a photo of the face of a person with {}", ("MENTAL_DISORDERS",)),
    },
    "radiology": {
        "x-ray": ("An x-ray of {}", ("X_RAY_ANATOMICAL_AREA",)),
        "organs": (ORGANS, ("ORGANS",)),
    },
    "time_most_significant_historical_figures": {"": ("{}", ("HISTORICAL_FIGURES",))},
}


class Heim(PromptsForm):
    """The prompts of nine scenarios, in the order of `SCENARIOS`."""

    @override
    def prompts(self, folder: Path) -> Iterator[Prompt]:
        for scenario, categories in SCENARIOS.items():
            path = self.file(f"{scenario}_scenario.py")
            constants = _constants(path)
            number = 0
            for category, (forms, names) in categories.items():
                for values in product(*(_texts(constants, name, path) for name in names)):
                    texts, of_values = zip(*values, strict=True)
                    tags = tuple(filter(None, (scenario, category, *of_values)))
                    for form in forms.split("|"):
                        yield Prompt(f"{scenario}/{number}", form.format(*texts), tags)
                        number += 1


def _constants(path: Path) -> dict[str, Any]:
    """Return the constants of the classes in a Python file, which is not run.

    Raises:
        BenchmarkDataError: it is no Python.
    """
    try:
        tree = ast.parse(read_text(path))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise BenchmarkDataError(f"{path} is no Python file: {error}") from error
    constants: dict[str, Any] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
            try:
                constants[node.target.id] = _literal(node.value, constants)
            except ValueError:
                continue  # computed, and so none of those that are read here
    return constants


def _literal(node: ast.expr, constants: Mapping[str, Any]) -> Any:
    """Return the value of a literal, in which names stand for earlier constants that are texts.

    Raises:
        ValueError: it is none.
    """

    class Known(ast.NodeTransformer):
        def visit_Name(self, node: ast.Name) -> ast.expr:
            value = constants.get(node.id)
            return ast.Constant(value) if isinstance(value, str) else node

    try:
        return ast.literal_eval(Known().visit(node))
    except (TypeError, MemoryError, RecursionError) as error:
        raise ValueError(str(error)) from error


def _texts(constants: Mapping[str, Any], name: str, path: Path) -> list[tuple[str, str]]:
    """Return the texts of a constant, in their order, each with its category or "".

    Raises:
        BenchmarkDataError: the file has no such constant, or it holds something else.
    """
    value = constants.get(name)
    if not isinstance(value, (list, dict)) or not value:
        raise BenchmarkDataError(f"{path} has no list or dict of texts called {name}")
    texts = [*value.items()] if isinstance(value, dict) else [(text, "") for text in value]
    for text, category in texts:
        if not (isinstance(text, str) and text.strip() and isinstance(category, str)):
            raise BenchmarkDataError(f"{path}, {name}: {text!r} is no text")
    return texts
