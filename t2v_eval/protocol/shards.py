"""The part of a protocol that one of several workers computes: scores and features of its images.

Judges see two images at once, which may belong to two shards, so that the run after the merge asks
them.
"""

from __future__ import annotations

from typing import NamedTuple

from t2v_eval.errors import InputError
from t2v_eval.evaluation.distances.folders import extract_shard
from t2v_eval.evaluation.run import for_benchmark
from t2v_eval.extractors.names import default_extractor, load_extractor
from t2v_eval.protocol.adherence import blocks_of
from t2v_eval.protocol.plan import ProtocolPlan
from t2v_eval.protocol.run import ProtocolOptions, read_inputs
from t2v_eval.registry import models
from t2v_eval.scoring.results import CellCounts
from t2v_eval.scoring.shard import Shard


class ShardPart(NamedTuple):
    """What a worker computed with one scorer or network.

    Attributes:
        name: the scorer, or the network and the folder.
        kind: "scores" or "features".
        images: how many belong to the shard.
        computed: how many were computed now.
        reused: how many were there.
        failed: how many could not be computed.

    >>> ShardPart("mine", "scores", 9, 9, 0, 0).images
    9
    """

    name: str
    kind: str
    images: int
    computed: int
    reused: int
    failed: int


def run_shard(plan: ProtocolPlan, options: ProtocolOptions, shard: Shard) -> list[ShardPart]:
    """Compute the scores and features of the images of one shard, into its store and the cache.

    Args:
        plan: the plan.
        options: how it runs; the store is that of the shard.
        shard: the part of the images.

    Returns:
        What was computed, by scorer and by network and folder.

    Raises:
        InputError: a file of the plan cannot be used, or features would be lost without a cache.
    """
    if options.cache is None:
        raise InputError("`cache=None`: the features of a shard are in a cache: pass its folder")
    inputs = read_inputs(plan, options.gate)
    plan, images = inputs.plan, inputs.images
    parts = []
    blocks = [shard.part_of(block) for block in blocks_of(images)]
    names = (*plan.prompt_adherence.scorers, *plan.preference.scorers)
    for name in dict.fromkeys(names):
        card = models.card(plan.scorer(name))
        scorer = options.scorers.for_card(card, inputs.cards).load(card)
        counts = CellCounts()
        if any(block.images for block in blocks):
            start = options.start
            progress = None if start is None else start(f"{name}, shard {shard}")
            asking = scorer if images.benchmark is None else for_benchmark(scorer, images.benchmark)
            counts = asking.evaluate_blocks(blocks, progress).counts
        numbers = counts.cells, counts.computed, counts.reused, counts.failed
        parts.append(ShardPart(name, "scores", *numbers))
    quality = plan.sample_quality
    for entry in quality.distances if quality.reference else ():
        network = entry.features or default_extractor()
        extractor = load_extractor(network, device=options.scorers.device)
        generated = [str(folder) for g in images.generators for folder in g.folders]
        for folder in dict.fromkeys([plan.path(quality.reference), *generated]):
            of_folder = extract_shard(folder, extractor, shard, cache=options.cache)
            parts.append(
                ShardPart(
                    f"{network}, {folder}",
                    "features",
                    of_folder.images,
                    of_folder.extracted,
                    of_folder.reused,
                    len(of_folder.unreadable),
                )
            )
    return parts
