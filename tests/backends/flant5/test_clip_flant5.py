"""CLIP-FlanT5 against what t2v_metrics answers, and the ways its checkpoints come."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.models.checks import (
    check_against_pairs,
    check_company,
    check_golden,
    check_golden_batch,
    count_rows,
    draw_sizes,
)
from helpers.toy import draw_image
from PIL import Image
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models
from transformers import CLIPVisionModel, T5Config, T5ForConditionalGeneration, T5Tokenizer

import t2v_eval
from t2v_eval.errors import CheckpointError, InputError, MediaError, ScoringError, T2VWarning
from t2v_eval.local.batching import BatchSize
from t2v_eval.scoring.plan import Block
from t2v_eval.store import Store

FOLDER = Path(__file__).parents[2] / "goldens" / "vqa" / "clip_flant5"
CASES = json.loads((FOLDER / "cases.json").read_text(encoding="utf-8"))
BATCH_CASES = json.loads((FOLDER / "batch_cases.json").read_text(encoding="utf-8"))
NOTICES = {"question_without_placeholder": "has a placeholder", "truncate_2048": "were cut"}
TEXTS = ["cat", "the tall lighthouse stands next to the calm river " * 4, "two dogs", ""]
TOWER = "vision_tower.vision_tower.vision_model."


def paths(names: list[str]) -> list[str]:
    return [str(FOLDER / name) for name in names]


def load(checkpoint: Path, name: str = "clip-flant5-xxl", **options):
    root = FOLDER / "checkpoint"
    defaults = {
        "tokenizer": root / "tokenizer",
        "vision_tower": root / "openai" / "clip-vit-tiny-patch14-56",
        "device": "cpu",
    }
    return t2v_eval.load(name, checkpoint=checkpoint, **{**defaults, **options})


@pytest.fixture(scope="session")
def safetensors() -> Path:
    return FOLDER / "checkpoint" / "model_safetensors"


@pytest.fixture(scope="session")
def tensors(safetensors):
    return load_file(safetensors / "model.safetensors")


@pytest.fixture(scope="session")
def write(safetensors, tmp_path_factory):
    """Write a checkpoint folder with other tensors."""

    def write(tensors: dict[str, torch.Tensor], **config: object) -> Path:
        folder = tmp_path_factory.mktemp("checkpoint")
        described = json.loads((safetensors / "config.json").read_text()) | config
        (folder / "config.json").write_text(json.dumps(described))
        save_file(tensors, folder / "model.safetensors")
        return folder

    return write


@pytest.fixture(scope="session")
def pickles(safetensors, tensors, tmp_path_factory) -> Path:
    """The layout of the hub: pickled shards with an index, the embeddings under four names."""
    folder = tmp_path_factory.mktemp("pickles")
    shutil.copy(safetensors / "config.json", folder)
    aliases = ("embed_tokens", "encoder.embed_tokens", "decoder.embed_tokens")
    tensors = tensors | {f"{name}.weight": tensors["shared.weight"] for name in aliases}
    names, shards = list(tensors), {}
    for number, part in enumerate((names[::2], names[1::2]), 1):
        file = f"pytorch_model-0000{number}-of-00002.bin"
        torch.save({name: tensors[name] for name in part}, folder / file)
        shards |= dict.fromkeys(part, file)
    index = folder / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": shards}))
    return folder


@pytest.fixture(scope="session")
def tower_repository(tensors, tmp_path_factory) -> Path:
    """The tower in a repository of its own, beside CLIP's text half, as OpenAI published it."""
    folder = tmp_path_factory.mktemp("clip")
    tower = FOLDER / "checkpoint" / "openai" / "clip-vit-tiny-patch14-56"
    vision = json.loads((tower / "config.json").read_text())
    clip = {"model_type": "clip", "vision_config": vision, "text_config": {"hidden_size": 32}}
    (folder / "config.json").write_text(json.dumps(clip))
    calls = json.loads((tower / "preprocessor_config.json").read_text())
    del calls["image_processor_type"], calls["do_convert_rgb"], calls["rescale_factor"]
    calls |= {"size": 56, "crop_size": 56, "feature_extractor_type": "CLIPFeatureExtractor"}
    (folder / "preprocessor_config.json").write_text(json.dumps(calls))
    custom = {f"vision_model.{n.removeprefix(TOWER)}": t for n, t in tensors.items() if TOWER in n}
    custom["vision_model.embeddings.position_ids"] = torch.arange(17)[None]
    custom["text_model.final_layer_norm.weight"] = torch.ones(32)
    custom["logit_scale"] = torch.tensor(1.0)
    torch.save(custom, folder / "pytorch_model.bin")
    return folder


