"""What authors of models bring beside their weights, in small: tests read it as code of theirs.

The interfaces are those of Molmo, mPLUG-Owl3, InternLM-XComposer2.5, InternVideo2-Chat and of a
model of transformers' own kind; the networks are a mean of what came before.
"""

import numpy as np
import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel, ProcessorMixin
from transformers.modeling_outputs import BaseModelOutput, CausalLMOutput

WIDTH = 16


class TinyConfig(PretrainedConfig):
    model_type = "tiny_own_code"

    def __init__(self, vocab_size=400, max_position_embeddings=600, **kwargs):
        self.vocab_size = vocab_size
        self.max_position_embeddings = max_position_embeddings
        super().__init__(**kwargs)


def colours(image):
    """Mean colours of the quarters of an image (4, 3)."""
    return torch.from_numpy(np.array(image.convert("RGB").resize((2, 2)))).float().view(4, 3) / 255


class Reader(PreTrainedModel):
    config_class = TinyConfig
    _supports_sdpa = True

    def __init__(self, config):
        super().__init__(config)
        self.words = nn.Embedding(config.vocab_size, WIDTH)
        self.look = nn.Linear(3, WIDTH)
        self.mix = nn.Linear(WIDTH, WIDTH)
        self.output = nn.Linear(WIDTH, config.vocab_size, bias=False)
        self.post_init()

    def get_input_embeddings(self):
        return self.words

    def get_output_embeddings(self):
        return self.output

    def states(self, embedded):
        counts = torch.arange(1, embedded.shape[1] + 1, device=embedded.device)[:, None]
        mean = embedded.cumsum(1) / counts
        return torch.tanh(self.mix(mean + embedded))

    def read(self, embedded):
        return CausalLMOutput(logits=self.output(self.states(embedded)))


class MolmoForCausalLM(Reader):
    """As code for transformers 4, which asked for no `post_init`, with the other as it was."""

    def post_init(self):
        pass

    def tie_weights(self):
        pass

    def forward(self, input_ids, images=None, image_masks=None, image_input_idx=None, **_):
        embedded = self.words(input_ids)
        if images is not None:
            features = self.look(images[0, 0]) * image_masks[0, 0][:, None]
            embedded = embedded.index_add(1, image_input_idx[0, 0], features[None])
        return self.read(embedded)


class MolmoProcessor(ProcessorMixin):
    attributes = ["tokenizer"]  # noqa: RUF012
    tokenizer_class = "AutoTokenizer"

    def __init__(self, tokenizer=None, **kwargs):
        super().__init__(tokenizer)

    def process(self, text=None, images=None):
        words = self.tokenizer.encode(f" User: {text} Assistant:", add_special_tokens=False)
        ids = [self.tokenizer.eos_token_id, *words]
        mark = self.tokenizer.convert_tokens_to_ids("<im_patch>")
        return {
            "input_ids": torch.tensor([ids[0], *[mark] * 4, *ids[1:]]),
            "images": colours(images[0])[None],
            "image_masks": torch.tensor([[1.0, 1.0, 0.5, 1.0]]),
            "image_input_idx": torch.tensor([[1, 2, 3, 4]]),
        }


class Owl3Processor:
    def __init__(self, tokenizer):
        self.tokenizer = tokenizer

    def __call__(self, messages, images=None, videos=None):
        asked = messages[0]["content"].replace("<|image|>", "<|image|>\n<|image|>")  # two tiles
        if videos is not None:
            assert images is None
            asked = asked.replace("<|video|>", f"{'<|image|>' * len(videos[0])}<|frames_end|>")
        text = f"<|im_start|>system\n<|im_end|>\n<|im_start|>user\n{asked}<|im_end|>"
        ids = self.tokenizer(f"{text}\n<|im_start|>assistant\n", return_tensors="pt").input_ids
        starts = (ids[0] == self.tokenizer.convert_tokens_to_ids("<|image|>")).nonzero()
        offset = (torch.arange(ids.shape[1]) > starts).sum(0)
        views = videos[0] if images is None else [images[0], images[0].rotate(90)]
        return {
            "input_ids": ids,
            "media_offset": torch.stack([torch.zeros_like(offset), offset], -1)[None],
            "pixel_values": torch.stack([colours(item) for item in views]),
        }


