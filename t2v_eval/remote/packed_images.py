"""Images as they are sent, packed once for all their questions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

from t2v_eval.inputs.media import Media

PackedT = TypeVar("PackedT")


class PackedImages(Generic[PackedT]):
    """Cache the last packed images, so that an image is packed once for all its texts.

    Args:
        pack: prepares an image for sending; runs in a thread.
        max_items: the number of images to cache.

    >>> from PIL import Image
    >>> from t2v_eval.inputs.media import open_media
    >>> packed = PackedImages(lambda media: media.load().size, max_items=2)
    >>> asyncio.run(packed.get(open_media(Image.new("RGB", (4, 2)))))
    (4, 2)
    """

    def __init__(self, pack: Callable[[Media], PackedT], max_items: int) -> None:
        self._pack, self._max_items = pack, max_items
        self._futures: dict[str, asyncio.Future[PackedT]] = {}

    async def get(self, media: Media) -> PackedT:
        """Return a packed image.

        Raises:
            Exception: whatever `pack` raises.
        """
        if media.key not in self._futures:
            self._futures[media.key] = asyncio.ensure_future(asyncio.to_thread(self._pack, media))
            while len(self._futures) > self._max_items:
                del self._futures[next(iter(self._futures))]
        # Shielded: a question that is cancelled must not cancel the packing for the others.
        return await asyncio.shield(self._futures[media.key])
