"""Move what a scorer has on a device to another one: networks, and tensors beside them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn

from t2v_eval.errors import UnsupportedError


def move(scorer: Any, device: torch.device) -> None:
    """Move the networks and tensors among a scorer's attributes, and those of its parts.

    Parts are lists, tuples and mappings, and objects of this library or of the scorer's own package
    that hold a network. Other objects, such as a tokenizer or what builds prompts, stay as they
    are: they prepare inputs on the CPU.

    Raises:
        UnsupportedError: a network is spread over several devices or quantised.

    >>> from types import SimpleNamespace
    >>> scorer = SimpleNamespace(network=nn.Linear(2, 1), head=[(torch.ones(1), "x")])
    >>> move(scorer, torch.device("meta"))
    >>> scorer.network.weight.device.type, scorer.head[0][0].device.type
    ('meta', 'meta')
    """
    packages = {"t2v_eval", type(scorer).__module__.partition(".")[0]}
    networks = list(_networks(scorer, packages, set()))
    for network in networks:
        _check_movable(network)
    weights = [_weights(network) for network in networks]
    for network in networks:
        network.to(device)
    # A weight that is also an attribute stays one tensor, where a network gets new ones.
    after = [_weights(network) for network in networks]
    moved = {
        id(old[name]): new[name] for old, new in zip(weights, after, strict=True) for name in old
    }
    with torch.no_grad():
        _Mover(device, packages, moved).move_attributes(scorer)


def contents(scorer: Any) -> Iterator[tuple[str, Any]]:
    """Yield a scorer and what it holds, each object once: parts, networks, tensors and the like.

    Nothing inside a network, or inside an object of another library, is yielded.

    Yields:
        The dotted path of attributes that leads to an object, and the object.

    >>> from types import SimpleNamespace
    >>> scorer = SimpleNamespace(network=nn.Linear(2, 1), head=[torch.ones(1)])
    >>> [path for path, _ in contents(scorer)]
    ['', 'network', 'head.0']
    """
    packages = {"t2v_eval", type(scorer).__module__.partition(".")[0]}
    visited: set[int] = set()

    def walk(value: Any, path: str) -> Iterator[tuple[str, Any]]:
        if id(value) in visited:
            return
        visited.add(id(value))
        inner = _named_parts(value, packages) if path else _attributes(value)
        if inner is None or not isinstance(value, (Mapping, list, tuple)):
            yield path, value
        for name, part in (inner or {}).items():
            yield from walk(part, f"{path}.{name}" if path else name)

    yield from walk(scorer, "")


def _named_parts(value: Any, packages: set[str]) -> dict[str, Any] | None:
    """Return the parts of a value by name; None for a network, a tensor or a foreign object."""
    if isinstance(value, nn.Module):
        return None
    if isinstance(value, Mapping):
        return {str(key): part for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return {str(n): part for n, part in enumerate(value)}
    return _attributes(value) if _is_part(value, packages) else None


def _weights(network: nn.Module) -> dict[str, Tensor]:
    return dict(network.named_parameters(remove_duplicate=False))


def _check_movable(network: nn.Module) -> None:
    places = getattr(network, "hf_device_map", None) or {}
    if len({str(place) for place in places.values()}) > 1:
        raise UnsupportedError(
            f"{type(network).__name__} is spread over several devices, so it cannot be moved: load "
            "the scorer again with `device_map=`"
        )
    if getattr(network, "is_quantized", False) or getattr(network, "quantization_method", None):
        raise UnsupportedError(
            f"{type(network).__name__} is quantised for the device that it is on, so it cannot be "
            "moved: load the scorer again with `device=`"
        )


def _parts(value: Any, packages: set[str]) -> Iterator[Any]:
    """Yield the values inside a value; none inside objects of other libraries."""
    if isinstance(value, Mapping):
        yield from value.values()
    elif isinstance(value, (list, tuple)):
        yield from value
    elif _is_part(value, packages):
        yield from _attributes(value).values()


def _is_part(value: Any, packages: set[str]) -> bool:
    return type(value).__module__.partition(".")[0] in packages and not isinstance(value, type)


def _attributes(value: Any) -> dict[str, Any]:
    if is_dataclass(value):
        return {f.name: getattr(value, f.name, None) for f in fields(value)}
    return dict(getattr(value, "__dict__", {}))


def _networks(value: Any, packages: set[str], visited: set[int]) -> Iterator[nn.Module]:
    if id(value) in visited:
        return
    visited.add(id(value))
    if isinstance(value, nn.Module):
        yield value
    else:
        for part in _parts(value, packages):
            yield from _networks(part, packages, visited)


class _Mover:
    """Replace tensors by those on another device; networks have been moved in place."""

    def __init__(self, device: torch.device, packages: set[str], moved: dict[int, Tensor]) -> None:
        self.device, self.packages, self.moved = device, packages, moved
        self.seen: set[int] = set()

    def move_attributes(self, owner: Any) -> None:
        if id(owner) in self.seen:
            return
        self.seen.add(id(owner))
        for name, part in _attributes(owner).items():
            moved = self.move(part)
            if moved is not part:
                object.__setattr__(owner, name, moved)  # of a frozen data class too

    def move(self, value: Any) -> Any:
        """Return a value with its tensors on the device: itself where it has none of its own."""
        if isinstance(value, Tensor):
            return self.moved[id(value)] if id(value) in self.moved else value.to(self.device)
        if isinstance(value, nn.Module):
            return value
        if type(value) in (list, tuple, dict) or hasattr(value, "_fields"):
            return self._move_parts(value)
        if _is_part(value, self.packages) and any(_networks(value, self.packages, set())):
            self.move_attributes(value)
        return value

    def _move_parts(self, value: Any) -> Any:
        inner = list(value.values() if isinstance(value, dict) else value)
        moved = [self.move(part) for part in inner]
        if all(new is old for new, old in zip(moved, inner, strict=True)):
            return value
        if isinstance(value, dict):
            value.update(zip(value, moved, strict=True))  # what shares it sees it moved
            return value
        if isinstance(value, list):
            value[:] = moved
            return value
        return type(value)(*moved) if hasattr(value, "_fields") else tuple(moved)
