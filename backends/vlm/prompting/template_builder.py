"""Build prompts with a chat template, or with a wrapper in its place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image
from torch import Tensor
from typing_extensions import override

from t2v_eval.errors import CheckpointError, InputError, UnsupportedError
from t2v_eval.inputs.template import split_wrapper
from t2v_eval.inputs.video import Clip, sampling_of
from t2v_eval.local.checkpoint_files import first_lines

from ..reading.inputs import TEXT_INPUTS, PromptTokens
from ..reading.video import MediaInputs, VideoSettings, pad_clip, stack_frames
from ..transformers_vision import settings_of
from .builders import GREY_IMAGE, TEST_QUESTION, CheckpointInfo, ProcessorPromptBuilder
from .template_sandbox import render

PLACEHOLDER = "\ue000question\ue000"  # for a question; private characters, in no text of a user
# Printed by templates for texts alone, which take a message's parts for its text.
PRINTED_CONTENT = "'type': 'image'"
# How a video is put into a prompt, in the order of trying: as one video or as several images, and
# whether text that the processor puts behind the video counts as part of the question.
VIDEO_FORMS = ((True, False), (True, True), (False, False))
CAP_PIXELS = "cap_pixels_per_frame"  # of Qwen's video processors, which warn where it is not set
IMAGE, VIDEO = {"type": "image"}, {"type": "video"}  # contents of a message


class TemplatePromptBuilder(ProcessorPromptBuilder):
    """Build prompts with a chat template, the image before the question.

    The template is that of the processor, or else that of the tokenizer.

    Args:
        checkpoint: see `ProcessorPromptBuilder`.
        context: see `ProcessorPromptBuilder`.
        chat: a wrapper to use instead of the chat template.
        system: a system message to use instead of the template's own.
        settings: further variables of the template, for example ``{"enable_thinking": False}``.
        image_settings: see `ProcessorPromptBuilder`.
        frames: the number of frames of a video, or arguments of `Sampling`.
        video_settings: how frames are turned into inputs, see `VideoSettings`.

    Raises:
        CheckpointError: there is no chat template, or it does not take an image and a question.
        InputError: a setting that a processor does not have.

    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from tokenizers import Tokenizer, models, pre_tokenizers
    >>> from transformers import CLIPImageProcessorPil, LlavaConfig, LlavaProcessor
    >>> from transformers import PreTrainedTokenizerFast
    >>> words = ["<unk>", "<s>", "</s>", "<image>", "USER:", "a", "cat?", "yes", "Is", "this"]
    >>> tokenizer = Tokenizer(models.WordLevel({w: n for n, w in enumerate(words)}, "<unk>"))
    >>> tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    >>> processor = LlavaProcessor(
    ...     CLIPImageProcessorPil(size=32, crop_size=32),
    ...     PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>",
    ...         eos_token="</s>", additional_special_tokens=["<image>"]),
    ...     patch_size=16, vision_feature_select_strategy="full",
    ...     chat_template="<s>USER: <image>{{ messages[0].content[1].text }} </s>")
    >>> config = LlavaConfig(vision_config={"image_size": 32, "patch_size": 16})
    >>> with TemporaryDirectory() as folder:
    ...     _ = processor.save_pretrained(folder)
    ...     builder = TemplatePromptBuilder(CheckpointInfo(Path(folder), config, None, False))
    >>> builder.tokenize("a cat?", "yes")
    PromptTokens(prompt=[5, 6, 2], answer=[7, 2])
    """

    def __init__(
        self,
        checkpoint: CheckpointInfo,
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
                "this model; pass `chat=`, or add its chat_template.jinja to the folder"
            )
        self._source = _default_template(self.processor.chat_template)
        self._roles = dict(self.tokenizer.special_tokens_map)  # variables of the template
        self._system, self._settings = system, dict(settings or {})
        self._split_template()
        whole = self._process(self._render(TEST_QUESTION), GREY_IMAGE)
        self._check_parts(whole, self.image_inputs(GREY_IMAGE), self.tokenize(TEST_QUESTION, ""))
        self._choose_video_form(frames, video_settings or {})

    def _split_template(self) -> None:
        """Split the rendered template around the question, at control tokens."""
        self._before, self._after = self._around_question(self._render(PLACEHOLDER))
        self._head, self._rest = self._split_at_control(self._before)
        *_, last = self._control.finditer(self._head)
        self._anchor = last[0]
        control = self._control.search(self._after)
        start = control.start() if control else len(self._after)
        self._close, tail = self._after[:start], self._after[start:]
        self._tail = self._tokens(tail) if tail else []
        self._end_token_id = self._find_end_token()

    def _choose_video_form(
        self, frames: int | Mapping[str, Any] | None, video_settings: Mapping[str, Any]
    ) -> None:
        """Choose how a video is put into a prompt; without any form, the model takes no videos.

        Raises:
            InputError: settings of the video processor that do not work.
        """
        self._video = VideoSettings.from_mapping(video_settings)
        self._check_settings("video", self._video.processor)
        self.sampling = sampling_of(frames)
        for self._as_video, self._text_is_lead in VIDEO_FORMS:
            if not self._as_video or self._has_video_token():
                self.no_video_reason = self._try_video()
            if not self.no_video_reason:
                return
            last_as_video = self._as_video and self._text_is_lead
            if last_as_video and self._video.processor and self._has_video_token():
                raise InputError(
                    f"`video_settings={dict(video_settings)!r}`: {self.no_video_reason}"
                )
        self.sampling = None

    @override
    def image_inputs(self, image: Image.Image) -> dict[str, Tensor]:
        return self._process(self._head, image)

    @override
    def group_inputs(self, images: Sequence[Image.Image], leads: Sequence[str] = ()) -> MediaInputs:
        self._refuse_control_tokens("".join(leads))
        contents: list[dict[str, str]] = []
        for lead in leads or [""] * len(images):
            contents += [{"type": "text", "text": lead}, IMAGE] if lead else [IMAGE]
        before, after = self._around_question(self._render(PLACEHOLDER, contents))
        head, rest = self._split_at_control(before)
        if (rest, after) != (self._rest, self._after):
            raise UnsupportedError(
                f"the chat template of this model puts {rest!r} between images and a question, but "
                f"{self._rest!r} after one"
            )
        return MediaInputs(self._process(head, *images), images=len(images))

    @override
    def text_inputs(self, prompt: str) -> dict[str, Tensor]:
        if self._wrapper is not None:
            raise UnsupportedError("`chat=` is a text around an image: leave it out")
        self._refuse_control_tokens(prompt)
        return self._process(self._render(prompt, ()))

    def _refuse_control_tokens(self, prompt: str) -> None:
        if control := self._control.search(prompt):
            raise InputError(f"the prompt holds {control[0]!r}, a control token of this model")

    @override
    def resize_frame(self, frame: Image.Image, count: int) -> Image.Image:
        if not self._as_video:
            return frame
        processor = self.processor.video_processor
        side = getattr(processor, "patch_size", 1) * getattr(processor, "merge_size", 1)
        return self._video.resize_frame(frame, count, side)

    @override
    def video_inputs(self, clip: Clip) -> MediaInputs:
        before, after = self._around_question(self._render(PLACEHOLDER, self._contents(clip)))
        head, rest = self._split_at_control(before)
        if (rest, after) != (self._rest, self._after):
            raise CheckpointError(
                f"the chat template of this model puts {rest!r} between a video and a question, "
                f"but {self._rest!r} after an image"
            )
        row, lead = self._process_clip(head, clip), self._video.lead_text(clip)
        if self._text_is_lead:
            ids = row["input_ids"][0].tolist()
            end = 1 + max(n for n, token in enumerate(ids) if token in self._control_ids)
            lead = self.tokenizer.decode(ids[end:]) + lead
            row = {k: v[:, :end] if k in TEXT_INPUTS else v for k, v in row.items()}
        return MediaInputs(row, lead, len(clip.frames))

    @override
    def tokenize(self, question: str, answer: str) -> PromptTokens:
        rendered = self._render(question)
        inside = rendered[len(self._before) : len(rendered) - len(self._after)]
        prompt = self._tokens_after_control(self._rest + inside + self._close) + self._tail
        return PromptTokens(prompt, [*self.encode(answer), self._end_token_id])

    def _try_video(self) -> str:
        """Return why the current video form does not work; empty where it does."""
        try:
            clip = Clip([self.resize_frame(GREY_IMAGE, 2)] * 2, [0, 1], 2, 1.0)
            inputs = self.video_inputs(clip)
            question = inputs.lead + TEST_QUESTION
            whole = self._process_clip(self._render(question, self._contents(clip)), clip)
            self._check_parts(whole, inputs.row, self.tokenize(question, ""))
        except Exception as error:  # of a model for images, or of code that the tests do not cover
            return str(error) or type(error).__name__
        return ""

    def _has_video_token(self) -> bool:
        """Return whether a video is one content of a message, for which the model has a token."""
        token = getattr(self.processor, "video_token", None)
        has_processor = hasattr(self.processor, "video_processor")
        if self._video.frames_are_images or not (token and has_processor):
            return False
        try:
            return token in self._render(PLACEHOLDER, [VIDEO])
        except CheckpointError:  # of a template for images alone
            return False

    def _contents(self, clip: Clip) -> list[dict[str, str]]:
        """Return a video as contents of a message."""
        if self._as_video:
            return [VIDEO]
        contents = []
        for caption in self._video.frame_captions(clip):
            contents += [{"type": "text", "text": caption}] if caption else []
            contents.append(IMAGE)
        return contents

    def _process_clip(self, text: str, clip: Clip) -> dict[str, Tensor]:
        """Return the inputs of the model for a text with a video in it."""
        if not self._as_video:
            return self._process(text, *clip.frames)
        processor = self.processor.video_processor
        clip = pad_clip(clip, getattr(processor, "temporal_patch_size", 1))
        metadata = {
            "total_num_frames": clip.total,
            "fps": clip.fps,
            "duration": clip.seconds,
            "frames_indices": list(clip.places),
            "height": clip.frames[0].height,
            "width": clip.frames[0].width,
        }
        options: dict[str, Any] = {"do_sample_frames": False, "video_metadata": [metadata]}
        if CAP_PIXELS in settings_of(processor):
            options[CAP_PIXELS] = True  # as qwen_vl_utils
        options |= self._video.processor
        if self._video.pixels is not None:
            options["do_resize"] = False
        return self._process(text, videos=[stack_frames(clip)], videos_kwargs=options)

    def _render(
        self,
        question: str,
        contents: Sequence[Mapping[str, str]] = (IMAGE,),
        answer: str | None = None,
    ) -> str:
        """Return the conversation about an image, or about other contents, as text."""
        if self._wrapper is not None:
            return self._fill_wrapper(question, contents) + (answer or "")
        content = [*contents, {"type": "text", "text": question}]
        messages: list[dict[str, Any]] = [{"role": "user", "content": content}]
        if self._system is not None:
            system = [{"type": "text", "text": self._system}]
            messages.insert(0, {"role": "system", "content": system})
        if answer is not None:
            messages.append({"role": "assistant", "content": [{"type": "text", "text": answer}]})
        variables = {**self._roles, **self._settings, "add_generation_prompt": answer is None}
        try:
            return render(self._source, messages=messages, tools=None, documents=None, **variables)
        except Exception as error:  # templates are programs, and raise any kind
            what = "an image and a question" if contents else "a prompt without an image"
            raise CheckpointError(
                f"the chat template of this model does not take {what}: {first_lines(error)}; "
                "pass `chat=`"
            ) from error

    def _fill_wrapper(self, question: str, contents: Sequence[Mapping[str, str]]) -> str:
        before, between, after = self._wrapper or ("", "", "")
        media = [c.get("text") or getattr(self.processor, f"{c['type']}_token") for c in contents]
        if len(media) > 1 and self._control.match(between):
            raise CheckpointError("`chat=` has a place for one image, between control tokens")
        return before + "".join(media) + between + question + after

    def _around_question(self, rendered: str) -> tuple[str, str]:
        """Return the text before and after the placeholder of the question."""
        before, placeholder, after = rendered.partition(PLACEHOLDER)
        if (
            not placeholder
            or PLACEHOLDER in after
            or not self._control.search(before)
            or PRINTED_CONTENT in before
        ):
            raise CheckpointError(
                f"the chat template of this model makes {rendered!r} of an image and the question "
                f"{PLACEHOLDER!r}; it must hold both once, the image first"
            )
        return before, after

    def _split_at_control(self, before: str) -> tuple[str, str]:
        """Split the text before a question after its last control token."""
        *_, last = self._control.finditer(before)
        end = last.end()
        for kind in ("image", "video"):  # not every tokenizer has these as control tokens
            token = getattr(self.processor, f"{kind}_token", None)
            if token and token in before:
                end = max(end, before.rindex(token) + len(token))
        return before[:end], before[end:]

    def _find_end_token(self) -> int:
        """Return the control token after an answer, or the one that ends texts."""
        rendered = self._render("", answer=PLACEHOLDER)
        control = self._control.search(rendered.partition(PLACEHOLDER)[2])
        token: int = self._tokens(control[0])[0] if control else self.tokenizer.eos_token_id
        return token


def _default_template(templates: str | Mapping[str, str] | None) -> str:
    """Return the template for conversations, where a processor has several by name."""
    return templates.get("default", "") if isinstance(templates, Mapping) else templates or ""
