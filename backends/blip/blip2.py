"""BLIP-2 by its matching head (ITM), as a dual encoder (ITC), and by the sum of both.

Li et al. 2023, "BLIP-2: Bootstrapping Language-Image Pre-training with Frozen Image Encoders and
Large Language Models", section 3.2. Query tokens of the Q-Former attend to the image. ITM: they
also attend to the text, and the mean of their match logits gives the probability of a match. ITC:
they do not, and the best cosine of a query with the text is the score. Published retrieval ranks
by the sum of match logit and cosine. As in t2v_metrics, the image is stretched to a square and the
text is tokenized unchanged.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Generic, Unpack

import torch
from PIL import Image
from torch import Tensor
from transformers import Blip2Config, Blip2ForImageTextRetrieval
from typing_extensions import override

from t2v_eval.local.base import Options
from t2v_eval.local.dual_encoder import EmbeddingScorer, unit
from t2v_eval.local.weights import read_tensors, weight_files

from ..common.images import normalise, to_pixels
from ..common.pretrained import load_pretrained
from ..common.question_only import State
from ..common.tensors import resize
from ..common.transformers_internals import qformer_cross_attentions
from .bert_text import BertTextPairScorer, BertTextScorer
from .cross_attention import FusedKeysAndValues, build


class _Blip2(BertTextScorer):
    """A BLIP-2 network and the preprocessing of its images.

    Args:
        checkpoint: config.json, weights and tokenizer in the layout of transformers.
    """

    def __init__(self, checkpoint: str, **options: Unpack[Options]) -> None:
        super().__init__(**options)
        folder, tensors, files = self.read(checkpoint)
        config: Any = load_pretrained(Blip2Config, folder, "BLIP-2")
        vocabulary = self.set_tokenizer(folder, ["[DEC]"], config.qformer_config.vocab_size)
        self.network = build(Blip2ForImageTextRetrieval, config, tensors, files[-1])
        self.network.vision_model.to(self.dtype)  # the rest is small and stays in float32
        self.network.to(self.device)
        self.files = [folder / "config.json", vocabulary, *files]
        self._side = config.vision_config.image_size

    def read(self, checkpoint: str) -> tuple[Path, dict[str, Tensor], list[Path]]:
        """Return the folder with config.json and tokenizer, the weights, and their files."""
        folder = self.locate(checkpoint)
        return folder, read_tensors(folder), weight_files(folder)

    @override
    def preprocess(self, image: Image.Image) -> Tensor:
        square = (self._side, self._side)
        return to_pixels(image.convert("RGB").resize(square, Image.Resampling.BICUBIC))

    @override
    def preprocess_tensor(self, pixels: Tensor) -> Tensor:
        return normalise(resize(pixels, (self._side, self._side)))

    def _encode_vision(self, batch: Tensor) -> Tensor:
        """Return the vision tower's states (B, P, width) of images."""
        states: Tensor = self.network.vision_model(pixel_values=batch).last_hidden_state
        return states.float()

    def _embed_queries(self, states: Tensor) -> Tensor:
        """Return the projected queries (B, Q, D) that attend to the states of images alone."""
        hidden = self.network.qformer(
            query_embeds=self.network.query_tokens.expand(len(states), -1, -1),
            encoder_hidden_states=states,
        ).last_hidden_state
        embeddings: Tensor = self.network.vision_projection(hidden)
        return embeddings

    def _embed_texts(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Return the projected first token (B, D) of tokenized texts."""
        hidden = self.network.qformer(
            query_embeds=self.network.embeddings(input_ids=ids),
            query_length=0,
            attention_mask=mask,
        ).last_hidden_state[:, 0]
        embeddings: Tensor = self.network.text_projection(hidden)
        return embeddings


class _Blip2Pairs(_Blip2, BertTextPairScorer[State], Generic[State]):
    """BLIP-2 with its matching head; keys and values of an image are computed once.

    Args:
        checkpoint: config.json, weights and tokenizer in the layout of transformers.
    """

    def __init__(self, checkpoint: str, **options: Unpack[Options]) -> None:
        super().__init__(checkpoint, **options)
        qformer = self.network.qformer
        ids = torch.ones(1, 2, dtype=torch.long, device=self.device)
        self._keys_and_values = FusedKeysAndValues(
            lambda: qformer_cross_attentions(qformer),
            lambda states: self._query_image(states, ids, ids),
            qformer.config.encoder_hidden_size,
            self.device,
        )

    def _match_logits(self, states: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
        """Return the logits (B, 2) of no match and of a match, the means over queries."""
        logits: Tensor = self.network.itm_head(self._query_image(states, ids, mask)).mean(dim=1)
        return logits

    def _query_image(self, states: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
        """Return the states (B, Q, width) of queries that attend to image and text."""
        return self.read_together(states, ids, mask)[:, : self.network.query_tokens.shape[1]]

    def read_together(self, states: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
        """Return the states (B, Q + L, width) of queries, which attend to the image, and tokens.

        Args:
            states: what `encode_images` returns for B images.
            ids: (B, L) token ids of their texts.
            mask: (B, L), 0 for padding.
        """
        queries = self.network.query_tokens.expand(len(ids), -1, -1)
        attended = torch.cat([mask.new_ones(queries.shape[:2]), mask], dim=1)
        hidden: Tensor = self.network.qformer(
            query_embeds=self.network.embeddings(input_ids=ids, query_embeds=queries),
            query_length=queries.shape[1],
            attention_mask=attended,
            encoder_hidden_states=states,
        ).last_hidden_state
        return hidden


class Blip2ITM(_Blip2Pairs[Tensor]):
    r"""Score the probability that image and text match, from 0 to 1.

    Li et al. 2023, section 3.2: the softmax over the mean match logits of the query tokens.

    Args:
        checkpoint: config.json, weights and tokenizer in the layout of transformers.

    Raises:
        CheckpointError: a file is missing or of another model.
        TemplateError: the template has an answer.

    >>> from tempfile import TemporaryDirectory
    >>> small = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 2}
    >>> small |= {"num_attention_heads": 2}
    >>> config = Blip2Config(
    ...     vision_config={**small, "image_size": 16, "patch_size": 8},
    ...     qformer_config={**small, "vocab_size": 7, "encoder_hidden_size": 8},
    ...     image_text_hidden_size=8, num_query_tokens=2)
    >>> config.qformer_config.use_qformer_text_input = True
    >>> with TemporaryDirectory() as folder:
    ...     Blip2ForImageTextRetrieval(config).save_pretrained(folder)  # random weights
    ...     tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "cat"]
    ...     _ = Path(folder, "vocab.txt").write_text("\n".join(tokens))
    ...     scorer = Blip2ITM(folder, device="cpu")
    >>> bool(0 < scorer([Image.new("RGB", (20, 20))], ["cat"]) < 1)
    True
    """

    @override
    def encode_images(self, batch: Tensor) -> Sequence[Tensor]:
        """Return the keys and values of all cross-attentions for each image."""
        states: Tensor = self._keys_and_values(self._encode_vision(batch))
        return states.unbind()

    @override
    def score(self, states: Sequence[Tensor], texts: Sequence[str]) -> Tensor:
        ids, mask = self.tokenize_filled(texts)
        return self._match_logits(torch.stack(list(states)), ids, mask).softmax(dim=-1)[:, 1]


class Blip2RetrievalScore(_Blip2Pairs[tuple[Tensor, Tensor]]):
    """Score the match logit plus the cosine, which published retrieval ranks by; without bounds.

    As `compute_sim_matrix` in lavis/models/blip2_models/blip2_qformer.py of LAVIS, whose evaluation
    of retrieval adds both for the 128 candidates with the highest cosine, and here for every pair:
    the logit of a match, its mean over queries, without a softmax, and the best cosine of a query
    with the text, without the temperature. BLIP's own evaluation adds the same two numbers.

    Args:
        checkpoint: config.json, weights and tokenizer in the layout of transformers.

    Raises:
        CheckpointError: a file is missing or of another model.
        TemplateError: the template has an answer.

    >>> import t2v_eval
    >>> scorer = t2v_eval.load("blip2-itm-itc", checkpoint="/models/blip2")  # doctest: +SKIP
    >>> scorer.rank(["cat.png", "dog.png"], "a cat")[0].name  # doctest: +SKIP
    'cat.png'
    """

    @override
    def encode_images(self, batch: Tensor) -> Sequence[tuple[Tensor, Tensor]]:
        """Return the keys and values, and the projected queries (Q, D), of each image."""
        states = self._keys_and_values(self._encode_vision(batch))
        return list(zip(states, self._embed_queries(states), strict=True))

    @override
    def score(self, states: Sequence[tuple[Tensor, Tensor]], texts: Sequence[str]) -> Tensor:
        unique = {text: n for n, text in enumerate(dict.fromkeys(texts))}
        of_pair = torch.tensor(
            [unique[text] for text in texts], device=self.device, dtype=torch.long
        )
        ids, mask = self.tokenize_filled([*unique])
        embeddings = unit(self._embed_texts(ids, mask))[of_pair]
        attended, queries = (torch.stack(part) for part in zip(*states, strict=True))
        cosines = (unit(queries) @ embeddings[..., None]).squeeze(-1).amax(dim=1)
        return self._match_logits(attended, ids[of_pair], mask[of_pair])[:, 1] + cosines


class Blip2ITC(_Blip2, EmbeddingScorer):
    """Score the best cosine of a query of the image with the text, from -1 to 1.

    Li et al. 2023, section 3.1, without the temperature.

    Args:
        checkpoint: config.json, weights and tokenizer in the layout of transformers.

    Raises:
        CheckpointError: a file is missing or of another model.

    >>> scorer = object.__new__(Blip2ITC)  # the formula needs no weights
    >>> queries = torch.tensor([[[0.0, 2.0], [0.6, 0.8]]])  # one image, two queries
    >>> scorer.similarity(queries, torch.tensor([[1.0, 0.0]]))
    tensor([[0.6000]])
    """

    @override
    def encode_images(self, batch: Tensor) -> Tensor:
        """Return the projected queries (B, Q, D)."""
        return self._embed_queries(self._encode_vision(batch))

    @override
    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Return the projected first token (B, D)."""
        return self._embed_texts(*self.tokenize(texts))

    @override
    def similarity(self, images: Tensor, texts: Tensor) -> Tensor:
        return (unit(images) @ unit(texts).T).amax(dim=1)
