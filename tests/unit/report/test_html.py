"""The page of a report: what is in the file, for every kind of benchmark and awkward input."""

import base64
import hashlib
import json
import re
import sys
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from helpers.benchmarks.toy_benchmark import HOSTILE, Guesses, Knows, Toys, named_toys  # noqa: F401
from helpers.media.videos import by_hand, encode
from helpers.toy import draw_image
from PIL import Image

from t2v_eval.cards import BenchmarkCard
from t2v_eval.cli import console
from t2v_eval.evaluation.benchmark import Benchmark, Item
from t2v_eval.evaluation.run import evaluate
from t2v_eval.inputs.media import Media, Video
from t2v_eval.report import disagreement, item_browser, plots, thumbnails
from t2v_eval.report.html import render
from t2v_eval.report.report import Report, compare


class Page(HTMLParser):
    """Collects tags, attributes and text of a page, and the data of its items."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.attributes, self.text, self.scripts = [], [], [], {}
        self.inside = None
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += [(tag, *item) for item in attributes]
        self.inside = dict(attributes).get("id", "own") if tag == "script" else None

    def handle_endtag(self, tag):
        self.inside = None

    def handle_data(self, data):
        if self.inside is None:
            self.text.append(data)
        else:
            self.scripts[self.inside] = self.scripts.get(self.inside, "") + data

    def items(self, section=1):
        return json.loads(self.scripts[f"items-{section}"])


def page_of(report):
    return render(report.runs, report.labels, report.differences)


@pytest.fixture(scope="module")
def report():
    return compare(["toy-oracle", "toy-guesser"], [Toys()], resamples=50)


def test_the_page_needs_no_network_and_what_users_wrote_is_inert(report):
    text = page_of(report)
    page = Page(text)
    assert set(page.scripts) == {"own", "items-1", "glyphs", "images", "large"}
    assert "<script>alert(1)" not in text and "</script> &" not in text
    assert HOSTILE in "".join(page.text), "a tag is shown as it is"
    assert page.items()["items"][0]["texts"][0] == f"0 left {HOSTILE}"
    for tag, name, value in page.attributes:
        assert not name.startswith("on"), f"{tag} {name}"
        if name in ("src", "href", "xlink:href"):
            assert value.startswith(("data:image/", "#")), f"{tag} {name}={value[:60]}"
    outside = re.findall(r"https?://[^\s\"'<]+", text)
    assert all(url.startswith("http://www.w3.org/") for url in outside), outside


def test_only_the_page_s_own_script_may_run(report):
    page = Page(page_of(report))
    policy = next(v for _, n, v in page.attributes if n == "content" and "default-src" in v)
    digest = base64.b64encode(hashlib.sha256(page.scripts["own"].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy and "default-src 'none'" in policy
    assert not any(name == "src" for tag, name, _ in page.attributes if tag == "script")


def test_figures_and_what_they_mean_are_in_the_page(report):
    text = " ".join(Page(page_of(report)).text)
    assert "toy-guesser" in text and "no significant difference" in text and "12 items" in text
    assert re.search(r"0\.667\s.*to", text) and "95" in text and "Holm" in text


def test_the_data_of_an_item_is_what_was_scored(report):
    data = Page(page_of(report)).items()
    assert [entry["label"] for entry in data["scorers"]] == ["toy-oracle", "toy-guesser"]
    assert data["tags"] == ["even", HOSTILE, "odd"] and data["labels"] == ""
    item = data["items"][3]
    assert item["id"] == "toy-3" and item["tags"] == [2] and item["texts"][1] == "3 right"
    # By image, then by text: the oracle is right, the other scorer wrong on every third item.
    assert item["scores"] == [[0.9, 0.1, 0.1, 0.9], [0.1, 0.9, 0.9, 0.1]]
    assert item["percentiles"] == [[75, 25, 25, 75], [25, 75, 75, 25]]
    assert item["verdicts"] == [[1, None], [0, None]] and item["failures"] == [[], []]
    assert (
        item["scorer_disagreement"] == 0.5
        and item["human_disagreement"] == [None, None]
        and "human" not in item
    )


class Judged(Toys):
    """The toys, and what people say of each cell."""

    def __init__(self, labels, pooled=False, **options):
        super().__init__(**options)
        self.labels, self.pooled = labels, pooled  # type: ignore[misc]

    def items(self):
        return [
            Item(i.images, i.texts, {"human": self.labels(n)}, i.tags, id=i.id)
            for n, i in enumerate(super().items())
        ]


def test_ratings_are_in_the_data_and_the_plots():
    rated = Judged(lambda n: [5, 1.5, [1, 2], None], pooled=True)
    report = compare([Knows(), Guesses()], [rated], resamples=5)
    page = Page(page_of(report))
    data = page.items()
    assert data["labels"] == "ratings" and data["items"][1]["human"] == [5, 1.5, 1.5, None]
    assert "Scores and people" in page.text and "largest disagreement with people" in page.text
    # Of 36 cells that are rated, 5 is above the 24 of 1.5: 30/36 and 12/36 with ties half. So are
    # the oracle's scores; the other scorer has 16 high ones (28/36) and 20 low ones (10/36).
    assert data["items"][1]["human_disagreement"] == [0, pytest.approx(2 / 36, abs=1e-4)]
    wrong = (20 + 16 + 16) / 36 / 3
    assert data["items"][3]["human_disagreement"][1] == pytest.approx(wrong, abs=1e-4)


@pytest.mark.parametrize(
    ("values", "bins"),
    [
        ([1.0, 1.0, 4.0, 5.0], 5),  # a level that nobody gave is a gap, not a wider bar
        ([1.0, 4 / 3, 5 / 3, 3.0], 7),
        (np.float32([0.2, 0.4, 0.6, 0.8]).astype(float), 4),
        (np.random.default_rng(0).normal(size=16), 8),
        (np.random.default_rng(0).normal(size=5000), 30),
        ([2.0, 2.0], 1),
    ],
)
def test_bins_are_of_one_width_and_hold_everything(values, bins):
    edges = plots._edges(np.array(values))
    assert np.histogram(values, edges)[0].sum() == len(values)
    assert len(edges) == bins + 1
    np.testing.assert_allclose(np.diff(edges), edges[1] - edges[0], rtol=1e-6)


def test_labels_of_right_and_wrong_split_the_scores_instead():
    page = Page(page_of(compare([Knows()], [Judged(lambda n: [1, 0, 0, 1])], resamples=5)))
    assert page.items()["labels"] == "match" and "Scores and people" not in page.text
    assert "Filled: cells that match" in " ".join(page.text)


def test_disagreement_within_items_is_about_the_order_of_their_cells():
    runs = [
        evaluate(scorer, Judged(lambda n: [1, 0, 0, 1]), resamples=2)
        for scorer in (Knows(), Guesses())
    ]
    right, mixed = (disagreement.human_disagreement(run) for run in runs)
    # Scores of 0.9 are above 3/4 of all, scores of 0.1 above 1/4: (1 - 1/2) / 2, or the reverse.
    np.testing.assert_allclose(right, 0.25)
    np.testing.assert_allclose(mixed, [0.75 if n % 3 == 0 else 0.25 for n in range(12)])


def test_a_video_is_one_thing_with_the_mean_of_its_frames():
    class Frames(Toys):
        def items(self):
            # The first video is all frames but the last, one of them twice.
            return [
                Item(
                    [draw_image(2 * n), draw_image(2 * n + 1), draw_image(2 * n)],
                    [f"{n} left"],
                    {"human": [4, 2], "frames": [[0, 1, 1, 0], [2, 2]]},
                    id=f"video-{n}",
                )
                for n in range(4)
            ]

        def rated_units(self, item):
            return item.labels["frames"]

        def metrics(self, items, scores):
            return {"right": 0.5}

    run = evaluate(Knows(), Frames(), resamples=2)
    np.testing.assert_allclose(disagreement.unit_scores(run)[0], [[0.5], [0.9]], rtol=1e-6)
    item = Page(page_of(Report([run]))).items()["items"][0]
    assert [frames for _, _, frames, _ in item["images"]] == [4, 2]
    assert item["human"] == [4, 2] and item["scores"] == [[0.5, 0.9]]
    rows = list(Report([run]).rows())[:3]
    assert [row["human"] for row in rows] == [4, 4, 2], "a frame has its video's rating"


def test_failures_have_their_reasons_and_are_never_numbers():
    report = compare([Knows(on_error="skip"), Guesses()], [Toys(broken=0)], resamples=5)
    assert Page(page_of(report)).items()["reasons"] == []
    report = compare([Knows(on_error="skip")], [Toys(broken=2)], resamples=5)
    page = Page(page_of(report))
    data = page.items()
    assert data["reasons"] == [
        "not an image that Pillow can read: check what it holds, or save it again as PNG or JPEG"
    ]
    assert data["items"][0]["scores"] == [[None, None, 0.1, 0.9]]
    assert data["items"][0]["failures"] == [[[0, 0], [1, 0]]] and data["items"][2]["failures"] == [
        []
    ]
    text = " ".join(page.text)
    assert "failed on 4 of 48" in text and "4 of 48 scores failed" in text
    assert "failed: not an image" in text, "items can be filtered by the reason"
    assert [p[0] for p in data["items"][0]["images"]] == [-2, 0]


def test_a_run_in_which_everything_failed_has_a_page():
    report = compare([Knows(on_error="skip")], [Toys(n=3, broken=3)], resamples=5)
    for scores in report.runs[0].scores:
        scores[:] = np.nan
    page = Page(page_of(report))
    assert {v for item in page.items()["items"] for v in item["scores"][0]} == {None}


def test_the_page_of_a_single_scorer_without_tags():
    class Plain(Toys):
        def items(self):
            return [Item(i.images, i.texts) for i in super().items()]

    page = Page(page_of(compare([Knows()], [Plain()], resamples=20)))
    text = " ".join(page.text)
    assert "scorers disagree" not in text and "by tag" not in text
    assert "Scorers against each other" not in text and "disagreement with people" not in text


def test_what_others_published_is_beside_the_figure_of_the_same_scorer_and_metric():
    figures = {"right": {"toy-oracle": 0.987, "another": 0.5, "source": "a paper, table 1"}}
    card = BenchmarkCard("with-figures", "Toys", "judged", published=figures)
    report = compare(["toy-oracle", "toy-guesser"], [Toys(card=card)], resamples=5)
    text = " ".join(Page(page_of(report)).text)
    assert text.count("published: 0.987") == 1 and "Published: a paper, table 1." in text


def test_long_texts_are_cut_and_say_so():
    class Long(Toys):
        def items(self):
            return [
                Item(i.images, [f"{i.texts[0]} {'word ' * 1000}", i.texts[1]])
                for i in super().items()
            ]

    text = Page(page_of(compare([Knows()], [Long()], resamples=2))).items()["items"][0]["texts"][0]
    assert len(text) < item_browser.MAX_TEXT + 80 and "characters; scores.csv has all" in text


def test_large_items_are_shown_in_part(monkeypatch):
    monkeypatch.setattr(item_browser, "MAX_ROWS", 1)
    monkeypatch.setattr(item_browser, "MAX_CELLS", 0)
    item = Page(page_of(compare([Knows()], [Toys()], resamples=2))).items()["items"][0]
    assert item["hidden"] == [2, 2]
    assert len(item["images"]) == len(item["texts"]) == len(item["scores"][0]) == 1


def test_all_images_of_an_item_are_in_the_page_as_far_as_there_is_room(monkeypatch):
    class Many(Benchmark):
        pooled, headline = True, "mean"

        def items(self):
            names = [f"{n}-{k}" for n in range(3) for k in range(30)]
            images = dict(zip(names, noise(90), strict=True))
            return [Item([images[f"{n}-{k}"] for k in range(30)], [f"{n} left"]) for n in range(3)]

        def metrics(self, items, scores):
            return {"mean": float(np.nanmean(np.concatenate(scores)))}

    report = compare([Guesses(), Guesses()], [Many()], resamples=2)
    data = Page(page_of(report)).items()
    assert [len(item["images"]) for item in data["items"]] == [30, 30, 30]
    assert [len(item["scores"][1]) for item in data["items"]] == [30, 30, 30]
    assert not any("hidden" in item for item in data["items"])
    # Room for 3 items of 24 images by 2 scorers, and for 6 images more of one item.
    monkeypatch.setattr(item_browser, "MAX_CELLS", 2 * (3 * 24 + 6))
    page = Page(page_of(report))
    counts = sorted(len(item["images"]) for item in page.items()["items"])
    assert counts == [24, 24, 30] and len(json.loads(page.scripts["images"])) == 78
    assert [item.get("hidden") for item in page.items()["items"]].count([30, 1]) == 2


def noise(count, side=64):
    """Return images that are as large in bytes as photographs of their size are."""
    pixels = np.random.default_rng(0).integers(0, 255, (count, side, side, 3), np.uint8)
    return [Image.fromarray(image) for image in pixels]


def test_many_thumbnails_leave_room_for_large_images_of_the_first():
    images = noise(80, 400)
    small, large = (len(thumbnails.thumbnail(images[0], side)) for side in (160, 320))
    limit = 6 * large + large // 2  # a sixth of it holds one large image
    album = thumbnails.Album(images, 320, limit)
    assert album.large_index(images[0]) == 0 and album.large_index(images[-1]) == -1
    listed = [image for image in images if album.index(image) >= 0]
    assert len(listed) + album.left_out == 80 and len(listed) < 80
    assert len(listed) > 5 * large // small - 3  # five parts of six
    assert sum(map(len, album.urls + album.large)) <= limit
    # What small images do not need of it goes to thumbnails.
    few = thumbnails.Album(images, 160, 81 * small)
    assert few.left_out == 0 and few.large == []


def test_large_runs_show_some_items_and_say_how_many(monkeypatch):
    monkeypatch.setattr("t2v_eval.report.html.MAX_ITEMS", 6)
    page = Page(page_of(compare([Knows(), Guesses()], [Toys()], resamples=20)))
    assert "6 of 12 items are shown" in " ".join(page.text)
    numbers = [item["index"] for item in page.items()["items"]]
    assert {0, 3, 6, 9} >= set(numbers) & {0, 3, 6, 9} and len(numbers) == 6
    assert len(set(numbers) & {0, 3, 6, 9}) >= 3 and numbers == sorted(numbers)


def test_images_are_bounded_in_size_together_and_the_page_says_so(monkeypatch):
    images = noise(20)
    thumbnail_size = len(thumbnails.thumbnail(images[0]))
    album = thumbnails.Album(images * 2, limit=int(3.5 * thumbnail_size))
    assert len(album.urls) == 3 and album.left_out == 17
    assert [album.index(image) for image in images[:5]] == [0, 1, 2, -1, -1]
    assert sum(map(len, album.urls)) <= 3.5 * thumbnail_size
    monkeypatch.setattr(thumbnails, "MAX_BYTES", 1 << 20)
    monkeypatch.setattr(
        "t2v_eval.report.html.Album",
        lambda sources, pixels, limit=0: thumbnails.Album(sources, pixels, thumbnail_size // 50),
    )
    page = Page(page_of(compare([Knows()], [Toys()], resamples=2)))
    assert "24 images are not in this page, which holds at most 1 MiB" in " ".join(page.text)
    assert page.items()["items"][0]["images"][0][0] == -1


def test_items_and_images_share_the_room_of_the_page(monkeypatch):
    report = compare([Knows()], [Toys()], resamples=2)
    count = len(Page(page_of(report)).items()["items"])
    assert count > 4
    whole = len(page_of(report))
    monkeypatch.setattr("t2v_eval.report.html.MAX_ITEM_BYTES", 1000)
    page = Page(page_of(report))
    visible = len(page.items()["items"])
    assert 1 <= visible < count
    assert f"{visible} of {count} items are shown" in " ".join(page.text)
    assert "scores.csv has all of them" in " ".join(page.text)
    monkeypatch.setattr("t2v_eval.report.html.MAX_BYTES", 0)  # no room for any image
    assert len(page_of(report)) < whole
    assert all(
        image[0] == -1
        for item in Page(page_of(report)).items()["items"]
        for image in item["images"]
    )


def test_images_that_are_not_there_have_no_thumbnail(tmp_path):
    assert thumbnails.thumbnail(tmp_path / "nowhere.png") is None
    assert thumbnails.thumbnail(b"no picture") is None
    assert thumbnails.thumbnail("https://example.org/a.png") is None
    album = thumbnails.Album([tmp_path / "nowhere.png"])
    assert album.index(tmp_path / "nowhere.png") == -2 and album.urls == []


def test_a_thumbnail_is_what_a_person_sees(tmp_path):
    import io

    exif = Image.Exif()
    exif[274] = 6  # shown turned by a quarter
    Image.linear_gradient("L").resize((640, 320)).save(tmp_path / "a.jpg", exif=exif)
    content = base64.b64decode(thumbnails.thumbnail(tmp_path / "a.jpg").partition(",")[2])
    small = Image.open(io.BytesIO(content))
    assert small.size == (80, 160)
    assert (
        np.asarray(small.convert("L"))[:, 0].mean() > np.asarray(small.convert("L"))[:, -1].mean()
    )


def test_a_thumbnail_of_a_video_is_its_middle_frame(tmp_path, monkeypatch):
    frames = [Image.new("RGB", (64, 48), (40 * n, 9, 9)) for n in range(5)]
    still = thumbnails.thumbnail(frames[2])
    assert thumbnails.thumbnail(Video.of(frames)) == still != thumbnails.thumbnail(frames[1])
    path = encode(tmp_path / "a.mp4", 9)
    assert thumbnails.thumbnail(path) == thumbnails.thumbnail(by_hand(path)[4])
    bad = tmp_path / "b.mp4"
    bad.write_bytes(path.read_bytes()[:400])
    sources = [str(path), str(bad), str(tmp_path / "nowhere.mp4"), Video.of(frames)]
    album = thumbnails.Album(sources)
    assert [album.index(item) for item in sources] == [0, -2, -2, 1]
    monkeypatch.setitem(sys.modules, "av", None)  # a report of stored scores needs no PyAV
    assert thumbnails.thumbnail(path) is None


def test_generators_that_were_compared_have_a_table_and_a_verdict():
    class Two(Toys):
        """The left images are of one generator and the right ones of another."""

        headline, chance = "one", {}

        def metrics(self, items, scores):
            both = np.stack(scores).mean(axis=2)
            first, other = both.mean(axis=0).tolist()
            return {"one": first, "other": other, "one - other": first - other}

        def contrasts(self, items, scores):
            both = np.stack(scores).mean(axis=2)
            return {("one", "other"): both[:, 0] - both[:, 1]}

    report = compare([Knows()], [Two()], resamples=20)
    text = " ".join(Page(page_of(report)).text)
    assert "Differences between what is compared" in text and "one − other" in text
    assert "no significant difference" in text


def test_what_else_a_model_said_is_with_its_score_and_in_short():
    class Talks(Knows):
        def score_cells(self, images, texts, cells):
            for part in super().score_cells(images, texts, cells):
                listed = 0.5 if part.positions[0] == 3 else 1.0
                yield replace(part, details=[json.dumps({"listed": listed, "wrote": "<b>so"})])

    report = compare([Talks(), Knows()], [Toys(n=2)], resamples=2)
    message = report.to_json()["runs"][0]["scorer"]["said"]
    assert message == {"listed": {"mean": 7.5 / 8, "lowest": 0.5, "n": 8}}
    page = Page(page_of(report))
    item = page.items()["items"][0]
    assert (
        item["details"][0][0] == [0, '{"listed": 1.0, "wrote": "<b>so"}']
        and item["details"][1] == []
    )
    assert "mean 0.938, lowest 0.500, of 8 scores" in " ".join(page.text)


def test_answers_to_questions_are_lines_under_their_image():
    class Asks(Knows):
        def score_cells(self, images, texts, cells):
            for part in super().score_cells(images, texts, cells):
                count = 90 if part.positions[0] == 1 else 2
                common = {"expected": "yes", "answer": None, "error": None}
                answers = [
                    {**common, "id": "1", "question": "Is there a <b>cube?", "value": 0.25,
                     "zeroed_by": None},
                    *[{**common, "id": str(n), "question": "Is the cube red, or is it not?",
                       "value": 0.75, "zeroed_by": "1"} for n in range(2, count + 1)],
                ]  # fmt: skip
                yield replace(part, details=[json.dumps(answers)])

    page = Page(page_of(compare([Asks()], [Toys(n=1)], resamples=2)))
    first, second, *_ = page.items()["items"][0]["details"][0]
    assert first == [0, [
        "1. Is there a <b>cube? (yes: 0.2500)",
        "2. Is the cube red, or is it not? (yes: 0.7500, counts 0: 1 is wrong)",
    ]]  # fmt: skip
    assert second[0] == 1 and 25 < len(second[1]) < 40
    assert second[1][-1] == f"and {91 - len(second[1])} more; scores.csv has all of them"


def test_a_tag_may_lack_a_metric(tmp_path, capsys):
    class Parts(Toys):
        """As where a metric is of one part of a benchmark and parts are tags."""

        headline, chance = "of_even", {}

        def metrics(self, items, scores):
            some = {"of_even": 1.0} if any("even" in item.tags for item in items) else {}
            return {**some, "all": 0.5}

        def statistic(self, items, scores):
            result = self.metrics(items, scores)
            return lambda index: result

    report = compare([Knows(), Guesses()], [Parts()], resamples=2)
    assert "of_even" not in report.runs[0].by_tag["odd"]
    report.write(tmp_path)
    console.print_report(report)
    assert "of_even by tag" in capsys.readouterr().out
    assert "| odd (6) |  |  |" in (tmp_path / "report.md").read_text()


def test_preferences_are_no_labels_of_right_and_wrong():
    class Preferred(Judged):
        def items(self):
            return [
                Item(i.images, i.texts[:1], {"human": [1, 0]}, i.tags, id=i.id)
                for i in Toys(n=self.n).items()
            ]

        def metrics(self, items, scores):
            return {"right": 0.5}

    page = Page(page_of(compare([Knows()], [Preferred(None)], resamples=2)))
    assert page.items()["labels"] == "ratings" and "Scores and people" in page.text


def test_images_are_called_by_their_files_without_folders(tmp_path):
    draw_image(0).save(tmp_path / "a b.png")
    assert thumbnails.name(str(tmp_path / "a b.png")) == "a b.png"
    assert thumbnails.name(Image.new("L", (1, 1))) == ""
    video = Media("key", f"{tmp_path}/clips/0001.mp4, frame 3", draw_image)
    assert thumbnails.name(video) == "0001.mp4, frame 3"


def test_a_report_of_nothing_is_a_page_too(tmp_path):
    page = Page(Report([]).write(tmp_path).read_text())
    assert "How the numbers were made" in page.text and json.loads(page.scripts["images"]) == []


def test_benchmarks_take_turns_for_the_room_there_is_for_images(monkeypatch):
    calls = []

    class Notes(thumbnails.Album):
        def __init__(self, sources, pixels, limit=0):
            calls.extend(sources)
            super().__init__(calls, pixels)

    class Other(Toys):
        def items(self):
            return [Item([f"{n}.png"], [f"{n} left"], id=f"{n}") for n in range(2)]

        def metrics(self, items, scores):
            return {"right": 1.0}

    monkeypatch.setattr("t2v_eval.report.html.Album", Notes)
    other = Other(card=BenchmarkCard("other", "Other", "test"))
    text = page_of(compare([Knows(on_error="skip")], [Toys(n=3), other], resamples=2))
    assert [isinstance(item, str) for item in calls] == [False, True, False, True, *[False] * 4]
    assert text.count("<section") == 3 and 'href="#benchmark-2"' in text
