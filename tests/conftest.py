"""Where the goldens are: what the original implementations answer on tiny checkpoints."""

import functools
import gc
import os
import pickle
import signal
import sys
from pathlib import Path

import pytest
import typer

# Where tests run in the background of a shell, SIGINT is ignored, which the processes that tests
# start and interrupt would inherit.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection() -> None:
    """Import modules and make tests without garbage collections, which would find nothing."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Leave modules and thousands of tests out of what the garbage collector looks through.

    Scorers collect garbage where memory ran out, which took a second each time beside all of these.
    """
    gc.collect()
    gc.freeze()
    gc.enable()
    gc.set_threshold(50_000, 10, 10)  # a tenth of the time of tests went into looking for garbage


@pytest.fixture(scope="session")
def goldens() -> Path:
    return Path(__file__).parent / "goldens"


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory):
    """Commands that keep scores, and processes that run them, leave a person's cache alone."""
    usual = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    with pytest.MonkeyPatch.context() as patched:
        if "MPLCONFIGDIR" not in os.environ:  # its list of fonts takes long to make
            patched.setenv("MPLCONFIGDIR", str(usual / "matplotlib"))
        patched.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session", autouse=True)
def commands_built_once():
    """Hundreds of commands are run in this process; Typer would build all of them for each."""
    build = functools.cache(typer.main.get_command)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("typer.main.get_command", build)
        patched.setattr("typer.testing._get_command", build)
        yield


CHARTS = {
    "t2v_eval.report.html": ("forest", "histograms", "scatter"),
    "t2v_eval.report.ratings.page": ("forest",),
    "t2v_eval.report.distances.page": ("curves",),
    "t2v_eval.protocol.page": ("forest",),
}


@pytest.fixture(scope="session", autouse=True)
def equal_charts_drawn_once():
    """Many tests write a page about the same scores, and drawing takes most of its time."""
    images = {}

    def once(draw):
        def look_up(*arguments, **options):
            key = draw.__name__, pickle.dumps((arguments, options))
            if key not in images:
                images[key] = draw(*arguments, **options)
            return images[key]

        return look_up

    with pytest.MonkeyPatch.context() as patched:
        for name in CHARTS.keys() & sys.modules.keys():
            module = sys.modules[name]
            for draw in CHARTS[name]:
                patched.setattr(module, draw, once(getattr(module, draw)))
        yield


@pytest.fixture(autouse=True)
def no_fetched_data(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch):
    """Benchmarks that a person has fetched are not those that tests look at."""
    folder = tmp_path_factory.getbasetemp() / "nothing fetched"
    monkeypatch.setattr("t2v_eval.evaluation.download.default_root", lambda name: folder / name)
