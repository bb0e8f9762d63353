"""A scorer moves to another device with all that it computes with, and stays the same scorer."""

from __future__ import annotations

import copy
import pickle
from dataclasses import dataclass
from typing import NamedTuple

import pytest
import torch
from helpers.models.tiny import Small
from helpers.toy import ToyEmbedding, ToyPrefix, draw_image, text_vector
from torch import nn

import t2v_eval
from t2v_eval.errors import InputError, ScoringError, UnsupportedError
from t2v_eval.local.moving import move
from t2v_eval.remote.scorer import ApiScorer

META = torch.device("meta")  # the other device of a machine that has none: tensors without data


class Pair(NamedTuple):
    weight: torch.Tensor
    name: str


@dataclass(frozen=True)
class Head:
    network: nn.Module
    weight: torch.Tensor


class Tokens:
    """What prepares inputs on the CPU: it holds no network."""

    def __init__(self) -> None:
        self.ids = torch.tensor([1, 2], dtype=torch.long)


class WithParts(ToyEmbedding):
    def __init__(self, **options):
        super().__init__(**options)
        self.network = nn.Linear(12, 12)
        self.head = Head(nn.Linear(1, 1), torch.ones(2))
        self.layers = [{"a": torch.ones(2)}, {"a": torch.zeros(2), "n": 3}]
        self.pairs = (Pair(torch.ones(1), "x"), "text")
        self.tied = self.network.weight
        self.tokens = Tokens()
        self.itself = self

    def encode_texts(self, texts):
        return self.network(torch.stack([text_vector(text) for text in texts]))


def test_networks_and_tensors_move():
    scorer = WithParts(device="cpu")
    shared = scorer.layers
    assert scorer.to("meta") is scorer
    moved = [scorer.network.weight, scorer.head.weight, scorer.pairs[0].weight, scorer.tied]
    moved += [layer["a"] for layer in scorer.layers]
    assert {tensor.device for tensor in moved} == {META} and scorer.device == META
    assert scorer.layers is shared and scorer.pairs[0].name == "x" and scorer.layers[1]["n"] == 3
    assert scorer.tied is scorer.network.weight
    assert scorer.tokens.ids.device.type == "cpu"


def test_scores_and_id_stay_and_features_are_dropped():
    scorer = ToyEmbedding(device="cpu", batch_size=3)
    images, texts = [draw_image(seed) for seed in range(4)], ["a cat", "two dogs"]
    before, scorer_id = scorer(images, texts), scorer.id
    scorer.batch.value = 1
    calls = len(scorer.image_calls)
    assert scorer.to("cpu").id == scorer_id
    assert len(scorer._cache) == 0 and scorer.batch.value == 3
    torch.testing.assert_close(scorer(images, texts), before)
    assert len(scorer.image_calls) > calls


def test_copies_that_share_the_weights_move_along():
    scorer = WithParts(device="cpu")
    bound = scorer.with_template(question_template="Is this {}?")
    bound.to("meta")
    for moved in (scorer, bound):
        assert moved.device == META and moved.network.weight.device == META
        assert moved.pairs[0].weight.device == META


def test_the_room_of_prefixes_is_that_of_the_device():
    scorer = ToyPrefix(device="cpu")
    on_cpu = scorer.room
    assert scorer.to("meta").room > on_cpu == scorer.to("cpu").room
    scorer.room = 0
    assert scorer.to("meta").room == 0


@pytest.mark.parametrize("variant", ["open_clip", "mps-overall", "clip-flant5-xxl"])
def test_scorers_of_this_library_leave_no_weight_behind(variant, tmp_path):
    scorer = Small(tmp_path).load(variant)
    move(scorer, META)
    parts = [value for value in vars(scorer).values() if isinstance(value, nn.Module)]
    tensors = [tensor for part in parts for tensor in part.state_dict().values()]
    tensors += [value for value in vars(scorer).values() if isinstance(value, torch.Tensor)]
    assert tensors and {tensor.device for tensor in tensors} == {META}


def test_what_cannot_move_says_so():
    scorer = WithParts(device="cpu")
    with pytest.raises(InputError, match="`device='cuda:99'` is not available here"):
        scorer.to("cuda:99")
    scorer.network.hf_device_map = {"a": 0, "b": 1}
    with pytest.raises(UnsupportedError, match=r"spread over several devices.*`device_map=`"):
        scorer.to("meta")
    scorer.network.hf_device_map = {"": 0}
    scorer.network.is_quantized = True
    with pytest.raises(UnsupportedError, match=r"quantised.*`device=`"):
        scorer.to("meta")
    assert scorer.network.weight.device == scorer.device == torch.device("cpu")


def test_a_model_that_does_not_fit_stays_where_it_was():
    class Large(nn.Linear):
        def to(self, device):
            if torch.device(device) == META:
                raise torch.OutOfMemoryError("no memory for 9 GiB")
            return super().to(device)

    scorer = WithParts(device="cpu")
    scorer.network = Large(2, 2)
    with pytest.raises(ScoringError, match="stays on cpu: no memory for 9 GiB"):
        scorer.to("meta")
    assert (
        scorer.device.type == scorer.network.weight.device.type == scorer.tied.device.type == "cpu"
    )


def test_a_service_has_nothing_to_move():
    scorer = t2v_eval.load("gpt-4o", base_url="http://localhost:9/v1")
    assert isinstance(scorer, ApiScorer)
    with pytest.raises(UnsupportedError, match="no model on this machine .* 'cuda'"):
        scorer.to("cuda")


@pytest.mark.parametrize("take", [pickle.dumps, copy.deepcopy])
def test_a_scorer_is_not_pickled(take):
    with pytest.raises(TypeError, match="load it in each process"):
        take(ToyEmbedding(device="cpu"))


def test_a_shallow_copy_shares_the_weights():
    scorer = WithParts(device="cpu")
    assert copy.copy(scorer).network is scorer.network


def test_repr_of_a_scorer(tmp_path):
    scorer = t2v_eval.load("tiny-clip-flant5", device="cpu", store=tmp_path / "s.db")
    text = repr(scorer)
    assert text.startswith("<ClipFlanT5 'tiny-clip-flant5': vqa, cpu, float32, question ")
    assert "answer 'Yes'" in text and text.endswith("s.db>") and "\n" not in text
    key = "sk-secret"
    asked = t2v_eval.load("gpt-4o", base_url="http://localhost:9/v1", api_key=key)
    assert "'gpt-4o'" in repr(asked) and key not in repr(asked)
    assert "question 'Is this {}?'" in repr(scorer.with_template("Is this {}?"))
