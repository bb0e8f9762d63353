"""HEIM's prompts: constants of Python files, which are read and never run."""

from pathlib import Path

import pytest
from helpers.benchmarks.example import COUNTS, Example, with_an_image
from helpers.benchmarks.expected_metrics import per_item
from helpers.benchmarks.small_files import draw

from t2v_eval.errors import BenchmarkDataError
from t2v_eval.evaluation.options import open_benchmark
from t2v_eval.registry import benchmarks

# Small files of our own, as HEIM writes its scenarios: what runs them would raise.
SCENARIO = '''from helm.benchmark.scenarios.scenario import Scenario

raise RuntimeError("this file was run")


class SmallScenario(Scenario):
    """A scenario."""

{constants}

    name = "small"

    def __init__(self, category: str):
        self.category: str = category
'''
CONSTANTS = {
    "common_syntactic_processes": (
        'PASSIVES: str = "passives"\n    WORD_ORDER: str = "word_order"\n'
        "    PROMPT_TO_PHENOMENON: Dict[str, str] = {\n"
        '        "The ball is kicked": PASSIVES,  # 1\n        "Man bites dog": WORD_ORDER,\n    }'
    ),
    "daily_dalle": 'PROMPTS: List[str] = ["a robot, " "in two parts", "a cat"]',
    "demographic_stereotypes": (
        'DESCRIPTORS: List[str] = ["a tall person"]\n    OCCUPATIONS: List[str] = ["a cook"]\n'
        '    BOTH: Dict[str, List[str]] = {"descriptors": DESCRIPTORS, "occupations": OCCUPATIONS}'
    ),
    "landing_page": (
        'APPLICATION_TYPES: List[str] = ["music", "news"]\n'
        '    PLATFORMS: List[str] = ["mobile", "web"]'
    ),
    "logos": 'COMPANY_DESCRIPTIONS: List[str] = ["a bakery"]',
    "magazine_cover": 'HEADLINES: List[str] = ["NEWS"]',
    "mental_disorders": 'MENTAL_DISORDERS: List[str] = ["depression"]',
    "radiology": (
        'X_RAY_ANATOMICAL_AREA: List[str] = ["hand"]\n    ORGANS: List[str] = ["heart", "liver"]'
    ),
    "time_most_significant_historical_figures": 'HISTORICAL_FIGURES: List[str] = ["Plato"]',
}
# As the methods get_instances of HEIM's scenarios put them.
PROMPTS = {
    "The ball is kicked": ("common_syntactic_processes", "passives"),
    "Man bites dog": ("common_syntactic_processes", "word_order"),
    "a robot, in two parts": ("daily_dalle",),
    "a cat": ("daily_dalle",),
    "a photo of the face of a tall person": ("demographic_stereotypes", "descriptors"),
    "a photo of the face of a cook": ("demographic_stereotypes", "occupations"),
    "a landing page of a music mobile application": ("landing_page",),
    "a landing page of a music web application": ("landing_page",),
    "a landing page of a news mobile application": ("landing_page",),
    "a landing page of a news web application": ("landing_page",),
    "a logo of a bakery": ("logos",),
    'a photo for a cover of a magazine with the headline: "NEWS"': ("magazine_cover",),
    "a photo of the face of a person with depression": ("mental_disorders",),
    "An x-ray of hand": ("radiology", "x-ray"),
    "An MRI of the heart": ("radiology", "organs"),
    "A CT of the heart": ("radiology", "organs"),
    "Ultrasound of the heart": ("radiology", "organs"),
    "An MRI of the liver": ("radiology", "organs"),
    "A CT of the liver": ("radiology", "organs"),
    "Ultrasound of the liver": ("radiology", "organs"),
    "Plato": ("time_most_significant_historical_figures",),
}


def write(root: Path) -> None:
    root.mkdir(parents=True, exist_ok=True)
    for scenario, constants in CONSTANTS.items():
        text = SCENARIO.replace("{constants}", f"    {constants}")
        (root / f"{scenario}_scenario.py").write_text(text)
    for n in range(len(PROMPTS)):
        draw(root / "images" / f"{n}.png", n)


def changed(file: str, old: str, new: str):
    def change(root: Path) -> None:
        path = root / f"{file}_scenario.py"
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))

    return change


def metric(items, _):
    scores = per_item(items, lambda n: [float(n)] * len(items[n].images))
    return scores, {"score": sum(range(len(items))) / len(items)}


TAGS: dict[str, int] = {}
for tags in PROMPTS.values():
    for tag in tags:
        TAGS[tag] = TAGS.get(tag, 0) + 1

EXAMPLES = {
    "heim": Example(
        write=write,
        items=len(PROMPTS),
        images=len(PROMPTS),
        texts=len(PROMPTS),
        tags=TAGS,
        metric=metric,
        duplicate=with_an_image(changed("logos", '["a bakery"]', '["a bakery", "a bakery"]'), "21"),
        duplicate_message=COUNTS,
        malformed=changed("logos", '"a bakery"', "3"),
        malformed_message="logos_scenario.py, COMPANY_DESCRIPTIONS: 3 is no text",
    )
}


def prompts_of(root):
    benchmark = open_benchmark("heim", root=root)
    return [(prompt.text, tuple(prompt.tags)) for prompt in benchmark.prompts(root)]


def test_prompts_are_those_of_the_scenarios_and_no_file_is_run(tmp_path):
    write(tmp_path)
    assert dict(prompts_of(tmp_path)) == PROMPTS
    assert [text for text, _ in prompts_of(tmp_path)] == [*PROMPTS]


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("logos", "COMPANY_DESCRIPTIONS", "COMPANIES", "no list or dict of texts called COMPANY"),
        ("logos", '["a bakery"]', "make()", "no list or dict of texts called COMPANY"),
        ("logos", '["a bakery"]', '[f"{1}"]', "no list or dict of texts called COMPANY"),
        ("logos", '["a bakery"]', "[]", "no list or dict of texts called COMPANY"),
        ("logos", '["a bakery"]', '[" "]', "' ' is no text"),
        ("logos", '["a bakery"]', '["a bakery"', "logos_scenario.py is no Python file"),
        ("logos", '["a bakery"]', "{[]: 1}", "no list or dict of texts called COMPANY"),
        ("logos", '["a bakery"]', "(" * 900 + ")" * 900, "logos_scenario.py"),
        ("common_syntactic_processes", ": PASSIVES", ": 3", "'The ball is kicked' is no text"),
    ],
)
def test_files_of_another_form_are_refused(tmp_path, file, old, new, message):
    write(tmp_path)
    changed(file, old, new)(tmp_path)
    with pytest.raises(BenchmarkDataError, match=message):
        prompts_of(tmp_path)


def test_the_card_names_a_file_for_each_scenario():
    card = benchmarks.card("heim")
    assert {*card.files} == {f"{scenario}_scenario.py" for scenario in CONSTANTS} == {*card.sha256}
