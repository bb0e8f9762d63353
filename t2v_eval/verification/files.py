"""Checks of the files of a checkpoint against the networks that were loaded from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from t2v_eval.local.base import LocalScorer
from t2v_eval.verification.results import Check
from t2v_eval.verification.weights import Comparison, compare, digest, listed, modules_of

USED, COMPLETE, FINITE = "weights used", "weights complete", "weights finite"
CONFIG, HEAD = "configuration", "output head"
ADAPTER = "adapter_config.json"
HEAD_WEIGHT = "lm_head.weight"
EMBEDDINGS = ("embed_tokens.weight", "shared.weight", "wte.weight", "tok_embeddings.weight")


def check_weights(
    scorers: Sequence[LocalScorer], parts: Sequence[tuple[str, Any]], quantised: bool
) -> list[Check]:
    """Check that the networks hold the tensors of the files, all of them and no others.

    Args:
        scorers: the scorer, and those that it asks.
        parts: what they hold, as `local.moving.contents` yields it.
        quantised: whether the weights were quantised, so that their values differ.

    Raises:
        CheckpointError: a file cannot be read again.

    >>> import t2v_eval
    >>> from t2v_eval.local.moving import contents
    >>> scorer = t2v_eval.load("tiny-clip", device="cpu")
    >>> [check.name for check in check_weights([scorer], list(contents(scorer)), False)]
    ['weights used', 'weights complete', 'weights finite']
    """
    if quantised:
        reason = "quantised weights differ from those of the files"
        return [Check.without(name, reason) for name in (USED, COMPLETE, FINITE)]
    tensors = compare((item for s in scorers for item in s.stored_weights()), parts)
    if not tensors.loaded:
        return [Check.without(USED, "the scorer holds no network")]
    folders = dict.fromkeys(file.parent for scorer in scorers for file in scorer.files)
    added = {folder for scorer in scorers for folder in scorer.adapters}
    unread = [
        str(folder / ADAPTER)
        for folder in folders
        if (folder / ADAPTER).exists() and folder not in added
    ]
    return [_used(tensors, unread), _complete(tensors), _finite(tensors)]


def _used(tensors: Comparison, adapters: Sequence[str]) -> Check:
    if adapters:
        text = (
            f"{listed(adapters)}: the weights have a LoRA adapter beside them, and whether it is "
            "applied depends on the packages installed: merge it into the weights "
            "(merge_and_unload of the package peft), or move it to another folder and pass it as "
            "`adapter=`"
        )
        return Check.of(USED, False, text, len(adapters))
    if tensors.stray:
        text = (
            f"{listed(tensors.stray)}: in the files but in no network, although other tensors of "
            "their modules are: the loader left them out, or their names are misspelt"
        )
        return Check.of(USED, False, text, len(tensors.stray))
    counted = f"{len(tensors.used)} of {tensors.stored} tensors of the files are in the networks"
    if tensors.unused:
        counted += f"; the scorer leaves out parts of {listed(modules_of(tensors.unused))}"
    return Check.of(USED, bool(tensors.used), counted, len(tensors.unused))


def _complete(tensors: Comparison) -> Check:
    if tensors.invented:
        text = f"{listed(tensors.invented)}: in the networks but in no file, so they are random"
        return Check.of(COMPLETE, False, text, len(tensors.invented))
    return Check.of(COMPLETE, True, f"{tensors.loaded} tensors of the networks are in the files", 0)


def _finite(tensors: Comparison) -> Check:
    if tensors.broken:
        text = f"{listed(tensors.broken)}: hold NaN or infinity"
        return Check.of(FINITE, False, text, len(tensors.broken))
    if blank := [name for name in tensors.blank if name in tensors.used]:
        text = f"{listed(blank)}: hold only zeros, as after an unfinished download"
        return Check.of(FINITE, False, text, len(blank))
    return Check.of(FINITE, True, f"{tensors.stored} tensors hold finite numbers", 0)


def check_head(scorers: Sequence[LocalScorer], parts: Sequence[tuple[str, Any]]) -> Check:
    """Check that a language model's head is tied to its embeddings only where the files tie it.

    Raises:
        CheckpointError: a file cannot be read again.

    >>> check_head([], []).text
    'no network has a language model head'
    """
    ties = [tie for _, part in parts if (tie := _is_tied(part)) is not None]
    if not ties:
        return Check.without(HEAD, "no network has a language model head")
    heads, embeddings = [], []
    for scorer in scorers:
        for name, tensor in scorer.stored_weights():
            if name.endswith(HEAD_WEIGHT):
                heads.append(digest(tensor))
            elif name.endswith(EMBEDDINGS):
                embeddings.append(digest(tensor))
    differing_heads = [head for head in heads if head not in embeddings]
    if any(ties) and differing_heads:
        text = (
            f"config.json ties the head to the embeddings (tie_word_embeddings), but the files "
            f"hold another {HEAD_WEIGHT}: one of them is of another model"
        )
        return Check.of(HEAD, False, text)
    kind = "the embeddings, as config.json says" if any(ties) else "weights of its own"
    return Check.of(HEAD, True, f"the head is {kind}")


def _is_tied(part: Any) -> bool | None:
    """Return whether a network's head is to be its embeddings; None for a network without a head.

    Recent versions of transformers leave a head untied whose weights differ, older ones tie it.
    """
    if not isinstance(part, nn.Module) or not hasattr(part, "config"):
        return None
    head = getattr(part, "get_output_embeddings", lambda: None)()
    if head is None or getattr(head, "weight", None) is None:
        return None
    # T5's configuration always ties, and says here whether its file does.
    ties = getattr(part.config, "tie_word_embeddings", False)
    return bool(getattr(part.config, "scale_decoder_outputs", ties))


def check_config(
    parts: Sequence[tuple[str, Any]], expected: Mapping[str, Any], published: bool
) -> Check:
    """Check that the configuration of the networks is what the card expects.

    Args:
        parts: what the scorer holds, as `local.moving.contents` yields it.
        expected: values by their dotted name in config.json.
        published: whether the weights are the published ones.

    >>> check_config([], {}, published=True).text
    'the card names no values of config.json'
    """
    if not expected:
        return Check.without(CONFIG, "the card names no values of config.json")
    configs = [part.config for _, part in parts if hasattr(part, "config")]
    if not configs:
        return Check.without(CONFIG, "the networks have no config.json")
    differing = []
    for name, value in expected.items():
        values = [v for config in configs if (v := _value(config, name)) is not None]
        if value not in values:
            actual = values[0] if values else "nothing"
            differing.append(f"{name} is {actual} here, {value} in the published config.json")
    if differing and not published:
        reason = f"the weights are not the published ones: {'; '.join(differing)}"
        return Check.without(CONFIG, reason)
    text = "; ".join(differing) or f"{len(expected)} values agree with the card"
    return Check.of(CONFIG, not differing, text, len(differing))


def _value(config: Any, name: str) -> Any:
    for part in name.split("."):
        config = getattr(config, part, None)
    return config
