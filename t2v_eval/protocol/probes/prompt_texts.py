"""Other prompts for the same images: inflated, plain, and shuffled."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

SUFFIX = ", high quality, 4k, masterpiece"
"""What is added to a prompt without such words."""

_BOOSTERS = re.compile(
    r"""[,;.]?\s*\b(?:
    (?:very\s+|ultra[\s-]?)?(?:high|highest|best|top|superb|amazing)[\s-]quality
    | (?:ultra[\s-]?)?high(?:est)?[\s-](?:res(?:olution)?|definition)
    | (?:absolute\s+)?masterpiece | award[\s-]winning(?:\s+(?:photo(?:graph)?|art))?
    | [48]k(?:\s+(?:uhd|hdr?|resolution))? | uhd | hdr | ultra[\s-]?hd
    | (?:highly|extremely|ultra|intricately|insanely|hyper)[\s-]?(?:detailed|realistic)
    | trending\s+on\s+art\s?station | (?:octane|unreal)\s+(?:render|engine(?:\s*\d)?)
    )\b""",
    re.VERBOSE | re.IGNORECASE,
)
"""Quality boosters (Oppenlaender 2023, A taxonomy of prompt modifiers for text-to-image
generation), with the comma before them."""


def plain_prompt(prompt: str) -> str:
    """Return a prompt without words that promise quality.

    Args:
        prompt: a prompt; one that has nothing else is returned as it is.

    >>> plain_prompt("a red circle, high quality, 4k, masterpiece")
    'a red circle'
    """
    plain = re.sub(r"^[\s,;.]+|[\s,;]+$", "", _BOOSTERS.sub("", prompt))
    return plain if plain != prompt.strip() and re.search(r"\w", plain) else prompt


def is_inflated(prompt: str) -> bool:
    """Return whether a prompt has words that promise quality, and something else.

    >>> is_inflated("a masterpiece of a cat"), is_inflated("masterpiece")
    (True, False)
    """
    return plain_prompt(prompt) != prompt


def with_or_without_boosters(prompt: str) -> str:
    """Return the plain prompt of an inflated one, and an inflated one of a plain one.

    >>> with_or_without_boosters("a cat, 4k"), with_or_without_boosters("a cat")
    ('a cat', 'a cat, high quality, 4k, masterpiece')
    """
    return plain_prompt(prompt) if is_inflated(prompt) else prompt + SUFFIX


def shuffle_prompts(prompts: Sequence[str], seed: int) -> list[str | None]:
    """Give each prompt another prompt in its place, each as often as it was there.

    Args:
        prompts: P prompts.
        seed: of the random order.

    Returns:
        P prompts, none equal to the prompt at its place; None where a prompt is there so often that
        this is not possible.

    >>> shuffle_prompts(["a cat", "a dog"], seed=0)
    ['a dog', 'a cat']
    """
    order = np.random.default_rng(seed).permutation(len(prompts)).tolist()
    # Equal prompts are brought together: a shift by the largest number of equal prompts leaves none
    # of them in the place of another.
    first = {prompt: rank for rank, prompt in enumerate(dict.fromkeys(prompts[k] for k in order))}
    order.sort(key=lambda k: first[prompts[k]])
    shift = max(Counter(prompts).values(), default=0)
    result: list[str | None] = [None] * len(prompts)
    for place, k in enumerate(order):
        other = prompts[order[(place + shift) % len(order)]]
        result[k] = other if other != prompts[k] else None
    return result
