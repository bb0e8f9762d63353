"""Copy prepared images to a CUDA device from the decoding threads, while the model runs.

A copy from ordinary memory to the device blocks its thread, and on the model's stream it waits for
the model, so that the device would be idle while a batch is stacked and copied.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from t2v_eval.local.devices import free_bytes

SHARE = 16  # the free memory is so many times what may wait on the device


@dataclass(eq=False, slots=True)
class Uploaded:
    """An image whose copy to the device has begun.

    Attributes:
        source: the prepared image on the CPU.
        copy: the same on the device, complete after `ready`; None once it was dropped or received.
        ready: the CUDA event behind the copy.

    >>> Uploaded(torch.zeros(3), None, None).copy is None  # dropped to make room
    True
    """

    source: Tensor
    copy: Tensor | None
    ready: Any


class Upload:
    """Copies of prepared images on the way to a CUDA device; for other devices it does nothing.

    Args:
        device: the device of the model.
        streams: the streams and events of the device, such as `torch.cuda`; by default those of a
            CUDA device, and None for any other.
        room: bytes that may wait on the device; by default a sixteenth of its free memory.

    >>> upload = Upload(torch.device("cpu"))
    >>> upload.receive([upload.send(torch.ones(2))])
    [tensor([1., 1.])]
    """

    def __init__(self, device: torch.device, streams: Any = None, room: int | None = None) -> None:
        self.device = device
        self._streams = torch.cuda if streams is None and device.type == "cuda" else streams
        if self._streams is not None:
            self._stream = self._streams.Stream(device)
            self._room = free_bytes(device) // SHARE if room is None else room
        self._waiting: dict[int, Uploaded] = {}
        self._changed = threading.Lock()

    def send(self, prepared: Any) -> Any:
        """Begin to copy a tensor to the device; runs in a decoding thread.

        Args:
            prepared: what `preprocess` returned.

        Returns:
            What `receive` takes: `prepared` itself where it is no tensor, or there is no room.
        """
        if self._streams is None or not isinstance(prepared, Tensor):
            return prepared
        with self._changed:
            if prepared.nbytes > self._room:
                return prepared
            self._room -= prepared.nbytes  # given back by `_take`
        try:
            # From pinned memory, as a copy from other memory is not asynchronous. PyTorch reuses
            # the pinned memory only after the copy.
            pinned = prepared.pin_memory()
            with self._streams.stream(self._stream):
                copy = pinned.to(self.device, non_blocking=True)
                ready = self._streams.Event()
                ready.record(self._stream)
        except RuntimeError:  # no memory left, here or there: the batch copies it, or says why not
            with self._changed:
                self._room += prepared.nbytes
            return prepared
        uploaded = Uploaded(prepared, copy, ready)
        with self._changed:
            self._waiting[id(uploaded)] = uploaded
        return uploaded

    def receive(self, batch: Sequence[Any]) -> list[Any]:
        """Return what was sent, with tensors on the device, for the current stream.

        Args:
            batch: what `send` returned for each image. Received again, as after a batch that did
                not fit into memory, an image is copied again.
        """
        return list(batch) if self._streams is None else [self._received(item) for item in batch]

    def drop(self) -> bool:
        """Free the copies that wait on the device; return whether there were any."""
        with self._changed:
            waiting = list(self._waiting.values())
        copies = [self._take(item) for item in waiting]
        return any(copy is not None for copy in copies)

    def _received(self, item: Any) -> Any:
        if not isinstance(item, Uploaded):
            return item.to(self.device) if isinstance(item, Tensor) else item
        copy = self._take(item)
        if copy is None:
            return item.source.to(self.device)
        model = self._streams.current_stream(self.device)
        # The model must not read before the copy is complete. The memory belongs to the stream of
        # the copies, and must not be given to another copy before the model has read it.
        model.wait_event(item.ready)
        copy.record_stream(model)
        return copy

    def _take(self, item: Uploaded) -> Tensor | None:
        with self._changed:
            copy, item.copy = item.copy, None
            if self._waiting.pop(id(item), None) is not None:
                self._room += item.source.nbytes
        return copy
