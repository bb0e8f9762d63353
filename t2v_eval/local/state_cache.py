"""What a model made of pictures, kept between calls while there is room for it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

from torch import Tensor


class TensorCache:
    """The values that were used last, by key, in at most `room()` bytes; it forgets the others.

    Args:
        room: how many bytes there are; asked once, when there is something to keep.
    """

    def __init__(self, room: Callable[[], int]) -> None:
        self._ask, self._room = room, -1
        self._values: OrderedDict[str, tuple[Any, int]] = OrderedDict()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: str) -> Any | None:
        """The value, which is then the one used last; None where it is not kept."""
        if key not in self._values:
            return None
        self._values.move_to_end(key)
        return self._values[key][0]

    def put(self, key: str, value: Any) -> None:
        if self._room < 0:
            self._room = self._ask()
        size = sum(tensor.nbytes for tensor in tensors(value))
        if size > self._room:
            return
        self._forget(key)
        while self.bytes + size > self._room:
            self._forget(next(iter(self._values)))
        self._values[key] = (own(value), size)
        self.bytes += size

    def clear(self) -> bool:
        """Forget everything; whether there was anything."""
        held = bool(self._values)
        self._values.clear()
        self.bytes = 0
        return held

    def _forget(self, key: str) -> None:
        self.bytes -= self._values.pop(key, (None, 0))[1]


def tensors(value: Any) -> list[Tensor]:
    """All tensors inside mappings, sequences and dataclasses."""
    if isinstance(value, Tensor):
        return [value]
    return [tensor for part in _parts(value) for tensor in tensors(part)]


def own(value: Any) -> Any:
    """The value without the rest of a batch whose memory its tensors would hold on to."""
    if isinstance(value, Tensor):
        return value.clone() if value.untyped_storage().nbytes() > value.nbytes else value
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: own(getattr(value, f.name)) for f in fields(value)})
    if type(value) is dict:
        return {key: own(part) for key, part in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(own, value))
    return value


def _parts(value: Any) -> Sequence[Any]:
    if is_dataclass(value) and not isinstance(value, type):
        return [getattr(value, field.name) for field in fields(value)]
    if isinstance(value, Mapping):
        return list(value.values())
    return value if isinstance(value, (list, tuple)) else []
