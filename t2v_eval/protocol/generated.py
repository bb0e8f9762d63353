"""The images of the model and of the baseline, by seed and prompt."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from t2v_eval.cards import BenchmarkCard
from t2v_eval.errors import InputError, T2VError
from t2v_eval.evaluation.benchmark import Benchmark, Item
from t2v_eval.evaluation.options import BenchmarkOptions
from t2v_eval.evaluation.sampling import Sample
from t2v_eval.evaluation.selection import first_few
from t2v_eval.protocol.plan import GeneratorImages, ProtocolPlan
from t2v_eval.registry import benchmarks

REMEDY = (
    "Every seed needs an image of each prompt: make those that are missing, or take the prompts out"
)
FILE_OF_PROMPTS = "write a file of prompts (.txt, or a table with a column prompt)"


@dataclass(frozen=True, slots=True)
class GeneratedImages:
    """The images of one generator.

    Attributes:
        name: what the report calls the generator.
        images: by seed, from 0, one image of each prompt, in the order of the prompts.
        folders: the folders that they lie in.

    >>> GeneratedImages("new", {0: [Path("new/0.png")]}).seeds
    1
    """

    name: str
    images: Mapping[int, Sequence[Path]]
    folders: Sequence[Path] = ()

    @property
    def seeds(self) -> int:
        """The number of images of each prompt."""
        return len(self.images)


@dataclass(frozen=True, slots=True)
class ProtocolImages:
    """The prompts of a protocol, and the images of both generators.

    Attributes:
        benchmark: the set of prompts.
        items: a prompt each, without images: its text, tags, id and group.
        model: the images of the model.
        baseline: those of the baseline.
        of_all: the number of prompts that there are.
        remarks: how the folders were read.

    >>> images = GeneratedImages("new", {0: []})
    >>> ProtocolImages(None, [], images, images, 0).texts
    []
    """

    benchmark: Benchmark | None
    items: Sequence[Item]
    model: GeneratedImages
    baseline: GeneratedImages
    of_all: int
    remarks: Sequence[str] = ()

    @property
    def texts(self) -> list[str]:
        """The prompts."""
        return [item.texts[0] for item in self.items]

    @property
    def generators(self) -> tuple[GeneratedImages, GeneratedImages]:
        """The model and the baseline."""
        return self.model, self.baseline

    def generator_of(self, name: str, image: str = "") -> str:
        """Return the generator that a file means, or "" for another one.

        Args:
            name: the name that the file has: that of the plan, or a folder.
            image: an image of that generator, whose folder says which it is; "" where the file
                names none.

        >>> new, old = (GeneratedImages(name, {0: []}, [Path(name)]) for name in ("new", "old"))
        >>> images = ProtocolImages(None, [], new, old, of_all=0)
        >>> images.generator_of("seed_0", "old/00000.png"), images.generator_of("sdxl")
        ('old', '')
        """
        for generator in self.generators:
            folders = [folder.resolve() for folder in generator.folders]
            if name == generator.name or Path(name).resolve() in folders:
                return generator.name
            if image and any(folder in Path(image).resolve().parents for folder in folders):
                return generator.name
        matches = [g.name for g in self.generators if name in [f.name for f in g.folders]]
        return matches[0] if len(matches) == 1 else ""


def read_images(plan: ProtocolPlan, sample: Sample | None = None) -> ProtocolImages:
    """Match the images of both generators to the prompts of a plan.

    Args:
        plan: the plan.
        sample: the part of the prompts to read; None for all.

    Raises:
        UnknownNameError: no set of prompts has this name.
        BenchmarkDataError: the prompts or a folder cannot be read, or a prompt has no image.
        InputError: a prompt has fewer images of a generator than others: a seed lacks it.
    """
    where = plan.file or "the plan"
    card = _card_of_prompts(plan)
    folders = {
        key: [Path(plan.path(folder)) for folder in generator.images]
        for key, generator in (("model", plan.model), ("baseline", plan.baseline))
    }
    _check_folders(plan, folders)
    both = [*folders["model"], *folders["baseline"]]
    root = plan.path(plan.root) if plan.root else None
    if not hasattr(BenchmarkOptions(root=root).open(card), "images"):
        raise InputError(
            f"{where}: prompts is {plan.prompts!r}, which is no set of prompts: {FILE_OF_PROMPTS}"
        )
    # What lacks an image is left out here to be named: no option of a protocol leaves it out.
    benchmark = BenchmarkOptions(root=root, images=both).open(card).selecting(None, "skip")
    items = list(benchmark.selected())
    if left_out := benchmark.selection.left_out:
        lacking = first_few([f"{name} ({image})" for name, image in left_out.items()])
        raise InputError(
            f"{where}: {len(left_out)} of {benchmark.selection.total} prompts have no image in any "
            f"folder: {lacking}. {REMEDY}"
        )
    of_all = len(items)
    if sample is not None:
        bare = [_without_images(item) for item in items]
        chosen = {id(item) for item in sample.choose(bare)}
        items = [item for item, alone in zip(items, bare, strict=True) if id(alone) in chosen]
    count = len(folders["model"])
    return ProtocolImages(
        benchmark,
        [_without_images(item) for item in items],
        _by_seed(plan.model, items, range(count), folders["model"]),
        _by_seed(plan.baseline, items, range(count, len(both)), folders["baseline"]),
        of_all,
        list(benchmark.selection.remarks),
    )


def _card_of_prompts(plan: ProtocolPlan) -> BenchmarkCard:
    """Return the card of the prompts of a plan: of a file, or of a set of prompts.

    Raises:
        InputError: there is neither a file nor a set of this name.
    """
    name = plan.path(plan.prompts)
    if Path(name).is_file():
        return benchmarks.card(name)
    where = f"{plan.file or 'the plan'}: prompts is {plan.prompts!r}"
    if not plan.prompts.strip() or Path(name).is_dir():
        what = "a folder" if plan.prompts.strip() else "empty"
        raise InputError(f"{where}, {what}: {FILE_OF_PROMPTS}")
    try:
        return benchmarks.card(plan.prompts)
    except T2VError as error:
        raise InputError(f"{where}, and {name} does not exist: {error}") from error


def _check_folders(plan: ProtocolPlan, folders: Mapping[str, Sequence[Path]]) -> None:
    """Check that folders are there, and that none is of both generators.

    Raises:
        InputError: they are not.
    """
    where = plan.file or "the plan"
    for key, paths in folders.items():
        for path in paths:
            if not path.is_dir():
                why = "is a file" if path.is_file() else "does not exist"
                raise InputError(
                    f"{where}: {path} of {key}.images {why}: write the folder of the images, or a "
                    "list of one folder for each seed"
                )
    places = Counter(path.resolve() for paths in folders.values() for path in paths)
    twice = [str(place) for place, times in places.items() if times > 1]
    if twice:
        raise InputError(
            f"{where}: {twice[0]} is there twice among model.images and baseline.images: each seed "
            "and each generator has a folder of its own"
        )


def _without_images(item: Item) -> Item:
    """Return a prompt, by whose text alone it is sampled."""
    return Item([], item.texts, tags=item.tags, id=item.id, group=item.group)


def _by_seed(
    generator: GeneratorImages, items: Sequence[Item], side: range, folders: Sequence[Path]
) -> GeneratedImages:
    """Return the images of a generator: the n-th of each prompt is of seed n.

    Raises:
        InputError: prompts have unequal numbers of images.
    """
    listed = [
        [
            image
            for image, folder in zip(item.images, item.labels["folder"], strict=True)
            if folder in side
        ]
        for item in items
    ]
    for place, folder in zip(side, folders, strict=True):
        lacking = [i for i in items if place not in i.labels["folder"]]
        if lacking:
            which = first_few([f"{item.id}, {item.texts[0]!r}" for item in lacking])
            raise InputError(
                f"{folder} of {generator.name} has no image of {len(lacking)} of {len(items)} "
                f"prompts: {which}. {REMEDY}"
            )
    counts = Counter(map(len, listed))
    seeds = max(counts)
    if len(counts) > 1:
        few = [
            f"{item.id}, {item.texts[0]!r} ({len(images)})"
            for item, images in zip(items, listed, strict=True)
            if len(images) < seeds
        ]
        raise InputError(
            f"{generator.name} has {seeds} images of most prompts and fewer of {len(few)}: "
            f"{first_few(few)}. {REMEDY}"
        )
    by_seed = {seed: [Path(str(images[seed])) for images in listed] for seed in range(seeds)}
    return GeneratedImages(generator.name, by_seed, folders)
