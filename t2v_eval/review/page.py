"""The page on which people flag the faults of images that were chosen at random."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from t2v_eval.evaluation.sampling import Sample
from t2v_eval.review.flags import FLAGS, check_flags, wording
from t2v_eval.review.sampling import available, plan_review
from t2v_eval.votes.page import IMAGE_PIXELS, Page, write_page_of
from t2v_eval.votes.tasks import PromptImages, check_choice


def write_review(
    prompts: Sequence[PromptImages],
    folder: str | Path,
    sample: int = 50,
    seed: int = 0,
    flags: Sequence[str] = tuple(FLAGS),
    instructions: str = "",
    image_pixels: int = IMAGE_PIXELS,
) -> Page:
    """Write ``review.html`` for people, and ``key.json``, which they do not get.

    Images of all generators are mixed, and the page does not say which made one. It keeps answers
    in the browser, and saves them as a file that `read_review` reads.

    Args:
        prompts: the images of each prompt, of `votes.tasks.images_of_prompts` or, where no prompts
            are known, of `images_of_folders`.
        folder: where to write.
        sample: how many images of each generator, 1 or more; all where it has fewer.
        seed: the random seed, 0 or more.
        flags: one to nine names of what can be wrong.
        instructions: what people read first, in place of the default; empty lines part paragraphs.
        image_pixels: the longer side of images that are larger.

    Raises:
        InputError: a number is out of its range, there is no image, or a flag cannot be used.
        MediaError: an image cannot be read; the message names it.
        OutputError: nothing can be written to the folder, or it has the key of another page.

    >>> import tempfile
    >>> from PIL import Image
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     image = Path(folder) / "a.png"
    ...     Image.new("RGB", (8, 8), "red").save(image)
    ...     page = write_review([PromptImages("0", "a cat", {"sdxl": [str(image)]})], folder)
    ...     page.path.name, page.tasks
    ('review.html', 1)
    """
    check_choice(sample, "sample", 0, seed)
    names = check_flags(flags)
    chosen = Sample(sample, seed)
    return write_page_of(
        "review",
        wording(names),
        plan_review(prompts, chosen),
        folder,
        instructions,
        image_pixels,
        {
            "flags": names,
            "sample": {"limit": sample, "seed": seed, "available": available(prompts)},
        },
    )
