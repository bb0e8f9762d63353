"""In which precision large models run, by what they are stored in and what the device can do."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import t2v_eval
from t2v_eval.errors import CheckpointError, InputError
from t2v_eval.local.precision import in_half_precision, large_dtype

CPU = torch.device("cpu")


def write(folder: Path, dtype: torch.dtype, kind: str = "safetensors") -> Path:
    tensors = {"layer.weight": torch.ones(9, 9, dtype=dtype), "norm.weight": torch.ones(3)}
    if kind == "safetensors":
        save_file(tensors, folder / "model.safetensors")
    else:
        torch.save(tensors, folder / "pytorch_model.bin")
    return folder


@pytest.fixture
def bfloat16(monkeypatch):
    """A CPU that computes in bfloat16, wherever this runs."""
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True, raising=False)


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
@pytest.mark.parametrize(
    ("stored", "runs"),
    [
        (torch.bfloat16, torch.bfloat16),
        (torch.float16, torch.bfloat16),
        (torch.float32, torch.float32),
    ],
)
def test_a_cpu_runs_what_is_stored_in_half_precision_in_bfloat16(
    kind, stored, runs, tmp_path, bfloat16
):
    folder = write(tmp_path, stored, kind)
    assert in_half_precision(folder) == (stored != torch.float32)
    assert large_dtype(None, CPU, folder) == runs
    assert large_dtype("float32", CPU, folder) == torch.float32


def test_a_cpu_without_bfloat16_runs_in_float32(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False, raising=False)
    folder = write(tmp_path, torch.bfloat16)
    assert large_dtype(None, CPU, folder) == torch.float32
    assert large_dtype(torch.bfloat16, CPU, folder) == torch.bfloat16


@pytest.mark.parametrize("has", [True, False])
def test_a_gpu_with_bfloat16_uses_it(has, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: has)
    expected = torch.bfloat16 if has else torch.float32
    assert large_dtype(None, torch.device("cuda"), write(tmp_path, torch.float32)) == expected


def test_what_is_wrong_is_said(tmp_path):
    with pytest.raises(InputError, match="`dtype='int8'` is unknown"):
        large_dtype("int8", CPU, tmp_path)
    with pytest.raises(CheckpointError, match="holds no weights"):
        in_half_precision(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"no weights")
    assert not in_half_precision(tmp_path)


def test_large_models_are_loaded_so(tmp_path, bfloat16):
    goldens = Path(__file__).parents[2] / "goldens" / "vqa"
    halved = tmp_path / "halved"
    shutil.copytree(goldens / "instructblip" / "checkpoint" / "hf", halved)
    file = halved / "model.safetensors"
    metadata = {"format": "pt"}
    save_file({n: t.bfloat16() for n, t in load_file(file).items()}, file, metadata)

    def load(folder: Path, **options):
        return t2v_eval.load("instructblip-flant5-xl", checkpoint=folder, device="cpu", **options)

    assert load(halved).dtype == torch.bfloat16
    assert load(halved, dtype="float32").dtype == torch.float32
    assert load(goldens / "instructblip" / "checkpoint" / "hf").dtype == torch.float32
    # This one is stored in half precision and always runs in what its card's numbers were made in.
    assert t2v_eval.load("tiny-clip-flant5", device="cpu").dtype == torch.float32
