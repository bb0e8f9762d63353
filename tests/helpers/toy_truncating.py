"""A toy scorer that cuts texts."""

from __future__ import annotations

from helpers.toy import ToyEmbedding


class Short(ToyEmbedding):
    version = "1"

    def encode_texts(self, texts):
        self.note_truncated(text for text in texts if len(text) > 5)
        return super().encode_texts([text[:5] for text in texts])
