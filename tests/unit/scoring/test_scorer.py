"""Planning, batching, the store, failures and notices, on scorers that can be checked by hand."""

from __future__ import annotations

import threading
import warnings

import numpy as np
import pytest
import torch
from helpers.toy import ToyEmbedding, ToyPair, draw_image, expected
from helpers.toy_truncating import Short

from t2v_eval.errors import (
    InputError,
    MediaError,
    ScoringError,
    T2VWarning,
    TemplateError,
    UnsupportedError,
)
from t2v_eval.scoring.plan import Block
from t2v_eval.scoring.results import CellCounts

TEXTS = ["a cat", "two dogs under a very long table", "", "a cat on a mat"]


@pytest.fixture
def images():
    return [draw_image(seed, (8 + seed, 9)) for seed in range(5)]


@pytest.mark.parametrize("toy", [ToyEmbedding, ToyPair])
def test_forward_is_m_by_n_float32_on_the_cpu(toy, images):
    scores = toy(device="cpu")(images, TEXTS)
    assert scores.shape == (5, 4)
    assert scores.dtype == torch.float32
    assert scores.device.type == "cpu"


def test_values_are_those_of_the_formula(images):
    scores = ToyEmbedding(device="cpu")(images, TEXTS)
    by_hand = [[expected(image, text) for text in TEXTS] for image in images]
    np.testing.assert_allclose(scores, by_hand, atol=1e-6)


@pytest.mark.parametrize("toy", [ToyEmbedding, ToyPair])
def test_alone_in_a_batch_and_in_any_order_are_the_same(toy, images):
    together = toy(device="cpu", batch_size=3)(images, TEXTS)
    alone = torch.stack([torch.cat([toy(device="cpu")(i, t)[0] for t in TEXTS]) for i in images])
    backwards = toy(device="cpu", batch_size=2)(images[::-1], TEXTS[::-1]).flip(0, 1)
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=0)
    torch.testing.assert_close(together, backwards, atol=1e-6, rtol=0)


def test_one_image_and_one_text_may_stand_alone(images):
    scorer = ToyEmbedding(device="cpu")
    assert scorer(images[0], "a cat").shape == (1, 1)
    assert scorer(images=images, texts="a cat").shape == (5, 1)


def test_m_plus_n_encodings_for_m_times_n_cells(images):
    scorer = ToyEmbedding(device="cpu")
    scorer([*images, images[0]], [*TEXTS, TEXTS[0]])
    assert sum(scorer.image_calls) == 5
    assert sorted(scorer.text_calls) == sorted(TEXTS)


def test_m_image_encodings_and_one_pass_a_pair(images):
    scorer = ToyPair(device="cpu", batch_size=4)
    scorer(images, TEXTS)
    assert sum(scorer.image_calls) == 5
    assert sum(scorer.pair_calls) == 20


def test_batches_span_samples(images):
    scorer = ToyPair(device="cpu", batch_size=16)
    scores = scorer.batch_forward([{"images": [image], "texts": ["a cat"]} for image in images])
    assert scores.shape == (5, 1, 1)
    assert scorer.image_calls == [5]
    assert scorer.pair_calls == [5]


def test_batch_forward_takes_ragged_samples_and_torch_datasets(images):
    class Data(torch.utils.data.Dataset):
        def __len__(self):
            return 2

        def __getitem__(self, index):
            return {"images": images[: index + 1], "texts": TEXTS[:2]}

    scorer = ToyEmbedding(device="cpu")
    scores = scorer.batch_forward(Data(), batch_size=16)
    assert [s.shape for s in scores] == [(1, 2), (2, 2)]
    torch.testing.assert_close(scores[1], scorer(images[:2], TEXTS[:2]))


def test_batch_forward_names_a_bad_sample(images):
    with pytest.raises(InputError, match="dataset item 1 is not a mapping"):
        ToyEmbedding(device="cpu").batch_forward([{"images": images, "texts": TEXTS}, ["x"]])
    with pytest.raises(InputError, match=r"item 1, texts is empty"):
        ToyEmbedding(device="cpu").batch_forward(
            [{"images": images, "texts": TEXTS}, {"images": images, "texts": []}]
        )


