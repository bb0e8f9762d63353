"""Cards, names, families and what a user sees who mistypes one."""

from __future__ import annotations

import sys

import pytest

from t2v_eval.errors import InputError, MissingPackageError, UnknownNameError
from t2v_eval.registry import Registry, benchmarks, models


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
    registry = Registry("model", "their_scorers")
    assert registry.names() == ["broken", "red", "blue"]
    assert registry.names("b*", kind="clip") == ["blue"]
    assert registry.default("clip") == "red"
    assert registry.card("blue").license == "MIT"
    assert registry.card("blue").expects_size == (4, 4)
    assert "their_scorers.colour" not in sys.modules


def test_create_passes_the_cards_arguments_and_overrides(package):
    registry = Registry("model", "their_scorers")
    red = registry.create("red", hue=7)
    assert (red.path, red.hue, red.card.name) == (str(package / "red.bin"), 7, "red")
    assert registry.create("any:thing/else").path == "thing/else"
    (package / "more.toml").write_text('module = "colour"\nentry = "Colour"\n[names.green]\n')
    assert type(Registry("model", "their_scorers").create("green")) is type(red)
    assert registry.create("any:thing/else").card.name == "any:thing/else"


def test_what_is_wrong_is_named(package):
    registry = Registry("model", "their_scorers")
    with pytest.raises(UnknownNameError, match="no model called 'bleu'. Did you mean 'blue'"):
        registry.create("bleu")
    with pytest.raises(UnknownNameError, match="list models"):
        registry.create("any:")
    with pytest.raises(MissingPackageError, match=r"not_a_package_at_all.*t2v-eval\[broken\]"):
        registry.create("broken")
    with pytest.raises(InputError, match="'red' takes no option 'huee'"):
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
    registry = Registry("model", "their_scorers")
    with pytest.raises(TypeError, match=r"mix\(\) got an unexpected keyword argument 'shade'"):
        registry.create("red")
    with pytest.raises(InputError, match="'red' takes no option 'shade'"):
        registry.create("red", shade=3)


def test_a_mistyped_name_is_not_taken_for_a_member_of_a_family(package):
    (package / "colour.toml").write_text(
        (package / "colour.toml").read_text() + '[names."any:dark-red-32"]\npath = "x"\n'
    )
    registry = Registry("model", "their_scorers")
    assert registry.create("any:dark-red-32").path == "x"
    assert registry.create("any:something-else").path == "something-else"
    with pytest.raises(UnknownNameError, match="Did you mean 'any:dark-red-32'"):
        registry.create("any:dark-red-23")


def test_registering_a_class_of_ones_own():
    registry: Registry[object] = Registry("model", "t2v_eval.backends")

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
        assert card.summary, card.name


def test_every_scorer_says_its_kind_licence_and_range():
    for card in models.cards.values():
        assert card.kind and card.license and card.range and card.verified, card.name
