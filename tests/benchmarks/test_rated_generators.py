"""Benchmarks whose ratings are of several generators name the generator of each image."""

import pytest
from helpers.benchmarks.examples import EXAMPLES, opened
from helpers.toy import draw_image

from t2v_eval.evaluation.options import open_benchmark

pytestmark = pytest.mark.filterwarnings("ignore:.*the figures are:t2v_eval.errors.T2VWarning")
GENERATORS = {
    "tifa160": {"mini_dalle", "stable_diffusion_v1_1", "stable_diffusion_v1_5",
                "stable_diffusion_v2_1", "vq_diffusion"},
    "genai-bench-1600": {"DALLE_3", "SDXL_Turbo", "DeepFloyd_I_XL_v1", "Midjourney_6",
                         "SDXL_2_1", "SDXL_Base"},
    "t2vscore-alignment": {"floor33", "gen2", "pika", "modelscope", "zeroscope"},
    "stanfordt23d": {"dreamfusion", "instant3d", "latent-nerf", "magic3d", "mvdream", "shap-e"},
    "agiqa-3k": {"AttnGAN_normal", "DALLE2_normal", "glide_normal", "midjourney_lowstep",
                 "midjourney_normal", "sd1.5_highcorr", "sd1.5_lowcorr", "sd1.5_lowstep",
                 "sd1.5_normal", "xl2.2_normal"},
    "genai-bench-video-800": {"Floor33", "Gen2", "Pika_v1", "Modelscope"},
}  # fmt: skip


@pytest.mark.parametrize("name", GENERATORS)
def test_each_image_has_its_generator(tmp_path, name):
    EXAMPLES[name].write(tmp_path)
    benchmark = opened(name, tmp_path)
    names = set()
    for item in benchmark.items():
        generators = item.labels["generator"]
        assert len(generators) == len(item.images)
        for unit in benchmark.rated_units(item):
            assert len({generators[i] for i in unit}) == 1, "a rated unit is of one generator"
        for image, generator in zip(item.images, generators, strict=True):
            # Names of files and folders are the generators', where images are files.
            assert not isinstance(image, str) or generator in image
        names |= set(generators)
    assert names and names <= GENERATORS[name]


def test_a_table_of_your_own_may_name_them(tmp_path):
    for name in ("a.png", "b.png", "c.png"):
        draw_image(ord(name[0])).save(tmp_path / name)
    rows = ["image,text,human,model,group", "a.png,a cat,5,flux,1", "b.png,a cat,2,sdxl,1"]
    (tmp_path / "t.csv").write_text("\n".join([*rows, "c.png,a dog,3,,2"]))
    table = open_benchmark(str(tmp_path / "t.csv"), columns={"generator": "model"})
    cat, dog = table.items()
    assert cat.labels == {"human": [5, 2], "generator": ["flux", "sdxl"]}
    assert "generator" not in dog.labels
