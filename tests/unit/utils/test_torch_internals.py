"""What `torch_internals.py` relies on in PyTorch: each test names one thing."""

from __future__ import annotations

from inspect import signature

import pytest
import torch
from PIL import Image

import t2v_eval
from t2v_eval.utils.torch_internals import computes_bfloat16, out_of_memory


def test_cuda_says_whether_bfloat16_is_more_than_emulated():
    assert "including_emulation" in signature(torch.cuda.is_bf16_supported).parameters


def test_the_cpu_says_whether_it_has_bfloat16():
    assert torch.cpu._is_avx512_bf16_supported() in (True, False)


def test_a_cpu_of_which_that_is_not_known_has_none(monkeypatch):
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported")
    assert not computes_bfloat16(torch.device("cpu"))


@pytest.mark.parametrize(
    ("error", "is_so"),
    [
        (torch.OutOfMemoryError("no"), True),
        (MemoryError(), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_memory_that_ran_out_is_told_by_these_words(error, is_so):
    assert out_of_memory(error) is is_so


def test_a_cpu_that_cannot_allocate_says_so():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert out_of_memory(caught.value)


@pytest.mark.parametrize("name", ["tiny-clip", "tiny-clip-flant5"])
def test_a_callers_autocast_changes_no_score(name):
    scorer = t2v_eval.load(name)
    images = [Image.new("RGB", (48, 48), (200, 10, n)) for n in (0, 99)]
    plain = scorer(images, ["a red ball", "a cat"])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(scorer(images, ["a red ball", "a cat"]), plain)
        assert torch.is_autocast_enabled("cpu"), "and stays as it was"
