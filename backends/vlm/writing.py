"""Texts that a vision-language model writes about images, several images or videos."""

from __future__ import annotations

import zlib
from bisect import bisect_left
from collections.abc import Callable, Hashable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from typing_extensions import override

from t2v_eval.errors import InputError, MediaError, ScoringError
from t2v_eval.inputs.media import ImageGroup, Media
from t2v_eval.local.batching import BatchSize, Failure
from t2v_eval.scoring.generation import IMAGE_PLACE, Digit, Writing, Written

from ..common.transformers_internals import parameter_names
from .reading.head import LanguageModelHead
from .reading.inputs import TOKEN_POOLING, PromptTokens, Row, append_tokens
from .reading.reader import EncodedMedia, HiddenStateReader, MediaPrompts, Prefill, PromptTargets
from .reading.video import MediaInputs
from .transformers_vision import MM_ENCODER_OUTPUTS
from .video_frames import PromptFrames


class Question(NamedTuple):
    """A prompt about an image: the image with the text before it, and the tokens behind it.

    >>> row = {"input_ids": torch.tensor([[5, 6]])}
    >>> Question(EncodedMedia(MediaInputs(row)), [7]).row["input_ids"].tolist()
    [[5, 6, 7]]
    """

    media: EncodedMedia
    prompt: list[int]

    @property
    def row(self) -> Row:
        """All inputs of the model, but the features of the image."""
        return append_tokens(self.media.row, self.prompt)


