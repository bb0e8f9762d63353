"""Known answers: images are fetched once, are what they should be, and decide."""

from __future__ import annotations

import hashlib
import io
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch
from PIL import Image

from t2v_eval.cards import ModelCard
from t2v_eval.errors import InputError
from t2v_eval.local.pair_scorer import PairScorer
from t2v_eval.registry import models
from t2v_eval.verification.known import RULES, KnownAnswer, check_known, known_answers
from t2v_eval.verification.results import Outcome


class Brightness(PairScorer):
    """From 0 for black to 1 for white, or the reverse of a text about darkness."""

    version = "1"
    default_template = "plain"

    def preprocess(self, image):
        return torch.tensor(image.convert("L").resize((1, 1)).getpixel((0, 0)) / 255)

    def encode_images(self, batch):
        return list(batch)

    def score(self, states, texts):
        pairs = zip(states, texts, strict=True)
        return torch.stack([s if "bright" in text else 1 - s for s, text in pairs])


def png(level: int) -> bytes:
    stream = io.BytesIO()
    Image.new("L", (8, 8), level).save(stream, "PNG")
    return stream.getvalue()


FILES = {"/white.png": png(255), "/grey.png": png(51)}
HASHES = [hashlib.sha256(content).hexdigest() for content in FILES.values()]


@pytest.fixture
def server():
    """Serves the images, and keeps what it was requested for."""
    requested = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            requested.append(self.path)
            content = FILES.get(self.path, b"")
            self.send_response(200 if content else 404)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    httpd.requested, httpd.url = requested, f"http://127.0.0.1:{httpd.server_port}"
    yield httpd
    httpd.shutdown()
    httpd.server_close()
    thread.join()


@pytest.fixture
def answer(server):
    def make(**changes):
        facts = {
            "name": "readme",
            "images": [f"{server.url}{path}" for path in FILES],
            "sha256": HASHES,
            "texts": ["a bright wall", "a dark wall"],
            "expected": [[1.0, 0.0], [0.2, 0.8]],
            "tolerance": 1e-6,
            "source": "README.md",
        }
        return KnownAnswer(**facts | changes)

    return make


def check(answer, folder, **options):
    scorer = Brightness(device="cpu")
    return check_known(
        scorer, answer, folder, **{"fetch": True, "allow_urls": "private", **options}
    )


def test_published_numbers_are_met_and_images_are_fetched_once(server, answer, tmp_path):
    for _ in range(2):
        met = check(answer(), tmp_path / "new")
        assert met.outcome is Outcome.passed and met.source == "README.md"
    assert server.requested == list(FILES)
    assert check(answer(), tmp_path / "new", fetch=False).outcome is Outcome.passed


def test_other_numbers_fail_with_both(answer, tmp_path):
    failed = check(answer(expected=[[1.0, 0.0], [0.2, 0.9]]), tmp_path)
    assert failed.outcome is Outcome.failed
    assert failed.value == pytest.approx(0.1, abs=1e-6)
    assert "0.2, 0.8, published 1, 0, 0.2, 0.9" in failed.text


def test_nothing_is_downloaded_unasked(server, answer, tmp_path):
    unchecked = check(answer(), tmp_path, fetch=False)
    assert unchecked.outcome is Outcome.unchecked and server.url in unchecked.text
    assert server.requested == [] and not list(tmp_path.iterdir())


