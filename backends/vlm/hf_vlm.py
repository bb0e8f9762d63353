"""VQAScore with vision-language models of transformers: P(answer | image, question).

Lin et al. 2024, "Evaluating Text-to-Visual Generation with Image-to-Text Generation". What differs
between models is in their cards: how the prompt is built (`style`, `chat`), what it asks
(`template`) and how the probability of the answer is computed (`rule`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

import torch
import transformers
from PIL import Image
from torch import Tensor
from transformers import AutoModelForImageTextToText
from typing_extensions import override

from t2v_eval.errors import CheckpointError, InputError, MediaError, T2VError, UnsupportedError
from t2v_eval.inputs.media import Media
from t2v_eval.inputs.template import wrapper
from t2v_eval.inputs.video import Clip
from t2v_eval.local.base import Options
from t2v_eval.local.checkpoint_files import first_lines
from t2v_eval.local.dry_loading import WEIGHT_SUFFIXES
from t2v_eval.local.precision import large_dtype
from t2v_eval.local.prefix_sharing import PrefixSharingScorer
from t2v_eval.local.weights import HUB_FILES, read_tensors, weight_files
from t2v_eval.scoring.generation import Explanation, render_tokens, token_probabilities

from ..common.pretrained import Placement, build_network, read_config
from ..common.processors import check_vocabulary
from ..common.versions import newer_than_tested, tolerance_for, warn_unoptimised
from .layouts import read_layout
from .lora import ADAPTER_FILES, LoraAdapter
from .prompting import STYLES, make_prompt_builder
from .prompting.builders import GREY_IMAGE, CheckpointInfo
from .reading.head import LanguageModelHead
from .reading.inputs import (
    SECONDS_PER_GRID,
    PromptTokens,
)
from .reading.reader import (
    MASKABLE_ATTENTION,
    SHARING_MODES,
    EncodedMedia,
    HiddenStateReader,
    MediaPrompts,
    Prefill,
    PromptTargets,
)
from .reading.rules import RULES, Rule
from .reading.video import MediaInputs
from .tested_classes import is_tested
from .transformers_vision import patch_text_positions_after_video
from .writing import WritingScorer

FILES = (*HUB_FILES, "*.jinja")


class HfVlm(WritingScorer, PrefixSharingScorer[EncodedMedia, MediaPrompts]):
    """Score images by the probability of the template's answer to the template's question.

    Scores are 0 to 1. Lin et al. 2024, eq. 2; with the rule "answer", the geometric mean over the
    answer's tokens and the end token.

    Args:
        checkpoint: config, weights, tokenizer and processor in the layout of transformers, or in
            that of the authors (`vlm.layouts`).
        style: how the prompt is built: "template" by the chat template or a `chat`, "llava" and
            "own-code" by a `chat`, "paligemma" from the question alone.
        rule: how the probability of the answer is computed: a name in `reading.rules.RULES`.
            Where the answer contains the text, "first-token" scores the whole answer.
        share: the part that prompts of an image share: "packed", "repeated" or "vision"; by
            default the fastest that the model allows. False runs every pair by itself. Scores
            are the same.
        chat: the text around a question, with ``<image>`` and then ``{}``, once each, or the name
            of such a wrapper.
        context: the maximal number of tokens; by default that of the config.
        system: a system message, or its name, instead of that of the chat template.
        settings: further variables of the chat template.
        image_settings: options of the image processor, such as ``{"max_patches": 12}``; with
            ``{"pixels": [3136, 151200]}`` images of Qwen's models get at least and at most that
            many pixels, resized by Pillow as in qwen_vl_utils.
        frames: the number of frames of a video, or arguments of `Sampling`, for example
            ``{"fps": 2.0, "most": 64}``; 16 by default.
        video_settings: how frames are turned into inputs, see `VideoSettings`.
        trust_remote_code: whether Python code in the checkpoint may be run.
        attn_implementation: the attention implementation, as transformers names it; prefixes are
            packed with "sdpa" and "eager", and repeated with others.
        device_map: "auto" spreads a model over all GPUs, and the CPU where they are too small.
        load_in_8bit: quantise the weights to 8 bits with bitsandbytes.
        load_in_4bit: quantise the weights to 4 bits with bitsandbytes.
        adapter: a folder or hub id with a LoRA adapter of the package peft, which is added to the
            weights.
        vision_tower: for LLaVA in the layout of its authors, the folder or hub id of the CLIP tower
            if not that of config.json.
        **options: options of `LocalScorer`.

    Raises:
        InputError: an option that this model or style does not have.
        CheckpointError: files that are missing, or that do not belong to one model.
        UnsupportedError: a sharing mode that the model does not allow, or a network that changes
            its logits in an unknown way.

    >>> import t2v_eval
    >>> t2v_eval.load("qwen2.5-vl-7b", rule="sum")  # refused before anything is downloaded
    Traceback (most recent call last):
    t2v_eval.errors.InputError: `rule='sum'`; use 'answer' or 'first-token' or 'first-tokens' \
