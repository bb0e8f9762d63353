"""Whether a network holds the tensors of its files: compared by content, not by name.

Every layout has names of its own, and loaders rename, transpose, join and split what they read. So
a tensor is known by a digest of its values, in the precision of the network: their number, and the
sums of their bit patterns and of the squares of these, modulo 2^64. The digest is exact, does not
depend on the order of the values, and that of joined tensors is the sum of their digests.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

BLOCK = 2**22  # values whose bits are summed at a time
MODULUS = 2**64
_BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
NAMED = 4  # tensors that a sentence names
LEAST_SIDE = 4  # of a matrix: smaller ones, as of two kinds of token, are zeros in sound files


class Digest(NamedTuple):
    """The content of a tensor, whatever the order of its values.

    >>> digest(torch.tensor([1.0, 2.0])) == digest(torch.tensor([[2.0], [1.0]]))
    True
    """

    size: int
    total: int
    squares: int

    def __add__(self, other: Digest) -> Digest:  # type: ignore[override]  # no longer tuple
        """Return the digest of both contents together."""
        return Digest(
            self.size + other.size,
            (self.total + other.total) % MODULUS,
            (self.squares + other.squares) % MODULUS,
        )


NOTHING = Digest(0, 0, 0)


def digest(tensor: Tensor, dtype: torch.dtype | None = None) -> Digest:
    """Return the digest of a tensor, cast to `dtype` first.

    >>> halves = [torch.tensor([1.0]), torch.tensor([2.0])]
    >>> digest(torch.cat(halves)) == digest(halves[0]) + digest(halves[1])
    True
    """
    flat, total, squares = tensor.detach().reshape(-1), 0, 0
    for start in range(0, flat.numel(), BLOCK):
        block = flat[start : start + BLOCK].to(dtype or flat.dtype)
        bits = block.contiguous().view(_BITS[block.element_size()]).to(torch.int64)
        total += int(bits.sum())
        squares += int((bits * bits).sum())  # which wraps as the modulus does
    return Digest(flat.numel(), total % MODULUS, squares % MODULUS)


@dataclass
class Comparison:
    """The tensors of the files and of the networks that have no counterpart.

    Attributes:
        stored: the number of tensors in the files.
        loaded: the number of tensors in the networks.
        unused: names of stored tensors that no network holds.
        used: names of stored tensors that a network holds.
        telling: those whose values differ; zeros and ones are in many places.
        invented: names of tensors of the networks that no file holds.
        broken: names of stored tensors with NaN or infinity.
        blank: names of stored matrices that hold zeros alone, as where a file was not written.

    >>> network = nn.Linear(2, 1)
    >>> stored = {"w": network.weight.detach(), "b": torch.ones(1)}.items()
    >>> comparison = compare(stored, [("network", network)])
    >>> comparison.unused, comparison.invented
    (['b'], ['network.bias'])
    """

    stored: int = 0
    loaded: int = 0
    unused: list[str] = field(default_factory=list)
    used: list[str] = field(default_factory=list)
    telling: set[str] = field(default_factory=set)
    invented: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    blank: list[str] = field(default_factory=list)

    def add(self, name: str, tensor: Tensor) -> None:
        """Count a stored tensor, and note what its values are like."""
        self.stored += 1
        # float8 has no such tests.
        values = tensor.float() if tensor.element_size() == 1 else tensor
        if not bool(torch.isfinite(values).all()):
            self.broken.append(name)
        if bool((values != values.reshape(-1)[0]).any()):
            self.telling.add(name)
        elif not values.any():
            sides = [side for side in tensor.shape if side >= LEAST_SIDE]
            self.blank += [name] if len(sides) > 1 else []

    @property
    def stray(self) -> list[str]:
        """The unused tensors of modules of which other tensors are used.

        A module that is unused as a whole, such as the text tower of a scorer of images, is a
        choice of the scorer; modules inside a layer that has a weight, such as LoRA's, are not.
        """
        telling = {name for name in self.used if name in self.telling}
        used = {name.rpartition(".")[0] for name in telling} - {""}
        layers = {name.removesuffix(".weight") for name in telling if name.endswith(".weight")}
        return [
            name
            for name in self.unused
            if name.rpartition(".")[0] in used or not layers.isdisjoint(_modules_around(name))
        ]


def compare(stored: Iterable[tuple[str, Tensor]], parts: Sequence[tuple[str, Any]]) -> Comparison:
    """Compare the tensors of files with those that a scorer holds; integers are not weights.

    Args:
        stored: names and tensors of the files; read one after the other.
        parts: paths and objects of the scorer, as `contents` yields them.
    """
    weights, others = _loaded(parts)
    dtypes = {tensor.dtype for tensor in (*weights.values(), *others)}
    digests = {name: digest(tensor) for name, tensor in weights.items()}
    loaded = {*digests.values(), *(digest(tensor) for tensor in others)}
    shapes = {tensor.shape for tensor in weights.values()}
    comparison = Comparison(loaded=len(weights))
    matched: set[Digest] = set()
    rest: dict[str, list[Digest]] = {}
    rows: dict[str, set[Digest]] = {}
    for name, tensor in stored:
        if not tensor.is_floating_point() or not tensor.numel():
            continue
        comparison.add(name, tensor)
        variants = list(_variants(tensor, dtypes))
        if matching := loaded.intersection(variants):
            matched |= matching
            comparison.used.append(name)
        else:
            rest[name] = variants[: len(dtypes)]
            rows[name] = loaded.intersection(_first_rows(tensor, dtypes, shapes))
    # Parts of a scorer share networks: one name for each content.
    names = {value: name for name, value in reversed(digests.items()) if value not in matched}
    missing = {name: value for value, name in names.items()}
    _take_joined(comparison, rest, missing)
    for name in list(rest):
        if rows[name]:
            comparison.used.append(name)
            del rest[name]
            missing = {other: v for other, v in missing.items() if v not in rows[name]}
    comparison.unused, comparison.invented = list(rest), list(missing)
    return comparison


def _loaded(parts: Sequence[tuple[str, Any]]) -> tuple[dict[str, Tensor], list[Tensor]]:
    """Return the weights of networks by name, and the tensors that a scorer holds beside them."""
    weights: dict[str, Tensor] = {}
    others: list[Tensor] = []
    for path, part in parts:
        if isinstance(part, nn.Module):
            weights |= {f"{path}.{name}": t for name, t in part.state_dict().items()}
            others += [t for _, t in part.named_buffers()]
        elif isinstance(part, Tensor):
            others.append(part)
        elif isinstance(part, float):
            others.append(torch.tensor(part, dtype=torch.float32))
    usable = {name: t for name, t in weights.items() if t.is_floating_point() and t.numel()}
    return usable, [t for t in others if t.is_floating_point()]


def _variants(tensor: Tensor, dtypes: Iterable[torch.dtype]) -> Iterator[Digest]:
    """Yield the digests of a stored tensor in the precisions of the networks.

    The original code of some networks rounds the weights to half precision before.
    """
    for dtype in dtypes:
        yield digest(tensor, dtype)
    if tensor.dtype is torch.float32:
        for dtype in dtypes:
            yield digest(tensor.half(), dtype)


def _first_rows(
    tensor: Tensor, dtypes: Iterable[torch.dtype], shapes: Iterable[torch.Size]
) -> Iterator[Digest]:
    """Yield the digests of the first rows, of embeddings that more rows are stored of."""
    for shape in shapes:
        if len(shape) == tensor.ndim > 1 and shape[1:] == tensor.shape[1:] and shape < tensor.shape:
            for dtype in dtypes:
                yield digest(tensor[: shape[0]], dtype)


def _take_joined(
    comparison: Comparison, rest: dict[str, list[Digest]], missing: dict[str, Digest]
) -> None:
    """Take away the tensors that were joined or split: groups whose digests have one sum.

    What is taken away first leaves others side by side, so this is repeated.

    Args:
        comparison: gets the names of the stored tensors.
        rest: digests of stored tensors by name, in the precisions of the networks.
        missing: digests of loaded tensors by name.
    """
    progress = True
    while progress:
        progress = False
        parts = {name: variants[0] for name, variants in rest.items()}
        for whole, several in (*_sums(parts, missing), *_sums(missing, parts)):
            stored = several if whole in missing else {whole}
            loaded = {whole} if whole in missing else several
            if stored <= rest.keys() and loaded <= missing.keys():
                progress = True
                comparison.used += stored
                for name in stored:
                    del rest[name]
                for name in loaded:
                    del missing[name]


def _sums(parts: Mapping[str, Digest], wholes: Mapping[str, Digest]) -> list[tuple[str, set[str]]]:
    """Return each whole with the run of parts whose digests sum to its own."""
    wanted = {value: name for name, value in wholes.items()}
    largest = max((value.size for value in wanted), default=0)
    pairs = []
    for names in _runs(list(parts)):
        total = NOTHING
        for n, name in enumerate(names):
            total += parts[name]
            if total.size > largest:
                break
            if n and total in wanted:
                pairs.append((wanted[total], set(names[: n + 1])))
    return pairs


def _runs(names: Sequence[str]) -> Iterator[Sequence[str]]:
    """Yield runs of names that may be parts of one tensor, from each name on."""
    kinds: dict[str, list[str]] = {}
    for name in names:
        parent, _, leaf = name.rpartition(".")
        beside = f"{parent.rpartition('.')[0]}.*.{leaf}"
        # Parts lie in one module, in modules beside each other, or in those of numbered modules.
        for level, kind in enumerate(
            (parent, beside, _without_numbers(name), _without_numbers(beside))
        ):
            kinds.setdefault(f"{level} {kind}", []).append(name)
    groups = list(kinds.values())
    groups += [pair for kind, group in kinds.items() if kind[0] == "3" for pair in _pairs(group)]
    for group in groups:
        for start in range(len(group)):
            yield group[start:]


def _pairs(names: Sequence[str]) -> Iterator[list[str]]:
    """Yield the names of each two modules that are beside each other, as gate and up of experts."""
    modules = {name: name.rpartition(".")[0].rpartition(".")[2] for name in names}
    kinds = list(dict.fromkeys(modules.values()))
    for two in itertools.combinations(kinds, 2):
        if len(kinds) > 2:
            yield [name for name in names if modules[name] in two]


def _without_numbers(name: str) -> str:
    return ".".join("*" if part.isdigit() else part for part in name.split("."))


def _modules_around(name: str) -> Iterator[str]:
    """Yield the modules that a tensor is in, the innermost first."""
    while name := name.rpartition(".")[0]:
        yield name


def listed(names: Sequence[str]) -> str:
    """Return the first few names, and how many more there are.

    >>> listed(["a", "b", "c", "d", "e", "f"])
    'a, b, c, d and 2 more'
    """
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def modules_of(names: Iterable[str]) -> list[str]:
    """Return the outermost modules of tensors, the largest first.

    >>> modules_of(["text.0.weight", "text.0.bias", "logit_scale"])
    ['text', 'logit_scale']
    """
    return [name for name, _ in Counter(n.partition(".")[0] for n in names).most_common()]