def test_score_pairs_is_the_diagonal(images):
    scorer = ToyEmbedding(device="cpu")
    pairs = scorer.score_pairs(images[:4], TEXTS)
    torch.testing.assert_close(pairs, scorer(images[:4], TEXTS).diagonal())
    with pytest.raises(InputError, match="4 images and 3 texts"):
        scorer.score_pairs(images[:4], TEXTS[:3])


def test_rank_is_best_first_names_ties_and_puts_failures_last(images, tmp_path):
    scorer = ToyEmbedding(device="cpu", on_error="skip")
    inputs = [*images, images[2], tmp_path / "gone.png"]
    places = scorer.rank(inputs, "a cat")
    scores = scorer(inputs, "a cat")[:, 0]
    assert [place.score for place in places[:-1]] == sorted(scores[:-1].tolist(), reverse=True)
    assert [place.score for place in places[:-1]] == [scores[p.index] for p in places[:-1]]
    twins = [place for place in places if place.tied]
    assert [place.index for place in twins] == [2, 5]
    assert twins[0].rank == twins[1].rank == 1 + sum(scores > scores[2])
    assert sorted(place.rank for place in places[:-1] if place.rank != twins[0].rank) == sorted(
        {1, 2, 3, 4, 5, 6} - {twins[0].rank, twins[0].rank + 1}
    )
    assert (places[-1].index, places[-1].rank, places[-1].tied) == (6, None, False)
    assert scorer.rank(images[0], "a cat")[0].rank == 1


def test_rank_takes_one_text_and_templates(images):
    scorer = ToyEmbedding(device="cpu")
    for wrong in (TEXTS, 7):
        with pytest.raises(InputError, match="rank takes one text"):
            scorer.rank(images, wrong)
    ranking = scorer.rank(images, "cat", question_template="see {}")
    assert ranking == scorer.rank(images, "see cat")


class Blind(ToyEmbedding):
    version = "1"
    uses_text = False


def test_texts_may_be_left_out_where_they_play_no_part(images, tmp_path):
    scorer = Blind(device="cpu", store=tmp_path / "scores.db")
    alone = scorer(images)
    assert alone.shape == (5, 1)
    outcome = scorer.evaluate_blocks([Block.of(images, TEXTS)])
    np.testing.assert_array_equal(outcome.scores[0], alone.expand(-1, 4))
    assert outcome.counts == CellCounts(cells=5, reused=5)
    assert [place.index for place in scorer.rank(images)] == alone[:, 0].argsort(
        descending=True
    ).tolist()
    scorer(images, question_template="no placeholder, and no warning")
    for seeing in (ToyEmbedding(device="cpu"), ToyPair(device="cpu")):
        for call in (seeing, seeing.rank):
            with pytest.raises(InputError, match="pass texts too"):
                call(images)


@pytest.mark.parametrize(
    ("images", "texts", "message"),
    [
        ([], ["a"], "images is empty"),
        ([draw_image(0)], [], "texts is empty"),
        ([draw_image(0)], ["a", 3], r"texts\[1\] is int"),
        ([draw_image(0)], 7, "texts: int is not a string"),
        (7, ["a"], "images: int is not an image"),
        ([draw_image(0), None], ["a"], r"images\[1\]: NoneType is not an image"),
    ],
)
def test_wrong_arguments_are_named(images, texts, message):
    with pytest.raises(InputError, match=message):
        ToyEmbedding(device="cpu")(images, texts)


def test_unknown_call_arguments_and_options_are_named():
    with pytest.raises(InputError, match="takes no `num_frames=`: it chooses no frames"):
        ToyEmbedding(device="cpu")(draw_image(0), "a", num_frames="8")
    with pytest.raises(InputError, match="`on_error='ignore'`; use 'raise' or 'skip'"):
        ToyEmbedding(device="cpu", on_error="ignore")
    with pytest.raises(InputError, match="`dtype='int8'`"):
        ToyEmbedding(device="cpu", dtype="int8")
    with pytest.raises(InputError, match="`device='tpu'`"):
        ToyEmbedding(device="tpu")


