"""Arguments of t2v_metrics that are other ones here are answered with the new way."""

import pytest
from helpers.toy import draw_image

import t2v_eval as t2v_metrics
from t2v_eval.errors import InputError, UnsupportedError
from t2v_eval.utils.arguments import OTHER_WAYS, unknown_argument

IMAGES, TEXTS = [draw_image(0)], ["a cat"]


@pytest.fixture(scope="module")
def scorer():
    return t2v_metrics.VQAScore(model="tiny-clip-flant5", device="cpu")


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ({"fps": 8.0}, "no `fps=`: it chooses no frames of a video; .*video.frames"),
        ({"num_frames": 4}, "no `num_frames=`: it chooses no frames"),
        ({"audio_paths": ["a.wav"]}, "sound is not scored"),
        ({"temperature": 0.5}, "scores repeat: leave it out"),
        ({"debug": True}, "`scorer.explain"),
        ({"max_new_tokens": 5}, "`scorer.generate`"),
        ({"question": "{}?"}, "`question_template=`"),
        ({"question_templat": "{}?"}, "did you mean `question_template=`"),
    ],
)
def test_a_call_names_the_new_way(scorer, argument, said):
    with pytest.raises(InputError, match=said):
        scorer(images=IMAGES, texts=TEXTS, **argument)
    with pytest.raises(InputError, match=said):
        scorer.batch_forward(dataset=[{"images": IMAGES, "texts": TEXTS}], **argument)


def test_generate_names_the_new_way(scorer):
    with pytest.raises(InputError, match="no `fps=`: it chooses no frames"):
        scorer.model.generate(images=IMAGES, texts=TEXTS, fps=1)
    for name, said in (
        ("do_sample", "leave it out"),
        ("top_p", "leave it out"),
        ("speaker", "sound"),
    ):
        with pytest.raises(InputError, match=f"generate of 'tiny-clip-flant5' takes no.*{said}"):
            scorer.model.generate(images=IMAGES, texts=TEXTS, **{name: 1})


def test_forward_with_trace_is_explain(scorer):
    with pytest.raises(UnsupportedError, match=r"`scorer.explain\(images, texts\)`"):
        scorer.model.forward_with_trace(images=IMAGES, texts=TEXTS, score_position="end")


def test_loading_names_the_new_way():
    for name, said in (("project_id", "`project=`, beside `vertexai=True`"), ("logprobs", "`top_")):
        with pytest.raises(InputError, match=said):
            t2v_metrics.VQAScore("gemini-2.5-pro", api_key="k", **{name: "5"})
    with pytest.raises(InputError, match="no `fps=`.*video.frames"):
        t2v_metrics.get_score_model("tiny-clip", device="cpu", cache_dir=None, fps=8)
    with pytest.raises(InputError, match="called model here"):
        t2v_metrics.CLIPScore(model_name="x")


def test_videos_of_a_data_set_are_images(scorer):
    with pytest.raises(InputError, match="item 0.*videos are 'images' too"):
        scorer.batch_forward([{"videos": ["a.mp4"], "texts": TEXTS}])


def test_a_name_is_proposed_only_where_it_is_taken():
    assert unknown_argument("'mine'", "fps", ["frames", "share"]).endswith("`frames={'fps': 8.0}`")
    assert "frames" not in unknown_argument("'mine'", "fps", ["share"])
    assert unknown_argument("'mine'", "shar", ["share"]) == (
        "'mine' takes no `shar=`: did you mean `share=`?"
    )
    assert unknown_argument("'mine'", "x", []) == "'mine' takes no `x=`: leave it out"
    many = [f"name{n}" for n in range(20)]
    assert unknown_argument("'mine'", "x", many, "; see a") == "'mine' takes no `x=`; see a"
    assert all(way and not way.endswith(".") for way in OTHER_WAYS.values())
