"""Images are decoded, and copied to a CUDA device, while the model runs.

Streams and events are stand-ins that record what is asked of them, in order.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager

import pytest
import torch
from helpers.processes import HANGING
from helpers.toy import ToyEmbedding, ToyPair, draw_image

from t2v_eval.local import base
from t2v_eval.local.upload import Upload, Uploaded

CPU = torch.device("cpu")
IMAGES = [draw_image(n, (12, 12)) for n in range(9)]
TEXTS = ["a cat", "two dogs"]


class Streams:
    """In place of `torch.cuda`; `log` has what happened, in order."""

    def __init__(self):
        self.log = []
        self.Stream = lambda device: "copies"
        self.Event = lambda: Event(self.log)

    def current_stream(self, device):
        return self

    @contextmanager
    def stream(self, stream):
        self.log.append(("copy on", stream))
        yield

    def wait_event(self, event):
        self.log.append(("model waits", event))


class Event:
    def __init__(self, log):
        self.log = log

    def record(self, stream):
        self.log.append(("record", stream, self))


@pytest.fixture
def streams(monkeypatch):
    streams = Streams()
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor.clone())
    monkeypatch.setattr(
        torch.Tensor,
        "record_stream",
        lambda tensor, stream: streams.log.append(("used on", stream, tensor)),
    )
    return streams


def test_the_model_waits_for_the_copy_before_it_reads_it(streams):
    upload, image = Upload(CPU, streams), torch.arange(3.0)
    sent = upload.send(image)
    assert sent.copy is not image  # what was prepared is not the memory that is copied from
    copies, (_, stream, event) = streams.log
    assert (copies, stream) == (("copy on", "copies"), "copies")
    (received,) = upload.receive([sent])
    assert torch.equal(received, image)
    wait, used = streams.log[2:]
    assert wait == ("model waits", event)
    assert used[:2] == ("used on", streams) and used[2] is received


def test_what_is_no_tensor_and_what_stays_on_the_cpu_is_left_alone(streams):
    other, tensor = {"pixels": torch.ones(2)}, torch.ones(2)
    upload = Upload(CPU, streams)
    assert upload.send(other) is other
    assert upload.receive([other])[0] is other
    upload = Upload(CPU)
    assert upload.send(tensor) is tensor
    assert upload.receive([tensor])[0] is tensor
    assert not upload.drop()
    assert not streams.log


def test_no_more_waits_on_the_device_than_there_is_room_for(streams):
    upload = Upload(CPU, streams, room=2 * 12)
    images = [torch.full((3,), float(n)) for n in range(4)]
    sent = [upload.send(image) for image in images]
    assert [isinstance(item, Uploaded) for item in sent] == [True, True, False, False]
    assert torch.equal(torch.stack(upload.receive(sent)), torch.stack(images))
    assert isinstance(upload.send(images[0]), Uploaded)  # their room is free again


def test_copies_are_dropped_when_memory_runs_out(streams):
    upload = Upload(CPU, streams, room=24)
    images = [torch.full((3,), float(n)) for n in range(2)]
    sent = [upload.send(image) for image in images]
    assert upload.drop() and not upload.drop()
    assert all(item.copy is None for item in sent)
    for _ in range(2):  # and a batch that is tried again is copied again
        assert torch.equal(torch.stack(upload.receive(sent)), torch.stack(images))
    assert [isinstance(upload.send(image), Uploaded) for image in images] == [True, True]


def test_without_memory_for_the_copy_the_image_stays_on_the_cpu(streams, monkeypatch):
    def fail(tensor):
        raise RuntimeError("CUDA error: out of memory")

    image, upload = torch.ones(3), Upload(CPU, streams, room=12)
    with monkeypatch.context() as patch:
        patch.setattr(torch.Tensor, "pin_memory", fail)
        assert upload.send(image) is image
    assert isinstance(upload.send(image), Uploaded)


@pytest.mark.parametrize("kind", [ToyEmbedding, ToyPair])
@pytest.mark.parametrize("room", [0, 100, 1 << 20])
def test_scores_are_those_without_it(kind, room, streams, monkeypatch):
    def encode_images(scorer, batch):
        if len(batch) > 2:
            raise torch.OutOfMemoryError
        return kind.encode_images(scorer, batch)

    expected = kind(device="cpu")(IMAGES, TEXTS)
    monkeypatch.setattr(base, "Upload", lambda device: Upload(device, streams, room))
    small = type("Small", (kind,), {"encode_images": encode_images})(device="cpu", batch_size=4)
    assert torch.equal(small(IMAGES, TEXTS), expected)
    assert bool(streams.log) == (room > 0)
    assert small.image_batch.value == 2


def test_later_batches_are_decoded_while_the_model_runs():
    decoded = [threading.Event() for _ in IMAGES]
    vectors = {image.tobytes(): n for n, image in enumerate(IMAGES)}

    class Waiting(ToyEmbedding):
        def preprocess(self, image):
            decoded[vectors[image.tobytes()]].set()
            return super().preprocess(image)

        def encode_images(self, batch):
            if not self.image_calls:  # the first batch needs images 0 and 1
                assert decoded[2].wait(HANGING) and decoded[4].wait(HANGING)
            return super().encode_images(batch)

    waiting = Waiting(device="cpu", batch_size=2)
    assert torch.equal(waiting(IMAGES, TEXTS), ToyEmbedding(device="cpu")(IMAGES, TEXTS))
    assert waiting.image_calls[0] == 2
