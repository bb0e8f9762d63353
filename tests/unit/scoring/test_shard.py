"""Each image is in one shard, whatever other images there are."""

from __future__ import annotations

import io

import pytest
from helpers.toy import draw_image

from t2v_eval.errors import InputError
from t2v_eval.inputs.media import open_media
from t2v_eval.scoring.plan import Block
from t2v_eval.scoring.shard import Shard


def png(seed: int) -> bytes:
    stream = io.BytesIO()
    draw_image(seed).save(stream, "PNG")
    return stream.getvalue()


@pytest.mark.parametrize("count", [1, 2, 7])
def test_each_image_is_in_one_shard_and_shards_are_of_similar_size(count):
    shards = [Shard(number, count) for number in range(1, count + 1)]
    paths = [f"images/{n}.png" for n in range(7000)]
    sizes = [sum(shard.holds(path) for path in paths) for shard in shards]
    assert sum(sizes) == 7000
    # Five standard deviations of a binomial distribution, 29 for 1 of 7 shards, 42 for 1 of 2.
    assert all(abs(size - 7000 / count) <= 210 for size in sizes)
    contents = [draw_image(1), png(2), open_media(png(3)), "https://example.org/a.png"]
    for image in contents:
        assert sum(shard.holds(image) for shard in shards) == 1


def test_an_image_without_a_path_is_known_by_its_content():
    for seed in range(20):
        content = png(seed)
        same = [content, open_media(content), io.BytesIO(content)]
        assert len({Shard(1, 2).holds(image) for image in same}) == 1


def test_the_parts_of_a_block_keep_its_references():
    images = [f"{n}.png" for n in range(9)]
    block = Block(images, ["a cat"], [[f"caption of {image}"] for image in images])
    parts = [Shard(number, 3).part_of(block) for number in (1, 2, 3)]
    assert sorted(image for part in parts for image in part.images) == images
    for part in parts:
        assert part.texts == ["a cat"]
        assert part.references == [[f"caption of {image}"] for image in part.images]


@pytest.mark.parametrize(
    ("environment", "shard"),
    [
        ({"RANK": "0", "WORLD_SIZE": "2"}, Shard(1, 2)),
        ({"SLURM_PROCID": "6", "SLURM_NTASKS": "7"}, Shard(7, 7)),
        (  # torchrun within a task of Slurm
            {"RANK": "3", "WORLD_SIZE": "8", "SLURM_PROCID": "0", "SLURM_NTASKS": "2"},
            Shard(4, 8),
        ),
    ],
)
def test_a_launcher_counts_from_0(environment, shard):
    assert Shard.parse("auto", environment) == shard


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0/2", r"the first is 1/2 and the last 2/2"),
        ("1/0", r"the number of shards is 1 or more"),
        ("3/2", r"the first is 1/2 and the last 2/2"),
        ("2", "write NUMBER/COUNT"),
        ("-1/2", "write NUMBER/COUNT"),
        ("auto", "start the command with torchrun or srun"),
    ],
)
def test_no_shard(text, message):
    with pytest.raises(InputError, match=message):
        Shard.parse(text, {})


def test_half_of_what_a_launcher_says():
    with pytest.raises(InputError, match="RANK is '1' and WORLD_SIZE is '', and torchrun sets"):
        Shard.parse("auto", {"RANK": "1"})
