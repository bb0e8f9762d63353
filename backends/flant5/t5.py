"""What scorers with a T5 share: how it answers, how likely it finds an answer, and how it is asked.

An answer is one or two tokens, but cross-attention would make keys and values of all states of the
encoder for them. `AbsorbedCrossAttention` does not, so that its work grows with the answer instead.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple, Unpack

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, pad

from t2v_eval.inputs.media import Media
from t2v_eval.local.base import Options
from t2v_eval.local.pair_scorer import PairScorer
from t2v_eval.scoring.generation import Explanation, token_probabilities

from ..common.transformers_internals import absorb_cross_attention, attention_of, encoder_output
from ..common.versions import tolerance_for, use_where_equal

IGNORED = -100  # the label where an answer is padded
FEW = 8  # prompts that a CPU encodes together
ROWS = 1024  # answer tokens whose logits over the vocabulary are in memory at a time


class Read(NamedTuple):
    """What T5's encoder made of B prompts: states (B, L, width), where there are any (B, L), and
    which prompts were cut.
    """

    states: Tensor
    mask: Tensor
    cut: Sequence[bool]


class T5Scorer(PairScorer[Tensor]):
    """Scores by the probability of the template's answer to the template's question.

    Subclasses write `preprocess`, `see`, `read` and `say`, and call `set_t5`.

    Args:
        share: False looks at the image anew for every text and runs every pair by itself, which
            gives the same scores more slowly.
    """

    t5: Any
    tokenizer: Any

    def __init__(self, share: bool = True, **options: Unpack[Options]) -> None:
        super().__init__(**options)
        self._share = share

    @property
    def execution(self) -> dict[str, str]:
        return {**super().execution, "attention": attention_of(self.t5)}

    def set_t5(self, t5: Any, tokenizer: Any) -> None:
        self.t5, self.tokenizer = t5, tokenizer
        # The last product is always in float32: bfloat16 has too few digits for a probability.
        self._head = t5.lm_head.weight.float()
        if not self._share:
            self.sharing_mode = "one by one"
            return
        self.sharing_mode = "images encoded once"
        if use_where_equal(
            "transformers",
            "cross-attention of T5 without keys and values",
            lambda on: absorb_cross_attention(t5, on),
            lambda: _answer_anything(t5),
            tolerance_for(self.dtype),
        ):
            self.sharing_mode += ", absorbed cross-attention"

    @abstractmethod
    def see(self, batch: Tensor) -> Tensor:
        """Model inputs (B, ...) -> what is kept of each image (B, ...)."""

    @abstractmethod
    def read(self, states: Sequence[Tensor], questions: Sequence[str]) -> Read:
        """What T5's encoder makes of images and, aligned, filled questions."""

    @abstractmethod
    def say(self, answer: str) -> tuple[list[int], bool]:
        """The tokens of a filled answer, and whether it was cut."""

    @abstractmethod
    def prompt(self, states: Tensor, question: str) -> str:
        """What a filled question, with an image that was seen, is to the model."""

    def encode(self, embedded: Tensor, mask: Tensor) -> Tensor:
        """The encoder's states (B, L, width) of embedded prompts, which are where `mask` says.

        On a CPU a mask costs a third more, and large batches leave the cache, so that prompts of
        one length are encoded together, and few at a time.
        """
        if self.device.type != "cpu":
            return self._encode(embedded, mask)
        states = torch.zeros_like(embedded)
        ends = (mask * torch.arange(1, mask.shape[1] + 1)).amax(1)
        for end in sorted(set(ends.tolist())):
            for rows in (ends == end).nonzero()[:, 0].split(FEW):
                states[rows, :end] = self._encode(embedded[rows, :end], mask[rows, :end])
        return states

    def _encode(self, embedded: Tensor, mask: Tensor) -> Tensor:
        made = self.t5.encoder(inputs_embeds=embedded, attention_mask=mask)
        states: Tensor = made.last_hidden_state
        return states

    def encode_images(self, batch: Tensor) -> Sequence[Tensor]:
        return (self.see(batch) if self._share else batch).unbind()

    def score(self, states: Sequence[Tensor], texts: Sequence[str]) -> Tensor:
        if self._share:
            return self._score(states, texts)
        pairs = zip(states, texts, strict=True)
        return torch.cat([self._score([self.see(one[None])[0]], [text]) for one, text in pairs])

    def _score(self, states: Sequence[Tensor], texts: Sequence[str]) -> Tensor:
        questions, answers = zip(*map(self.template.fill, texts), strict=True)
        read, said = self.read(states, questions), [self.say(answer) for answer in answers]
        self.note_truncated(
            text
            for text, asked, (_, short) in zip(texts, read.cut, said, strict=True)
            if asked or short
        )
        hidden, labels = answer_states(self.t5, read, [tokens for tokens, _ in said])
        real = labels != IGNORED
        log_p = torch.zeros(labels.shape, device=labels.device, dtype=torch.float32)
        log_p[real] = _log_likelihood(self._head, hidden[real], labels[real])
        return (log_p.sum(1) / real.sum(1)).exp()

    def explain_image(self, image: Media, texts: Sequence[str], top: int) -> list[Explanation]:
        states = self.see(self.stack([self.prepared(image)]))[0]
        return [self._explain(states, text, top) for text in texts]

    def _explain(self, states: Tensor, text: str, top: int) -> Explanation:
        question, answer = self.template.fill(text)
        tokens, _ = self.say(answer)
        hidden, _ = answer_states(self.t5, self.read([states], [question]), [tokens])
        log_p = (hidden[0].float() @ self._head.T).log_softmax(-1)
        targets = torch.tensor(tokens, dtype=torch.long, device=log_p.device)
        score = log_p.gather(1, targets[:, None]).mean().exp()
        made = token_probabilities(self.tokenizer, log_p, tokens, top)
        return Explanation(float(score), self.prompt(states, question), made)

    def generate_texts(
        self, images: Sequence[Media], prompts: Sequence[str], max_new_tokens: int
    ) -> list[str]:
        pairs = list(zip(images, prompts, strict=True))
        return self._generate_in_batches(
            self.batch, pairs, lambda part: self._generate(part, max_new_tokens)
        )

    def _generate(self, pairs: Sequence[tuple[Media, str]], max_new_tokens: int) -> list[str]:
        unique = {image.key: image for image, _ in pairs}
        made = [self.prepared(image) for image in unique.values()]
        states = dict(zip(unique, self.see(self.stack(made)), strict=True))
        prompts = [prompt for _, prompt in pairs]
        read = self.read([states[image.key] for image, _ in pairs], prompts)
        self.note_truncated(p for p, cut in zip(prompts, read.cut, strict=True) if cut)
        tokens = self.t5.generate(
            encoder_outputs=encoder_output(read.states),
            attention_mask=read.mask,
            max_new_tokens=max_new_tokens,
            do_sample=False,
        )
        return list(self.tokenizer.batch_decode(tokens, skip_special_tokens=True))


