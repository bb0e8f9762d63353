"""Small videos that tests encode themselves, and their frames decoded one by one."""

import av
import numpy as np

SIZE = 32, 24


def image_of(k):
    """Left half red fading out, the rest growing lighter with k."""
    pixels = np.full((SIZE[1], SIZE[0], 3), 12 * k, np.uint8)
    pixels[:, : SIZE[0] // 2, 0] = 255 - 12 * k
    return pixels


def encode(path, count=20, codec="mpeg4", seed=None, gop=None, **options):
    """A video of `image_of` each number, or of noise; whole in itself every `gop` frames."""
    noise = np.random.RandomState(seed or 0)
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=8)
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        if gop:
            stream.codec_context.gop_size = gop
        for k in range(count):
            shape = (SIZE[1], SIZE[0], 3)
            pixels = image_of(k) if seed is None else noise.randint(0, 255, shape, np.uint8)
            for packet in stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def by_hand(path):
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
