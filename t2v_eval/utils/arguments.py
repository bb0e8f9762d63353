"""What to say about an argument that a call does not take, or whose value is of another type."""

from __future__ import annotations

import difflib
import os
import re
import reprlib
from collections.abc import Collection, Iterable
from pathlib import Path, PurePath
from typing import Any

from t2v_eval.errors import InputError
from t2v_eval.utils.printable import redact_userinfo

_FRAMES = "how many frames of a video are read is said in a call, or when its scorer is loaded"
_AUDIO = "sound is not scored here, only images and videos: leave it out"
_GREEDY = "answers are the most probable ones, so that scores repeat: leave it out"
_EXPLAIN = "`scorer.explain(images, texts)` returns the tokens of answers and their probabilities"
# Arguments of t2v_metrics, and of what is alike, that are other ones here.
OTHER_WAYS = {
    "answer": "it is called `answer_template=`",
    "audio_paths": _AUDIO,
    "captions": "it is called `texts=`",
    "debug": _EXPLAIN,
    "do_sample": _GREEDY,
    "fps": f"{_FRAMES}, as `frames={{'fps': 8.0}}`",
    "logprobs": "it is called `top_logprobs=`",
    "max_new_tokens": "it is for `scorer.generate`: a score reads the tokens of its answer alone",
    "model_name": "it is called model here, and comes first",
    "num_frames": f"{_FRAMES}, as `frames=8`",
    "paths": "it is called `images=`",
    "project_id": "it is called `project=`, beside `vertexai=True`",
    "question": "it is called `question_template=`",
    "return_audio": _AUDIO,
    "save_audio_path": _AUDIO,
    "score_position": _EXPLAIN,
    "speaker": _AUDIO,
    "temperature": _GREEDY,
    "top_p": _GREEDY,
    "torch_dtype": "it is called `dtype=`",
    "use_audio_in_video": _AUDIO,
    "video_mode": "a scorer of images takes the frames of a video: `t2v_eval.inputs.video.frames`",
    "videos": "videos are passed as `images=`",
}
# What to say of those where a scorer reads no videos.
OF_IMAGES = dict.fromkeys(
    ("fps", "frames", "num_frames"),
    "it reads images, of a video the frames that `t2v_eval.inputs.video.frames` returns",
)
_MOST_NAMES = 12  # that are listed where none is near
# An address such as s3://bucket, or a Path made of one, which has a single slash.
_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]+):/+", re.IGNORECASE)


def unknown_argument(taker: str, name: str, known: Collection[str], more: str = "") -> str:
    """Return a message about an argument, with the new way, the nearest name, or all names.

    Args:
        taker: what does not take it.
        name: the argument.
        known: the arguments that it takes.
        more: where these are listed, if they are too many for a message.

    >>> unknown_argument("'qwen2.5-vl-7b'", "fps", ["checkpoint", "frames"])[-32:]
    "loaded, as `frames={'fps': 8.0}`"
    >>> unknown_argument("a call", "text", ["images", "texts"])
    'a call takes no `text=`: did you mean `texts=`?'
    """
    message = f"{taker} takes no `{name}=`"
    known = {*known} - {name}  # it may be known, and not go with another argument
    if name in OTHER_WAYS and _possible(OTHER_WAYS[name], known):
        return f"{message}: {OTHER_WAYS[name]}"
    if name in OF_IMAGES and "checkpoint" in known:
        return f"{message}: {OF_IMAGES[name]}"
    if close := difflib.get_close_matches(name, known, 1, cutoff=0.6):
        return f"{message}: did you mean `{close[0]}=`?"
    if len(known) > _MOST_NAMES:
        return f"{message}{more}"
    return f"{message}: " + (f"it takes {', '.join(sorted(known))}" if known else "leave it out")


def _possible(way: str, parameters: Collection[str]) -> bool:
    """Return whether a class takes what stands for an argument; a call says what another does."""
    named = re.findall(r"`(\w+)=", way)
    return not named or "images" in parameters or any(name in parameters for name in named)


def file_endings(name: str, ends: Iterable[str]) -> str:
    """Return how files end that can stand for a name, if the name looks like a file.

    >>> file_endings("data/prompts.xlsx", [".csv", ".txt"])
    '; a file of your own ends in .csv or .txt'
    >>> file_endings("winogroud", [".csv"])
    ''
    """
    *first, last = dict.fromkeys(ends) or [""]
    is_path = "/" in name or "\\" in name or PurePath(name).suffix[1:2].isalpha()
    return f"; a file of your own ends in {', '.join(first)} or {last}" if first and is_path else ""


def check_path(argument: str, value: Any) -> Path:
    """Return the path that an argument holds; ``~`` stands for the home.

    Raises:
        InputError: the value is no path but an address, or of a user who has no home.

    >>> check_path("folder", "report").name
    'report'
    >>> check_path("folder", 3)
    Traceback (most recent call last):
    ...
    t2v_eval.errors.InputError: `folder=3`: pass a path, as a text or a pathlib.Path
    """
    if not isinstance(value, (str, os.PathLike)) or not isinstance(os.fspath(value), str):
        raise wrong_type(argument, value, "a path, as a text or a pathlib.Path")
    if _ADDRESS.match(os.fspath(value)):  # else a folder of its name would be created here
        address = redact_userinfo(_ADDRESS.sub(r"\1://", os.fspath(value), count=1))
        raise InputError(
            f"`{argument}={address!r}`: an address cannot stand here: pass a path of this machine, "
            "and copy the files"
        )
    try:
        return Path(value).expanduser()
    except RuntimeError:
        raise InputError(f"{value}: there is no such user; write ./~ for a name with ~") from None


def wrong_type(argument: str, value: Any, wanted: str) -> InputError:
    """Return an error about an argument whose value is of another type.

    >>> str(wrong_type("subset", 3, "a tag or a list of tags"))
    '`subset=3`: pass a tag or a list of tags'
    """
    return InputError(f"`{argument}={reprlib.repr(value)}`: pass {wanted}")


def check_choice(argument: str, value: str, choices: tuple[str, ...]) -> None:
    """Check that an argument is one of some texts.

    Raises:
        InputError: it is another.

    >>> check_choice("on_error", "ignore", ("raise", "skip"))
    Traceback (most recent call last):
    ...
    t2v_eval.errors.InputError: `on_error='ignore'`; use 'raise' or 'skip'
    """
    if value not in choices:
        raise InputError(f"`{argument}={value!r}`; use {' or '.join(map(repr, choices))}")
