"""VQAScore with vision-language models of transformers: P(answer | picture, question).

Lin et al. 2024, "Evaluating Text-to-Visual Generation with Image-to-Text Generation". What differs
between models is in their cards: how they are asked (`style`, `chat`), what is asked (`template`)
and how the probability of an answer is taken (`rule`).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

import torch
import transformers
from PIL import Image
from torch import Tensor
from transformers import AutoModelForImageTextToText

from t2v_eval.errors import CheckpointError, InputError, MediaError, T2VError, UnsupportedError
from t2v_eval.inputs.media import Media, Video
from t2v_eval.inputs.template import wrapper
from t2v_eval.inputs.video import Clip, clip
from t2v_eval.local.base import Options
from t2v_eval.local.batching import BatchSize
from t2v_eval.local.checkpoint_files import first_lines
from t2v_eval.local.precision import large_dtype
from t2v_eval.local.prefix_sharing import PrefixSharingScorer
from t2v_eval.local.weights import HUB_FILES, weight_files
from t2v_eval.scoring.generation import Explanation, render_tokens, token_probabilities

from ..common.pretrained import Placement, build_network, read_config
from ..common.processors import check_vocabulary
from ..common.versions import newer_than_tested, tolerance_for, warn_unoptimised
from .layouts import read_layout
from .prompting.chat import GREY_IMAGE, Checkpoint, PromptTokens
from .prompting.styles import STYLES, make_prompt_builder
from .reading.inputs import SECONDS_PER_GRID, TOKEN_POOLING, Row, append_tokens, batch_rows
from .reading.reader import (
    MASKABLE_ATTENTION,
    SHARING_MODES,
    EncodedMedia,
    MediaPrompts,
    Prefill,
    PromptTargets,
    Reader,
)
from .reading.rules import RULES, Rule
from .reading.video import MediaInputs
from .tested_classes import is_tested
from .transformers_vision import patch_text_positions_after_video

ROWS = 256  # rows whose logits over the vocabulary are in memory at a time
FILES = (*HUB_FILES, "*.jinja")


class HfVlm(PrefixSharingScorer[EncodedMedia, MediaPrompts]):
    """Scores by the probability of the template's answer to the template's question.

    Args:
        checkpoint: config, weights, tokenizer and processor in the layout of transformers.
        style: how the model is asked: "template" by its chat template or a `chat`, "llava" and
            "own-code" by a `chat`, "paligemma" by a question alone.
        rule: "answer", "first-token" or "yes-no": how the probability of the answer is taken. An
            answer that holds the text is scored whole where its first token would be.
        share: what texts of a picture share: "packed", "repeated" or "vision"; by default the
            fastest that the model allows. False runs every pair by itself. The scores are the same.
        chat: what surrounds a question, with ``<image>`` and then ``{}``, once each, or the name of
            such a wrapper.
        context: how many tokens fit; by default what the config says.
        system: a system message, or its name, in the place of the chat template's own.
        settings: further variables of the chat template.
        image_settings: of the image processor, for example ``{"max_patches": 12}``; and with
            ``{"pixels": [3136, 151200]}`` a picture of Qwen's is made to have at least and at most
            so many, by Pillow as in qwen_vl_utils.
        frames: which frames of a video are shown: how many, or what `Sampling` takes, for example
            ``{"fps": 2.0, "most": 64}``; 16 where nobody says otherwise.
        video_settings: how they are shown, see `VideoSettings`.
        trust_remote_code: whether Python code in the checkpoint may be run.
        attn_implementation: how attention is computed, as transformers names it; starts are packed
            with "sdpa" and "eager", and repeated with others.
        device_map: "auto" spreads a model over all GPUs, and the CPU where they are too small.
        load_in_8bit, load_in_4bit: quantise the weights with bitsandbytes.
        vision_tower: for LLaVA in the layout of its authors, the folder or hub id of the CLIP tower
            if not that of config.json.
    """

    default_template = "vqascore"
    out_of_memory_hint = (
        'device_map="auto", load_in_8bit=True, smaller pictures, fewer frames or shorter texts '
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
        vision_tower: str | None = None,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(**options)
        for what, value, known in (
            ("style", style, STYLES),
            ("rule", rule, RULES),
            ("share", share, (True, False, *SHARING_MODES)),
            ("trust_remote_code", trust_remote_code, (True, False)),
            ("load_in_8bit", load_in_8bit, (True, False)),
            ("load_in_4bit", load_in_4bit, (True, False)),
        ):
            if value not in known:
                raise InputError(f"{what}={value!r}; use {' or '.join(map(repr, known))}")
        code = ("*.py",) if trust_remote_code else ()
        folder = self.locate_weights(checkpoint, (*FILES, *code))
        layout = read_layout(
            folder,
            lambda source: self.locate_weights(
                vision_tower or source, FILES, argument="vision_tower", revision=None
            ),
            trust_remote_code,
        )
        placement = Placement(attn_implementation, device_map, load_in_8bit, load_in_4bit)
        if layout and not placement.plain:
            raise InputError(
                f"{folder} is in the layout of its authors, which takes no device_map, "
                "load_in_8bit and load_in_4bit; pass a checkpoint in that of transformers, such as "
                "those of llava-hf"
            )
        config = layout.config if layout else read_config(folder, trust_remote_code)
        self.dtype = large_dtype(options.get("dtype"), self.device, folder)
        told = {"chat": chat, "context": context, "system": system, "settings": settings}
        told |= {"image_settings": image_settings, "frames": frames}
        told["video_settings"] = video_settings
        asked = {
            key: wrapper(value) if isinstance(value, str) else value
            for key, value in told.items()
            if value is not None
        }
        described = Checkpoint(folder, config, layout, trust_remote_code)
        self.chat = make_prompt_builder(style, described, asked)
        self._rule, self._whole = (RULES[name](self.chat.encode) for name in (rule, "answer"))
        self.identity_facts = {
            "style": style,
            **{k: repr(v) for k, v in asked.items()},
            "rule": rule,
        }
        # What transformers makes of a picture or video has changed between its versions.
        self.identity_facts["transformers"] = ".".join(transformers.__version__.split(".")[:2])
        self.identity_facts |= placement.facts
        beside = (f for pattern in (*FILES, *code) for f in folder.glob(pattern))
        own = layout.files if layout else ()
        self.files = [*dict.fromkeys([*sorted({*weight_files(folder), *beside}), *own])]
        if layout:
            self.network = layout.build(self.device, self.dtype, attn_implementation)
        else:
            self.network = build_network(
                AutoModelForImageTextToText,
                folder,
                placement,
                self.device,
                self.dtype,
                trust_remote_code=trust_remote_code,
            )
            self.device = self.network.get_input_embeddings().weight.device
        if not patch_text_positions_after_video(self.network.base_model):
            self.chat.sampling = None
            self.chat.blind = f"transformers {transformers.__version__} places what follows them"
            self.chat.blind += " in a way that is not known here"
        filler = self.chat.encode("yes")[-1]
        self.reader = Reader(
            self.network.base_model, attn_implementation, filler, self.chat.two_way, share
        )
        # The last product is always in float32: bfloat16 has too few digits for a probability.
        head = self.network.get_output_embeddings().weight
        self._head = head[: self.chat.rows].float()
        self._filling = [*range(len(self._head), len(head))]  # rows that are no tokens
        self._cap = getattr(config.get_text_config(), "final_logit_softcapping", None)
        self._check_words(folder)
        self._check_logits()
        tested = is_tested(self.network, config)
        settled = tested and attn_implementation in MASKABLE_ATTENTION and not self.reader.memory
        newer = newer_than_tested("transformers") if self.reader.mode != "none" else ""
        try:
            if newer or not settled:
                fastest = self.sharing_mode
                why = self._settle()
                if why and newer and settled:
                    warn_unoptimised(newer, f"{fastest!r}, of several pictures together", why)
            else:
                self._try_picture()
        except (T2VError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # of a processor that prepares pictures for another network
            raise CheckpointError(
                f"{folder}: the model fails on a picture as its processor prepares it, "
                f"{type(error).__name__}: {first_lines(error)}. Compare processor_config.json, "
                "preprocessor_config.json and config.json with the published ones"
            ) from error
        if not self.reader.together:
            self.room = 0

    @property
    def rule(self) -> Rule:
        """How the probability of the template's answer is taken."""
        first_alone = self.identity_facts["rule"] == "first-token"
        return self._whole if first_alone and self.template.answers_with_text else self._rule

    @property
    def sharing_mode(self) -> str:  # type: ignore[override]
        """What texts of one picture share."""
        return SHARING_MODES[self.reader.mode]

    @property
    def execution(self) -> dict[str, str]:
        together = "together" if self.reader.together else "one by one"
        return {
            **super().execution,
            "attention": self.identity_facts["attention"],
            "pictures": together,
        }

    def load(self, media: Media) -> Image.Image | Clip:
        if not isinstance(media, Video):
            return self.load_image(media)
        if self.chat.sampling is None:
            raise MediaError(
                f"{media.name}: is a video, and this model is not shown any: {self.chat.blind}. "
                "Score frames of it, `t2v_eval.inputs.video.frames(path, 16)`, and "
                "take the mean"
            )
        return clip(media, self.chat.sampling, self.load_image, self.chat.fit)

    def preprocess(self, image: Image.Image | Clip) -> MediaInputs:
        """Everything up to the question, as the model's inputs."""
        return (
            self.chat.watch(image) if isinstance(image, Clip) else MediaInputs(self.chat.see(image))
        )

    def encode_images(self, prepared: Sequence[MediaInputs]) -> Sequence[EncodedMedia]:
        return self.reader.see([self._placed(one) for one in prepared])

    def build_prompt(self, state: EncodedMedia, texts: Sequence[str]) -> MediaPrompts:
        room = self._room(state.shown, lambda lead: self._about(lead, ""))
        return MediaPrompts(
            state, {text: self._ask(state.shown.lead, text, room) for text in texts}
        )

    def _room(self, shown: MediaInputs, ask: Callable[[str], PromptTokens], kept: int = 0) -> int:
        """How many tokens fit after a picture or video, and before as many as are to be kept free.

        Args:
            ask: the tokens of an empty text after what leads to it.

        Raises:
            MediaError: of a video there are so many frames that not even these do.
        """
        used, context = self.chat.used(shown.row), self.chat.context
        room = context - used - kept
        if shown.frames and sum(map(len, ask(shown.lead))) > room:
            fewer = max(1, min(8, shown.frames // 2))
            raise MediaError(
                f"its {shown.frames} frames take {used} of the {context} tokens that the model "
                f"reads, and leave no room for a question; take fewer, for example frames={fewer}"
            )
        return room

    def prefill(self, starts: Sequence[MediaPrompts]) -> Prefill:
        return self.reader.read(starts)

    def score(self, reading: Prefill, pairs: Sequence[tuple[int, str]]) -> Tensor:
        return self.score_with_details(reading, pairs)[0]

    def score_with_details(
        self, reading: Prefill, pairs: Sequence[tuple[int, str]]
    ) -> tuple[Tensor, Sequence[str] | None]:
        asked = [reading.starts[place].asked[text] for place, text in pairs]
        targets = [self.rule.targets(one.answer) for one in asked]
        told = zip(pairs, asked, targets, strict=True)
        hidden = self.reader.states(
            reading, [PromptTargets(place, a.prompt, t) for (place, _), a, t in told], self.room
        )
        device = self._head.device  # the last of a model that is spread over several
        owner = torch.repeat_interleave(
            torch.tensor([len(t) for t in targets], dtype=torch.long)
        ).to(device)
        labels = torch.tensor(
            [token for t in targets for token in t], device=device, dtype=torch.long
        )
        kept = self._gather(torch.cat(hidden), labels)
        answers = [self.template.fill(text)[1] for _, text in pairs]
        return self.rule.score(kept, owner, answers), self.rule.details(kept, answers)

    def generate_texts(
        self, images: Sequence[Media], prompts: Sequence[str], max_new_tokens: int
    ) -> list[str]:
        pairs = list(zip(images, prompts, strict=True))
        batch = self.image_batch if self.reader.together else BatchSize(1)
        return self._generate_in_batches(
            batch, pairs, lambda part: self._write(part, max_new_tokens)
        )

    def _write(self, pairs: Sequence[tuple[Media, str]], max_new_tokens: int) -> list[str]:
        """Texts about pictures, together where rows are alike: nothing is filled at their start."""
        rows = [self._row(image, prompt, max_new_tokens) for image, prompt in pairs]
        alike: dict[Hashable, list[int]] = {}
        for n, row in enumerate(rows):
            shapes = ((name, value.shape[1:]) for name, value in row.items())
            alike.setdefault((n if TOKEN_POOLING & row.keys() else -1, *shapes), []).append(n)
        options = {"suppress_tokens": self._filling} if self._filling else {}
        written: dict[int, str] = {}
        for group in alike.values():
            inputs = batch_rows([rows[n] for n in group], self.reader.filler)
            made = self.network.generate(
                **inputs, max_new_tokens=max_new_tokens, do_sample=False, **options
            )
            texts = made[:, inputs["input_ids"].shape[1] :].tolist()
            written |= zip(group, map(self.chat.decode, texts), strict=True)
        return [written[n] for n in range(len(pairs))]

    def _row(self, image: Media, prompt: str, max_new_tokens: int) -> Row:
        shown = self._placed(self.prepare(image))
        try:
            room = self._room(shown, lambda lead: self.chat.ask(lead, ""), max_new_tokens)
        except MediaError as error:
            raise MediaError(f"{image.name}: {error}") from None
        asked = self._fit(prompt, room, lambda text: self.chat.ask(shown.lead + text, ""))
        return append_tokens(shown.row, asked.prompt)

    def explain_image(self, image: Media, texts: Sequence[str], top: int) -> list[Explanation]:
        (state,) = self.encode_images([self.prepare(image)])
        return [self._explain(state, text, top) for text in texts]

    def _explain(self, state: EncodedMedia, text: str, top: int) -> Explanation:
        start = self.build_prompt(state, [text])
        asked, reading = start.asked[text], self.prefill([start])
        targets = self.rule.targets(asked.answer)
        log_p = self._log_p(
            self.reader.states(reading, [PromptTargets(0, asked.prompt, targets)], 0)[0]
        )
        ids = [*start.seen.row["input_ids"][0].tolist(), *asked.prompt]
        return Explanation(
            score=float(self.score(reading, [(0, text)])),
            prompt=render_tokens(self.chat.tokenizer, ids),
            tokens=token_probabilities(self.chat.tokenizer, log_p, targets, top),
        )

    def _gather(self, hidden: Tensor, labels: Tensor) -> Tensor:
        parts = [slice(start, start + ROWS) for start in range(0, len(labels), ROWS)]
        rows = [self.rule.gather(self._log_p(hidden[part]), labels[part]) for part in parts]
        return torch.cat(rows)

    def _log_p(self, hidden: Tensor) -> Tensor:
        logits: Tensor = hidden.to(self._head.device).float() @ self._head.T
        if self._cap is not None:
            logits = self._cap * (logits / self._cap).tanh()
        return logits.log_softmax(-1)

    def _check_logits(self) -> None:
        """Hold that what the model makes of its last states is what `_log_p` makes of them.

        Raises:
            UnsupportedError: it is not, so that scores would not be those of the model.
        """
        ids = torch.tensor([self.chat.encode("yes or no")], device=self.device, dtype=torch.long)
        with torch.inference_mode():
            theirs = self.network(input_ids=ids).logits[0, -1, : self.chat.rows].float()
            ours = self._log_p(self.network.base_model(input_ids=ids).last_hidden_state[0, -1])
        apart = (theirs.to(ours.device).log_softmax(-1) - ours).abs().max()
        close = 1e-4 if self.dtype is torch.float32 else 0.05
        if float(apart) > close * (1 + float(theirs.abs().max())):
            raise UnsupportedError(
                f"{self.name!r}: {type(self.network).__name__} treats its logits in a way that "
                "this scorer does not know"
            )

    def _check_words(self, folder: Path) -> None:
        """Hold that the model has embeddings for what its tokenizer makes of questions.

        Raises:
            CheckpointError: it has not.
        """
        embeddings = getattr(self.network, "get_input_embeddings", lambda: None)()
        if embeddings is None:  # code of its own, which may keep them in several places
            return
        more = getattr(embeddings, "new_embedding", ())
        asked, seen = (
            self.chat.ask("?", ""),
            self.chat.see(GREY_IMAGE)["input_ids"].flatten().tolist(),
        )
        used = [*asked.prompt, *asked.answer, *([] if self.chat.rows else seen)]
        rows = self.chat.rows or len(embeddings.weight) + len(more)
        check_vocabulary(self.chat.tokenizer, rows, folder, used)

    def _try_picture(self) -> None:
        """Hold that the model runs on what its processor makes of a picture."""
        row = self._placed(MediaInputs(self.chat.see(GREY_IMAGE))).row
        with torch.inference_mode():
            self.network.base_model(**row, use_cache=False)

    def _settle(self) -> str:
        """Let the reader find out what it may share, of pictures and a video with unlike parts."""
        kinds = (Image.linear_gradient("L"), (64, 64)), (Image.radial_gradient("L"), (150, 60))
        images = [image.resize(size).convert("RGB") for image, size in kinds]
        shown = [self._placed(MediaInputs(self.chat.see(image))) for image in images]
        if self.chat.sampling is not None:
            shown += self._moving([image.resize((64, 64)) for image in images])
        asked = "Is this a question?", "Is it? Or is this one?"
        with torch.inference_mode():
            return self.reader.settle(
                shown,
                [self.chat.ask(question, "").prompt for question in asked],
                tolerance_for(self.dtype),
            )

    def _moving(self, frames: Sequence[Image.Image]) -> list[MediaInputs]:
        """A video of these frames; none where a model does not read several, which it then says."""
        try:
            fitted = [self.chat.fit(frame, 2) for frame in frames]
            shown = self._placed(self.chat.watch(Clip(fitted, [0, 1], 2, 1.0)))
            with torch.inference_mode():
                self.network.base_model(**shown.row, use_cache=False)
        except Exception as error:  # whatever code that we do not know makes of it
            self.chat.sampling, self.chat.blind = None, f"several at once fail: {error}"
            return []
        return [shown]

    def _ask(self, lead: str, text: str, room: int) -> PromptTokens:
        return self._fit(text, room, lambda part: self._about(lead, part))

    def _about(self, lead: str, text: str) -> PromptTokens:
        """The tokens of the template's question and answer about a text."""
        question, answer = self.template.fill(text)
        return self.chat.ask(lead + question, answer)

    def _fit(self, text: str, room: int, ask: Callable[[str], PromptTokens]) -> PromptTokens:
        """The tokens about a text, which is cut at its end until prompt and answer fit."""

        def too_long(length: int) -> bool:
            return sum(map(len, ask(text[:length]))) > room

        if not too_long(len(text)):
            return ask(text)
        if too_long(0):
            raise InputError(
                f"{self.name!r}: question and answer leave no room for a text: the model reads "
                f"{room} tokens after the picture; shorten the templates"
            )
        self.note_truncated([text])
        return ask(text[: bisect_left(range(len(text)), True, key=too_long) - 1])

    def _placed(self, shown: MediaInputs) -> MediaInputs:
        """What a chat has prepared, on the scorer's device and in its precision."""
        row = {
            name: value.to(
                self.device,
                self.dtype if value.is_floating_point() and name not in SECONDS_PER_GRID else None,
            )
            for name, value in shown.row.items()
            if isinstance(value, Tensor) and name != "labels"  # which some processors make
        }
        return replace(shown, row=row)
