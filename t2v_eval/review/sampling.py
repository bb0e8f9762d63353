"""Choose the images of a review: by a hash, whatever their scores, alike for all generators."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from t2v_eval.errors import InputError
from t2v_eval.evaluation.sampling import Sample
from t2v_eval.inputs.folders import IMAGES, files_in
from t2v_eval.utils.arguments import check_path
from t2v_eval.votes.tasks import PromptImages, Task, TaskImage, in_random_order


def images_of_folders(folders: Sequence[str | Path]) -> list[PromptImages]:
    """Return the images of folders whose prompts are not known; alike names stand for one prompt.

    Args:
        folders: folders of images, directly or in sub-folders. The name of a folder, with as many
            of its parents as tell it from the others, is that of its generator.

    Raises:
        InputError: a folder holds no images, or is there twice.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = (Path(folder) / "0.png").write_bytes(b"")
    ...     images_of_folders([folder])[0].prompt
    '0'
    """
    paths = [check_path("images", folder) for folder in folders]
    names = _names(paths)
    images: dict[str, dict[str, list[str]]] = {}
    for name, folder in zip(names, paths, strict=True):
        files = [path for path in files_in(folder, "**/*") if path.suffix.lower() in IMAGES]
        if not files:
            raise InputError(f"{folder} holds no images (endings: {' '.join(IMAGES)})")
        for file in files:
            stem = file.relative_to(folder).with_suffix("").as_posix()
            images.setdefault(stem, {}).setdefault(name, []).append(str(file))
    return [PromptImages(stem, "", images[stem]) for stem in sorted(images)]


def plan_review(prompts: Sequence[PromptImages], sample: Sample) -> list[Task]:
    """Choose the images of each generator that people review, in random order.

    An image is chosen by a hash of the seed, its prompt (or name, where no prompt is known) and its
    number among the images of the prompt: never by its score or content. So images that are added
    move few others, and generators of the same prompts are reviewed on the same ones.

    Args:
        prompts: the images of each prompt.
        sample: how many images of each generator, and the random seed.

    Raises:
        InputError: there is no image.

    >>> prompts = [PromptImages(str(n), f"{n} cats", {"a": [f"a/{n}.png"]}) for n in range(9)]
    >>> len(plan_review(prompts, Sample(3)))
    3
    """
    by_name: dict[str, list[tuple[str, Task]]] = {}
    times: Counter[str] = Counter()
    for prompt in prompts:
        wording = prompt.text or prompt.prompt
        times[wording] += 1  # a text that is there twice is two prompts
        for name, paths in prompt.images.items():
            for k, path in enumerate(paths):
                task = Task("", prompt.prompt, prompt.text, (TaskImage(name, path),))
                by_name.setdefault(name, []).append((f"{wording} {times[wording]} {k}", task))
    if not by_name:
        raise InputError("no prompt has an image: pass the folder of images as `images=`")
    tasks = []
    for name in sorted(by_name):
        units, candidates = zip(*by_name[name], strict=True)
        tasks += sample.choose(candidates, units)
    return in_random_order(tasks, random.Random(sample.seed))


def available(prompts: Sequence[PromptImages]) -> Mapping[str, int]:
    """Return how many images each generator has, from which a sample is chosen.

    >>> available([PromptImages("0", "a cat", {"a": ["a/0.png", "a/1.png"]})])
    {'a': 2}
    """
    counts: Counter[str] = Counter()
    for prompt in prompts:
        counts.update({name: len(paths) for name, paths in prompt.images.items()})
    return dict(sorted(counts.items()))


def _names(folders: Sequence[Path]) -> list[str]:
    """Return the end of each path that is no other's.

    Raises:
        InputError: a folder is there twice.
    """
    parts = [folder.resolve().parts for folder in folders]
    if len(set(parts)) < len(parts):
        raise InputError("`images=`: a folder is there twice")
    for length in range(1, max(map(len, parts), default=0) + 1):
        names = ["/".join(part[-length:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    return []