class mPLUGOwl3Model(Reader):  # noqa: N801
    def init_processor(self, tokenizer):
        return Owl3Processor(tokenizer)

    def forward(self, input_ids, pixel_values=None, media_offset=None, **_):
        embedded = self.words(input_ids)
        if pixel_values is not None:
            features = torch.cat([torch.zeros(1, WIDTH), self.look(pixel_values).sum(1)])
            embedded = embedded + features.cumsum(0)[media_offset[..., 1]]
        return self.read(embedded)


def Image_transform(image, hd_num=25):  # noqa: N802
    return image.resize((hd_num, hd_num))


class InternLMXComposer2ForCausalLM(Reader):
    def vis_processor(self, image):
        return colours(image)

    def encode_img(self, image):
        return self.look(image)

    def forward(self, inputs_embeds, attention_mask=None, im_mask=None, **_):
        assert attention_mask.shape == im_mask.shape == inputs_embeds.shape[:2]
        return self.read(inputs_embeds * (1 + im_mask[..., None].to(inputs_embeds)))


class Language(Reader):
    def forward(self, inputs_embeds, attention_mask=None, **_):
        return self.read(inputs_embeds)


class InternVideo2_VideoChat2(PreTrainedModel):  # noqa: N801
    config_class = TinyConfig

    def __init__(self, config):
        super().__init__(config)
        self.lm = Language(config)
        self.queries = nn.Parameter(torch.zeros(96, WIDTH))
        self.post_init()

    def pad_text_embeds(self, input_ids, video, video_idx):
        embedded = self.lm.get_input_embeddings()(input_ids)
        views = video if video.ndim == 5 else video[0]  # (parts, frames, 3, 224, 224)
        assert views.shape[2:] == (3, 224, 224) and int(video_idx.sum()) == 96 * len(views)
        assert views.shape[1] in (1, 8), "there are positions for eight frames, and for one"
        features = [self.queries + self.lm.look(self.colour(view)) for view in views]
        embedded[video_idx] = torch.cat(features)
        return embedded

    @staticmethod
    def colour(frames):
        """Later frames count for more."""
        weights = torch.arange(1, len(frames) + 1) / len(frames)
        return (frames * weights[:, None, None, None]).mean((0, 2, 3))


class PlainModel(PreTrainedModel):
    config_class = TinyConfig
    _supports_sdpa = True

    def __init__(self, config):
        super().__init__(config)
        self.inner = Reader(config)
        self.post_init()

    def get_input_embeddings(self):
        return self.inner.words

    def forward(self, input_ids, pixel_values=None, attention_mask=None, **_):
        embedded = self.inner.words(input_ids)
        if pixel_values is not None:
            embedded = embedded.clone()
            embedded[input_ids == self.config.image_token_id] = self.inner.look(pixel_values[0])
        return BaseModelOutput(last_hidden_state=self.inner.states(embedded))


class PlainForConditionalGeneration(PreTrainedModel):
    """As models of transformers are made: states, then a last product."""

    config_class = TinyConfig
    base_model_prefix = "model"
    _supports_sdpa = True

    def __init__(self, config):
        super().__init__(config)
        self.model = PlainModel(config)
        self.lm_head = nn.Linear(WIDTH, config.vocab_size, bias=False)
        self.post_init()

    def get_output_embeddings(self):
        return self.lm_head

    def forward(self, input_ids, **inputs):
        states = self.model(input_ids, **inputs).last_hidden_state
        return CausalLMOutput(logits=self.lm_head(states))


class PlainProcessor(ProcessorMixin):
    attributes = ["tokenizer"]  # noqa: RUF012
    tokenizer_class = "AutoTokenizer"

    def __init__(self, tokenizer=None, chat_template=None, **kwargs):
        super().__init__(tokenizer, chat_template=chat_template)

    def __call__(self, text=None, images=None, return_tensors="pt", **kwargs):
        words = text[0].replace("<image>", "<image>" * 4)
        result = dict(self.tokenizer(words, return_tensors=return_tensors, **kwargs))
        return result | {"pixel_values": colours(images[0][0])[None]}