@pytest.fixture(scope="session")
def scorers(safetensors, pickles):
    """Loaded once each: (layout, name) -> scorer."""
    loaded = {}

    def get(layout: str = "safetensors", name: str = "clip-flant5-xxl"):
        if (layout, name) not in loaded:
            folder = safetensors if layout == "safetensors" else pickles
            loaded[layout, name] = load(folder, name, image_mode="original")
        return loaded[layout, name]

    return get


@pytest.fixture
def scorer(scorers):
    return scorers()


@pytest.fixture(scope="session")
def images():
    return draw_sizes()


@pytest.fixture(scope="session")
def plain(safetensors, tower_repository):
    """One pair at a time with the unchanged classes of transformers: the oracle."""
    raw = json.loads((safetensors / "config.json").read_text())
    t5 = T5ForConditionalGeneration.from_pretrained(safetensors, config=T5Config.from_dict(raw))
    tower = CLIPVisionModel.from_pretrained(tower_repository)
    return Plain(t5.eval(), tower.eval(), load_file(safetensors / "model.safetensors"))


class Plain:
    def __init__(self, t5, tower, tensors):
        self.t5, self.tower = t5, tower
        self.tokenizer = T5Tokenizer.from_pretrained(FOLDER / "checkpoint" / "tokenizer")
        self.projector = torch.nn.Sequential(
            torch.nn.Linear(32, 32), torch.nn.GELU(), torch.nn.Linear(32, 32)
        )
        self.projector.load_state_dict(
            {n.removeprefix("mm_projector."): t for n, t in tensors.items() if "mm_proj" in n}
        )

    @torch.no_grad()
    def embed(self, scorer, image: Image.Image, question: str) -> torch.Tensor:
        system = (
            "A chat between a curious user and an artificial intelligence assistant. The assistant "
            "gives helpful, detailed, and polite answers to the user's questions. USER: "
        )
        pixels = scorer.preprocess(image)[None]
        hidden = self.tower(pixels, output_hidden_states=True).hidden_states[-2][:, 1:]
        chunks = [
            self.t5.shared(torch.tensor([self.tokenizer(text).input_ids]))
            for text in (system, f"\n{question} ASSISTANT: ")
        ]
        return torch.cat([chunks[0], self.projector(hidden), chunks[1]], 1)

    @torch.no_grad()
    def score(self, scorer, image: Image.Image, question: str, answer: str) -> float:
        labels = torch.tensor([self.tokenizer(answer).input_ids])
        out = self.t5(inputs_embeds=self.embed(scorer, image, question), labels=labels)
        log_p = out.logits[0, :, : len(self.tokenizer)].log_softmax(-1)
        return float(log_p.gather(1, labels.T).mean().exp())


@pytest.mark.parametrize("layout", ["safetensors", "pickles"])
@pytest.mark.parametrize("case", CASES, ids=[case["id"] for case in CASES])
def test_golden(case, layout, scorers):
    scorer = scorers(layout, case.get("model_variant", "clip-flant5-xxl"))
    check_golden(scorer, case, FOLDER, NOTICES)


@pytest.mark.parametrize("case", BATCH_CASES, ids=[case["id"] for case in BATCH_CASES])
def test_golden_batch(case, scorer):
    check_golden_batch(scorer, case, FOLDER)


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ('Does this figure show "{}"? Please answer yes or no.', "Yes"),
        ("", "{}"),
        ("{} or {}?", "No, {}"),
        ("{}", "a long answer " * 9),
        ("{}", ""),
    ],
)
def test_shared_work_gives_what_one_pair_at_a_time_gives(scorer, plain, images, question, answer):
    check_against_pairs(scorer, plain.score, images, TEXTS, question, answer)


def test_a_score_does_not_depend_on_its_batch(scorer, images):
    check_company(scorer, images, TEXTS)


def test_an_image_passes_the_tower_once(safetensors, images, tmp_path):
    store = Store(tmp_path / "scores.sqlite")
    scorer = load(safetensors, store=store)
    rows = count_rows(images=scorer.tower)
    first = scorer([*images, images[0]], TEXTS)
    assert rows == {"images": 3}
    outcome = scorer.evaluate_blocks([Block.of(images, TEXTS)])
    assert outcome.counts.reused == 12
    np.testing.assert_array_equal(outcome.scores[0], first[:3])
    scorer(images, ["something new"])  # the features of the images are cached
    assert rows == {"images": 3}
    scorer([draw_image(9)], ["something new"])
    assert rows == {"images": 4}


@pytest.mark.parametrize("text", ["an <image> of {} and {0} {text} {{x}}", "{", "}", "a\n<image>"])
def test_no_text_is_taken_for_a_placeholder(scorer, plain, images, text):
    question = f'Does this figure show "{text}"? Please answer yes or no.'
    expected = plain.score(scorer, images[0], question, "Yes")
    assert float(scorer(images[0], text)) == pytest.approx(expected, rel=1e-5)


