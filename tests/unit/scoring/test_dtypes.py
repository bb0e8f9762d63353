"""Scores are float32 whatever torch's default type is, which is the whole process's.

Libraries set it while they load weights, so that a model that one thread loads would otherwise
round the scores of another thread.
"""

from __future__ import annotations

import ast
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from helpers.services.ask_server import SERVICES, Spoken, draw_images, texts
from helpers.services.loopback import Server
from helpers.toy import draw_image

import t2v_eval

ROOT = Path(__file__).parents[3]
MAKERS = {"tensor", "zeros", "ones", "empty", "full", "eye", "linspace", "logspace", "rand"}
MAKERS |= {"randn", "scalar_tensor", "as_tensor"}


@contextmanager
def default(dtype):
    ordinary = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(ordinary)


@pytest.mark.parametrize("folder", ["t2v_eval", "backends", "benchmarks"])
def test_every_tensor_that_is_made_names_its_type(folder):
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                called = ast.unparse(node.func)
                named = any(keyword.arg == "dtype" for keyword in node.keywords)
                is_maker = called.startswith("torch.") and node.func.attr in MAKERS
                assert named or not is_maker, f"{path.name}:{node.lineno}: {called} without dtype="
                assert called not in ("torch.Tensor", "torch.FloatTensor"), path


@pytest.fixture(params=SERVICES)
def spoken(request):
    return Spoken(request.param)


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_scores_of_a_service(dtype, batch, spoken, tmp_path):
    name = {"openai": "gpt-4o", "gemini": "gemini-2.5-flash"}[spoken.name]
    options = {"poll": 0.01, "timeout": 60.0}
    with Server(spoken.BatchService()) as server:
        plain = spoken.load(server, name, store=tmp_path / "a.db", **options)
        expected = plain(draw_images(3), texts(4))
        with default(dtype):
            again = spoken.load(server, name, store=tmp_path / "b.db", batch=batch, **options)
            scores = again(draw_images(3), texts(4))
            stored = again(draw_images(3), texts(4))
    assert scores.dtype == torch.float32
    assert torch.equal(scores, expected) and torch.equal(stored, expected)
    values = {row.value for row in t2v_eval.Store(tmp_path / "b.db").rows()}
    assert values == {row.value for row in t2v_eval.Store(tmp_path / "a.db").rows()}


@pytest.mark.parametrize("name", ["tiny-clip", "tiny-negclip", "tiny-clip-flant5"])
def test_scores_of_a_model_that_runs_here(name, tmp_path):
    inputs = [draw_image(n, (48, 48)) for n in range(3)]
    scorer = t2v_eval.load(name, device="cpu")
    stored = t2v_eval.load(name, device="cpu", store=tmp_path / "s.db")
    expected = scorer(inputs, texts(4))
    for dtype in (torch.float16, torch.bfloat16):
        with default(dtype):
            scores = scorer(inputs, texts(4))
            assert scores.dtype == torch.float32
            torch.testing.assert_close(scores, expected, atol=1e-6, rtol=1e-5)
            for _ in range(2):
                again = stored(inputs, texts(4))
                torch.testing.assert_close(again, expected, atol=1e-6, rtol=1e-5)
