"""The training of the embedded models: it can be interrupted, and trains what the library loads."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import t2v_eval
from t2v_eval.benchmarks.forms import drawn_scenes as _scenes
from training import data, loop
from training.evaluate import scorer
from training.tokenizers import clip_tokenizer, t5_tokenizer

BACKENDS = Path(__file__).parents[2] / "backends"


def fit(checkpoint: Path, die_at: int | None = None) -> torch.Tensor:
    torch.manual_seed(0)
    model = torch.nn.Linear(4, 1)

    def loss(step: int, progress: float) -> torch.Tensor:
        if step == die_at:
            raise KeyboardInterrupt
        inputs = torch.randn(8, 4, generator=torch.Generator().manual_seed(step))
        return (model(inputs).float()[:, 0] - inputs.sum(1)).square().mean()

    loop.train(model, loss, steps=250, rate=1e-2, checkpoint=checkpoint)
    return model.weight.detach()


def test_interrupted_training_ends_as_if_it_was_not(tmp_path: Path) -> None:
    straight = fit(tmp_path / "straight.pt")
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "killed.pt", die_at=170)
    assert torch.equal(fit(tmp_path / "killed.pt"), straight)


def test_every_word_is_one_token_and_nothing_is_unknown() -> None:
    words = data.vocabulary()
    t5, clip = t5_tokenizer(words), clip_tokenizer(words)
    for word in words:
        if word.isalpha():
            assert len(t5.tokenize(word)) == len(clip.tokenize(word)) == 1, word
    unheard = t5("Two Zebras, 3 #hats").input_ids
    assert t5.unk_token_id not in unheard
    assert clip.decode(clip("zebras").input_ids, skip_special_tokens=True) == "zebras"


@pytest.mark.parametrize("name", ["tiny-clip", "tiny-negclip", "tiny-clip-flant5"])
def test_library_computes_what_was_trained(name: str) -> None:
    loaded, trained = (
        t2v_eval.load(name, device="cpu"),
        scorer(next(BACKENDS.glob(f"*/embedded/{name}"))),
    )
    for item in _scenes.items(12, seed=3):
        with torch.inference_mode():
            expected = trained(item)
        torch.testing.assert_close(loaded(item.images, item.texts), expected, rtol=0, atol=1e-5)
