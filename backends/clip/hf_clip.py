"""CLIP, MetaCLIP, SigLIP and SigLIP 2 in the layout of the Hugging Face hub; score: the cosine.

Images go through the checkpoint's own processor on its PIL backend: the torchvision backend,
which transformers prefers, resizes differently and moves scores. SigLIP reads texts as it was
trained to: in lower case, padded to its full length, the padding not masked.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Unpack

import torch
from PIL import Image
from torch import Tensor
from transformers import AutoConfig, AutoModel, AutoTokenizer
from typing_extensions import override

from t2v_eval.errors import CheckpointError
from t2v_eval.inputs.fast_jpeg import Resizing
from t2v_eval.local.base import Options
from t2v_eval.local.dual_encoder import EmbeddingScorer
from t2v_eval.local.weights import HUB_FILES, fill, read_tensors, weight_files

from ..common.images import crop_extreme
from ..common.pretrained import PROCESSOR_PATTERNS, load_pretrained
from ..common.processors import check_end_token, check_vocabulary, read_image_processor
from ..common.tensors import first_resizing, preprocess_patches, preprocess_pixels
from ..common.transformers_internals import empty_weights
from .rescaling import Probability, scale_and_bias

MODEL_TYPES = ("clip", "metaclip_2", "siglip", "siglip2")
POSITION_EMBEDDING = "text_model.embeddings.position_embedding.weight"
PICKLE_PATTERNS = (*HUB_FILES, "pytorch_model*.bin*")


class HfClip(EmbeddingScorer):
    """Score the cosine of image and text under a dual encoder of the Hugging Face hub, -1 to 1.

    Args:
        checkpoint: a folder or hub id with configuration and weights.
        processor: a folder or hub id with tokenizer and image processor; by default those that lie
            beside the weights.
        **options: options of `LocalScorer`.

    Raises:
        CheckpointError: a file is missing, or the files do not belong to one model of these types.

    >>> import t2v_eval
    >>> from PIL import Image
    >>> scorer = t2v_eval.load("tiny-clip", device="cpu")
    >>> scorer([Image.new("RGB", (48, 48), "red")], ["a red circle", "a blue square"]).shape
    torch.Size([1, 2])
    >>> isinstance(scorer, HfClip)
    True
    """

    default_processor: ClassVar[str | None] = None  # for weights published without a processor

    def __init__(
        self, checkpoint: str, processor: str | None = None, **options: Unpack[Options]
    ) -> None:
        super().__init__(**options)
        folder = self.locate(checkpoint)
        if not any(folder.glob("*.safetensors")):
            folder = self.locate(checkpoint, PICKLE_PATTERNS)
        config = load_pretrained(AutoConfig, folder, "CLIP")
        if config.model_type not in MODEL_TYPES:
            raise CheckpointError(
                f"{folder} holds a model of type {config.model_type!r}, "
                f"not {', '.join(map(repr, MODEL_TYPES))}"
            )
        self.siglip = config.model_type.startswith("siglip")
        if processor is None and not (folder / "preprocessor_config.json").exists():
            processor = self.default_processor
        processor_folder = (
            self.locate(processor, PROCESSOR_PATTERNS, argument="processor", revision=None)
            if processor
            else folder
        )
        self.tokenizer = load_pretrained(AutoTokenizer, processor_folder, "CLIP")
        self.processor = read_image_processor(processor_folder, config)
        # Older files hold position_ids, which are buffers and no weights.
        tensors = read_tensors(folder)
        if POSITION_EMBEDDING in tensors:  # of LongCLIP, which may have more than config.json says
            config.text_config.max_position_embeddings = len(tensors[POSITION_EMBEDDING])
        self.context = config.text_config.max_position_embeddings
        special_ids = self.tokenizer("").input_ids
        check_vocabulary(
            self.tokenizer, config.text_config.vocab_size, processor_folder, special_ids
        )
        if not self.siglip:
            check_end_token(self.tokenizer, config.text_config, processor_folder)
        with empty_weights():
            self.clip = AutoModel.from_config(config)  # type: ignore[no-untyped-call]
        fill(self.clip, {n: t for n, t in tensors.items() if "position_ids" not in n}, folder)
        self.scale, self.bias = scale_and_bias(self.clip)
        self.clip.to(self.device, self.dtype)
        config_files = {
            file
            for at in (folder, processor_folder)
            for suffix in ("json", "txt")
            for file in at.glob(f"*.{suffix}")
        }
        self.files = [*weight_files(folder), *sorted(config_files)]

    @override
    def resizing(self) -> Resizing | None:
        return first_resizing(self.processor)

    @override
    def preprocess(self, image: Image.Image) -> Tensor:
        # The processor would put alpha on white; the models were trained on images without alpha.
        rgb = image.convert("RGB")
        side = getattr(self.processor.size, "shortest_edge", None)
        if side and self.processor.do_center_crop:
            rgb = crop_extreme(rgb, side, self.processor.resample)
        inputs = self.processor(rgb, do_convert_rgb=False, return_tensors="pt")
        prepared: Tensor = inputs.pixel_values[0]
        if "spatial_shapes" not in inputs:
            return prepared
        # Patches of a grid of any shape: mask and grid are passed on as columns beside them.
        real, grid = inputs.pixel_attention_mask[0], inputs.spatial_shapes[0]
        return torch.cat([prepared, real[:, None], grid.expand(len(real), 2)], dim=1)

    @override
    def preprocess_tensor(self, pixels: Tensor) -> Tensor:
        if not hasattr(self.processor, "max_num_patches"):
            return preprocess_pixels(self.processor, pixels)
        # The grid, and the columns beside the patches, are those of any image of this size.
        blank = self.preprocess(Image.new("RGB", (pixels.shape[3], pixels.shape[2])))[:, -3:]
        rows, columns = blank[0, 1:].long().tolist()
        patches = preprocess_patches(self.processor, pixels, rows, columns)
        return torch.cat([patches, blank.to(pixels).expand(len(pixels), -1, -1)], dim=2)

    @override
    def encode_images(self, batch: Tensor) -> Tensor:
        if batch.ndim == 4:
            return _pooled(self.clip.get_image_features(pixel_values=batch))
        patches, real, grid = batch[..., :-3], batch[..., -3], batch[:, 0, -2:]
        return _pooled(
            self.clip.get_image_features(
                patches, pixel_attention_mask=real.long(), spatial_shapes=grid.long()
            )
        )

    @override
    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        inputs = self.tokenizer(
            [text.lower() for text in texts] if self.siglip else list(texts),
            padding="max_length" if self.siglip else "longest",
            truncation=True,
            max_length=self.context,
            return_attention_mask=True,
            return_tensors="pt",
        )
        full = zip(texts, inputs.attention_mask.sum(-1).tolist(), strict=True)
        self.note_truncated(t for t, n in full if n == self.context and self._count_tokens(t) > n)
        mask = None if self.siglip else inputs.attention_mask.to(self.device)
        ids = inputs.input_ids.to(self.device)
        return _pooled(self.clip.get_text_features(ids, attention_mask=mask))

    def _count_tokens(self, text: str) -> int:
        """Return the number of tokens of a text before truncation."""
        return len(self.tokenizer(text, verbose=False).input_ids)


class HfClipProbability(Probability, HfClip):
    """Score the probability that image and text match, 0 to 1, under a SigLIP of the hub.

    Args:
        checkpoint: as `HfClip`.
        processor: as `HfClip`.

    Raises:
        InputError: the model was not trained with a sigmoid loss.

    >>> import t2v_eval
    >>> folder = t2v_eval.load("tiny-clip", device="cpu").files[0].parent
    >>> HfClipProbability(checkpoint=str(folder), device="cpu")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    t2v_eval.errors.InputError: 'HfClipProbability' needs a model trained with a sigmoid loss, ...
    """


def _pooled(output: Any) -> Tensor:
    pooled: Tensor = output if isinstance(output, Tensor) else output.pooler_output
    return pooled
