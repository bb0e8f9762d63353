"""Cards, names, families and what a user sees who mistypes one."""

from __future__ import annotations

import sys

import pytest

import t2v_eval
from t2v_eval.cards import BenchmarkCard, ModelCard
from t2v_eval.errors import InputError, MissingPackageError, UnknownNameError
from t2v_eval.inputs.template import templates
from t2v_eval.registry import Registry, benchmarks, models
from t2v_eval.utils.signatures import accepted, source_of


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of cards as a third party would ship it."""
    folder = tmp_path / "their_scorers"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "colour.py").write_text(
        "class Colour:\n"
        "    def __init__(self, card, path='', hue=0):\n"
        "        self.card, self.path, self.hue = card, path, hue\n"
    )
    (folder / "colour.toml").write_text(
        'entry = "Colour"\nkind = "clip"\nlicense = "MIT"\n'
        '[names.red]\nsummary = "how red"\npath = "./red.bin"\ndefault = true\n'
        "[names.blue]\nhue = 240\nexpects_size = [4, 4]\n"
        '[families.any]\nargument = "path"\n'
    )
    (folder / "broken.py").write_text("import not_a_package_at_all\n")
    (folder / "broken.toml").write_text('entry = "X"\nextra = "broken"\n[names.broken]\n')
    monkeypatch.syspath_prepend(tmp_path)
    yield folder
    for name in [n for n in sys.modules if n.startswith("their_scorers")]:
        del sys.modules[name]


def test_listing_reads_cards_and_imports_no_module(package):
    registry = Registry("model", "their_scorers", ModelCard)
    assert registry.names() == ["broken", "red", "blue"]
    assert registry.names("b*", kind="clip") == ["blue"]
    assert registry.default("clip") == "red"
    assert registry.card("blue").license == "MIT"
    assert registry.card("blue").expects_size == (4, 4)
    assert "their_scorers.colour" not in sys.modules


def test_create_passes_the_cards_arguments_and_overrides(package):
    registry = Registry("model", "their_scorers", ModelCard)
    red = registry.create("red", hue=7)
    assert (red.path, red.hue, red.card.name) == (str(package / "red.bin"), 7, "red")
    assert registry.create("any:thing/else").path == "thing/else"
    (package / "more.toml").write_text('module = "colour"\nentry = "Colour"\n[names.green]\n')
    assert type(Registry("model", "their_scorers", ModelCard).create("green")) is type(red)
    assert registry.create("any:thing/else").card.name == "any:thing/else"


def test_what_is_wrong_is_named(package):
    registry = Registry("model", "their_scorers", ModelCard)
    with pytest.raises(UnknownNameError, match="no model called 'bleu'. Did you mean 'blue'"):
        registry.create("bleu")
    with pytest.raises(UnknownNameError, match="list models"):
        registry.create("any:")
    with pytest.raises(MissingPackageError, match=r"not_a_package_at_all.*t2v-eval\[broken\]"):
        registry.create("broken")
    with pytest.raises(InputError, match="'red' takes no `huee=`"):
        registry.create("red", huee=3)
    with pytest.raises(UnknownNameError, match="marked as the default"):
        registry.default("vqa")


def test_a_fault_inside_a_constructor_is_not_blamed_on_options(package):
    (package / "colour.py").write_text(
        "def mix(hue): ...\n"
        "class Colour:\n"
        "    def __init__(self, card, path='', **more):\n"
        "        mix(shade=3) if not more else mix(**more)\n"
    )
    registry = Registry("model", "their_scorers", ModelCard)
    with pytest.raises(TypeError, match=r"mix\(\) got an unexpected keyword argument 'shade'"):
        registry.create("red")
    with pytest.raises(InputError, match="'red' takes no `shade=`"):
        registry.create("red", shade=3)


def test_a_mistyped_name_is_not_taken_for_a_member_of_a_family(package):
    (package / "colour.toml").write_text(
        (package / "colour.toml").read_text() + '[names."any:dark-red-32"]\npath = "x"\n'
    )
    registry = Registry("model", "their_scorers", ModelCard)
    assert registry.create("any:dark-red-32").path == "x"
    assert registry.create("any:something-else").path == "something-else"
    with pytest.raises(UnknownNameError, match="Did you mean 'any:dark-red-32'"):
        registry.create("any:dark-red-23")
    with pytest.raises(UnknownNameError, match="Did you mean 'any:blue'"):
        registry.create("anny:blue")


def test_registering_a_class_of_ones_own():
    registry: Registry[object, ModelCard] = Registry("model", "t2v_eval.backends", ModelCard)

    @registry.register("mine", kind="vqa", summary="my own")
    class Mine:
        def __init__(self, card, level=1):
            self.card, self.level = card, level

    assert "mine" in registry.names(kind="vqa")
    assert registry.create("mine", level=3).level == 3
    assert registry.card("mine").summary == "my own"


@pytest.mark.parametrize("registry", [models, benchmarks])
def test_every_card_of_ours_says_what_it_is(registry):
    assert registry.names()
    for card in registry.cards.values():
        assert card.summary or not card.file, card.name  # others may have registered some


def test_rewards_load_by_the_names_that_people_type():
    for alias, name in (
        ("PickScore", "pickscore-v1"),
        ("MizzenAI/HPSv3", "hpsv3"),
        ("HPSv3++", "hpsv3++"),
        ("KwaiVGI/VideoReward", "videoreward"),
        ("deqa", "deqa-score"),
    ):
        assert models.card(alias).name == name
    aliases = [alias for card in models.cards.values() for alias in card.aliases]
    assert len({*aliases, *models.cards}) == len(aliases) + len(models.cards)


def test_a_name_is_not_taken_by_an_alias_of_another_package(package):
    (package / "colour.toml").write_text(
        'entry = "Colour"\n[names.red]\naliases = ["blue", "crimson"]\n[names.blue]\nhue = 240\n'
    )
    theirs = Registry("colour", "their_scorers", ModelCard)
    assert theirs.card("blue").args == {"hue": 240}
    assert theirs.card("crimson").name == "red"


def test_every_scorer_says_its_kind_licence_and_range():
    for card in models.cards.values():
        if not card.file:  # registered by another test
            continue
        assert card.kind and card.license and card.range and card.verified, card.name


def changed(package, known: str, expected: str) -> Registry[object, ModelCard]:
    card = package / "colour.toml"
    card.write_text(card.read_text().replace(known, expected))
    return Registry("model", "their_scorers", ModelCard)


@pytest.mark.parametrize(
    ("known", "expected", "message"),
    [
        ("hue = 240", "huee = 240", "'blue' has the unknown key 'huee'; did you mean 'hue'"),
        ('license = "MIT"', 'licence = "MIT"', "unknown key 'licence'; did you mean 'license'"),
        ("hue = 240", "xyz_quux = 1", "unknown key 'xyz_quux'; Colour of .* takes hue, path"),
        ("[families.any]", "[families.any]\nhueue = 1", "'any' has the unknown key 'hueue'"),
        ('argument = "path"', 'argument = "pth"', "'any' has the unknown key 'pth'"),
        ('argument = "path"', 'summary = ""', "family 'any' lacks `argument`"),
        ('license = "MIT"', "license = 3", "license = 3, which must be a text"),
        ("default = true", 'default = "yes"', "default = 'yes', which must be true or false"),
        ("[4, 4]", "[4, 4.5]", "expects_size = .4, 4.5., which must be a list of two whole"),
        ("[4, 4]", "4", "expects_size = 4, which must be a list of two whole"),
        ("hue = 240", 'suffixes = ".png"', "suffixes = '.png', which must be a list of texts"),
        ("hue = 240", "questions = {a = 1}", "questions = .*, which must be a table of texts"),
        ("hue = 240", "sha256 = {}", "'blue' has the unknown key 'sha256'"),
        ("[names.blue]", "[names]\nblue = 3\n[names.x]", "not valid TOML|names must hold tables"),
        ("[names.", "[nmaes.", "unknown key 'nmaes'; did you mean"),
    ],
)
def test_what_is_wrong_in_a_card_is_said_when_cards_are_listed(package, known, expected, message):
    with pytest.raises(InputError, match=f"colour.toml.*{message}|{message}.*colour.toml"):
        changed(package, known, expected).names()


@pytest.mark.parametrize(
    "published",
    [
        '"x"',
        "{tau = 0.5}",
        '{tau = {mine = "0.5"}}',
        "{tau = {mine = true}}",
        "{tau = {mine = nan}}",
        "{tau = {source = 3}}",
    ],
)
def test_facts_of_a_benchmark_are_checked_too(package, published):
    card = package / "colour.toml"
    card.write_text(f'entry = "Colour"\n[names.blue]\npublished = {published}\n')
    with pytest.raises(InputError, match="published = .*, which must be a table for each metric"):
        Registry("benchmark", "their_scorers", BenchmarkCard).names()


def test_a_file_without_cards_is_named(package):
    (package / "more.toml").write_text('entry = "Colour"\n[naems.x]\nhue = 3\n')
    with pytest.raises(InputError, match=r"more.toml holds no card: a card is a table \[names"):
        Registry("model", "their_scorers", ModelCard).names()
    (package / "more.toml").write_text('entry = "Colour"\nnames = ["x"]\n')
    with pytest.raises(InputError, match=r"more.toml: names must hold tables"):
        Registry("model", "their_scorers", ModelCard).names()


def test_a_card_with_an_unknown_key_is_refused_before_its_class_is_made(package):
    registry = changed(package, "hue = 240", "huee = 240")
    with pytest.raises(InputError, match="did you mean 'hue'"):
        registry.create("blue")
    assert registry.create("red").hue == 0  # whose card is right
    assert "their_scorers.colour" in sys.modules


def test_an_unknown_key_is_told_of_a_card_in_a_folder_of_cards(package):
    inner = package / "inner"
    for folder in (inner, inner / "cards"):
        folder.mkdir()
    (inner / "__init__.py").write_text("")
    (inner / "shade.py").write_text("from ..colour import Colour\nclass Shade(Colour):\n    pass\n")
    lines = 'module = "inner.shade"\nentry = "Shade"\n[names.x]\nhuee = 1\n'
    (inner / "cards" / "greys.toml").write_text(lines)
    with pytest.raises(InputError, match=r"greys.toml.*unknown key 'huee'; did you mean 'hue'"):
        Registry("model", "their_scorers", ModelCard).names()


def test_arguments_are_seen_through_bases_and_options(package):
    (package / "shade.py").write_text(
        "from typing import TypedDict, Unpack\n"
        "from .colour import Colour\n"
        "class More(TypedDict, total=False):\n"
        "    tone: int\n"
        "class Shade(Colour):\n"
        "    def __init__(self, depth, **options):\n"
        "        super().__init__(**options)\n"
        "class Toned:\n"
        "    def __init__(self, card, **more: Unpack[More]): ...\n"
        "def shade(light, **options):\n"
        "    return Shade(depth=1, **options)\n"
    )
    for entry, key in (("Shade", "hue"), ("Toned", "tone"), ("shade", "path"), ("shade", "light")):
        (package / "shade.toml").write_text(f'entry = "{entry}"\n[names.x]\n{key} = "1"\n')
        assert Registry("model", "their_scorers", ModelCard).card("x").args == {key: "1"}
        (package / "shade.toml").write_text(f'entry = "{entry}"\n[names.x]\n{key}_ = "1"\n')
        with pytest.raises(InputError, match=f"'{key}_'; did you mean '{key}'"):
            Registry("model", "their_scorers", ModelCard).card("x")
    # Where the source does not say what is taken, nothing is refused.
    (package / "shade.py").write_text(
        "from elsewhere import Base\nclass Shade(Base):\n    pass\ndef free(**any): ...\n"
    )
    for entry in ("Shade", "free", "NotThere"):
        (package / "shade.toml").write_text(f'entry = "{entry}"\n[names.x]\nany = "1"\n')
        assert Registry("model", "their_scorers", ModelCard).card("x").args == {"any": "1"}


def test_options_that_are_divided_between_several_calls_are_seen(package):
    """As those of a service: a class that is passed on, one that a dictionary holds, and a rest."""
    (package / "shade.py").write_text(
        "from .build import build\n"
        "class Place:\n"
        "    def __init__(self, name, city='', **more: int): ...\n"
        "class Near:\n"
        "    def __init__(self, name, city=''): ...\n"
        "def near(name, **options):\n"
        "    return build(Near, name, **options)\n"
        "def any_place(name, **options):\n"
        "    return build(Place, name, **options)\n"
    )
    (package / "build.py").write_text(
        "class Round:\n    def __init__(self, radius): ...\n"
        "def square(side): ...\n"
        "class Both:\n    def __init__(self, place, shape, store=None): ...\n"
        "SHAPES: dict = {'round': Round, 'square': square}\n"
        "def take(options, names): ...\n"
        "def build(place, name, shape, **options):\n"
        "    first = place(name, **take(options, ['city']))\n"
        "    second = SHAPES[shape](**take(options, ['radius', 'side']))\n"
        "    return Both(first, second, **options)\n"
    )
    taken = {"name", "city", "shape", "radius", "side", "store"}
    assert accepted(package / "shade.py", "near") == taken
    for unknown in ("any_place", "Place"):  # the base of Place does not say what it takes
        assert accepted(package / "shade.py", unknown) is None
    assert accepted(package / "build.py", "build") is None, "the class is not known here"


@pytest.mark.parametrize("entry", ["openai_scorer", "compatible_scorer"])
def test_a_card_may_set_each_option_of_a_service(package, entry):
    (package / "shade.py").write_text(
        f"from t2v_eval.backends.services.openai_api import {entry}\n"
    )
    head = f'entry = "{entry}"\nremote = true\n[names.x]\nmodel = "m"\n'
    options = (
        'base_url = "http://localhost:8000/v1"\ndetail = "low"\nrule = "yes-no"\nretries = 2\n'
    )
    (package / "shade.toml").write_text(head + options)
    scorer = Registry("model", "their_scorers", ModelCard).create("x", api_key="k")
    assert scorer.base_url == "http://localhost:8000/v1" and scorer.limits.retries == 2
    for wrong in ("base_urk", "detial", "ruel", "protocol"):
        (package / "shade.toml").write_text(f'{head}{wrong} = "x"\n')
        with pytest.raises(InputError, match=f"unknown key '{wrong}'"):
            Registry("model", "their_scorers", ModelCard).card("x")


@pytest.mark.parametrize("registry", [models, benchmarks])
def test_the_classes_of_all_our_cards_are_seen(registry):
    """So that an unknown key of any is told."""
    for card in registry.cards.values():
        if card.file is not None:
            known = accepted(source_of(card.file, card.module), card.entry)
            # An entry whose options are those of another scorer is asked; see `api.takes_option`.
            assert known is not None or hasattr(registry.entry(card), "takes"), card.name


def test_cards_follow_a_version_by_the_template_that_they_ask():
    """Those of vision-language models and services; the question of the version is their own."""
    for card in models.cards.values():
        assert set(card.questions.values()) <= templates().keys(), card.name
        if card.follows:
            template = "vqascore-instructblip" if card.entry == "InstructBlipFlanT5" else "vqascore"
            template = template if card.kind == "vqa" else "plain"
            assert card.questions[card.follows] == card.args.get("template", template), card.name
    assert models.conventions() == ["t2v-3.0", "t2v-3.1"]


@pytest.mark.parametrize(
    ("name", "option", "meant"),
    [
        ("dsg", "questons", "model 'dsg' takes no `questons=`: did you mean `questions=`"),
        ("dsg", "bacoff", "model 'gpt-4o' takes no `bacoff=`: did you mean `backoff=`"),
        ("q-insight", "passs", "did you mean `passes=`"),
        ("text-rendering", "taget", "model 'text-rendering' takes .* mean `target=`"),
    ],
)
def test_a_misspelt_option_of_a_composed_scorer_is_its_own_or_that_of_the_scorer_within(
    name, option, meant
):
    within = {"reader": "gpt-4o"} if name == "text-rendering" else {"vlm": "gpt-4o"}
    with pytest.raises(InputError, match=meant):
        t2v_eval.load(name, **within, api_key="k", **{option: 1})