def test_another_image_is_an_error_and_is_not_kept(answer, tmp_path):
    with pytest.raises(InputError, match=f"sha256 {HASHES[0]}.*{HASHES[1]}.*fetch it again"):
        check(answer(sha256=HASHES[::-1]), tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_image_that_was_changed_later_is_an_error(answer, tmp_path):
    check(answer(), tmp_path)
    for file in tmp_path.iterdir():
        file.write_bytes(png(7))
    with pytest.raises(InputError, match="delete .* and fetch it again"):
        check(answer(), tmp_path)


def test_an_address_that_does_not_answer_is_named(answer, tmp_path):
    with pytest.raises(InputError, match="nowhere.png.*404"):
        check(answer(images=[answer().images[0].replace("white", "nowhere")], sha256=[]), tmp_path)


def test_rules():
    scores = np.array([[1.0, 3.0], [2.0, 5.0]])
    powers = np.exp(scores)
    np.testing.assert_allclose(RULES["softmax"](scores), powers / powers.sum(1, keepdims=True))
    np.testing.assert_allclose(
        RULES["softmax"](scores + 800), powers / powers.sum(1, keepdims=True)
    )
    assert RULES["mean of pairs"](scores) == (1 + 5) / 2
    assert RULES["difference"](scores).tolist() == [[-2.0], [-3.0]]
    scaled = KnownAnswer("a", ["b"], ["c", "d"], [[0.5, 0.5]], 0.1, "", rule="softmax", scale=100.0)
    assert scaled.numbers(np.array([[0.31, 0.30]])) == pytest.approx(1 / (1 + np.exp([[-1, 1]])))


FACTS = {"images": ["u"], "texts": ["a"], "expected": [[1]], "tolerance": 0.1, "source": "s"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rule": "sum"}, "rule = 'sum'; use 'scores' or"),
        ({"image": "u"}, "is no table of"),
        ({"sha256": ["a", "b"]}, "has 1 images and 2 sha256"),
    ],
)
def test_a_card_with_a_mistake_is_refused(changes, message):
    card = ModelCard("mine", "Mine", "mine", known_answers={"readme": {**FACTS, **changes}})
    with pytest.raises(InputError, match=message):
        known_answers(card)


def test_a_field_that_is_missing_is_named():
    card = ModelCard("mine", "Mine", "mine", known_answers={"readme": {"images": ["u"]}})
    with pytest.raises(InputError, match="lacks a field.*texts"):
        known_answers(card)


def test_answers_of_other_weights_do_not_hold():
    facts = {**FACTS, "checkpoint": "org/one"}
    for checkpoint, count in (("org/one", 1), ("org/two", 0)):
        card = ModelCard(
            "mine", "M", "m", args={"checkpoint": checkpoint}, known_answers={"readme": facts}
        )
        assert len(known_answers(card)) == count


@pytest.mark.parametrize(
    ("scorer", "name", "first"),
    [
        ("clip-logits", "openai-readme", 0.9927937),
        ("laion2b_s34b_b79k:ViT-B-32", "open_clip-readme", 1.0),
        ("clip-logits", "transformers-cats", 24.5701),
        ("hf-clip-probability:google/siglip-base-patch16-224", "transformers-cats", 0.31937),
        ("blip2-itm", "transformers-beach", 0.9762),
        ("blip2-itc", "transformers-beach", 0.4406),
        ("blip2-itm", "transformers-cats", 0.9992),
        ("blip2-itc", "transformers-cats", 0.2128),
        ("image-reward", "readme", 0.5812),
        ("clipscore", "readme-good", 0.8584),
        ("refclipscore", "readme-good", 0.845),
        ("clipscore", "readme-bad", 0.7153),
        ("refclipscore", "readme-bad", 0.7253),
    ],
)
def test_a_card_holds_what_authors_print(scorer, name, first):
    answers = {answer.name: answer for answer in known_answers(models.card(scorer))}
    assert np.ravel(answers[name].expected)[0] == first


def test_known_answers_of_all_cards_are_readable():
    """As many as were found in public, each with numbers in the shape of its rule."""
    cards = [
        *models.cards.values(),
        models.card("hf-clip-probability:google/siglip-base-patch16-224"),
    ]
    answers = [answer for card in cards for answer in known_answers(card)]
    assert len(answers) == 15
    for answer in answers:
        scores = np.ones((len(answer.images), len(answer.texts)))
        assert answer.numbers(scores).shape == np.array(answer.expected).shape, answer
        assert answer.source and answer.tolerance > 0
        assert answer.references is None or len(answer.references) == len(answer.images)
