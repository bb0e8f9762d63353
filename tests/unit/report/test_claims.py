"""The first sentences of a report, for every outcome that a test of a difference can have."""

import math
from dataclasses import replace

import numpy as np
import pytest
from helpers.benchmarks.toy_benchmark import Guesses, Knows, Toys
from helpers.toy import draw_image

from t2v_eval.benchmarks.forms.prompt_names import Prompt
from t2v_eval.benchmarks.forms.prompts import PromptsForm
from t2v_eval.cli import console
from t2v_eval.evaluation.stability.noise_floor import NoiseFloor
from t2v_eval.evaluation.verdicts import VerdictFacts, verdicts_of
from t2v_eval.local.function import from_function
from t2v_eval.report.claims import claims, first_sentence, matched_people
from t2v_eval.report.format import PAGE
from t2v_eval.report.report import Report, compare
from t2v_eval.report.tables import sections


class Mine(PromptsForm):
    """n prompts of one's own."""

    def __init__(self, n, **options):
        super().__init__(root=".", **options)
        self.n = n

    def prompts(self, folder):
        return [Prompt(str(n), f"a thing {n}") for n in range(self.n)]


def folders_of(tmp_path, n, **brightness):
    """Write a folder of n images for each generator; `brightness` is a function of the number."""
    for name, of in brightness.items():
        (tmp_path / name).mkdir()
        for k in range(n):
            image = draw_image(k).resize((8, 8))
            image.paste((of(k),) * 3, (0, 0, 8, 8))
            image.save(tmp_path / name / f"{k:05}.png")
    return [tmp_path / name for name in brightness]


def bright(images, texts):
    return [[np.asarray(image).mean() / 255] * len(texts) for image in images]


def dark(images, texts):
    return [[1 - np.asarray(image).mean() / 255] * len(texts) for image in images]


def texts_of(report, style=None):
    (section,) = sections(report.runs, report.labels, report.differences)
    return [claim.text for claim in (claims(section, style) if style else claims(section))]


def of_folders(folders, n, *functions):
    scorers = [from_function(function) for function in functions or (bright,)]
    return compare(scorers, Mine(n, images=folders), resamples=200)


def test_the_generator_with_the_higher_scores_comes_first(tmp_path):
    folders = folders_of(tmp_path, 40, sdxl=lambda k: 50 + k, flux=lambda k: 101 + k + k % 3)
    (text,) = texts_of(of_folders(folders, 40))
    # 51 + (0, 1, 2 in turn) of 255: (51 + 39 / 40) / 255; every prompt has the same sign.
    assert text.startswith("flux scores higher than sdxl on bright over 40 prompts: +0.204 [0.20")
    assert text.endswith("], p < 0.001.") and "better" not in text


def test_generators_that_do_not_differ_cannot_be_told_apart(tmp_path):
    folders = folders_of(tmp_path, 20, one=lambda k: 100, other=lambda k: 90 + 20 * (k % 2))
    (text,) = texts_of(of_folders(folders, 20))
    assert text.startswith(
        "one and other cannot be told apart on bright over 20 prompts: difference "
    )
    assert ": difference +0.000 [" in text
    assert text.endswith("p = 1.000.")


def test_few_prompts_cannot_show_a_difference_and_the_sentence_says_so(tmp_path):
    folders = folders_of(tmp_path, 5, other=lambda k: 90, one=lambda k: 100)
    (text,) = texts_of(of_folders(folders, 5))
    assert "cannot be told apart" in text and "p = 0.062" in text
    assert text.startswith("one and other "), "the higher mean comes first, as in the difference"
    assert ": difference +0.039 [" in text
    assert text.endswith("; so few cannot show a difference.")


def test_prompts_with_equal_scores_are_counted(tmp_path):
    folders = folders_of(tmp_path, 9, one=lambda k: 100 + 9 * (k < 4), other=lambda k: 100)
    report = of_folders(folders, 9)
    (section,) = sections(report.runs, report.labels, report.differences)
    counts = "one scores higher on 4 of 9 prompts, other on 0; on 5 both score the same."
    assert counts in claims(section)[0].basis


def test_several_generators_are_ranked(tmp_path):
    folders = folders_of(
        tmp_path, 12, a=lambda k: 10 + k, b=lambda k: 80 + k, c=lambda k: 79 + 2 * (k % 2) + k
    )
    (text,) = texts_of(of_folders(folders, 12))
    assert text.startswith(
        "Of 3 generators, b has the highest mean score on bright over 12 prompts"
    )
    assert "): higher than a (+0.275" in text and "it cannot be told apart from c." in text


def test_scorers_that_contradict_each_other_do_so_in_words(tmp_path):
    folders = folders_of(tmp_path, 12, one=lambda k: 100, other=lambda k: 90)
    texts = texts_of(of_folders(folders, 12, bright, dark))
    assert [text.partition(" over")[0] for text in texts[:2]] == [
        "one scores higher than other on bright",
        "other scores higher than one on dark",
    ]
    assert texts[2] == "The scorers contradict each other on one and other."


def test_a_single_generator_is_compared_with_none(tmp_path):
    folders = folders_of(tmp_path, 4, flux=lambda k: 51)
    (text,) = texts_of(of_folders(folders, 4))
    assert text == (
        "flux has the mean score 0.200 [0.200, 0.200] on bright over 4 prompts; it says little "
        "without another to compare it with."
    )