class WritingScorer(PromptFrames):
    """A scorer whose model writes; a base class of `HfVlm`, which sets what it reads with.

    >>> WritingScorer.load is PromptFrames.load
    True
    """

    network: Any
    reader: HiddenStateReader
    _head: LanguageModelHead
    _to_device: Callable[[MediaInputs], MediaInputs]
    preprocess: Callable[..., MediaInputs]
    encode_images: Callable[[Sequence[MediaInputs]], Sequence[EncodedMedia]]
    _room: Callable[[MediaInputs, PromptTokens, int], int]

    @override
    def generate_texts(
        self, images: Sequence[Media], prompts: Sequence[str], max_new_tokens: int
    ) -> list[str]:
        return [text for text, _ in self.write_about(images, prompts, max_new_tokens)]

    def write_about(
        self, images: Sequence[Media], prompts: Sequence[str], max_new_tokens: int
    ) -> list[tuple[str, bool]]:
        """Return the reply to a prompt about each image, and whether it is whole."""
        pairs, writing = list(zip(images, prompts, strict=True)), Writing(max_new_tokens)
        return self._generate_in_batches(
            self._text_batch(writing),
            pairs,
            lambda part: [(w.text, not w.truncated) for (w,) in self._write(part, writing)],
        )

    def write_passes(
        self, images: Sequence[Media], prompts: Sequence[str], writing: Writing
    ) -> Iterator[tuple[Sequence[int], Sequence[Sequence[Written]] | str]]:
        """Yield the numbers of some prompts with their texts, or with why there are none.

        Args:
            images: B images, videos or groups of images.
            prompts: a prompt about each.
            writing: how texts are written. Those that are sampled depend on the image and the
                prompt alone, and not on the others.

        Raises:
            ScoringError, MediaError: a text failed, with `on_error="raise"`.
        """
        pairs = list(zip(images, prompts, strict=True))
        parts = self._text_batch(writing).run_adaptive(
            pairs, lambda part: self._write(part, writing, whole=True), self._cache.clear
        )
        for part, texts in parts:
            numbers = range(len(pairs))[part]
            if isinstance(texts, Failure):
                yield numbers, self._failure_reason(pairs[part.start][0].name, texts)
            else:
                yield numbers, texts

    def _text_batch(self, writing: Writing) -> BatchSize:
        """Return the size of batches; sampled texts are written one by one."""
        together = self.reader.batches_images and not writing.temperature
        return self.image_batch if together else BatchSize(1)

    def _write(
        self, pairs: Sequence[tuple[Media, str]], writing: Writing, whole: bool = False
    ) -> list[list[Written]]:
        """Write about images; batches have rows of equal shapes alone, as rows are not padded.

        A prompt that is too long is cut, or an error with `whole`.
        """
        questions = self._questions(pairs, writing.max_new_tokens, whole)
        rows = [question.row for question in questions]
        groups: dict[Hashable, list[int]] = {}
        for n, row in enumerate(rows):
            shapes = ((name, value.shape[1:]) for name, value in row.items())
            pooled = TOKEN_POOLING & row.keys() or writing.temperature
            group = n if pooled else -1, questions[n].media.batch_key, *shapes
            groups.setdefault(group, []).append(n)
        texts: dict[int, list[Written]] = {}
        for numbers in groups.values():
            inputs = self.reader.batch_inputs(
                [rows[n] for n in numbers], [questions[n].media for n in numbers]
            )
            image, prompt = pairs[numbers[0]]
            new_tokens = self._new_tokens(inputs, writing, f"{image.key} {prompt}")
            for place, n in enumerate(numbers):
                listed = new_tokens[place * writing.passes : (place + 1) * writing.passes]
                texts[n] = [self._decode(questions[n], tokens, writing) for tokens in listed]
        return [texts[n] for n in range(len(pairs))]

    def _questions(
        self, pairs: Sequence[tuple[Media, str]], max_new_tokens: int, whole: bool = False
    ) -> list[Question]:
        """Prepare the inputs of each prompt; an image with several prompts is encoded once."""
        parts = [prompt.split(IMAGE_PLACE) for _, prompt in pairs]
        media = self._encode_media(
            [(m, tuple(p[:-1])) for (m, _), p in zip(pairs, parts, strict=True)]
        )
        questions = []
        for (image, _), encoded, (*_, last) in zip(pairs, media, parts, strict=True):
            lead = encoded.inputs.lead

            def encode(text: str, lead: str = lead) -> PromptTokens:
                return self.prompt_builder.tokenize(lead + text, "")

            try:
                room = self._room(encoded.inputs, encode(""), max_new_tokens)
            except MediaError as error:
                raise MediaError(f"{image.name}: {error}") from None
            tokens = encode(last) if whole else self._truncate(last, room, encode)
            if len(tokens.prompt) > room:
                raise ScoringError(
                    f"the prompt has {len(tokens.prompt)} tokens, and the model reads {room} after "
                    "the image, with the reply; use a shorter prompt, smaller images or a smaller "
                    "`max_new_tokens=`"
                )
            questions.append(Question(encoded, tokens.prompt))
        return questions

    def _encode_media(
        self, questions: Sequence[tuple[Media, tuple[str, ...]]]
    ) -> list[EncodedMedia]:
        """Prepare images with the texts before them; equal ones are prepared once.

        Features come from the cache where `generate` accepts them instead of pixels.
        """
        keys = [self.state_key(m) + (repr(leads) if any(leads) else "") for m, leads in questions]
        unique = dict(zip(keys, questions, strict=True))
        if not self._writes_from_features:
            prepared = {key: EncodedMedia(self._with_leads(*pair)) for key, pair in unique.items()}
            return [prepared[key] for key in keys]
        states: dict[str, Any] = {key: self._cache.get(key) for key in unique}
        missing = [key for key, state in states.items() if state is None]
        inputs = [self._with_leads(*unique[key]) for key in missing]
        encoded = self.encode_images(inputs) if inputs else ()
        for key, state in zip(missing, encoded, strict=True):
            states[key] = state
            self._cache.put(key, state)
        return [states[key] for key in keys]

    @property
    def _writes_from_features(self) -> bool:
        forward = getattr(type(self.network), "forward", None)  # remote code has none
        if self.reader.vision is None or forward is None:
            return False
        return MM_ENCODER_OUTPUTS in parameter_names(forward)

    def _with_leads(self, media: Media, leads: Sequence[str]) -> MediaInputs:
        """Return the inputs of an image, or of a group, with the text before each image."""
        count = len(media.images) if isinstance(media, ImageGroup) else 1
        if len(leads) not in (0, count):
            raise InputError(f"a prompt has places for {len(leads)} of {count} images")
        return self._to_device(self.prepare(media, partial(self.preprocess, leads=leads)))

    def _new_tokens(self, inputs: Row, writing: Writing, seed: str = "") -> list[list[int]]:
        """Return the tokens that the model writes after each row, `passes` lists for each."""
        padding = self._head.padding_ids
        options: dict[str, Any] = {"suppress_tokens": padding} if padding else {}
        if writing.temperature:
            options |= {"temperature": writing.temperature}
            options |= {"top_p": writing.top_p, "top_k": writing.top_k}
            options["num_return_sequences"] = writing.passes
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices, enabled=writing.temperature > 0):
            if writing.temperature:
                torch.manual_seed(zlib.crc32(seed.encode()))
            tokens: Tensor = self.network.generate(
                **inputs,
                max_new_tokens=writing.max_new_tokens,
                do_sample=writing.temperature > 0,
                **options,
            )
        return tokens[:, inputs["input_ids"].shape[1] :].tolist()

    def _end_tokens(self) -> set[int]:
        ends = self.network.generation_config.eos_token_id
        return {*ends} if isinstance(ends, list) else {ends}

    def _decode(self, question: Question, tokens: list[int], writing: Writing) -> Written:
        end = next(
            (n for n, token in enumerate(tokens) if token in self._end_tokens()), len(tokens)
        )
        text = self.prompt_builder.decode(tokens)
        digits = self._digits(question, tokens[:end], writing.grades) if writing.grades else None
        return Written(text, end >= writing.max_new_tokens, digits)

    def _digits(self, question: Question, tokens: list[int], count: int) -> list[Digit]:
        """Return the tokens that are a digit, with the likeliest tokens in their place."""
        tokenizer = self.prompt_builder.tokenizer
        words = [tokenizer.decode([token], skip_special_tokens=True) for token in tokens]
        places = [n for n, w in enumerate(words) if len(w.strip()) == 1 and w.strip().isdigit()]
        if not places:
            return []
        media = MediaPrompts(question.media, {"": PromptTokens(question.prompt, [])})
        targets = PromptTargets(0, question.prompt, tokens[: places[-1] + 1])
        states = self.reader.hidden_states(Prefill([media], []), [targets], 0)[0]
        probabilities = self._head.log_probabilities(states[places]).exp()
        whole = tokenizer.decode(tokens, skip_special_tokens=True)
        lead = len(whole) - len(whole.lstrip())
        digits = []
        for place, row in zip(places, probabilities, strict=True):
            best = row.topk(min(count, len(row)))
            likely: dict[str, float] = {}
            for token, p in zip(best.indices.tolist(), best.values.tolist(), strict=True):
                word = tokenizer.decode([token]).strip()
                likely[word] = likely.get(word, 0.0) + p
            before = tokenizer.decode([*tokens[: place + 1]], skip_special_tokens=True)
            digits.append(Digit(len(before) - 1 - lead, words[place].strip(), likely))
        return digits

    def write_text(self, prompt: str, max_new_tokens: int) -> tuple[str, bool]:
        """Write a reply to a prompt without an image; return it, and whether it is whole.

        Raises:
            UnsupportedError: the model is always asked about an image.
            InputError: the prompt is too long, or holds a control token.
        """
        with self.exclusive_call(1), torch.inference_mode():
            row = self._to_device(MediaInputs(self.prompt_builder.text_inputs(prompt))).row
            length, context = row["input_ids"].shape[1], self.prompt_builder.context
            if length + max_new_tokens > context:
                raise InputError(
                    f"the prompt has {length} tokens, and the model reads {context} with the reply"
                )
            (tokens,) = self._new_tokens(row, Writing(max_new_tokens))
        whole = len(tokens) < max_new_tokens or tokens[-1] in self._end_tokens()
        return self.prompt_builder.decode(tokens), whole

    def _truncate(
        self, text: str, room: int, encode: Callable[[str], PromptTokens]
    ) -> PromptTokens:
        """Return the tokens of a text, whose end is cut until prompt and answer fit."""

        def too_long(length: int) -> bool:
            return sum(map(len, encode(text[:length]))) > room

        if not too_long(len(text)):
            return encode(text)
        if too_long(0):
            raise InputError(
                f"{self.name!r}: question and answer leave no room for a text: the model reads "
                f"{room} tokens after the image; shorten the templates"
            )
        self.note_truncated([text])
        return encode(text[: bisect_left(range(len(text)), True, key=too_long) - 1])