def answer_states(t5: Any, read: Read, answers: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """What goes into lm_head (B, T, width) to predict the tokens of answers, and these tokens."""
    labels = pad_rows(answers, IGNORED, read.states.device)
    given = pad(labels, (1, -1), value=t5.config.decoder_start_token_id)
    hidden: Tensor = t5.decoder(
        input_ids=given.clamp(min=0),
        encoder_hidden_states=read.states,
        encoder_attention_mask=read.mask,
        use_cache=False,
    ).last_hidden_state
    if t5.config.scale_decoder_outputs:
        hidden = hidden * t5.config.d_model**-0.5
    return hidden, labels


def _answer_anything(t5: Any) -> Tensor:
    """What a T5 makes of a short answer to random states."""
    device, dtype = t5.lm_head.weight.device, t5.lm_head.weight.dtype
    drawn = torch.randn(
        1, 64, t5.config.d_model, generator=torch.Generator().manual_seed(0), dtype=torch.float32
    )
    mask = torch.ones(1, 64, dtype=torch.bool, device=device)
    mask[:, 48:] = False
    return answer_states(t5, Read(drawn.to(device, dtype), mask, [False]), [[2, 1]])[0]


def pad_rows(rows: Sequence[Sequence[int]], value: int, device: torch.device) -> Tensor:
    """Rows of tokens -> one tensor, `value` where they are shorter than the longest."""
    tensors = [torch.tensor(row, dtype=torch.long) for row in rows]
    return nn.utils.rnn.pad_sequence(tensors, True, value).to(device)


def _log_likelihood(head: Tensor, hidden: Tensor, labels: Tensor) -> Tensor:
    """log p of each label (R,) from the decoder's states (R, width)."""
    parts = [slice(start, start + ROWS) for start in range(0, len(labels), ROWS)]
    losses = [
        cross_entropy(hidden[part].float() @ head.T, labels[part], reduction="none")
        for part in parts
    ]
    return -torch.cat(losses)
