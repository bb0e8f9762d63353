"""Embeddings of sentences, one by one in NumPy, and the choice that is nearest to an answer."""

import json

import numpy as np
import pytest
import torch
from helpers.services.loopback import Reply, Server
from helpers.services.openai_server import sampled
from helpers.toy import draw_image
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import MPNetConfig, MPNetModel, PreTrainedTokenizerFast
from typer.testing import CliRunner

import t2v_eval
from t2v_eval.cli.main import app
from t2v_eval.errors import CheckpointError
from t2v_eval.inputs.questions.answers import answer_value
from t2v_eval.inputs.questions.files import write_questions
from t2v_eval.inputs.questions.question import Question, Questions
from t2v_eval.local.sentence_encoder import SentenceEncoder

WORDS = "<pad> <unk> black green pale yellow brown dark a the".split()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("encoder")
    torch.manual_seed(0)
    config = MPNetConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=20,
        pad_token_id=0,
    )
    MPNetModel(config).save_pretrained(path)
    vocabulary = {word: n for n, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, "<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", pad_token="<pad>", model_max_length=16
    ).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def encoder(folder):
    return SentenceEncoder(folder, device="cpu")


def test_embeddings_are_means_of_tokens_without_padding(folder, encoder):
    network = MPNetModel.from_pretrained(folder).eval()
    texts = ["green", "pale green", "a dark brown", "the"]
    expected = []
    for text in texts:
        ids = torch.tensor([[WORDS.index(word) for word in text.split()]])
        with torch.no_grad():
            mean = network(input_ids=ids).last_hidden_state[0].double().numpy().mean(0)
        expected.append(mean / np.linalg.norm(mean))
    np.testing.assert_allclose(encoder.encode(texts).numpy(), expected, atol=1e-5)
    cosines = np.stack(expected[1:]) @ expected[0]
    assert encoder.nearest("green", texts[1:]) == texts[1 + int(cosines.argmax())]


def test_every_reply_becomes_a_choice(encoder):
    choices = ("black", "pale green", "yellow", "brown")
    assert encoder.nearest("Pale  GREEN", choices) == "pale green"  # of the same tokens
    assert encoder.nearest("", choices) in choices
    compare = {"choices": choices, "match": "nearest", "choose": encoder.nearest}
    assert answer_value("PALE GREEN", "pale green", **compare) == 1.0
    assert answer_value("PALE GREEN", "black", **compare) == 0.0
    assert sum(answer_value("", choice, **compare) for choice in choices) == 1.0
    free = {**compare, "choices": ()}  # without choices there is none to take
    assert answer_value("Green", "green", **free) == 0.0


def test_a_missing_or_damaged_encoder_is_an_error_with_the_remedy(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(CheckpointError, match=r"not on this machine.*`sentence_encoder='DIR'`"):
        SentenceEncoder("someone/no-such-encoder")
    (tmp_path / "config.json").write_text('{"model_type": "mpnet"}')
    with pytest.raises(CheckpointError, match="no sentence encoder of transformers"):
        SentenceEncoder(tmp_path)
    assert len(SentenceEncoder(folder, device="cpu").id) >= 8


QUESTION = Question("1", "1", "a cube", "What color is it?", ("black", "pale green"), "pale green")


def test_a_scorer_takes_the_nearest_choice_and_its_id_has_the_encoder(folder, encoder):
    options = {"vlm": "openai-compatible:m", "api_key": "k", "answers": "generated"}
    options |= {"questions": Questions([QUESTION]), "match": "nearest"}
    with Server(lambda request: Reply(sampled("Pale GREEN"))) as server:
        options |= {"base_url": server.url, "device": "cpu"}
        scorer = t2v_eval.load("tifa", sentence_encoder=str(folder), **options)
        assert scorer(draw_image(0), "a cube").item() == 1.0
        assert encoder.id in scorer.id
        (answer,) = scorer.explain(draw_image(0), "a cube")[0][0].questions
        assert answer.answer == "Pale GREEN"  # as it was written
    with pytest.raises(CheckpointError, match="sentence_encoder 'nowhere'"):
        t2v_eval.load("tifa", sentence_encoder="nowhere", **options)


def test_existing_answers_are_taken_for_the_nearest_choice_on_the_command_line(folder, tmp_path):
    write_questions(tmp_path / "q.jsonl", [QUESTION])
    (tmp_path / "a.csv").write_text("item,id,answer\n1,1,PALE GREEN\n")
    words = ["questions", "score", tmp_path / "a.csv", "--questions", tmp_path / "q.jsonl"]
    words += ["--rule", "tifa", "--json", "--match", "nearest", "--sentence-encoder", folder]
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["means"][0]["value"] == 1.0
    assert "1 answers are empty or none of the choices" not in done.stderr
