"""Groups of images that are one input: pairs of them, and errors for those not supported."""

from __future__ import annotations

from t2v_eval.errors import InputError, UnsupportedError
from t2v_eval.inputs.media import (
    EDIT,
    EDIT_PAIR,
    PAIR,
    SCORERS,
    ImageGroup,
    Media,
    Roles,
    roles_of,
)

_INPUTS = {
    (): "single images",
    PAIR: "pairs of images",
    EDIT: "edits",
    EDIT_PAIR: "pairs of edits of one image",
}
_REMEDIES = {
    PAIR: "call prefer(image_a, image_b, text), of images alone; edits need a judge that sees "
    "their source (`t2v-eval list models --kind judge`)",
    EDIT: "pass `t2v_eval.Edit(source, result)`, the image before and after the edit, or name the "
    "column of a table that holds the images before it (`t2v-eval eval --column source=NAME`, "
    "`t2v-eval score --pairs TABLE --source-column NAME`)",
    EDIT_PAIR: "call prefer(Edit(source, a), Edit(source, b), text), or name the image before both "
    "(`t2v-eval prefer --source IMAGE`) or its column (`t2v-eval judge --column source=NAME`)",
}


def pair_of(first: Media, second: Media) -> ImageGroup:
    """Group two images, or the source and the results of two edits, in order.

    Args:
        first: an image, or an edit.
        second: the image to compare it with, or an edit of the same source.

    Raises:
        InputError: the edits have different sources.

    >>> from PIL import Image
    >>> from t2v_eval.inputs.media import open_media
    >>> images = [open_media(Image.new("RGB", (4, 4), name)) for name in ("gray", "red", "blue")]
    >>> edits = [ImageGroup.of(source=images[0], result=image) for image in images[1:]]
    >>> pair_of(*edits).roles
    ('source', 'first', 'second')
    """
    if not (isinstance(first, ImageGroup) and isinstance(second, ImageGroup)):
        return ImageGroup.of(first=first, second=second)
    (source, a), (other, b) = first.images, second.images
    if source.key != other.key:
        raise InputError(
            f"{source.name} and {other.name} are not the same image: compare edits of one source"
        )
    return ImageGroup.of(source=source, first=a, second=b)


def wrong_roles(scorer: str, roles: Roles, media: Media) -> UnsupportedError:
    """Return the error for an image, or a group of them, that a scorer does not take.

    Args:
        scorer: the name of the scorer.
        roles: the roles of the images that it scores together; empty for single images.
        media: the input.

    >>> from PIL import Image
    >>> from t2v_eval.inputs.media import open_media
    >>> print(wrong_roles("mine", PAIR, open_media(Image.new("RGB", (4, 2)), "a")))
    'mine' scores pairs of images, and a (4x2 PIL image) is a single image: call \
prefer(image_a, image_b, text), of images alone; edits need a judge that sees their source \
(`t2v-eval list models --kind judge`)
    """
    takes = _INPUTS.get(roles, f"groups of {', '.join(roles)}")
    actual = roles_of(media)
    what = f"are a group of {', '.join(actual)}" if actual else "is a single image"
    remedy = _REMEDIES.get(roles) or SCORERS.get(actual) or "pass what it takes"
    return UnsupportedError(f"{scorer!r} scores {takes}, and {media.name} {what}: {remedy}")
