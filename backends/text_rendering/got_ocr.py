"""GOT-OCR 2.0 as a reader: Wei et al. 2024, "General OCR Theory", as transformers runs it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Unpack

import torch
import transformers
from PIL import Image
from transformers import AutoModelForImageTextToText
from typing_extensions import override

from t2v_eval.errors import CheckpointError, UnsupportedError
from t2v_eval.inputs.media import Media
from t2v_eval.local.base import LocalScorer, Options
from t2v_eval.local.precision import large_dtype
from t2v_eval.local.weights import weight_files
from t2v_eval.scoring.plan import Cells, Text
from t2v_eval.scoring.results import ScoreChunk

from ..common.pretrained import PROCESSOR_PATTERNS, Placement, build_network, read_config
from ..common.processors import read_processor

MODEL_TYPE = "got_ocr2"
END_OF_TURN = "<|im_end|>"  # which generation_config.json does not name as an end


class GotOcr(LocalScorer):
    """Read images with GOT-OCR 2.0, which is asked by its processor alone.

    Args:
        checkpoint: a folder or hub id in the layout of transformers.
        **options: options of `LocalScorer`.

    Raises:
        CheckpointError: a file is missing, or it is another model.

    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:  # doctest: +ELLIPSIS
    ...     _ = Path(folder, "config.json").write_text('{"model_type": "clip"}')
    ...     GotOcr(folder, device="cpu")
    Traceback (most recent call last):
    t2v_eval.errors.CheckpointError: ... is of type 'clip', not 'got_ocr2'; a model with a chat \
template reads as `reader='hf-vlm:ORG/NAME'`
    """

    def __init__(self, checkpoint: str, **options: Unpack[Options]) -> None:
        super().__init__(**options)
        folder = self.locate_weights(checkpoint)
        config = read_config(folder, trusted=False)
        if config.model_type != MODEL_TYPE:
            raise CheckpointError(
                f"{folder} is of type {config.model_type!r}, not {MODEL_TYPE!r}; a model with a "
                "chat template reads as `reader='hf-vlm:ORG/NAME'`"
            )
        self.processor = read_processor(folder, config, False)
        self.dtype = large_dtype(options.get("dtype"), self.device, folder)
        placement = Placement("")  # its vision tower has eager attention alone
        self.network = build_network(
            AutoModelForImageTextToText, folder, placement, self.device, self.dtype
        )
        patterns = [file for pattern in PROCESSOR_PATTERNS for file in folder.glob(pattern)]
        self.files = [*dict.fromkeys([*weight_files(folder), *sorted(patterns)])]
        version = ".".join(transformers.__version__.split(".")[:2])
        self.identity_facts = {"transformers": version, **placement.facts}

    @override
    def preprocess(self, image: Image.Image) -> dict[str, Any]:
        """Return the inputs of the network, with the prompt that the processor writes."""
        return dict(self.processor(image.convert("RGB"), return_tensors="pt"))

    def write_about(
        self, images: Sequence[Media], prompts: Sequence[str], max_new_tokens: int
    ) -> list[tuple[str, bool]]:
        """Return the text in each image, and whether it is whole; it has a prompt of its own."""
        pairs = list(zip(images, prompts, strict=True))
        return self._generate_in_batches(
            self.image_batch, pairs, lambda part: self._read(part, max_new_tokens)
        )

    def _read(
        self, pairs: Sequence[tuple[Media, str]], max_new_tokens: int
    ) -> list[tuple[str, bool]]:
        rows = [self.prepare(media) for media, _ in pairs]
        # All rows have one shape: the prompt is the same, and images are resized to squares.
        batch = {name: torch.cat([row[name] for row in rows]).to(self.device) for name in rows[0]}
        batch["pixel_values"] = batch["pixel_values"].to(self.dtype)
        tokenizer = self.processor.tokenizer
        ends = {tokenizer.convert_tokens_to_ids(END_OF_TURN), tokenizer.eos_token_id}
        tokens = self.network.generate(
            **batch, max_new_tokens=max_new_tokens, do_sample=False, eos_token_id=sorted(ends)
        )
        generated = tokens[:, batch["input_ids"].shape[1] :].tolist()
        return [
            (
                tokenizer.decode(row, skip_special_tokens=True).strip(),
                len(row) < max_new_tokens or not ends.isdisjoint(row),
            )
            for row in generated
        ]

    @override
    def score_cells(
        self, images: Sequence[Media], texts: Sequence[Text], cells: Cells
    ) -> Iterator[ScoreChunk]:
        raise UnsupportedError("GOT-OCR 2.0 reads images; `text-rendering` scores what is read")
