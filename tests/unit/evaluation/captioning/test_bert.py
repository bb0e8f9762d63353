"""BERTScore with a small random model, against its formula."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from tokenizers import ByteLevelBPETokenizer
from transformers import AutoModel, AutoTokenizer, RobertaConfig, RobertaModel

from t2v_eval.errors import CheckpointError, InputError, MissingPackageError, ScoringError
from t2v_eval.evaluation.captioning import bert
from t2v_eval.evaluation.captioning.bert import BertModel

CANDIDATES = ["a man rides", "two dogs"]
REFERENCES = [["a man by the sea", "rides"], ["two dogs chase a ball"]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("a model") / "roberta-large"
    folder.mkdir()
    tokenizer = ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    tokenizer.train_from_iterator(
        ["a man rides by the sea", "two dogs chase a ball"], vocab_size=300, special_tokens=special
    )
    tokenizer.save_model(str(folder))
    config = {"tokenizer_class": "RobertaTokenizer", "model_max_length": 64}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2}
    RobertaModel(
        RobertaConfig(
            vocab_size=tokenizer.get_vocab_size(),
            num_hidden_layers=3,
            max_position_embeddings=70,
            type_vocab_size=1,
            **sizes,
        )
    ).save_pretrained(folder)
    return folder


def f1(folder, candidate, reference, layer):
    """Zhang et al. 2020, section 3, without idf; special tokens are matched, without weight."""
    model = AutoModel.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder, add_prefix_space=True)
    states = []
    for text in (candidate, reference):
        ids = torch.tensor([tokenizer(text)["input_ids"]])
        with torch.no_grad():
            hidden = model(ids, output_hidden_states=True).hidden_states[layer][0]
        states.append(hidden / hidden.norm(dim=-1, keepdim=True))
    cosines = states[0] @ states[1].T
    precision, recall = cosines.amax(1)[1:-1].mean(), cosines.amax(0)[1:-1].mean()
    return float(2 * precision * recall / (precision + recall))


def test_equals_the_formula_with_the_best_reference(folder):
    pytest.importorskip("bert_score")
    model = BertModel(str(folder), layer=2, device="cpu")
    assert "L2_no-idf" in model.facts
    measured = model.measure(CANDIDATES, REFERENCES)["BERTScore"]
    expected = [
        max(f1(folder, candidate, reference, 2) for reference in references)
        for candidate, references in zip(CANDIDATES, REFERENCES, strict=True)
    ]
    assert measured.each == pytest.approx(expected, abs=1e-5)
    assert measured.corpus(np.arange(2)) == pytest.approx(np.mean(expected), abs=1e-5)
    with pytest.raises(ScoringError, match="blank"):
        model.measure([" "], [["a man"]])


def test_models_and_layers_that_cannot_be_used_are_named(folder, tmp_path, monkeypatch):
    pytest.importorskip("bert_score")
    with pytest.raises(InputError, match="has no `bert_layer=17`"):  # that of the folder's name
        BertModel(str(folder), device="cpu")
    (tmp_path / "mine").mkdir()
    with pytest.raises(InputError, match="knows no layer for .*mine.*`bert_layer=17`"):
        BertModel(str(tmp_path / "mine"), device="cpu")
    with pytest.raises(CheckpointError, match="mine, cannot be loaded"):
        BertModel(str(tmp_path / "mine"), layer=2, device="cpu")


def test_a_missing_package_is_named(monkeypatch):
    def refuse(name):
        raise ImportError(name)

    monkeypatch.setattr(bert.importlib, "import_module", refuse)
    with pytest.raises(MissingPackageError, match=r"pip install 't2v-eval\[captions\]'"):
        BertModel("roberta-large")