def test_an_image_too_long_to_be_padded_is_named(scorer):
    long = Image.new("RGB", (20_000, 2))
    with pytest.raises(MediaError, match=r"images\[1\] .*20000 x 2 padded to a square"):
        scorer([Image.new("RGB", (8, 8)), long], "a line")


def test_long_texts_are_cut_and_reported(scorer, images):
    long, longer = "two small dogs " * 1500, "two small dogs " * 1600
    with pytest.warns(T2VWarning, match="2 of 3 texts"):
        outcome = scorer.evaluate_blocks([Block.of(images[0], ["cat", long, longer])])
    assert outcome.truncated == 2
    assert outcome.scores[0][0, 1] == pytest.approx(outcome.scores[0][0, 2], abs=1e-6)
    with pytest.warns(T2VWarning, match="1 of 1 texts"):
        scorer(images[0], long, template="visualgptscore")


def test_the_tower_may_be_in_its_own_repository(scorer, write, tensors, tower_repository, images):
    without = write({n: t for n, t in tensors.items() if "vision_tower" not in n})
    apart = load(without, vision_tower=tower_repository, image_mode="original")
    torch.testing.assert_close(apart(images, TEXTS), scorer(images, TEXTS), rtol=0, atol=0)
    assert apart.id != scorer.id
    with pytest.raises(CheckpointError, match="holds no weights"):
        load(without)


def test_names_alone_find_everything_in_the_cache(
    write, tensors, tower_repository, scorer, images, tmp_path
):
    """As downloaded: pickled tower, no weights beside the tokenizer, a revision of the model."""
    custom = {n: t for n, t in tensors.items() if "vision_tower" not in n}
    repositories = {
        "zhiqiulin/clip-flant5-xxl": write(custom, mm_vision_tower="openai/clip-vit-tiny"),
        "google/flan-t5-xxl": FOLDER / "checkpoint" / "tokenizer",
        "openai/clip-vit-tiny": tower_repository,
    }
    for name, folder in repositories.items():
        cached = tmp_path / f"models--{name.replace('/', '--')}"
        shutil.copytree(folder, cached / "snapshots" / "0123")
        (cached / "refs").mkdir()
        (cached / "refs" / ("v2" if "zhiqiulin" in name else "main")).write_text("0123")
    named = t2v_eval.load(
        "clip-flant5-xxl",
        device="cpu",
        revision="v2",
        cache_dir=str(tmp_path),
        local_files_only=True,
    )
    torch.testing.assert_close(named(images, TEXTS), scorer(images, TEXTS), rtol=0, atol=0)


def test_config_names_the_tower_unless_it_is_given(scorer, write, tensors, tower_repository):
    folder = write(tensors, mm_vision_tower=str(tower_repository))
    assert load(folder, vision_tower=None).tower.config.hidden_size == 32


@pytest.mark.parametrize(
    "name",
    [
        "lm_head.weight",
        "shared.weight",
        "mm_projector.2.bias",
        "decoder.block.1.layer.1.EncDecAttention.q.weight",
        f"{TOWER}encoder.layers.0.mlp.fc1.weight",
    ],
)
def test_a_missing_weight_is_named(name, write, tensors):
    folder = write({n: t for n, t in tensors.items() if n != name})
    with pytest.raises(CheckpointError, match=f"lacks weights .*{name}"):
        load(folder)


@pytest.mark.parametrize("name", ["encoder.block.2.layer_norm.weight", f"{TOWER}adapter.weight"])
def test_an_unexpected_weight_is_named(name, write, tensors):
    folder = write(tensors | {name: torch.ones(32)})
    with pytest.raises(CheckpointError, match=f"unexpected weights {name}"):
        load(folder)


def test_a_weight_of_another_shape_is_named(write, tensors):
    folder = write(tensors | {"mm_projector.0.weight": torch.ones(32, 48)})
    with pytest.raises(CheckpointError, match=r"mm_projector.0.weight is of shape \(32, 48\)"):
        load(folder)


def test_a_config_of_another_model_is_refused(tmp_path, write, tensors):
    with pytest.raises(CheckpointError, match="has no mlp2x_gelu projector"):
        load(write(tensors, mm_projector_type="linear"))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "t5", "d_model": 32}))
    with pytest.raises(CheckpointError, match="lacks mm_vision_select_layer, mm_vision_tower"):
        load(tmp_path)
    with pytest.raises(CheckpointError, match=r"has no config\.json"):
        load(FOLDER / "images")


def test_another_tokenizer_is_refused(safetensors, tmp_path):
    other = tmp_path / "bert"
    other.mkdir()
    words = models.WordLevel({"[UNK]": 0, "cat": 1}, "[UNK]")
    Tokenizer(words).save(str(other / "tokenizer.json"))
    for wrong in (FOLDER / "images", safetensors, other):
        with pytest.raises(CheckpointError, match="is not the T5 tokenizer of this checkpoint"):
            load(safetensors, tokenizer=wrong)


