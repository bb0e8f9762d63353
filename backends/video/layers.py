"""Layers that several networks of video and text share."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import gelu, interpolate, scaled_dot_product_attention


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    heads: int,
    mask: Tensor | None = None,
    causal: bool = False,
) -> Tensor:
    """Attend with several heads.

    Args:
        query: (B, Q, width).
        key: (B, K, width).
        value: (B, K, width).
        heads: number of heads, a divisor of the width.
        mask: (B, 1, 1, K), True where a key is read.
        causal: whether a query reads only the keys up to its own place.

    Returns:
        (B, Q, width).

    >>> import torch
    >>> attend(torch.zeros(1, 2, 4), torch.zeros(1, 3, 4), torch.ones(1, 3, 4), heads=2).shape
    torch.Size([1, 2, 4])
    """
    states = scaled_dot_product_attention(
        _split(query, heads), _split(key, heads), _split(value, heads), mask, is_causal=causal
    )
    return states.transpose(1, 2).flatten(2)


def _split(states: Tensor, heads: int) -> Tensor:
    """Split states (B, L, width) into heads (B, heads, L, width / heads)."""
    batch, length, width = states.shape
    return states.view(batch, length, heads, width // heads).transpose(1, 2)


class Mlp(nn.Module):
    """Two linear layers with GELU between them.

    >>> import torch
    >>> Mlp(4, 8)(torch.zeros(1, 3, 4)).shape
    torch.Size([1, 3, 4])
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, states: Tensor) -> Tensor:
        """Map states (..., width) to the same shape."""
        output: Tensor = self.fc2(gelu(self.fc1(states)))
        return output


class PatchEmbedding(nn.Module):
    """Cut each frame into patches and project them.

    >>> import torch
    >>> PatchEmbedding(4, patch=8)(torch.zeros(1, 2, 3, 16, 16)).shape
    torch.Size([1, 2, 4, 4])
    """

    def __init__(self, width: int, patch: int, bias: bool = True) -> None:
        super().__init__()
        size = (1, patch, patch)
        self.proj = nn.Conv3d(3, width, size, size, bias=bias)

    def forward(self, frames: Tensor) -> Tensor:
        """Map frames (B, T, 3, H, W) to patches (B, T, N, width)."""
        patches: Tensor = self.proj(frames.transpose(1, 2))
        return patches.flatten(3).permute(0, 2, 3, 1)


def stretch_in_time(positions: Tensor, old: int, new: int) -> Tensor:
    """Stretch learned positions from `old` to `new` frames, linearly.

    As `interpolate_pos_embed` of InternVideo2.

    Args:
        positions: (old * N, width), frame by frame.
        old: number of frames that they are for.
        new: number of frames of the result.

    Returns:
        (new * N, width).

    >>> import torch
    >>> stretch_in_time(torch.tensor([[0.0], [4.0]]), 2, 4).flatten().tolist()
    [0.0, 1.0, 3.0, 4.0]
    """
    if old == new:
        return positions
    frames = positions.view(old, -1, positions.shape[1]).permute(1, 2, 0)  # (N, width, old)
    stretched = interpolate(frames.float(), size=new, mode="linear").to(positions.dtype)
    return stretched.permute(2, 0, 1).flatten(0, 1)
