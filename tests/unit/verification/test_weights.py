"""Tensors are known by their content, however a loader renames, joins, splits or rounds them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from t2v_eval.verification import weights
from t2v_eval.verification.weights import compare, digest


def network(**tensors: torch.Tensor) -> list[tuple[str, nn.Module]]:
    """A network of these weights; __ stands for a dot."""
    module = nn.Module()
    for name, tensor in tensors.items():
        *path, leaf = name.split("__")
        owner = module
        for part in path:
            if not hasattr(owner, part):
                owner.add_module(part, nn.Module())
            owner = getattr(owner, part)
        owner.register_parameter(leaf, nn.Parameter(tensor))
    return [("network", module)]


def whole(stored, parts) -> bool:
    result = compare(stored.items(), parts)
    return not (result.unused or result.invented or result.stray)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_a_digest_is_the_sum_of_bits_and_of_their_squares(dtype, monkeypatch):
    """Against whole numbers of Python, which do not overflow; in blocks of any size."""
    tensor = normal(7, 9).to(dtype)
    whole_numbers = {2: torch.int16, 4: torch.int32, 8: torch.int64}[tensor.element_size()]
    bits = [int(n) for n in tensor.view(whole_numbers).flatten()]
    expected = (63, sum(bits) % 2**64, sum(n * n for n in bits) % 2**64)
    assert tuple(digest(tensor)) == expected
    monkeypatch.setattr(weights, "BLOCK", 10)
    assert tuple(digest(tensor)) == expected
    assert digest(tensor.T) == digest(tensor) != digest(tensor * (1 + 2**-7))


def test_a_sign_or_a_last_bit_is_another_content():
    tensor = normal(1000)
    other = tensor.clone()
    other[500] = torch.nextafter(other[500], torch.tensor(9.0))
    assert digest(other) != digest(tensor)
    assert digest(-tensor) != digest(tensor)


def test_renamed_transposed_and_cast():
    stored = {"a": normal(4, 6), "b": normal(3, seed=1)}
    assert whole(stored, network(x=stored["a"].T.clone().bfloat16(), y=stored["b"]))


def test_rounded_to_half_precision_before():
    stored = {"a": normal(4, 6)}
    assert whole(stored, network(a=stored["a"].half().float()))


def test_joined_and_split():
    stored = {f"layer.{name}_proj.weight": normal(4, 4, seed=n) for n, name in enumerate("qkv")}
    stored["norm.weight"] = normal(4, seed=9)
    joined = torch.cat(list(stored.values())[:3])
    parts = network(attention__in_proj=joined, norm__weight=stored["norm.weight"])
    assert whole(stored, parts)
    back = {"attention.in_proj": joined, "norm.weight": stored["norm.weight"]}
    names = {f"layer__{name}_proj__weight": stored[f"layer.{name}_proj.weight"] for name in "qkv"}
    assert whole(back, network(**names, norm__weight=stored["norm.weight"]))


def test_experts_that_are_stacked():
    """Gate and up of all experts become one tensor, down of all another."""
    stored = {
        f"layers.{layer}.experts.{n}.{name}_proj.weight": normal(4, 4, seed=97 * layer + 9 * n + k)
        for layer in range(2)
        for n in range(3)
        for k, name in enumerate(("gate", "up", "down"))
    }

    def stacked(layer, *names):
        kinds = [
            f"layers.{layer}.experts.{n}.{name}_proj.weight" for n in range(3) for name in names
        ]
        return torch.stack([stored[kind] for kind in kinds])

    parts = {f"layers__{n}__gate_up": stacked(n, "gate", "up") for n in range(2)}
    parts |= {f"layers__{n}__down": stacked(n, "down") for n in range(2)}
    assert whole(stored, network(**parts))
    parts["layers__1__down"] = normal(3, 4, 4, seed=500)
    result = compare(stored.items(), network(**parts))
    assert result.invented == ["network.layers.1.down"]
    assert len(result.unused) == 3 and all("1.experts" in n and "down" in n for n in result.unused)


def test_the_first_rows_of_embeddings():
    stored = {"shared.weight": normal(10, 4)}
    assert whole(stored, network(embed=stored["shared.weight"][:8]))
    assert not whole(stored, network(embed=stored["shared.weight"][1:9]))


def test_what_is_in_no_file_is_named():
    stored = {"a.weight": normal(4, 4)}
    result = compare(stored.items(), network(a=stored["a.weight"], b__weight=normal(4, 4, seed=5)))
    assert result.invented == ["network.b.weight"]


def test_what_no_network_has_is_stray_beside_what_is_used():
    """A module that is left out as a whole is a choice of the scorer."""
    used, zeros = normal(4, 4), torch.zeros(4)
    stored = {"a.weight": used, "a.extra": normal(4, seed=2), "text.weight": normal(4, seed=3)}
    stored |= {"text.bias": zeros, "a.bias": zeros}
    result = compare(stored.items(), network(a=used, bias=zeros))
    assert result.stray == ["a.extra"]
    assert set(result.unused) == {"a.extra", "text.weight"}


def test_numbers_that_are_not_finite_are_named_and_whole_numbers_are_no_weights():
    stored = {"a": normal(4), "position_ids": torch.arange(4), "none": torch.empty(0)}
    stored["a"][2] = torch.inf
    result = compare(stored.items(), network(a=stored["a"]))
    assert result.broken == ["a"] and result.stored == result.loaded == 1


def test_a_scale_that_a_scorer_keeps_as_a_number_is_used():
    scale = torch.tensor(2.5, dtype=torch.float32)
    result = compare([("logit_scale", scale)], [("scale", 2.5)])
    assert result.used == ["logit_scale"]


def test_names_without_a_module_may_be_left_over():
    """As the tables of a network whose text tower is left out."""
    stored = {name: normal(4, seed=n) for n, name in enumerate(("a", "b", "c.d", "e.f.g"))}
    result = compare(stored.items(), network(x=normal(4, seed=9)))
    assert result.unused == list(stored) and result.invented == ["network.x"]


def test_zeros_are_blank_in_a_matrix_alone():
    """Biases and small tables are zeros in sound files."""
    stored = {"a.bias": torch.zeros(9), "types.weight": torch.zeros(2, 9), "a": torch.zeros(9, 9)}
    assert compare(stored.items(), network(x=normal(4))).blank == ["a"]


def test_eight_bits_are_compared_as_others():
    stored = {"a": normal(4, 4).to(torch.float8_e4m3fn)}
    result = compare(stored.items(), network(a=stored["a"].float()))
    assert result.used == ["a"] and not result.broken
