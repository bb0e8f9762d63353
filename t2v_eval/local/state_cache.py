"""A cache of features of images between calls, bounded in bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

from torch import Tensor


class TensorCache:
    """A least-recently-used cache of values that hold tensors.

    Args:
        capacity: returns the size in bytes; called once, when the first value is put.

    Attributes:
        bytes: the size of the cached tensors.

    >>> import torch
    >>> cache = TensorCache(lambda: 8)
    >>> cache.put("a", torch.zeros(2)), cache.put("b", torch.zeros(2))
    (None, None)
    >>> cache.get("a"), cache.get("b"), cache.bytes
    (None, tensor([0., 0.]), 8)
    """

    def __init__(self, capacity: Callable[[], int]) -> None:
        self._measure_capacity, self._capacity = capacity, -1
        self._values: OrderedDict[str, tuple[Any, int]] = OrderedDict()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: str) -> Any | None:
        """Return a value and mark it as used last; None if it is not cached."""
        if key not in self._values:
            return None
        self._values.move_to_end(key)
        return self._values[key][0]

    def put(self, key: str, value: Any) -> None:
        """Cache a value, and evict those used longest ago until it fits.

        A value that is larger than the whole cache is not cached.
        """
        if self._capacity < 0:
            self._capacity = self._measure_capacity()
        size = sum(tensor.nbytes for tensor in tensors(value))
        if size > self._capacity:
            return
        self._evict(key)
        while self.bytes + size > self._capacity:
            self._evict(next(iter(self._values)))
        self._values[key] = (without_rest_of_batch(value), size)
        self.bytes += size

    def clear(self) -> bool:
        """Evict all values; return whether there were any."""
        had_values = bool(self._values)
        self._values.clear()
        self.bytes = 0
        return had_values

    def reset(self) -> None:
        """Evict all values, and measure the capacity again when the next value is put."""
        self.clear()
        self._capacity = -1

    def _evict(self, key: str) -> None:
        self.bytes -= self._values.pop(key, (None, 0))[1]


def tensors(value: Any) -> list[Tensor]:
    """Return all tensors inside mappings, sequences and dataclasses.

    >>> import torch
    >>> [tensor.shape for tensor in tensors({"a": torch.zeros(2), "b": (torch.zeros(3), "text")})]
    [torch.Size([2]), torch.Size([3])]
    """
    if isinstance(value, Tensor):
        return [value]
    return [tensor for part in _parts(value) for tensor in tensors(part)]


def without_rest_of_batch(value: Any) -> Any:
    """Copy tensors that are views into a larger batch, whose memory they would keep alive.

    Args:
        value: a tensor, or mappings, sequences and dataclasses that hold tensors.

    >>> import torch
    >>> row = torch.zeros(100, 4)[0]
    >>> row.untyped_storage().nbytes(), without_rest_of_batch(row).untyped_storage().nbytes()
    (1600, 16)
    """
    if isinstance(value, Tensor):
        return value.clone() if value.untyped_storage().nbytes() > value.nbytes else value
    if is_dataclass(value) and not isinstance(value, type):
        return replace(
            value, **{f.name: without_rest_of_batch(getattr(value, f.name)) for f in fields(value)}
        )
    if type(value) is dict:
        return {key: without_rest_of_batch(part) for key, part in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(without_rest_of_batch, value))
    return value


def _parts(value: Any) -> Sequence[Any]:
    if is_dataclass(value) and not isinstance(value, type):
        return [getattr(value, field.name) for field in fields(value)]
    if isinstance(value, Mapping):
        return list(value.values())
    return value if isinstance(value, (list, tuple)) else []