def test_a_tokenizer_of_more_tokens_than_the_model_is_refused(write, tensors):
    short = tensors | {n: tensors[n][:200].clone() for n in ("shared.weight", "lm_head.weight")}
    with pytest.raises(CheckpointError, match="has 200 rows for the 296 tokens"):
        load(write(short))


@pytest.mark.parametrize("argument", ["checkpoint", "tokenizer", "vision_tower"])
def test_weights_that_are_not_here_are_named_with_the_remedy(argument, safetensors, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    options = {"checkpoint": safetensors, argument: "nobody/nothing-of-the-kind"}
    with pytest.raises(CheckpointError, match=f"nobody/nothing.*{argument}='DIR'"):
        load(**options)


def test_a_chat_without_its_slots_is_refused(safetensors):
    with pytest.raises(InputError, match="must hold <image>"):
        load(safetensors, chat="USER: {}")


def test_tied_embeddings(write, tensors, plain, images):
    """T5 1.0 and small models have no lm_head of their own and scale what goes into it."""
    folder = write(
        {n: t for n, t in tensors.items() if n != "lm_head.weight"}, tie_word_embeddings=True
    )
    scorer = load(folder)
    config = T5Config.from_dict(json.loads((folder / "config.json").read_text()))
    t5 = T5ForConditionalGeneration.from_pretrained(folder, config=config).eval()
    oracle = Plain(t5, plain.tower, tensors)
    question = 'Does this figure show "cat"? Please answer yes or no.'
    expected = [oracle.score(scorer, image, question, "Yes") for image in images]
    np.testing.assert_allclose(scorer(images, "cat")[:, 0], expected, rtol=1e-5)


def test_generate(scorer, plain, images):
    prompts = ["Describe the image.", "What is this? " * 9, "a"]
    texts = scorer.generate(images, prompts, max_new_tokens=6)
    for image, prompt, text in zip(images, prompts, texts, strict=True):
        tokens = plain.t5.generate(
            inputs_embeds=plain.embed(scorer, image, prompt), max_new_tokens=6, do_sample=False
        )
        assert plain.tokenizer.decode(tokens[0], skip_special_tokens=True) == text
    assert scorer.model.generate(images=images[:1], prompts="a", max_new_tokens=6) == (
        scorer.generate([images[0]], ["a"], max_new_tokens=6)
    )
    same = scorer.generate([images[0], images[0]], prompts[:2], max_new_tokens=6)
    assert same[0] == texts[0]
    with pytest.warns(T2VWarning, match="were cut"):
        scorer.generate(images[:1], "dogs " * 2100, max_new_tokens=1)


def test_what_is_written_survives_out_of_memory(scorer, images, monkeypatch):
    prompts = ["Describe the image.", "What is this?", "a"]
    expected = scorer.generate(images, prompts, max_new_tokens=6)
    generate, limit = scorer.t5.generate, 1

    def small(encoder_outputs, **options):
        if len(encoder_outputs.last_hidden_state) > limit:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return generate(encoder_outputs=encoder_outputs, **options)

    monkeypatch.setattr(scorer.t5, "generate", small)
    monkeypatch.setattr(scorer, "batch", BatchSize(32))
    assert scorer.generate(images, prompts, max_new_tokens=6) == expected
    assert scorer.batch.value == 1
    limit = 0
    with pytest.raises(ScoringError, match="does not fit into the memory of cpu, even alone"):
        scorer.generate(images, prompts)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_close_and_part_of_the_id(dtype, scorer, safetensors, images):
    half = load(safetensors, dtype=dtype, image_mode="original")
    assert f"dtype={dtype}" in half.id
    assert half.id != scorer.id
    assert half.t5.encoder.block[0].layer[0].SelfAttention.q.weight.dtype == half.dtype
    np.testing.assert_allclose(half(images, TEXTS), scorer(images, TEXTS), atol=0.1)


def test_what_decides_the_numbers_is_in_the_id(scorer, scorers):
    assert scorer.with_template(answer_template="No").id != scorer.id
    assert scorer.with_template(template="visualgptscore").id != scorer.id
    other = scorers(name="clip-flant5-xxl-no-system")
    assert other.id.partition(" ")[2] != scorer.id.partition(" ")[2]
    assert scorers("pickles").id != scorer.id


def test_cards():
    names = t2v_eval.list_models("*clip-flant5*", kind="vqa")
    assert names == [
        "clip-flant5-xl",
        "clip-flant5-xxl",
        "clip-flant5-xxl-no-system",
        "clip-flant5-xxl-no-system-no-user",
        "tiny-clip-flant5",
    ]
