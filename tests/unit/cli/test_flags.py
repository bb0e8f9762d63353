"""What the library says of arguments, in the words of the command that was typed."""

import pytest
import typer
from helpers.toy import draw_image
from typer.testing import CliRunner

import t2v_eval
from t2v_eval.cli.flags import with_flags
from t2v_eval.cli.main import app
from t2v_eval.errors import InputError, StoreError


def parameters(*path):
    """The parameters of a command by name, and as they are given to `with_flags`."""
    command = typer.main.get_command(app)
    for name in path:
        command = command.commands[name]
    return {parameter.name: parameter for parameter in command.params}


def in_words_of(command, message, **values):
    return with_flags(message, parameters(*command.split()), values)


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("`on_error='skip'` scores the rest", "--on-error skip scores the rest"),
        ('with `on_missing="skip"`', "with --on-missing skip"),
        ("pass a folder as `images=`", "pass a folder as --images"),
        ("pass `images=['a', 'b c']`", "pass --images a --images 'b c'"),
        ("`question_template='a {}?'`: odd", "--question 'a {}?': odd"),
        ("pass `columns={'human': ...}`", "pass --column human=..."),
        ("`columns={'human': ['r 1', 'r 2']}`", "--column 'human=r 1' --column 'human=r 2'"),
        ("another `folder=`", "another --out"),
        ("`store='a.sqlite'` or `store=None`", "--store a.sqlite or --no-store"),
        ("`batch=True` needs `store=`", "--batch needs --store"),
        ("`allow_urls=True`", "--allow-urls"),
        ("`allow_urls='private'`", "--option allow_urls=private"),
        ("`trust_remote_code=True`", "--option trust_remote_code=true"),
        ("`price=[in, out]`", "--option 'price=[in, out]'"),
        ("`seed=-1`: pass 0", "--seed -1: pass 0"),
        ("`t2v-eval list models` lists them", "`t2v-eval list models` lists them"),
        ("seed=3/0.png and images=: no such file", "seed=3/0.png and images=: no such file"),
        ("`a=`b`` is odd", "--option a=b`` is odd"),
    ],
)
def test_an_argument_becomes_the_flag_that_sets_it(message, said):
    assert in_words_of("eval", message) == said


def test_options_of_a_benchmark_are_told_from_those_of_a_scorer():
    values = {"model": ["tiny-clip"], "benchmark": ["scenes"]}
    assert in_words_of("eval", "`n=0`: draw one", **values) == "--benchmark-option n=0: draw one"
    assert in_words_of("eval", "`share=0`", **values) == "--option share=0"
    typed = {**values, "benchmark": ["no-such"], "benchmark_option": ["shade=1"]}
    assert in_words_of("eval", "takes no `shade=`", **typed) == "takes no --benchmark-option shade="


def test_a_command_without_a_flag_keeps_the_words_of_python():
    assert in_words_of("store stats", "`seed=-1`; `store=`") == "seed=-1; --store"
    assert in_words_of("score", "pass `images=`") == "pass IMAGE"
    assert in_words_of("data", "another `folder=`") == "another --root"


def test_a_command_speaks_of_flags_and_a_call_of_arguments(tmp_path):
    image = tmp_path / "seed=3.png"
    draw_image(0).save(image)
    (tmp_path / "not a store").write_text("x" * 100)
    command = ["score", "-m", "tiny-clip", str(image), "-t", "a", "--store"]
    done = CliRunner().invoke(app, [*command, str(tmp_path / "not a store")])
    assert done.exit_code == 2 and "--store" in done.stderr and "store=" not in done.stderr
    with pytest.raises(StoreError, match="`store=`"):
        t2v_eval.load("tiny-clip", store=tmp_path / "not a store")
    with pytest.raises(InputError, match="`on_error='no'`"):
        t2v_eval.load("tiny-clip", on_error="no")


def test_a_file_that_is_called_like_an_argument_keeps_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["score", "-m", "tiny-clip", "seed=3", "-t", "a"])
    assert done.exit_code == 2 and done.stderr.startswith("error: seed=3: no such file")