or 'yes-no' or 'yes-no-token'
    """

    default_template = "vqascore"
    out_of_memory_hint = (
        '`device_map="auto"`, `load_in_8bit=True`, smaller images, fewer frames or shorter texts '
        "need less"
    )

    def __init__(
        self,
        checkpoint: str,
        style: str = "template",
        rule: str = "answer",
        share: bool | str = True,
        chat: str | None = None,
        context: int | None = None,
        system: str | None = None,
        settings: Mapping[str, Any] | None = None,
        image_settings: Mapping[str, Any] | None = None,
        frames: int | Mapping[str, Any] | None = None,
        video_settings: Mapping[str, Any] | None = None,
        trust_remote_code: bool = False,
        attn_implementation: str = "sdpa",
        device_map: str | Mapping[str, Any] | None = None,
        load_in_8bit: bool = False,
        load_in_4bit: bool = False,
        adapter: str | None = None,
        vision_tower: str | None = None,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(**options)
        check_choices(style, rule, share, trust_remote_code, load_in_8bit, load_in_4bit)
        placement = Placement(attn_implementation, device_map, load_in_8bit, load_in_4bit)
        info = self._read_checkpoint(checkpoint, vision_tower, trust_remote_code, placement)
        self._read_adapter(adapter, placement)
        self.dtype = large_dtype(options.get("dtype"), self.device, info.folder)
        prompt_options: dict[str, Any] = {
            "chat": chat,
            "context": context,
            "system": system,
            "settings": settings,
            "image_settings": image_settings,
            "frames": frames,
            "video_settings": video_settings,
        }
        self._set_prompts(info, style, rule, prompt_options)
        self.identity_facts = {**self.identity_facts, **placement.facts}
        self.network = self._build(info, placement)
        self._set_reader(info, attn_implementation, share)
        self._check_model(info, attn_implementation)
        if not self.reader.batches_images:
            self.room = 0

    def _read_checkpoint(
        self,
        checkpoint: str,
        vision_tower: str | None,
        trust_remote_code: bool,
        placement: Placement,
    ) -> CheckpointInfo:
        """Locate the files of a checkpoint, and read its configuration."""
        code = ("*.py",) if trust_remote_code else ()
        folder = self.locate_weights(checkpoint, (*FILES, *code))
        layout = read_layout(
            folder,
            lambda source: self.locate_weights(
                vision_tower or source, FILES, argument="vision_tower", revision=None
            ),
            trust_remote_code,
        )
        if layout and not placement.plain:
            raise InputError(
                f"{folder} is in the layout of its authors, which takes no device_map, "
                "load_in_8bit and load_in_4bit; pass a checkpoint in that of transformers, such as "
                "those of llava-hf"
            )
        config = layout.config if layout else read_config(folder, trust_remote_code)
        files = {f for pattern in (*FILES, *code) for f in folder.glob(pattern)}
        elsewhere = layout.files if layout else ()
        self.files = [*dict.fromkeys([*sorted({*weight_files(folder), *files}), *elsewhere])]
        return CheckpointInfo(folder, config, layout, trust_remote_code)

    def _read_adapter(self, adapter: str | None, placement: Placement) -> None:
        """Set the adapter that is added to the weights; None for none."""
        self._adapter: LoraAdapter | None = None
        if adapter is None:
            return
        if placement.load_in_8bit or placement.load_in_4bit:
            raise InputError(
                "`adapter=` is added to weights that are not quantised: leave `load_in_8bit=` and "
                "`load_in_4bit=` out"
            )
        folder = self.locate(adapter, ADAPTER_FILES, argument="adapter", revision=None)
        self._adapter, self.adapters = LoraAdapter(folder), [folder]
        self.files = [*self.files, *self._adapter.files]

    @override
    def stored_weights(self) -> Iterator[tuple[str, Tensor]]:
        if self._adapter is None:
            yield from super().stored_weights()
            return
        files = [file for file in self.files if file not in self._adapter.files]
        yield from self._adapter.merge(
            (name, tensor.to(self.dtype))
            for file in files
            if file.suffix in WEIGHT_SUFFIXES
            for name, tensor in read_tensors(file).items()
        )

    def _set_prompts(
        self, info: CheckpointInfo, style: str, rule: str, options: Mapping[str, Any]
    ) -> None:
        """Set the prompt builder and the rules, and the facts of the id that they decide."""
        options = {
            name: wrapper(value) if isinstance(value, str) else value
            for name, value in options.items()
            if value is not None
        }
        self.prompt_builder = make_prompt_builder(style, info, options)
        encode = self.prompt_builder.encode
        self._rule, self._full_answer_rule = RULES[rule](encode), RULES["answer"](encode)
        self.identity_facts = {
            "style": style,
            **{name: repr(value) for name, value in options.items()},
            "rule": rule,
            # The image and video processors of transformers have changed between versions.
            "transformers": ".".join(transformers.__version__.split(".")[:2]),
        }

    def _build(self, info: CheckpointInfo, placement: Placement) -> Any:
        """Return the network with its weights, which decides the device where it is spread."""
        if info.layout:
            if self._adapter is not None:
                raise InputError("`adapter=` needs a checkpoint in the layout of transformers")
            return info.layout.build(self.device, self.dtype, placement.attn_implementation)
        network = build_network(
            AutoModelForImageTextToText,
            info.folder,
            placement,
            self.device,
            self.dtype,
            trust_remote_code=info.trusted,
        )
        self.device = network.get_input_embeddings().weight.device
        if self._adapter is not None:
            self._adapter.apply(network)
        return network

    def _set_reader(self, info: CheckpointInfo, attention: str, share: bool | str) -> None:
        """Set the parts that read prompts, and refuse a network whose logits they do not give."""
        builder = self.prompt_builder
        if not patch_text_positions_after_video(self.network.base_model):
            builder.sampling = None
            builder.no_video_reason = (
                f"transformers {transformers.__version__} gives text after a video positions that "
                "are not known here"
            )
        self.reader = HiddenStateReader(
            self.network.base_model,
            attention,
            pad_token=builder.encode("yes")[-1],
            bidirectional_image=builder.bidirectional_image,
            share=share,
        )
        self._head = LanguageModelHead(
            self.network, builder.vocab_size, info.config.get_text_config()
        )
        self._check_tokenizer(info.folder)
        ids = torch.tensor([builder.encode("yes or no")], device=self.device, dtype=torch.long)
        if not self._head.agrees_with_network(ids, 1e-4 if self.dtype is torch.float32 else 0.05):
            raise UnsupportedError(
                f"{self.name!r}: {type(self.network).__name__} changes its logits in a way that "
                "this scorer does not know"
            )

    def _check_model(self, info: CheckpointInfo, attention: str) -> None:
        """Run the model on an image, and test sharing where the tests do not cover it.

        Raises:
            CheckpointError: the model fails on what its processor prepares.
        """
        is_covered = (
            is_tested(self.network, info.config)
            and attention in MASKABLE_ATTENTION
            and not self.reader.recurrent
        )
        newer = newer_than_tested("transformers") if self.reader.mode != "none" else ""
        if is_covered and not newer:
            self.reader.writes_behind_prefix = True
        try:
            if newer or not is_covered:
                fastest = self.sharing_mode
                reason = self._choose_sharing_mode()
                if reason and newer and is_covered:
                    warn_unoptimised(newer, f"{fastest!r}, of several images together", reason)
            else:
                row = self._to_device(MediaInputs(self.prompt_builder.image_inputs(GREY_IMAGE))).row
                with torch.inference_mode():
                    self.network.base_model(**row, use_cache=False)
        except (T2VError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # of a processor that prepares images for another network
            raise CheckpointError(
                f"{info.folder}: the model fails on an image as its processor prepares it, "
                f"{type(error).__name__}: {first_lines(error)}. Compare processor_config.json, "
                "preprocessor_config.json and config.json with the published ones"
            ) from error

    @override
    def check_template(self) -> None:
        super().check_template()
        if not self.template.answers_with_text:
            self.rule.check(self.template.answer)

    @property
    def rule(self) -> Rule:
        """The rule that scores answers of the current template."""
        first_alone = self.identity_facts["rule"] == "first-token"
        if first_alone and self.template.answers_with_text:
            return self._full_answer_rule
        return self._rule

    @property
    @override
    def sharing_mode(self) -> str:  # type: ignore[override]
        """The part that prompts of one image share."""
        return SHARING_MODES[self.reader.mode]

    @property
    @override
    def execution(self) -> dict[str, str]:
        batching = "together" if self.reader.batches_images else "one by one"
        attention = self.identity_facts["attention"]
        return {**super().execution, "attention": attention, "images": batching}

    @override
    def preprocess(
        self, image: Image.Image | Clip | list[Image.Image], leads: Sequence[str] = ()
    ) -> MediaInputs:
        """Return the inputs of the model up to the question.

        Args:
            image: an image, a video or images in order.
            leads: the text before each image; none by default.
        """
        if isinstance(image, Clip):
            if any(leads):
                raise InputError("a prompt with text before a video is not supported here")
            return self.prompt_builder.video_inputs(image)
        if isinstance(image, list) or any(leads):
            images = image if isinstance(image, list) else [image]
            return self.prompt_builder.group_inputs(images, leads)
        return MediaInputs(self.prompt_builder.image_inputs(image))

    @override
    def encode_images(self, prepared: Sequence[MediaInputs]) -> Sequence[EncodedMedia]:
        return self.reader.encode_media([self._to_device(inputs) for inputs in prepared])

    @override
    def build_prompt(self, state: EncodedMedia, texts: Sequence[str]) -> MediaPrompts:
        lead = state.inputs.lead
        room = self._room(state.inputs, self._encode_question(lead, ""))
        return MediaPrompts(state, {text: self._prompt(lead, text, room) for text in texts})

    def _room(self, inputs: MediaInputs, shortest: PromptTokens, reserved: int = 0) -> int:
        """Return how many tokens fit after an image or video, less those `reserved` for an answer.

        Args:
            inputs: the inputs of the image or video.
            shortest: the tokens of an empty text.
            reserved: tokens that an answer may have.

        Raises:
            MediaError: the image or the frames leave too few of the context.
        """
        used = self.prompt_builder.context_used(inputs.row)
        context = self.prompt_builder.context
        room = context - used - reserved
        if room < sum(map(len, shortest)) <= context - reserved:
            taken = f"{used} of the {context} tokens that the model reads"
            if inputs.frames:
                fewer = max(1, min(8, inputs.frames // 2))
                raise MediaError(
                    f"its {inputs.frames} frames take {taken}, and leave no room for a question; "
                    f"take fewer, for example `frames={fewer}`"
                )
            raise MediaError(
                f"it takes {taken}, and leaves no room for a question; use smaller images"
            )
        return room

    @override
    def prefill(self, starts: Sequence[MediaPrompts]) -> Prefill:
        return self.reader.prefill(starts)

    @override
    def score(self, reading: Prefill, pairs: Sequence[tuple[int, str]]) -> Tensor:
        return self.score_with_details(reading, pairs)[0]

    @override
    def score_with_details(
        self, reading: Prefill, pairs: Sequence[tuple[int, str]]
    ) -> tuple[Tensor, Sequence[str] | None]:
        rule, device = self.rule, self._head.device
        prompt_targets = []
        for index, text in pairs:
            tokens = reading.prompts[index].prompts[text]
            prompt_targets.append(PromptTargets(index, tokens.prompt, rule.targets(tokens.answer)))
        hidden = torch.cat(self.reader.hidden_states(reading, prompt_targets, self.room))
        targets = [pair.targets for pair in prompt_targets]
        counts = torch.tensor([len(tokens) for tokens in targets], dtype=torch.long)
        owner = torch.repeat_interleave(counts).to(device)
        labels = torch.tensor(
            [token for tokens in targets for token in tokens], device=device, dtype=torch.long
        )
        gathered = self._head.gather(rule, hidden, labels)
        answers = [self.template.fill(text)[1] for _, text in pairs]
        return rule.score(gathered, owner, answers), rule.details(gathered, answers)

    @override
    def explain_image(self, image: Media, texts: Sequence[str], top: int) -> list[Explanation]:
        (state,) = self.encode_images([self.prepare(image)])
        return [self._explain(state, text, top) for text in texts]

    def _explain(self, state: EncodedMedia, text: str, top: int) -> Explanation:
        media = self.build_prompt(state, [text])
        tokens, prefill = media.prompts[text], self.prefill([media])
        pair = PromptTargets(0, tokens.prompt, self.rule.targets(tokens.answer))
        log_p = self._head.log_probabilities(self.reader.hidden_states(prefill, [pair], 0)[0])
        tokenizer = self.prompt_builder.tokenizer
        return Explanation(
            score=float(self.score(prefill, [(0, text)])),
            prompt=render_tokens(
                tokenizer, [*media.media.row["input_ids"][0].tolist(), *tokens.prompt]
            ),
            tokens=token_probabilities(tokenizer, log_p, pair.targets, top),
        )

    def _check_tokenizer(self, folder: Path) -> None:
        """Check that the model has embeddings for all tokens of its tokenizer.

        Raises:
            CheckpointError: it has too few.
        """
        embeddings = getattr(self.network, "get_input_embeddings", lambda: None)()
        if embeddings is None:  # remote code may keep them in several places
            return
        extra = getattr(embeddings, "new_embedding", ())
        builder = self.prompt_builder
        tokens = builder.tokenize("?", "")
        used = [*tokens.prompt, *tokens.answer]
        if not builder.vocab_size:
            used += builder.image_inputs(GREY_IMAGE)["input_ids"].flatten().tolist()
        rows = builder.vocab_size or len(embeddings.weight) + len(extra)
        check_vocabulary(builder.tokenizer, rows, folder, used)

    def _choose_sharing_mode(self) -> str:
        """Let the reader test its sharing modes on unlike images and a video."""
        gradients = (Image.linear_gradient("L"), (64, 64)), (Image.radial_gradient("L"), (150, 60))
        images = [image.resize(size).convert("RGB") for image, size in gradients]
        builder = self.prompt_builder
        media = [self._to_device(MediaInputs(builder.image_inputs(image))) for image in images]
        if builder.sampling is not None:
            media += self._dummy_video([image.resize((64, 64)) for image in images])
        questions = "Is this a question?", "Is it? Or is this one?"
        prompts = [builder.tokenize(question, "").prompt for question in questions]
        with torch.inference_mode():
            return self.reader.self_test(media, prompts, tolerance_for(self.dtype))

    def _dummy_video(self, frames: Sequence[Image.Image]) -> list[MediaInputs]:
        """Return a video of these frames, or nothing where the model fails on it.

        The model then takes no videos.
        """
        builder = self.prompt_builder
        try:
            resized = [builder.resize_frame(frame, 2) for frame in frames]
            video = self._to_device(builder.video_inputs(Clip(resized, [0, 1], 2, 1.0)))
            with torch.inference_mode():
                self.network.base_model(**video.row, use_cache=False)
        except Exception as error:  # of any code that the tests do not cover
            builder.sampling = None
            builder.no_video_reason = f"several images at once fail: {error}"
            return []
        return [video]

    def _prompt(self, lead: str, text: str, room: int) -> PromptTokens:
        return self._truncate(text, room, lambda part: self._encode_question(lead, part))

    def _encode_question(self, lead: str, text: str) -> PromptTokens:
        """Return the tokens of the template's question and answer about a text."""
        question, answer = self.template.fill(text)
        return self.prompt_builder.tokenize(lead + question, answer)

    def _to_device(self, inputs: MediaInputs) -> MediaInputs:
        """Return inputs on the scorer's device and in its precision."""
        row = {
            name: value.to(
                self.device,
                self.dtype if value.is_floating_point() and name not in SECONDS_PER_GRID else None,
            )
            for name, value in inputs.row.items()
            if isinstance(value, Tensor) and name != "labels"  # which some processors make
        }
        return replace(inputs, row=row)


def check_choices(
    style: str,
    rule: str,
    share: bool | str,
    trust_remote_code: bool,
    load_in_8bit: bool,
    load_in_4bit: bool,
) -> None:
    """Check the options that have a fixed set of values.

    Args:
        style: see `HfVlm`.
        rule: see `HfVlm`.
        share: see `HfVlm`.
        trust_remote_code: True or False.
        load_in_8bit: True or False.
        load_in_4bit: True or False.

    Raises:
        InputError: any other value.

    >>> check_choices("template", "sum", True, False, False, False)
    Traceback (most recent call last):
    t2v_eval.errors.InputError: `rule='sum'`; use 'answer' or 'first-token' or 'first-tokens' \
or 'yes-no' or 'yes-no-token'
    """
    for name, value, choices in (
        ("style", style, STYLES),
        ("rule", rule, RULES),
        ("share", share, (True, False, *SHARING_MODES)),
        ("trust_remote_code", trust_remote_code, (True, False)),
        ("load_in_8bit", load_in_8bit, (True, False)),
        ("load_in_4bit", load_in_4bit, (True, False)),
    ):
        if value not in choices:
            raise InputError(f"`{name}={value!r}`; use {' or '.join(map(repr, choices))}")
