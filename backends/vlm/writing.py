"""Texts that a vision-language model writes about images, several images or videos."""

from __future__ import annotations

import zlib
from bisect import bisect_left
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from typing_extensions import override

from t2v_eval.errors import InputError, MediaError, ScoringError
from t2v_eval.inputs.media import ImageGroup, Media
from t2v_eval.local.batching import Failure
from t2v_eval.scoring.generation import IMAGE_PLACE, Digit, Writing, Written
from t2v_eval.utils.torch_internals import out_of_memory

from ..common.transformers_internals import cache_argument, parameter_names
from ..common.versions import tolerance_for
from .prompting.builders import GREY_IMAGE
from .reading.head import LanguageModelHead
from .reading.inputs import (
    TEXT_INPUTS,
    TOKEN_POOLING,
    PromptTokens,
    Row,
    append_tokens,
    batch_rows,
)
from .reading.prefix import common_prefix
from .reading.reader import EncodedMedia, HiddenStateReader, MediaPrompts, Prefill, PromptTargets
from .reading.video import MediaInputs
from .transformers_vision import MM_ENCODER_OUTPUTS
from .video_frames import PromptFrames


class Question(NamedTuple):
    """A prompt about an image: the image with the text before it, and the tokens behind it.

    `media_index` counts the different images of the questions that are answered together.

    >>> row = {"input_ids": torch.tensor([[5, 6]])}
    >>> Question(EncodedMedia(MediaInputs(row)), [7]).row["input_ids"].tolist()
    [[5, 6, 7]]
    """

    media: EncodedMedia
    prompt: list[int]
    media_index: int = 0

    @property
    def row(self) -> Row:
        """All inputs of the model, but the features of the image."""
        return append_tokens(self.media.row, self.prompt)

    def batch_key(self, prefill: Prefill) -> Hashable:
        """Return what questions must share to be one batch, which has no padding."""
        row = self.row
        if prefill.prefixes:
            prefix, number = prefill.prefix_of(self.media_index)
            return id(prefix), prefix.lengths[number], row["input_ids"].shape[1]
        shapes = ((name, value.shape[1:]) for name, value in row.items())
        alone = id(self) if TOKEN_POOLING & row.keys() else 0
        return alone, self.media.batch_key, *shapes


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
        replies: dict[int, tuple[str, bool]] = {}
        for numbers, texts in self._in_batches(pairs, lambda part: self._write(part, writing)):
            if isinstance(texts, Failure):
                raise self._failure_error(pairs[numbers[0]][0].name, texts) from texts.error
            replies |= {
                n: (t.text, not t.truncated) for n, (t,) in zip(numbers, texts, strict=True)
            }
        return [replies[n] for n in range(len(pairs))]

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
        batches = self._in_batches(pairs, lambda part: self._write(part, writing, whole=True))
        for numbers, texts in batches:
            if isinstance(texts, Failure):
                yield numbers, self._failure_reason(pairs[numbers[0]][0].name, texts)
            else:
                yield numbers, texts

    def _in_batches(
        self,
        pairs: Sequence[tuple[Media, str]],
        write: Callable[[Sequence[tuple[Media, str]]], list[list[Written]]],
    ) -> Iterator[tuple[list[int], list[list[Written]] | Failure]]:
        """Yield the numbers of some pairs with their texts, or of one pair with its failure.

        The prompts about an image are in one batch, as far as the batch size allows. Between
        batches, other threads may use the network, which keeps positions of what it read last.
        """

        def write_locked(part: Sequence[tuple[Media, str]]) -> list[list[Written]]:
            with self._lock:
                return write(part)

        def clear_locked() -> bool:
            with self._lock:
                return self._cache.clear()

        by_image: dict[str, list[int]] = {}
        for n, (image, _) in enumerate(pairs):
            by_image.setdefault(image.key, []).append(n)
        order = [n for numbers in by_image.values() for n in numbers]
        images = self.image_batch.value if self.reader.batches_images else 1
        start = 0
        while start < len(order):
            size = self.batch.value if self.reader.batches_rows else 1
            keys = [pairs[n][0].key for n in order[start : start + size]]
            first = list(dict.fromkeys(keys))[:images]
            window = order[start : start + sum(key in first for key in keys)]
            listed = [pairs[n] for n in window]
            for part, texts in self.batch.run_adaptive(listed, write_locked, clear_locked):
                yield window[part], texts
            start += len(window)

    def _write(
        self, pairs: Sequence[tuple[Media, str]], writing: Writing, whole: bool = False
    ) -> list[list[Written]]:
        """Write about images; batches have rows of equal shapes alone, as rows are not padded.

        A prompt that is too long is cut, or an error with `whole`.
        """
        questions = self._questions(pairs, writing.max_new_tokens, whole)
        prefill = self._prefill(questions, writing)
        groups: dict[Hashable, list[int]] = {}
        for n, question in enumerate(questions):
            alone = n if writing.temperature else -1
            groups.setdefault((alone, question.batch_key(prefill)), []).append(n)
        texts: dict[int, list[Written]] = {}
        for numbers in groups.values():
            inputs = self._inputs([questions[n] for n in numbers], prefill, writing.passes)
            image, prompt = pairs[numbers[0]]
            new_tokens = self._new_tokens(inputs, writing, f"{image.key} {prompt}")
            for place, n in enumerate(numbers):
                listed = new_tokens[place * writing.passes : (place + 1) * writing.passes]
                texts[n] = [
                    self._decode(questions[n], prefill, tokens, writing) for tokens in listed
                ]
        return [texts[n] for n in range(len(pairs))]

    def _prefill(self, questions: Sequence[Question], writing: Writing) -> Prefill:
        """Read each image of several prompts once, with the tokens that all prompts begin with.

        What is sampled depends on nothing but its image and prompt: then, each image is read alone.
        """
        tokens: dict[int, dict[str, PromptTokens]] = {}
        for n, question in enumerate(questions):
            tokens.setdefault(question.media_index, {})[str(n)] = PromptTokens(question.prompt, [])
        media = {question.media_index: question.media for question in questions}
        prompts = [
            MediaPrompts(media[index], tokens[index], reply=writing.max_new_tokens)
            for index in sorted(media)
        ]
        unshared = not writing.temperature and len(prompts) == len(questions)
        if unshared or not self.reader.can_prefill(prompts) or not self._shares_prefixes():
            return Prefill(prompts, [])
        if writing.temperature:
            alone = [self.reader.read_prefixes([image]) for image in prompts]
            return Prefill(prompts, [prefix for (prefix,) in alone])
        shared = common_prefix([question.prompt for question in questions])
        prompts = [replace(image, shared=shared) for image in prompts]
        return Prefill(prompts, self.reader.read_prefixes(prompts))

    def _inputs(self, questions: Sequence[Question], prefill: Prefill, passes: int) -> Row:
        """Return what `generate` takes for questions of one `batch_key`."""
        rows = [question.row for question in questions]
        if not prefill.prefixes:
            return self.reader.batch_inputs(rows, [question.media for question in questions])
        places = [prefill.prefix_of(question.media_index) for question in questions]
        (prefix, *_), numbers = zip(*places, strict=True)
        if passes > 1:  # or each pass would read the prompt
            ((row, question),) = zip(numbers, questions, strict=True)
            shared = prefill.prompts[question.media_index].shared
            prefix, numbers = prefix.extend(row, question.prompt[len(shared) : -1]), (0,)
        texts = [{name: row[name] for name in TEXT_INPUTS if name in row} for row in rows]
        beams = self.network.generation_config.num_beams or 1
        cache = {cache_argument(self.network): prefix.cache(numbers, max(passes, beams))}
        return {**batch_rows(texts, self.reader.pad_token), **cache, "use_cache": True}

    def _shares_prefixes(self) -> bool:
        """Return whether the network writes the same behind a prefix that was read before.

        It is tried once where the tests do not cover the network.
        """
        if self.reader.writes_behind_prefix is None:
            self.reader.writes_behind_prefix = self._try_prefix()
        return self.reader.writes_behind_prefix

    def _try_prefix(self) -> bool:
        """Return whether two prompts get the same logits behind a shared prefix."""
        builder = self.prompt_builder
        inputs = self._to_device(MediaInputs(builder.image_inputs(GREY_IMAGE)))
        (media,) = self._encode([inputs])
        tokens = [builder.tokenize(text, "").prompt for text in ("What is it?", "What is shown?")]
        image = MediaPrompts(media, {str(t): PromptTokens(t, []) for t in tokens}, reply=2)
        tolerance = tolerance_for(self.dtype)
        try:
            shared = self.reader.prefill([image])
            for question in [Question(media, prompt, 0) for prompt in tokens]:
                (first, expected), (second, logits) = (
                    self._first_logits(self._inputs([question], prefill, 1))
                    for prefill in (Prefill([image], []), shared)
                )
                steps = 2 if first == second else 1  # only then do the second tokens compare
                distance = (logits - expected)[:steps].norm()
                if not distance < tolerance * expected[:steps].norm():
                    return False
        except Exception as error:  # of any code that the tests do not cover
            if out_of_memory(error):
                raise
            return False
        return True

    def _first_logits(self, inputs: Row) -> tuple[int, Tensor]:
        """Return the likeliest next token, and the logits (2, V) of the first two."""
        output = self._generate(
            inputs,
            max_new_tokens=2,
            min_new_tokens=2,
            do_sample=False,
            output_logits=True,
            return_dict_in_generate=True,
        )
        return int(output.sequences[0, -2]), torch.cat(output.logits).float()

    def _questions(
        self, pairs: Sequence[tuple[Media, str]], max_new_tokens: int, whole: bool = False
    ) -> list[Question]:
        """Prepare the inputs of each prompt; an image with several prompts is encoded once."""
        parts = [prompt.split(IMAGE_PLACE) for _, prompt in pairs]
        media = self._encode_media(
            [(m, tuple(p[:-1])) for (m, _), p in zip(pairs, parts, strict=True)]
        )
        questions: list[Question] = []
        indices: dict[int, int] = {}
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
            index = indices.setdefault(id(encoded), len(indices))
            questions.append(Question(encoded, tokens.prompt, index))
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
            prepared = self._encode([self._with_leads(*pair) for pair in unique.values()])
            by_key = dict(zip(unique, prepared, strict=True))
            return [by_key[key] for key in keys]
        states: dict[str, Any] = {key: self._cache.get(key) for key in unique}
        missing = [key for key, state in states.items() if state is None]
        inputs = [self._with_leads(*unique[key]) for key in missing]
        encoded = self._encode(inputs) if inputs else ()
        for key, state in zip(missing, encoded, strict=True):
            states[key] = state
            self._cache.put(key, state)
        return [states[key] for key in keys]

    def _encode(self, inputs: Sequence[MediaInputs]) -> Sequence[EncodedMedia]:
        """Return images with their features where `generate` accepts them, or with pixels."""
        if self._writes_from_features:
            return self.encode_images(inputs)
        return [EncodedMedia(media) for media in inputs]

    @property
    def _writes_from_features(self) -> bool:
        forward = getattr(type(self.network), "forward", None)  # remote code has none
        if self.reader.vision is None or forward is None:
            return False
        return MM_ENCODER_OUTPUTS in parameter_names(forward)

    def _with_leads(self, media: Media, leads: Sequence[str]) -> MediaInputs:
        """Return the inputs of an image, or of a group, with the text before each image."""
        count = len(media.images) if isinstance(media, ImageGroup) else 1
        if count == 1 and media.is_broken:  # in the place of any number of images
            media.load()
        if len(leads) not in (0, count):
            raise InputError(f"a prompt has places for {len(leads)} of {count} images")
        return self._to_device(self.prepare(media, partial(self.preprocess, leads=leads)))

    def _new_tokens(self, inputs: Row, writing: Writing, seed: str = "") -> list[list[int]]:
        """Return the tokens that the model writes after each row, `passes` lists for each."""
        padding = self._head.padding_ids
        # The settings of a checkpoint may ask for several beams of each text, and for more.
        options: dict[str, Any] = {"num_return_sequences": writing.passes}
        options |= {"return_dict_in_generate": False}
        options |= {"suppress_tokens": padding} if padding else {}
        if writing.temperature:
            options |= {"temperature": writing.temperature}
            options |= {"top_p": writing.top_p, "top_k": writing.top_k}
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices, enabled=writing.temperature > 0):
            if writing.temperature:
                torch.manual_seed(zlib.crc32(seed.encode()))
            tokens: Tensor = self._generate(
                inputs,
                max_new_tokens=writing.max_new_tokens,
                do_sample=writing.temperature > 0,
                **options,
            )
        return tokens[:, inputs["input_ids"].shape[1] :].tolist()

    def _generate(self, inputs: Row, **options: Any) -> Any:
        """Call `generate`, which takes no other kind of cache where it is given one."""
        if "use_cache" not in inputs:  # without a cache
            return self.network.generate(**inputs, **options)
        settings = self.network.generation_config
        kind, settings.cache_implementation = settings.cache_implementation, None
        try:
            return self.network.generate(**inputs, **options)
        finally:
            settings.cache_implementation = kind

    def _end_tokens(self) -> set[int]:
        ends = self.network.generation_config.eos_token_id
        return {*ends} if isinstance(ends, list) else {ends}

    def _decode(
        self, question: Question, prefill: Prefill, tokens: list[int], writing: Writing
    ) -> Written:
        end = next(
            (n for n, token in enumerate(tokens) if token in self._end_tokens()), len(tokens)
        )
        text = self.prompt_builder.decode(tokens[:end])  # any token may pad the rest
        digits = None
        if writing.grades:
            digits = self._digits(question, prefill, tokens[:end], writing.grades)
        return Written(text, end >= writing.max_new_tokens, digits)

    def _digits(
        self, question: Question, prefill: Prefill, tokens: list[int], count: int
    ) -> list[Digit]:
        """Return the tokens that are a digit, with the likeliest tokens in their place."""
        tokenizer = self.prompt_builder.tokenizer
        words = [tokenizer.decode([token], skip_special_tokens=True) for token in tokens]
        places = [n for n, w in enumerate(words) if len(w.strip()) == 1 and w.strip().isdigit()]
        if not places:
            return []
        written = tokens[: places[-1] + 1]
        targets = PromptTargets(question.media_index, question.prompt, written)
        states = self.reader.hidden_states(prefill, [targets], 0)[0]
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
