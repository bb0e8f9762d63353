"""What scorers with a T5 share: encoding prompts, answer probabilities and generation.

An answer is one or two tokens, for which cross-attention would compute keys and values of all
encoder states. `AbsorbedCrossAttention` does not, so its cost grows with the answer instead.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple, Unpack

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, pad
from typing_extensions import override

from t2v_eval.inputs.media import Media
from t2v_eval.local.base import Options
from t2v_eval.local.pair_scorer import PairScorer
from t2v_eval.scoring.generation import Explanation, token_probabilities

from ..common.transformers_internals import absorb_cross_attention, attention_of, encoder_output
from ..common.versions import tolerance_for, use_where_equal

IGNORE_INDEX = -100  # the label of padding in answers
CPU_BATCH = 8  # prompts that are encoded together on a CPU
LOGIT_ROWS = 1024  # answer tokens whose logits over the vocabulary are in memory at a time


class EncodedPrompts(NamedTuple):
    """Encoder states (B, L, width) of B prompts, their mask (B, L), and which were truncated.

    >>> EncodedPrompts(torch.zeros(1, 3, 8), torch.ones(1, 3, dtype=torch.bool), [False]).truncated
    [False]
    """

    states: Tensor
    mask: Tensor
    truncated: Sequence[bool]


class T5Scorer(PairScorer[Tensor]):
    """Score the probability of the template's answer to the template's question, from 0 to 1.

    The probability is the geometric mean over the answer's tokens and the end token. Subclasses
    implement `preprocess`, `encode_vision`, `encode_prompts`, `tokenize_answer` and
    `render_prompt`, and call `set_t5`.

    Args:
        share: False encodes the image again for every text and runs every pair by itself, which
            gives the same scores more slowly.
        **options: options of `LocalScorer`.

    >>> import t2v_eval
    >>> from PIL import Image
    >>> white, texts = Image.new("RGB", (48, 48), "white"), ["a red circle", "a blue square"]
    >>> shared, single = (t2v_eval.load("tiny-clip-flant5", share=share)([white], texts)
    ...                   for share in (True, False))
    >>> bool((shared - single).abs().max() < 1e-4)
    True
    """

    t5: Any
    tokenizer: Any

    def __init__(self, share: bool = True, **options: Unpack[Options]) -> None:
        super().__init__(**options)
        self._share = share

    @property
    @override
    def execution(self) -> dict[str, str]:
        return {**super().execution, "attention": attention_of(self.t5)}

    def set_t5(self, t5: Any, tokenizer: Any) -> None:
        """Set the network and its tokenizer, and choose the fastest way to share work."""
        self.t5, self.tokenizer = t5, tokenizer
        # Logits are always computed in float32: bfloat16 is too coarse for a probability.
        self._head = t5.lm_head.weight.float()
        if not self._share:
            self.sharing_mode = "one by one"
            return
        self.sharing_mode = "images encoded once"
        if use_where_equal(
            "transformers",
            "cross-attention of T5 without keys and values",
            lambda on: absorb_cross_attention(t5, on),
            lambda: _probe_answer(t5),
            tolerance_for(self.dtype),
        ):
            self.sharing_mode += ", absorbed cross-attention"

    @abstractmethod
    def encode_vision(self, batch: Tensor) -> Tensor:
        """Return image features (B, ...) of model inputs (B, ...)."""

    @abstractmethod
    def encode_prompts(self, states: Sequence[Tensor], questions: Sequence[str]) -> EncodedPrompts:
        """Encode prompts: image features `states` and, aligned, filled questions."""

    @abstractmethod
    def tokenize_answer(self, answer: str) -> tuple[list[int], bool]:
        """Return the token ids of a filled answer, and whether it was truncated."""

    @abstractmethod
    def render_prompt(self, states: Tensor, question: str) -> str:
        """Return the whole prompt of a filled question and image features as text."""

    def run_encoder(self, embedded: Tensor, mask: Tensor) -> Tensor:
        """Return the encoder states (B, L, width) of embedded prompts with a mask (B, L).

        On a CPU, masks cost a third more and large batches exceed the cache, so prompts of one
        length are encoded together, in small batches.
        """
        if self.device.type != "cpu":
            return self._encode(embedded, mask)
        states = torch.zeros_like(embedded)
        ends = (mask * torch.arange(1, mask.shape[1] + 1)).amax(1)
        for end in sorted(set(ends.tolist())):
            for rows in (ends == end).nonzero()[:, 0].split(CPU_BATCH):
                states[rows, :end] = self._encode(embedded[rows, :end], mask[rows, :end])
        return states

    def _encode(self, embedded: Tensor, mask: Tensor) -> Tensor:
        output = self.t5.encoder(inputs_embeds=embedded, attention_mask=mask)
        states: Tensor = output.last_hidden_state
        return states

    @override
    def encode_images(self, batch: Tensor) -> Sequence[Tensor]:
        return (self.encode_vision(batch) if self._share else batch).unbind()

    @override
    def score(self, states: Sequence[Tensor], texts: Sequence[str]) -> Tensor:
        if self._share:
            return self._score(states, texts)
        pairs = zip(states, texts, strict=True)
        return torch.cat(
            [self._score([self.encode_vision(image[None])[0]], [text]) for image, text in pairs]
        )

    def _score(self, states: Sequence[Tensor], texts: Sequence[str]) -> Tensor:
        questions, answers = zip(*map(self.template.fill, texts), strict=True)
        encoded = self.encode_prompts(states, questions)
        tokenized = [self.tokenize_answer(answer) for answer in answers]
        self.note_truncated(
            text
            for text, prompt_cut, (_, answer_cut) in zip(
                texts, encoded.truncated, tokenized, strict=True
            )
            if prompt_cut or answer_cut
        )
        hidden, labels = answer_states(self.t5, encoded, [tokens for tokens, _ in tokenized])
        real = labels != IGNORE_INDEX
        log_p = torch.zeros(labels.shape, device=labels.device, dtype=torch.float32)
        log_p[real] = _log_likelihood(self._head, hidden[real], labels[real])
        return (log_p.sum(1) / real.sum(1)).exp()

    @override
    def explain_image(self, image: Media, texts: Sequence[str], top: int) -> list[Explanation]:
        states = self.encode_vision(self.stack([self.prepare(image)]))[0]
        return [self._explain(states, text, top) for text in texts]

    def _explain(self, states: Tensor, text: str, top: int) -> Explanation:
        question, answer = self.template.fill(text)
        tokens, _ = self.tokenize_answer(answer)
        hidden, _ = answer_states(self.t5, self.encode_prompts([states], [question]), [tokens])
        log_p = (hidden[0].float() @ self._head.T).log_softmax(-1)
        targets = torch.tensor(tokens, dtype=torch.long, device=log_p.device)
        score = log_p.gather(1, targets[:, None]).mean().exp()
        probabilities = token_probabilities(self.tokenizer, log_p, tokens, top)
        return Explanation(float(score), self.render_prompt(states, question), probabilities)

    @override
    def generate_texts(
        self, images: Sequence[Media], prompts: Sequence[str], max_new_tokens: int
    ) -> list[str]:
        pairs = list(zip(images, prompts, strict=True))
        return self._generate_in_batches(
            self.batch, pairs, lambda part: self._generate(part, max_new_tokens)
        )

    def _generate(self, pairs: Sequence[tuple[Media, str]], max_new_tokens: int) -> list[str]:
        unique = {image.key: image for image, _ in pairs}
        prepared = [self.prepare(image) for image in unique.values()]
        states = dict(zip(unique, self.encode_vision(self.stack(prepared)), strict=True))
        prompts = [prompt for _, prompt in pairs]
        encoded = self.encode_prompts([states[image.key] for image, _ in pairs], prompts)
        self.note_truncated(
            p for p, truncated in zip(prompts, encoded.truncated, strict=True) if truncated
        )
        tokens = self.t5.generate(
            encoder_outputs=encoder_output(encoded.states),
            attention_mask=encoded.mask,
            max_new_tokens=max_new_tokens,
            do_sample=False,
        )
        return list(self.tokenizer.batch_decode(tokens, skip_special_tokens=True))


def answer_states(
    t5: Any, encoded: EncodedPrompts, answers: Sequence[Sequence[int]]
) -> tuple[Tensor, Tensor]:
    """Run the decoder on answers.

    Args:
        t5: the network.
        encoded: B encoded prompts.
        answers: token ids of their B answers, the end token included.

    Returns:
        The decoder states (B, T, width) that predict the tokens, and these as labels (B, T),
        `IGNORE_INDEX` where an answer is shorter.

    >>> from transformers import T5Config, T5ForConditionalGeneration
    >>> t5 = T5ForConditionalGeneration(T5Config(vocab_size=8, d_model=8, d_kv=4, d_ff=8,
    ...     num_layers=1, num_heads=2, decoder_start_token_id=0))
    >>> mask = torch.ones(2, 3, dtype=torch.bool)
    >>> encoded = EncodedPrompts(torch.zeros(2, 3, 8), mask, [False, False])
    >>> hidden, labels = answer_states(t5, encoded, [[4, 1], [4, 5, 1]])
    >>> hidden.shape, labels.tolist()
    (torch.Size([2, 3, 8]), [[4, 1, -100], [4, 5, 1]])
    """
    labels = pad_rows(answers, IGNORE_INDEX, encoded.states.device)
    decoder_ids = pad(labels, (1, -1), value=t5.config.decoder_start_token_id)
    hidden: Tensor = t5.decoder(
        input_ids=decoder_ids.clamp(min=0),
        encoder_hidden_states=encoded.states,
        encoder_attention_mask=encoded.mask,
        use_cache=False,
    ).last_hidden_state
    if t5.config.scale_decoder_outputs:
        hidden = hidden * t5.config.d_model**-0.5
    return hidden, labels


def _probe_answer(t5: Any) -> Tensor:
    """Return the decoder states of a short answer to random encoder states."""
    device, dtype = t5.lm_head.weight.device, t5.lm_head.weight.dtype
    states = torch.randn(
        1, 64, t5.config.d_model, generator=torch.Generator().manual_seed(0), dtype=torch.float32
    )
    mask = torch.ones(1, 64, dtype=torch.bool, device=device)
    mask[:, 48:] = False
    return answer_states(t5, EncodedPrompts(states.to(device, dtype), mask, [False]), [[2, 1]])[0]


def pad_rows(rows: Sequence[Sequence[int]], value: int, device: torch.device) -> Tensor:
    """Stack rows of token ids to one tensor (B, L), padded with `value`.

    >>> pad_rows([[3], [4, 5]], 0, torch.device("cpu")).tolist()
    [[3, 0], [4, 5]]
    """
    tensors = [torch.tensor(row, dtype=torch.long) for row in rows]
    return nn.utils.rnn.pad_sequence(tensors, True, value).to(device)


def _log_likelihood(head: Tensor, hidden: Tensor, labels: Tensor) -> Tensor:
    """Return the log-likelihood (R,) of labels (R,) from decoder states (R, width)."""
    parts = [slice(start, start + LOGIT_ROWS) for start in range(0, len(labels), LOGIT_ROWS)]
    losses = [
        cross_entropy(hidden[part].float() @ head.T, labels[part], reduction="none")
        for part in parts
    ]
    return -torch.cat(losses)