def test_no_prompt_in_common_is_no_comparison(tmp_path):
    first, second = folders_of(tmp_path, 4, one=lambda k: 100, other=lambda k: 90)
    for k in (0, 1):
        (first / f"{k:05}.png").unlink()
        (second / f"{k + 2:05}.png").unlink()
    benchmark = Mine(4, images=[first, second], on_missing="skip")
    (text,) = texts_of(compare(from_function(bright), benchmark, resamples=5))
    assert text == "one and other cannot be compared on bright: no prompt has scores of both."


def test_scorers_are_compared_by_the_headline():
    report = compare([Guesses(), Knows()], [Toys(n=36)], resamples=200)
    (text,) = texts_of(report, PAGE)
    start = "Knows reaches a higher right than Guesses over 36 items (1.000 and 0.667): +0.333 ["
    assert text.startswith(start) and text.endswith(", p\u00a0<\u00a00.001.")
    few = compare([Guesses(), Knows()], [Toys(n=12)], resamples=200)
    (text,) = texts_of(few)
    assert text.startswith("Knows and Guesses cannot be told apart on right over 12 items (1.000 ")
    assert ": difference +0.333 [" in text, "1.000 - 0.667"


def test_several_scorers_are_ranked():
    scorers = [Guesses(), Knows(), Knows(wrong=40)]
    (text,) = texts_of(compare(scorers, [Toys(n=36)], resamples=200))
    assert text.startswith("Of 3 scorers, Knows #1 reaches the highest right over 36 items (1.000 ")
    assert "higher than Guesses (+0.333" in text
    assert "it cannot be told apart from Knows #2." in text


def test_a_single_scorer_is_compared_with_guessing():
    (text,) = texts_of(compare([Knows()], [Toys()], resamples=5))
    assert text == (
        "Knows reaches right 1.000 [1.000, 1.000] over 12 items; guessing reaches 0.250."
    )


def test_where_all_failed_nothing_is_claimed():
    report = compare([Knows(on_error="skip")], [Toys(n=3, broken=3)], resamples=5)
    run = replace(report.runs[0], metrics=dict.fromkeys(report.runs[0].metrics, (math.nan,) * 3))
    run = replace(
        run, metrics={n: type(i)(*[math.nan] * 3) for n, i in report.runs[0].metrics.items()}
    )
    assert texts_of(Report([run])) == [
        "No scorer reaches a value of right: it is undefined over 3 items."
    ]


def test_how_often_people_agreed_is_with_the_claim_where_a_card_says_it():
    verdicts = verdicts_of("openai:ViT-B-32")
    assert verdicts[0].benchmark == "tifa160" and (verdicts[0].share, verdicts[0].count) == (
        0.5,
        10,
    )
    assert matched_people(verdicts)[0] == (
        "On tifa160, of 10 pairs of generators, it ordered 4 as people did and 0 the other way, "
        "missed 4, claimed a difference in 1 where people saw none, and saw none with them in 1; "
        "the means of 3 are in the other order."
    )
    assert verdicts_of("no such scorer") == []
    images = [VerdictFacts("a set", "images", share=0.706)]
    assert matched_people(images) == [
        "On a set, it ordered 70.6 % of pairs of images as people did."
    ]
    published = {f.benchmark: f.share for f in verdicts_of("image-reward") if f.of == "images"}
    assert published["tifa160"] == 0.673 and published["imagereward-test"] == 0.6514


def test_page_markdown_and_terminal_have_the_same_sentence(tmp_path, capsys):
    report = compare([Knows(), Guesses()], [Toys(n=36)], resamples=50)
    (section,) = sections(report.runs, report.labels, report.differences)
    report.write(tmp_path)
    console.print_report(report)
    text = first_sentence(section)
    assert " ".join(text.split()) in " ".join(capsys.readouterr().out.split())
    plain = (tmp_path / "report.md").read_text().replace("\\", "")
    assert f"**{text}**" in plain
    page_text = (tmp_path / "report.html").read_text().replace("\u00a0", " ").replace("&lt;", "<")
    assert text in page_text


@pytest.mark.parametrize("says", ["better", "best"])
def test_no_claim_of_images_calls_a_generator_better(tmp_path, says):
    folders = folders_of(tmp_path, 12, one=lambda k: 100, other=lambda k: 90)
    report = of_folders(folders, 12)
    report.write(tmp_path / "report")
    text = (tmp_path / "report" / "report.md").read_text()
    assert f"is {says}" not in text and "one scores higher" in text
    assert [report.runs[0].generator_of(0, k) for k in (0, 1)] == ["one", "other"]
    assert [row["generator"] for row in report.rows()][:2] == ["one", "other"]


def test_a_difference_within_the_noise_floor_is_remarked(tmp_path):
    folders = folders_of(tmp_path, 12, one=lambda k: 100, other=lambda k: 90)
    (run,) = of_folders(folders, 12).runs
    assert (run.noise_floor.cells, run.noise_floor.max) == (24, 0.0)
    for mean, remarked in ((0.03, False), (0.05, True)):  # the generators are 10 / 255 apart
        noisy = Report([replace(run, noise_floor=NoiseFloor(24, 2 * mean, mean))])
        (section,) = sections(noisy.runs, noisy.labels, noisy.differences)
        basis = " ".join(claims(section)[0].basis)
        assert ("no more than the scorer's noise floor: at most 0.1" in basis) == remarked
