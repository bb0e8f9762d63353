"""Shards: the part of the images that one of several workers scores.

Work is cut by image, so that one worker decodes and encodes an image for all its texts. An image
that is a file or a URL belongs to a shard by a hash of its path as it was written; any other by a
hash of its content. No worker has to read the images of the others to know its own, and images
that are added later move no other. A file under two paths may be in two shards, which costs time
and changes no score.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from t2v_eval.errors import InputError
from t2v_eval.inputs.media import Media, MediaLike, open_media, parts_of
from t2v_eval.scoring.plan import Block

# What starts several processes, and where it tells each its number and how many there are.
# torchrun comes first, since Slurm may have started it.
LAUNCHERS = {"torchrun": ("RANK", "WORLD_SIZE"), "Slurm": ("SLURM_PROCID", "SLURM_NTASKS")}
LOCAL_RANKS = ("LOCAL_RANK", "SLURM_LOCALID")
"""Variables with the number of a process among those of its machine, counted from 0."""


@dataclass(frozen=True, slots=True)
class Shard:
    """One of `count` parts of the images.

    Attributes:
        number: which part, from 1 to `count`.
        count: how many parts there are.

    Raises:
        InputError: `count` is less than 1, or `number` is not from 1 to `count`.

    >>> [shard.number for shard in (Shard(1, 3), Shard(2, 3), Shard(3, 3)) if shard.holds("a.png")]
    [3]
    """

    number: int
    count: int

    def __post_init__(self) -> None:
        if self.count < 1:
            raise InputError(f"`shard='{self}'`: the number of shards is 1 or more")
        if not 1 <= self.number <= self.count:
            raise InputError(
                f"`shard='{self}'`: of {self.count} shards, the first is 1/{self.count} and the "
                f"last {self.count}/{self.count}"
            )

    @classmethod
    def parse(cls, text: str, environment: Mapping[str, str] = os.environ) -> Self:
        """Read a shard.

        Args:
            text: "NUMBER/COUNT", or "auto" for what torchrun or Slurm says in `environment`, where
                numbers start at 0.
            environment: environment variables.

        Raises:
            InputError: it is neither, or nothing in `environment` says which shard it is.

        >>> Shard.parse("2/7"), Shard.parse("auto", {"RANK": "0", "WORLD_SIZE": "4"})
        (Shard(number=2, count=7), Shard(number=1, count=4))
        """
        if text != "auto":
            parts = re.fullmatch(r"([0-9]+)/([0-9]+)", text)
            if parts is None:
                raise InputError(f"`shard={text!r}`: write NUMBER/COUNT, such as 2/7, or auto")
            return cls(int(parts[1]), int(parts[2]))
        for launcher, (number, count) in LAUNCHERS.items():
            values = environment.get(number, ""), environment.get(count, "")
            if all(value.isascii() and value.isdigit() for value in values):
                return cls(int(values[0]) + 1, int(values[1]))
            if any(values):
                raise InputError(
                    f"`shard='auto'`: {number} is {values[0]!r} and {count} is {values[1]!r}, and "
                    f"{launcher} sets both to whole numbers; write NUMBER/COUNT, such as 2/7"
                )
        names = "; ".join(" and ".join(pair) for pair in LAUNCHERS.values())
        raise InputError(
            f"`shard='auto'`: no launcher says which shard this is ({names}): start the command "
            "with torchrun or srun, or write NUMBER/COUNT, such as 2/7"
        )

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def holds(self, image: MediaLike) -> bool:
        """Return whether an image is in this shard; of all shards, it is in one.

        Args:
            image: as for `open_media`.

        Raises:
            MediaError: it is neither a path nor a URL, and cannot be opened.
        """
        image = parts_of(image)[-1]  # the result of an edit: many edits may have one source
        if isinstance(image, (str, os.PathLike)):
            key = os.fsencode(image)
        else:
            key = (image if isinstance(image, Media) else open_media(image)).key.encode()
        place = hashlib.blake2b(key, digest_size=8).digest()
        return int.from_bytes(place, "big") % self.count == self.number - 1

    def part_of(self, block: Block) -> Block:
        """Return a block with its images in this shard alone, perhaps none.

        Args:
            block: images and texts.

        >>> [len(Shard(n, 2).part_of(Block(["a.png", "b.png"], ["a cat"])).images) for n in (1, 2)]
        [1, 1]
        """
        places = [i for i, image in enumerate(block.images) if self.holds(image)]
        references = block.references and [block.references[i] for i in places]
        return replace(block, images=[block.images[i] for i in places], references=references)

    def file_of(self, file: Path) -> Path:
        """Return the file of this shard that stands for a file of all shards.

        Args:
            file: a path.

        Raises:
            InputError: the path has no name, or names a folder.

        >>> Shard(2, 7).file_of(Path("scores.sqlite")).name
        'scores-2-of-7.sqlite'
        """
        if file.name in ("", ".."):
            raise InputError(
                f"{str(file)!r} is a folder: write the name of a file, to which each shard adds "
                "its own"
            )
        return file.with_name(f"{file.stem}-{self.number}-of-{self.count}{file.suffix}")
