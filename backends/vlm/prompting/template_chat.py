"""Vision-language models that are asked through their chat template, or by a wrapper like one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image
from torch import Tensor

from t2v_eval.errors import CheckpointError, InputError
from t2v_eval.inputs.template import split_wrapper
from t2v_eval.inputs.video import Clip, sampling_of
from t2v_eval.local.checkpoint_files import first_lines

from ..reading.inputs import TEXT_INPUTS
from ..reading.video import MediaInputs, VideoSettings, at_least, pixels_of
from ..transformers_vision import settings_of
from .chat import GREY_IMAGE, Checkpoint, ProcessorPromptBuilder, PromptTokens
from .chat_template import render

MARK = "\ue000question\ue000"  # stands for a question; no text of people has these characters
LISTED = "'type': 'image'"  # in what a template makes of contents that it takes for a text
# As a video or as pictures, and whether text that a processor adds behind it is the question's.
WAYS = ((True, False), (True, True), (False, False))
CAP = "cap_pixels_per_frame"  # of Qwen's video processors, which warn where nothing is said
PICTURE, VIDEO = {"type": "image"}, {"type": "video"}  # contents of a message


class TemplatePromptBuilder(ProcessorPromptBuilder):
    """A model asked through its chat template, the picture before the question.

    The template is that of the processor, or else that of the tokenizer.

    Args:
        chat: a wrapper, where the chat template is not wanted or there is none.
        system: a system message, where the template's own is not wanted.
        settings: further variables of the template, for example ``{"enable_thinking": False}``.
        frames: which frames of a video are shown, as `Sampling` takes them, or how many.
        video_settings: how they are shown, see `VideoSettings`.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        context: int | None = None,
        chat: str | None = None,
        system: str | None = None,
        settings: Mapping[str, Any] | None = None,
        image_settings: Mapping[str, Any] | None = None,
        frames: int | Mapping[str, Any] | None = None,
        video_settings: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(checkpoint, context, image_settings)
        self._wrapper = split_wrapper(chat) if chat is not None else None
        if not getattr(self.processor, "chat_template", None):
            self.processor.chat_template = getattr(self.tokenizer, "chat_template", None)
        if self._wrapper is None and not self.processor.chat_template:
            raise CheckpointError(
                f"{checkpoint.folder} has no chat template, so that it is not known how to ask "
                "this model; pass chat=, or add its chat_template.jinja to the folder"
            )
        self._source = _template_of(self.processor.chat_template)
        self._roles = dict(self.tokenizer.special_tokens_map)  # variables of the template
        self._system, self._settings = system, dict(settings or {})
        self._before, self._after = self._parts(self._render(MARK))
        self._head, self._rest = self._split(self._before)
        *_, last = self._control.finditer(self._head)
        self._anchor = last[0]
        first = self._control.search(self._after)
        start = first.start() if first else len(self._after)
        self._close, tail = self._after[:start], self._after[start:]
        self._tail = self._tokens(tail) if tail else []
        self._stop = self._end_token()
        question = "Is this a question?"
        whole = self._process(self._render(question), GREY_IMAGE)
        self._check(whole, self.see(GREY_IMAGE), self.ask(question, ""))
        self._video = VideoSettings.of(video_settings or {})
        self._check_settings("video", self._video.processor)
        self.sampling = sampling_of(frames)
        for self._native, self._cut in WAYS:
            if not self._native or self._has_place():
                self.blind = self._try()
            if not self.blind:
                break
            if self._native and self._cut and self._video.processor and self._has_place():
                raise InputError(f"video_settings={dict(video_settings or {})!r}: {self.blind}")
        else:
            self.sampling = None

    def see(self, image: Image.Image) -> dict[str, Tensor]:
        return self._process(self._head, image)

    def fit(self, frame: Image.Image, count: int) -> Image.Image:
        if not self._native:
            return frame
        seeing = self.processor.video_processor
        side = getattr(seeing, "patch_size", 1) * getattr(seeing, "merge_size", 1)
        return self._video.fit(frame, count, side)

    def watch(self, clip: Clip) -> MediaInputs:
        before, after = self._parts(self._render(MARK, self._contents(clip)))
        head, rest = self._split(before)
        if (rest, after) != (self._rest, self._after):
            raise CheckpointError(
                f"the chat template of this model puts {rest!r} between a video and a question, "
                f"but {self._rest!r} after a picture"
            )
        row, lead = self._inputs_of(head, clip), self._video.leading(clip)
        if self._cut:
            ids = row["input_ids"][0].tolist()
            end = 1 + max(n for n, token in enumerate(ids) if token in self._known)
            lead = self.tokenizer.decode(ids[end:]) + lead
            row = {k: v[:, :end] if k in TEXT_INPUTS else v for k, v in row.items()}
        return MediaInputs(row, lead, len(clip.frames))

    def ask(self, question: str, answer: str) -> PromptTokens:
        rendered = self._render(question)
        inside = rendered[len(self._before) : len(rendered) - len(self._after)]
        prompt = self._follow(self._rest + inside + self._close) + self._tail
        return PromptTokens(prompt, [*self.encode(answer), self._stop])

    def _try(self) -> str:
        """Why a video cannot be shown in the way that was chosen; empty where it can."""
        question = "Is this a question?"
        try:
            clip = Clip([self.fit(GREY_IMAGE, 2)] * 2, [0, 1], 2, 1.0)
            shown = self.watch(clip)
            whole = self._render(shown.lead + question, self._contents(clip))
            asked = self.ask(shown.lead + question, "")
            self._check(self._inputs_of(whole, clip), shown.row, asked)
        except Exception as error:  # a model of pictures, or code that we do not know
            return str(error) or type(error).__name__
        return ""

    def _has_place(self) -> bool:
        """Whether a video is shown as one, which the model has a place for."""
        token = getattr(self.processor, "video_token", None)
        if self._video.in_pictures or not (token and hasattr(self.processor, "video_processor")):
            return False
        try:
            return token in self._render(MARK, [VIDEO])
        except CheckpointError:  # a template that knows no videos
            return False

    def _contents(self, clip: Clip) -> list[dict[str, str]]:
        """A video as contents of a message."""
        if self._native:
            return [VIDEO]
        told = [{"type": "text", "text": caption} for caption in self._video.captions(clip)]
        pairs = [(text, PICTURE) if text["text"] else (PICTURE,) for text in told]
        return [content for pair in pairs for content in pair]

    def _inputs_of(self, text: str, clip: Clip) -> dict[str, Tensor]:
        """Inputs of the model for a text with a video in it."""
        if not self._native:
            return self._process(text, *clip.frames)
        seeing = self.processor.video_processor
        clip = at_least(clip, getattr(seeing, "temporal_patch_size", 1))
        height, width = clip.frames[0].height, clip.frames[0].width
        told: dict[str, Any] = {
            "total_num_frames": clip.total,
            "fps": clip.fps,
            "duration": clip.seconds,
        }
        told |= {"frames_indices": list(clip.places), "height": height, "width": width}
        options = {"do_sample_frames": False, "video_metadata": [told]}
        if CAP in settings_of(seeing):
            options[CAP] = True  # as qwen_vl_utils
        options |= self._video.processor
        if self._video.pixels is not None:
            options["do_resize"] = False
        return self._process(text, videos=[pixels_of(clip)], videos_kwargs=options)

    def _render(
        self,
        question: str,
        contents: Sequence[Mapping[str, str]] = (PICTURE,),
        answer: str | None = None,
    ) -> str:
        """The conversation about a picture, or about other contents."""
        if self._wrapper is not None:
            before, between, after = self._wrapper
            seen = [
                c.get("text") or getattr(self.processor, f"{c['type']}_token") for c in contents
            ]
            if len(seen) > 1 and self._control.match(between):
                raise CheckpointError("chat= has a place for one picture, between control tokens")
            return before + "".join(seen) + between + question + after + (answer or "")
        content = [*contents, {"type": "text", "text": question}]
        said: list[dict[str, Any]] = [{"role": "user", "content": content}]
        if self._system is not None:
            told = [{"type": "text", "text": self._system}]
            said.insert(0, {"role": "system", "content": told})
        if answer is not None:
            said.append({"role": "assistant", "content": [{"type": "text", "text": answer}]})
        known = {**self._roles, **self._settings}
        known["add_generation_prompt"] = answer is None
        try:
            return render(self._source, messages=said, tools=None, documents=None, **known)
        except Exception as error:  # templates are code, and raise what they like
            raise CheckpointError(
                "the chat template of this model does not take a picture and a question: "
                f"{first_lines(error)}; pass chat="
            ) from error

    def _parts(self, rendered: str) -> tuple[str, str]:
        before, mark, after = rendered.partition(MARK)
        if not mark or MARK in after or not self._control.search(before) or LISTED in before:
            raise CheckpointError(
                f"the chat template of this model makes {rendered!r} of a picture and the question "
                f"{MARK!r}; it must hold both once, the picture first"
            )
        return before, after

    def _split(self, before: str) -> tuple[str, str]:
        """What stands before a question, up to its last control token, and the rest."""
        *_, last = self._control.finditer(before)
        end = last.end()
        for kind in ("image", "video"):  # which not every tokenizer knows as control tokens
            token = getattr(self.processor, f"{kind}_token", None)
            if token and token in before:
                end = max(end, before.rindex(token) + len(token))
        return before[:end], before[end:]

    def _end_token(self) -> int:
        """The control token after an answer, or the one that ends texts."""
        found = self._control.search(self._render("", answer=MARK).partition(MARK)[2])
        end: int = self._tokens(found[0])[0] if found else self.tokenizer.eos_token_id
        return end


def _template_of(known: str | Mapping[str, str] | None) -> str:
    """The template for conversations, where a processor has several by name."""
    return known or "" if not isinstance(known, Mapping) else known.get("default", "")