@pytest.mark.parametrize("toy", [ToyEmbedding, ToyPair])
def test_skip_scores_the_rest_and_counts_the_failed(toy, images, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    scorer = toy(device="cpu", on_error="skip", batch_size=2)
    inputs = [images[0], broken, images[1], tmp_path / "gone.png"]
    outcome = scorer.evaluate_blocks([Block.of(inputs, TEXTS)])
    scores = torch.from_numpy(outcome.scores[0])
    assert torch.isnan(scores[[1, 3]]).all()
    torch.testing.assert_close(scores[[0, 2]], toy(device="cpu")(images[:2], TEXTS))
    assert outcome.counts == CellCounts(cells=16, computed=8, failed=8)
    assert sum(outcome.errors.values()) == 8
    assert any("not an image" in reason for reason in outcome.errors)
    assert any("no such file" in reason for reason in outcome.errors)


def test_raise_is_the_default(images, tmp_path):
    with pytest.raises(MediaError, match=r"images\[1\] .*gone.png.*no such file"):
        ToyEmbedding(device="cpu")([images[0], tmp_path / "gone.png"], TEXTS)


class NotFinite(ToyPair):
    def score(self, states, texts):
        values = super().score(states, texts)
        values[[t == "a cat" for t in texts]] = float("nan")
        return values


def test_a_model_that_answers_nan_has_failed(images):
    with pytest.raises(ScoringError, match="not finite"):
        NotFinite(device="cpu")(images, TEXTS)
    outcome = NotFinite(device="cpu", on_error="skip").evaluate_blocks([Block.of(images, TEXTS)])
    assert outcome.counts.failed == 5
    assert np.isnan(outcome.scores[0]).sum() == 5


@pytest.mark.parametrize("size", [0, -5, 2.5, "8", True])
@pytest.mark.parametrize("toy", [ToyEmbedding, ToyPair])
def test_a_batch_size_is_a_whole_number_of_1_or_more(toy, images, size):
    message = rf"batch_size={size!r}.* whole number of 1 or more"
    with pytest.raises(InputError, match=message):
        toy(device="cpu", batch_size=size)
    scorer = toy(device="cpu", batch_size=1)
    with pytest.raises(InputError, match=message):
        scorer.batch_forward([{"images": images, "texts": TEXTS}], batch_size=size)
    assert scorer.batch.value == scorer.image_batch.value == 1


def test_out_of_memory_halves_the_batch_and_remembers(images):
    scorer = ToyPair(device="cpu", batch_size=16)
    scorer.fits = 3
    scores = scorer(images, TEXTS)
    assert max(scorer.pair_calls) <= 3
    assert sum(scorer.pair_calls) == 20
    assert scorer.batch.value == 2
    torch.testing.assert_close(scores, ToyPair(device="cpu")(images, TEXTS))
    scorer.fits = 0
    with pytest.raises(ScoringError, match=r"images\[0\].*does not fit into the memory of cpu"):
        scorer(images, TEXTS)


def test_store_is_asked_first_and_gives_the_same_numbers(images, tmp_path):
    path = tmp_path / "scores.db"
    first = ToyPair(device="cpu", store=path)
    scores = first(images[:3], TEXTS)
    again = ToyPair(device="cpu", store=path)
    outcome = again.evaluate_blocks([Block.of(images, TEXTS)])
    assert outcome.counts == CellCounts(cells=20, reused=12, computed=8)
    assert sum(again.image_calls) == 2
    np.testing.assert_array_equal(outcome.scores[0][:3], scores)


def test_stored_embeddings_are_reused_for_new_cells(images, tmp_path):
    path = tmp_path / "scores.db"
    ToyEmbedding(device="cpu", store=path)(images, TEXTS[:2])
    again = ToyEmbedding(device="cpu", store=path)
    scores = again(images, TEXTS)
    assert again.image_calls == []
    assert sorted(again.text_calls) == sorted(TEXTS[2:])
    torch.testing.assert_close(scores, ToyEmbedding(device="cpu")(images, TEXTS), atol=0, rtol=0)


def test_failed_cells_are_stored_with_their_reason_and_tried_again(images, tmp_path):
    path, image_path = tmp_path / "scores.db", tmp_path / "late.png"
    scorer = ToyPair(device="cpu", store=path, on_error="skip")
    scorer([image_path], ["a"])
    rows = list(scorer.store.rows())
    assert [(row.value, "no such file" in row.error) for row in rows] == [(None, True)]
    images[0].save(image_path)
    assert torch.isfinite(scorer([image_path], ["a"])).all()


def test_ids_differ_wherever_numbers_may(tmp_path):
    result = [
        ToyEmbedding(device="cpu"),
        ToyEmbedding(device="cpu", scale=2.0),
        ToyEmbedding(device="cpu", dtype="bfloat16"),
        ToyEmbedding(device="cpu", image_mode="original"),
        ToyEmbedding(device="cpu", question_template="see {}"),
        ToyPair(device="cpu"),
    ]
    assert len({scorer.id for scorer in result}) == len(result)
    assert result[0].id == ToyEmbedding(device="cpu").id


def test_templates_bind_for_one_call(images):
    scorer = ToyEmbedding(device="cpu")
    plain = scorer(images, ["cat"])
    prefixed = scorer(images, ["cat"], question_template="A photo depicts {}")
    torch.testing.assert_close(prefixed, scorer(images, ["A photo depicts cat"]))
    torch.testing.assert_close(scorer(images, ["cat"]), plain)
    with pytest.raises(TemplateError, match="reads no answer"):
        scorer(images, ["cat"], answer_template="Yes")


def test_a_template_without_the_text_warns_and_scores(images):
    with pytest.warns(T2VWarning, match="the texts play no part"):
        scores = ToyPair(device="cpu")(images, TEXTS, question_template="Is it good?")
    assert (scores == scores[:, :1]).all()


def test_cut_texts_are_reported_once_with_their_number(images):
    scorer = Short(device="cpu", batch_size=1)
    with pytest.warns(T2VWarning, match="2 of 4 texts are longer") as caught:
        scorer(images, TEXTS)
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scorer(images, ["ok"])


class Referenced(ToyEmbedding):
    uses_references = True


def test_references_are_asked_for_and_checked(images):
    scorer = Referenced(device="cpu")
    with pytest.raises(InputError, match="needs references"):
        scorer(images, TEXTS)
    with pytest.raises(InputError, match="2 lists for 5 images"):
        scorer(images, TEXTS, references=[["a"], ["b"]])
    with pytest.raises(InputError, match=r"references\[1\] is empty"):
        scorer(images[:2], TEXTS, references=[["a"], []])


def test_generate_is_refused_where_a_model_cannot(images):
    with pytest.raises(UnsupportedError, match="cannot generate text"):
        ToyEmbedding(device="cpu").generate(images, "what is this?")
    with pytest.raises(InputError, match="5 images and 2 prompts"):
        ToyEmbedding(device="cpu").model.generate(images=images, texts=["a", "b"])


def test_threads_may_share_a_scorer(images, tmp_path):
    scorer = ToyEmbedding(device="cpu", store=tmp_path / "scores.db")
    scores = ToyEmbedding(device="cpu")(images, TEXTS)
    results: list[torch.Tensor] = []

    def work():
        results.append(scorer(images, TEXTS))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 8
    for result in results:
        torch.testing.assert_close(result, scores)


def test_progress_ends_at_the_number_of_cells(images):
    calls: list[CellCounts] = []
    ToyPair(device="cpu", batch_size=3).run([Block.of(images, TEXTS)], calls.append)
    assert calls[0] == CellCounts(cells=20)
    assert calls[-1] == CellCounts(cells=20, computed=20)
    assert [c.computed for c in calls] == sorted(c.computed for c in calls)
