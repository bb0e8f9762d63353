"""Whether a tokenizer belongs to a network: its round trip, its size and its special tokens."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from torch import nn

from t2v_eval.verification.results import Check

NAME = "tokenizer"
TEXTS = ("a photo of a red circle above two blue squares", "Does this show a dog? Yes or no.")
# Of a vocabulary's embeddings, published networks leave fewer than this share without a token.
LEAST_SHARE = 0.9
# Names of config.json for a token that stands for an image or a video.
MEDIA_TOKENS = ("image_token_id", "image_token_index", "video_token_id", "video_token_index")


def check_tokenizers(parts: Sequence[tuple[str, Any]], published: bool) -> list[Check]:
    """Check every tokenizer that a scorer holds.

    Args:
        parts: paths and objects of the scorer, as `local.moving.contents` yields them.
        published: whether the weights are the published ones, so that every text must be known.

    >>> import t2v_eval
    >>> from t2v_eval.local.moving import contents
    >>> scorer = t2v_eval.load("tiny-clip", device="cpu")
    >>> [check.outcome.value for check in check_tokenizers(list(contents(scorer)), published=True)]
    ['passed']
    """
    tokenizers = list(_tokenizers(parts))
    if not tokenizers:
        return [Check.without(NAME, "the scorer has no tokenizer")]
    rows = [rows for _, part in parts for rows in _embedding_rows(part)] if published else []
    words = _ordinary_media_tokens(tokenizers, parts)
    checks = [_check(tokenizer, rows, words, published) for tokenizer in tokenizers]
    return list(dict.fromkeys(checks))  # a processor may hold a copy


def _tokenizers(parts: Sequence[tuple[str, Any]]) -> Iterator[Any]:
    """Yield the tokenizers among the parts, those of processors too, each once."""
    visited: set[int] = set()
    for _, part in parts:
        for candidate in (getattr(part, "tokenizer", None), part):
            if isinstance(candidate, nn.Module) or id(candidate) in visited:
                continue
            if all(callable(getattr(candidate, name, None)) for name in ("encode", "decode")):
                visited.add(id(candidate))
                yield candidate
                break


def _check(tokenizer: Any, rows: Sequence[int], problems: Sequence[str], published: bool) -> Check:
    kind, unknown = type(tokenizer).__name__, _unknown(tokenizer)
    problems = [*problems, *_unlike_embeddings(tokenizer, rows)]
    if not unknown:
        problems += _round_trip(tokenizer)
    elif published:
        problems.append(f"it has no token for {unknown!r}")
    if problems:
        text = f"{kind}: {'; '.join(problems)}. Put the tokenizer of this checkpoint there"
        return Check.of(NAME, False, text)
    if unknown:
        reason = f"{kind} has no token for {unknown!r}, so its round trip says nothing"
        return Check.without(NAME, reason)
    return Check.of(NAME, True, f"{kind}: decoding gives the text that was encoded")


def _has_vocabulary(tokenizer: Any) -> bool:
    return callable(getattr(tokenizer, "get_vocab", None))


def _embedding_rows(part: Any) -> Iterator[int]:
    """Yield the number of rows of each table of embeddings in a network."""
    if isinstance(part, nn.Module):
        for module in part.modules():
            if isinstance(module, nn.Embedding):
                yield module.num_embeddings


def _unlike_embeddings(tokenizer: Any, rows: Sequence[int]) -> Iterator[str]:
    """Yield a problem where no table of embeddings has about as many rows as there are tokens."""
    if rows and _has_vocabulary(tokenizer):
        size = len(tokenizer)
        if not any(LEAST_SHARE * n <= size for n in rows if n >= size):
            yield f"it has {size} tokens, and the largest table of embeddings {max(rows)}"


def _ordinary_media_tokens(
    tokenizers: Sequence[Any], parts: Sequence[tuple[str, Any]]
) -> list[str]:
    """Return a problem for each token of images or videos that is a word to all tokenizers."""
    readers = [tokenizer for tokenizer in tokenizers if _has_vocabulary(tokenizer)]
    named = {
        (name, token)
        for _, part in parts
        for name in MEDIA_TOKENS
        if isinstance(token := getattr(getattr(part, "config", None), name, None), int)
    }
    problems = []
    for name, token in sorted(named):
        words = [word for reader in readers if (word := _word(reader, token))]
        if words and len(words) == len(readers):
            problems.append(f"config.json has {name} = {token}, which is {words[0]!r} to it")
    return problems


def _word(tokenizer: Any, token: int) -> str:
    """Return the word of a token; empty if it is special or does not exist."""
    special = {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}
    if token in special or not 0 <= token < len(tokenizer):
        return ""
    return str(tokenizer.convert_ids_to_tokens(token))


def _unknown(tokenizer: Any) -> str:
    """Return a word that the tokenizer has no token for; empty if there is none."""
    unknown = getattr(tokenizer, "unk_token_id", None)
    if unknown is None:
        return ""
    words = (word for text in TEXTS for word in text.split())
    return next((w for w in words if unknown in _ids(tokenizer, w)), "")


def _round_trip(tokenizer: Any) -> Iterator[str]:
    for text in TEXTS:
        back = tokenizer.decode(_ids(tokenizer, text))
        if _letters(back) != _letters(text):
            yield f"{text!r} comes back as {back!r}"


def _ids(tokenizer: Any, text: str) -> list[int]:
    """Return the tokens of a text without special ones."""
    if _has_vocabulary(tokenizer):
        return list(tokenizer.encode(text, add_special_tokens=False))
    return list(tokenizer.encode(text))


def _letters(text: str) -> str:
    """Return the letters and digits of a text in lower case, as tokenizers change the others."""
    return re.sub(r"[\W_]+", "", text).casefold()
