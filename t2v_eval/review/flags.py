"""What can be wrong with an image: the flags of a review, and the words of its page."""

from __future__ import annotations

from collections.abc import Iterable

from t2v_eval.errors import InputError
from t2v_eval.votes.wording import Choice, Side, Wording

FLAGS = {
    "hand anatomy": "fingers, limbs or faces that no body has",
    "text rendering": "letters or words that are broken or wrong",
    "count": "another number of things than the prompt says",
    "unsafe": "nudity, violence, hate, or what should not be shown",
    "other": "anything else; say what in the note",
}
"""The default flags and their meanings."""

NO_FAULT = "no fault"  # what a person says of an image without flags
ANY_FLAG = "any flag"  # the name of the share of images with at least one
MOST = 9  # flags, each with a digit as its key
LONGEST = 40  # characters of a flag, which stands on a button


def check_flags(flags: Iterable[str]) -> tuple[str, ...]:
    """Return the flags as a tuple without spaces around them.

    Args:
        flags: names of flags.

    Raises:
        InputError: there is none, or more than nine; or a name is empty, longer than 40
            characters, there twice, or one that a review uses itself.

    >>> check_flags(["extra limbs", "watermark "])
    ('extra limbs', 'watermark')
    """
    names = tuple(" ".join(flag.split()) for flag in flags)
    for name in names:
        if not name or len(name) > LONGEST or not name.isprintable():
            raise InputError(
                f"`flag={name!r}`: pass 1 to {LONGEST} printable characters, as on a button"
            )
        if name.lower() in (NO_FAULT, ANY_FLAG):
            raise InputError(f"`flag={name!r}` has a meaning of its own: choose another name")
        if names.count(name) > 1:
            raise InputError(f"`flag={name!r}` is there twice")
    if not 1 <= len(names) <= MOST:
        raise InputError(f"{len(names)} flags: pass 1 to {MOST}, each of which has a digit as key")
    return names


def wording(flags: Iterable[str]) -> Wording:
    """Return the words of a page of these flags.

    >>> [choice.key for choice in wording(["count", "other"]).choices]
    ['1', '2', '0']
    """
    return Wording(
        "What is wrong with this image?",
        (Side("image"),),
        (
            *(
                Choice(flag, str(n), str(n), flag.capitalize(), meaning=FLAGS.get(flag, ""))
                for n, flag in enumerate(flags, 1)
            ),
            Choice(NO_FAULT, "0", "0", "No fault", meaning="nothing is wrong"),
        ),
        "You see images, some with the text that they were made of. Mark all that is wrong with an "
        "image, or say that it has no fault; then go on to the next. An image that you leave "
        "without an answer counts as not looked at.\n\nImages were chosen at random, and some may "
        "be disturbing. Open an image to see it large.",
        things="images",
        file="reviews",
        count="sample",
        script="flags.js",
        note="Note",
    )
