"""The documentation is true: its blocks run, its names exist, and its tables are complete."""

from __future__ import annotations

import inspect
import re
import socket
from importlib import import_module
from pathlib import Path

import pytest
from helpers import site_hooks
from helpers.doc_blocks import blocks_of, run_page, same_output
from helpers.doc_names import check_block

import t2v_eval
from t2v_eval.registry import benchmarks, models
from t2v_eval.remote.scorer import ApiOptions
from t2v_eval.utils.signatures import accepted, source_of

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
TEXTS = {str(page.relative_to(DOCS)): page.read_text(encoding="utf-8") for page in PAGES}
RUN = [name for name, text in TEXTS.items() if any(block.runs for block in blocks_of(text))]
API = "\n".join(text for name, text in TEXTS.items() if name.startswith("reference/api/"))
DOCUMENTED = re.findall(r"^::: (\S+)$", API, re.M)


def test_every_tutorial_runs():
    tutorials = {name for name in TEXTS if name.startswith("tutorials/")}
    assert tutorials - {"tutorials/index.md"} <= set(RUN)
    assert "get-started.md" in RUN


@pytest.mark.parametrize("name", RUN)
def test_blocks_run_and_print_what_the_page_says(name, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(models, "_registered", dict(models._registered))
    monkeypatch.setattr(
        socket.socket, "connect", lambda *_: pytest.fail("a block uses the network")
    )
    folder = tmp_path / "page"
    folder.mkdir()
    for block, printed in run_page(TEXTS[name], folder):
        assert same_output(block.code, printed), (
            f"PYTHONPATH=. python tests/helpers/doc_blocks.py docs/{name} writes\n{printed}"
        )


@pytest.mark.parametrize("name", TEXTS)
def test_every_name_and_option_of_a_page_exists(name):
    for block in blocks_of(TEXTS[name]):
        check_block(block)


def test_a_wrong_name_is_noticed():
    for code in (
        '```python\nt2v_eval.load("no-such-scorer")\n```',
        "```python\nt2v_eval.no_such_name\n```",
        "```python\nfrom t2v_eval.stats import no_such_module\n```",
        "```sh\nt2v-eval score a.png --no-such-option\n```",
        "```sh\nt2v-eval no-such-command\n```",
        "```sh\nt2v-eval eval --model clipscore --benchmark no-such-benchmark\n```",
        "```sh\nt2v-eval score a.png --text b --model gpt-4o --option no_such=1\n```",
        '```python\nt2v_eval.load("clipscore", no_such=1)\n```',
        "```sh\nmake no-such-target\n```",
    ):
        (block,) = blocks_of(code)
        with pytest.raises((AssertionError, LookupError)):
            check_block(block)


def test_different_output_is_noticed():
    assert same_output("a  0.123 ──── b\n", "a 0.124 ── b")
    assert not same_output("a 0.123 b", "a 0.143 b")
    assert not same_output("a 0.123 b", "a 0.123 c")
    assert not same_output("a 0.123", "a 0.123 0.5")


def test_every_public_name_has_its_place():
    for name in t2v_eval.__all__:
        module = t2v_eval._MODULE_OF[name]
        assert {f"t2v_eval.{name}", f"t2v_eval.{module}"} & set(DOCUMENTED), name


def test_every_module_of_statistics_has_its_place():
    paths = [p.relative_to(ROOT) for p in (ROOT / "t2v_eval/stats").rglob("[!_]*.py")]
    modules = [".".join(path.with_suffix("").parts) for path in paths]
    assert modules
    assert set(modules) <= set(DOCUMENTED)


def test_nothing_has_two_places():
    assert len(DOCUMENTED) == len(set(DOCUMENTED))


def test_every_kind_of_scorer_and_benchmark_has_its_table():
    tables = site_hooks.load("tables").TABLES
    used = [
        name
        for text in TEXTS.values()
        for name in re.findall(r"^<!-- table (\S+) -->$", text, re.M)
    ]
    assert set(tables) <= set(used)


def test_every_table_of_the_pages_can_be_made():
    fill = site_hooks.load("pages").filled
    for text in TEXTS.values():
        assert "<!-- table" not in fill(text)


@pytest.mark.parametrize(("registry", "of_kind"), [(models, "scorers"), (benchmarks, "benchmarks")])
def test_tables_count_every_card(registry, of_kind):
    tables = site_hooks.load("tables")
    for kind in tables.kinds(registry):
        cards = [card for card in tables.shipped(registry) if card.kind == kind]
        cells = re.findall(r"^\| (`.*?) \|", tables.TABLES[f"{of_kind}-{kind}"](), re.M)
        named = {name for cell in cells for name in re.findall("`(.+?)`", cell)}
        more = sum(int(n) for cell in cells for n in re.findall(r"and (\d+) more", cell))
        assert len(named) + more == len(cards)
        assert named <= {card.name for card in cards}


def test_the_page_of_commands_has_every_option():
    commands = site_hooks.load("commands")
    page = commands.command_page()
    assert {"eval", "compare", "score", "agree", "store stats"} <= set(commands.commands())
    for name, command in commands.commands().items():
        _, section = page.split(f"\n## {name}\n")
        section = section.split("\n## ")[0]
        for option in commands.parameters(command)[1]:
            assert f"`{option.opts[0]}`" in section, (name, option.opts)


def test_the_page_of_options_has_every_class():
    options = site_hooks.load("options")
    page = options.options_page()
    for registry in (models, benchmarks):
        for path in options.entries(registry):
            module, _, name = path.rpartition(".")
            assert hasattr(import_module(f"t2v_eval.{module}"), name)
            assert f"::: {path}\n" in page


def test_the_page_of_options_has_every_option_of_a_service():
    """Those that a card may set are arguments of the parts on the page, or of every API scorer."""
    options = site_hooks.load("options")
    page, listed = options.options_page(), {"question", *ApiOptions.__annotations__}
    for part in options.SERVICE_PARTS:
        assert f"::: backends.services.{part}\n" in page
        module, name = part.split(".")
        value = getattr(import_module(f"t2v_eval.backends.services.{module}"), name)
        listed |= inspect.signature(value).parameters.keys()
    for card in models.cards.values():
        if card.remote:
            assert accepted(source_of(card.file, card.module), card.entry) <= listed, card.name


def test_the_schema_of_reports_is_described():
    section = site_hooks.load("report_schema").schema_section()
    for field in ("schema_version", "scorer.truncated_texts", "benchmark.headline", "significant"):
        assert f"`{field}`" in section


def test_the_demonstration_shows_the_numbers_of_the_cards():
    text = TEXTS["get-started.md"]
    rows = re.findall(r"^ (tiny-\S+) .* (\S+ \[\S+, \S+\])   2400 of", text, re.M)
    assert len(rows) == 3
    for name, group in rows:
        percent = re.findall(r"\d+\.\d", models.card(name).verified)[:3]
        numbers = [float(number) for number in re.findall(r"\d\.\d+", group)]
        assert [round(100 * number, 1) for number in numbers] == [float(p) for p in percent]


def test_the_glossary_has_few_terms():
    glossary = site_hooks.load("pages").section("ARCHITECTURE.md", "Glossary")
    terms = re.findall(r"^\| \*\*(.+?)\*\* \|", glossary, re.M)
    assert 10 <= len(terms) <= 15
    classes = set(re.findall(r"\(`(\w+)(?:\.\w+)?`\)", glossary))
    assert {"Scorer", "Template", "Plan", "Store", "Item", "Benchmark", "Report"} <= classes


def test_links_of_root_files_lead_to_pages():
    pages = site_hooks.load("pages")
    page = pages.root_page("CONTRIBUTING.md")
    assert "](ARCHITECTURE.md" not in page


def test_docstring_examples_become_code():
    pytest.importorskip("griffe")
    fenced = site_hooks.load("doctests").fenced
    text = "Do it.\n\n>>> f(1)\n2\n\nArgs:\n    x: a number.\n\n    >>> g()\n"
    assert fenced(text) == (
        "Do it.\n\n```pycon\n>>> f(1)\n2\n```\n\nArgs:\n    x: a number.\n\n"
        "    ```pycon\n    >>> g()\n\n    ```"
    )
