"""A protocol from images to a report, against the scorers and SciPy beside it."""

import csv
import json
import shutil

import numpy as np
import pytest
from helpers.protocol_files import PLAN, write_generators, write_plan
from scipy import stats
from typer.testing import CliRunner

import t2v_eval
from t2v_eval.api import ScorerOptions
from t2v_eval.cli.main import app
from t2v_eval.errors import T2VError
from t2v_eval.evaluation.sampling import Sample
from t2v_eval.protocol.generated import read_images
from t2v_eval.protocol.page import write_protocol
from t2v_eval.protocol.plan import read_plan
from t2v_eval.protocol.run import ProtocolOptions, run_protocol

PROMPTS, SEEDS = 18, 3
SCORERS = ("tiny-clip", "tiny-negclip", "tiny-clip-flant5")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_generators(tmp_path_factory.mktemp("protocol"), PROMPTS, SEEDS, reference=24)


@pytest.fixture(scope="module")
def options(folder):
    scorers = ScorerOptions(device="cpu", store=folder / "scores.sqlite")
    return ProtocolOptions(
        scorers=scorers, cache=folder / "features", command=["protocol", "plan.toml"]
    )


@pytest.fixture(scope="module")
def report(folder, options):
    return run_protocol(read_plan(write_plan(folder)), options)


@pytest.fixture(scope="module")
def scores(folder):
    """The scores of each generator by tiny-clip, shape (seeds, prompts), computed beside."""
    with (folder / "prompts.csv").open() as stream:
        prompts = [row["prompt"] for row in csv.DictReader(stream)]
    scorer = t2v_eval.load("tiny-clip", device="cpu")
    return {
        name: np.array(
            [
                [
                    float(scorer([str(folder / name / f"seed_{k}" / f"{n:05}.png")], text))
                    for n, text in enumerate(prompts)
                ]
                for k in range(SEEDS)
            ]
        )
        for name in ("new", "old")
    }


def write_alone(folder):
    """Write the plan with a single scorer, alone.toml."""
    text = write_plan(folder).read_text()
    (folder / "alone.toml").write_text(
        text.replace('"tiny-clip", "tiny-negclip", "tiny-clip-flant5"', '"tiny-clip"')
    )


def figure(pillar, name):
    return next(f for f in pillar.figures if f.name == name)


def test_adherence_is_the_paired_t_test_of_prompts(report, scores):
    mine = figure(report.pillars["prompt_adherence"], "tiny-clip")
    difference = scores["new"].mean(axis=0) - scores["old"].mean(axis=0)
    test = stats.ttest_1samp(difference, 0.0)
    assert mine.p == pytest.approx(test.pvalue, rel=1e-4)
    assert mine.difference == pytest.approx(
        (difference.mean(), *test.confidence_interval(0.95)), abs=1e-6
    )
    assert mine.sd == pytest.approx(difference.std(ddof=1), rel=1e-4)
    assert mine.seed_sd[0] == pytest.approx(scores["new"].mean(axis=1).std(ddof=1), rel=1e-3)
    p_values = [f.p for f in report.pillars["prompt_adherence"].figures]
    order = np.argsort(p_values)
    expected, largest = np.zeros(3), 0.0
    for rank, k in enumerate(order):
        largest = expected[k] = max(largest, min(1.0, (3 - rank) * p_values[k]))
    assert [f.p_holm for f in report.pillars["prompt_adherence"].figures] == pytest.approx(expected)


def test_adherence_by_tag_is_of_the_prompts_of_the_tag(report, scores, folder):
    with (folder / "prompts.csv").open() as stream:
        tags = [row["tags"] for row in csv.DictReader(stream)]
    chosen = [n for n, tag in enumerate(tags) if tag == "count"]
    mine = report.pillars["prompt_adherence"].by_tag["count"][0]
    assert mine.source.n == len(chosen) == PROMPTS // 6
    difference = (scores["new"].mean(axis=0) - scores["old"].mean(axis=0))[chosen]
    assert mine.difference.value == pytest.approx(difference.mean(), abs=1e-6)


def test_quality_is_that_of_all_seeds_in_one_folder(report, folder, tmp_path):
    for name in ("new", "old"):
        (tmp_path / name).mkdir()
        for k in range(SEEDS):
            for file in (folder / name / f"seed_{k}").glob("*.png"):
                shutil.copy(file, tmp_path / name / f"{k}_{file.name}")
    alone = t2v_eval.distance(
        folder / "reference", [tmp_path / "new", tmp_path / "old"], "kid", resamples=0
    )
    mine = figure(report.pillars["sample_quality"], "kid (tiny-clip)")
    both = [pair.metrics["kid"].value for pair in alone.pairs]
    assert [mine.model.value, mine.baseline.value] == pytest.approx(both, abs=1e-6)
    assert mine.difference.value == pytest.approx(both[0] - both[1], abs=1e-6)
    assert mine.source.n == PROMPTS * SEEDS
    assert not mine.higher_is_better
    assert figure(report.pillars["sample_quality"], "precision (tiny-clip)").higher_is_better


def test_quality_by_tag_is_that_of_the_folder_of_the_reference(
    folder, options, monkeypatch, tmp_path
):
    """A tag is compared with the sub-folder of its name, any other with the whole reference."""
    monkeypatch.setattr("t2v_eval.protocol.quality.LEAST_OF_TAG", 4)
    of_tag = tmp_path / "reference" / "count"
    shutil.copytree(folder / "reference", of_tag)
    (of_tag / "00000.png").rename(tmp_path / "reference" / "00000.png")
    file = write_plan(folder)
    text = file.read_text().replace(
        'reference = "reference"', f'reference = "{tmp_path}/reference"'
    )
    text = text.replace('["tiny-clip", "tiny-negclip", "tiny-clip-flant5"]', '["tiny-clip"]')
    (folder / "by_tag.toml").write_text(text)
    report = run_protocol(read_plan(folder / "by_tag.toml"), options)
    pillar = report.pillars["sample_quality"]
    assert {*pillar.by_tag} == {"attribute", "relation", "size", "count", "negation", "composition"}
    with (folder / "prompts.csv").open() as stream:
        ids = [row["id"] for row in csv.DictReader(stream) if row["tags"] == "count"]
    part = tmp_path / "part"
    part.mkdir()
    for k in range(SEEDS):
        for name in ids:
            shutil.copy(folder / "new" / f"seed_{k}" / f"{name}.png", part / f"{k}_{name}.png")
    alone = t2v_eval.distance(of_tag, part, "kid", resamples=0)
    mine = next(f for f in pillar.by_tag["count"] if f.name == "kid (tiny-clip)")
    assert mine.model.value == pytest.approx(alone["kid"].value, abs=1e-6)


def test_few_images_have_no_limits_and_decide_nothing(tmp_path):
    folder = write_generators(tmp_path, 4, 2, reference=24)
    text = PLAN.partition("[[criteria]]")[0].replace('scorers = ["tiny-clip"]', "")
    text = text.replace('["tiny-clip", "tiny-negclip", "tiny-clip-flant5"]', "[]")
    text += '[[criteria]]\npillar = "sample_quality"\nfigure = "kid (tiny-clip)"\nkind = "better"'
    options = ProtocolOptions(scorers=ScorerOptions(device="cpu"))
    report = run_protocol(read_plan(write_plan(folder, 2, text)), options)
    kid = figure(report.pillars["sample_quality"], "kid (tiny-clip)")
    assert np.isfinite(kid.difference.value)
    assert np.isnan([*kid.model[1:], *kid.baseline[1:], *kid.difference[1:], kid.p]).all()
    assert "no limits: they need 10 images and 10 of reference" in kid.notes
    assert [verdict.outcome for verdict in report.verdicts] == ["cannot be told at this N"]


def test_preference_is_the_share_of_pairs_of_equal_seeds(report, scores):
    mine = figure(report.pillars["preference"], "tiny-clip")
    wins = (scores["new"] > scores["old"]) + 0.5 * (scores["new"] == scores["old"])
    assert mine.model.value == pytest.approx(wins.mean())
    assert mine.difference.value == pytest.approx(wins.mean() - 0.5)
    assert mine.p == pytest.approx(
        stats.permutation_test(
            (wins.mean(axis=0) - 0.5,), np.mean, permutation_type="samples", n_resamples=9999, rng=0
        ).pvalue,
        abs=0.02,
    )


def test_every_number_has_its_source(report, tmp_path):
    write_protocol(report, tmp_path)
    content = json.loads((tmp_path / "report.json").read_text())
    assert content["command"] == ["protocol", "plan.toml"]
    figures = [
        figure
        for pillar in ("sample_quality", "prompt_adherence", "preference", "failure_analysis")
        for figure in content[pillar]["figures"]
    ]
    assert len(figures) == 2 + 3 + 1
    for each in figures:
        source = each["source"]
        assert source["command"] == "t2v-eval protocol plan.toml"
        assert source["made_by"]
        assert source["n"] > 0
        assert source["files"]
        assert each["gamed_by"]
    assert not content["failure_analysis"]["measured"]
    assert "t2v-eval review" in content["failure_analysis"]["not_measured"]
    assert [c["outcome"] for c in content["criteria"]] == [v.outcome for v in report.verdicts]
    with (tmp_path / "scores.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 2 * SEEDS * PROMPTS
    assert {*SCORERS} < {*rows[0]}


def test_a_second_run_computes_nothing(report, folder, options):
    again = run_protocol(read_plan(folder / "plan.toml"), options)
    assert [s.counts.computed for s in again.scores] == [0, 0, 0]
    first, second = (r.pillars["sample_quality"].figures for r in (report, again))
    assert repr(first) == repr(second)  # which takes NaN for equal, as == does not on Python 3.13


def test_the_command_writes_and_run_repeats_it(folder, options, tmp_path, monkeypatch):
    monkeypatch.chdir(folder)
    write_alone(folder)
    words = ["protocol", "alone.toml", "--device", "cpu", "--store", "scores.sqlite"]
    words += ["--cache", "features", "--out", str(tmp_path / "first")]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 3, done.output  # KID of so few images is told by no interval
    assert "cannot be told at this N" in done.output
    again = CliRunner().invoke(
        app, ["run", str(tmp_path / "first"), "--out", str(tmp_path / "second")]
    )
    assert again.exit_code == 3, again.output
    first, second = (
        json.loads((tmp_path / name / "report.json").read_text()) for name in ("first", "second")
    )
    for key in ("sample_quality", "prompt_adherence", "preference"):
        for before, after in zip(first[key]["figures"], second[key]["figures"], strict=True):
            assert {**before, "source": 0} == {**after, "source": 0}
    read = CliRunner().invoke(app, ["gate", str(tmp_path / "first"), "--window", "0:1"])
    assert "is the report of `t2v-eval protocol`" in read.output


def test_a_scorer_that_fails_is_named_and_the_others_go_on(tmp_path):
    folder = write_generators(tmp_path, 6, 1, reference=4)
    (folder / "broken.py").write_text(
        "def broken(images, texts):\n    raise RuntimeError('no such thing')\n"
    )
    text = PLAN.replace('"tiny-negclip", "tiny-clip-flant5"', '"broken.py:broken"')
    text = text.replace('distances = [{{metrics = ["kid", "precision"]}}]', "")
    options = ProtocolOptions(scorers=ScorerOptions(device="cpu"))
    report = run_protocol(read_plan(write_plan(folder, 1, text)), options)
    assert len(report.failed) == 1
    assert "broken" in report.failed[0]
    assert "no such thing" in report.failed[0]
    assert [f.name for f in report.pillars["prompt_adherence"].figures] == ["tiny-clip"]
    assert report.verdicts[0].outcome == "cannot be told at this N"
    assert "1 of the 3 figures that it needs" in report.verdicts[0].basis
    assert report.verdicts[2].basis == "kid (tiny-clip) was not measured"
    assert not report.passed


def test_the_part_of_the_gate_moves_no_prompt_when_others_are_added(tmp_path):
    folder = write_generators(tmp_path, 30, 1, reference=4)
    plan = read_plan(write_plan(folder, 1))
    part = {item.texts[0] for item in read_images(plan, Sample(10, 0)).items}
    assert len(part) == 10
    rows = (folder / "prompts.csv").read_text().splitlines()
    (folder / "prompts.csv").write_text("\n".join(rows[:21]))
    fewer = {item.texts[0] for item in read_images(plan, Sample(10, 0)).items}
    old = {row.split(",")[1] for row in rows[1:21]}
    assert part & old <= fewer
    images = read_images(plan, Sample(10, 0))
    assert all(len(paths) == 10 for g in images.generators for paths in g.images.values())


def _rename(folder):
    (folder / "new" / "seed_1").rename(folder / "new" / "seed_9")


def _drop(folder):
    (folder / "old" / "seed_2" / "00003.png").unlink()


def _drop_by_turns(folder):
    """Leave two images of each prompt, so that the numbers of all prompts are equal."""
    for n in range(6):
        (folder / "old" / f"seed_{n % 2}" / f"{n:05}.png").unlink()


def _drop_everywhere(folder):
    for image in folder.glob("*/seed_*/00003.png"):
        image.unlink()


@pytest.mark.parametrize(
    ("damage", "change", "message"),
    [
        (_rename, None, "seed_1 of model.images does not exist: write the folder"),
        (_drop, None, "seed_2 of old has no image of 1 of 6 prompts: 00003"),
        (_drop_by_turns, None, "seed_0 of old has no image of 3 of 6 prompts: 00000"),
        (_drop_everywhere, None, "plan.toml: 1 of 6 prompts have no image in any folder: 00003"),
        (None, ('"old/seed_0"', '"new/seed_0"'), "is there twice among model.images"),
        (None, ('"tiny-negclip"', '"tiny-negclp"'), "Did you mean 'tiny-negclip'"),
        (None, ('"kid", ', '"kidd", '), "kidd"),
        (None, ('figure = "tiny-clip"', 'figure = "tiny-clp"'), "no figure called 'tiny-clp'"),
        (None, ('"prompts.csv"', '"prompts.tsv"'), "prompts.tsv"),
        (None, ('"prompts.csv"', '"winoground"'), "no set of prompts"),
        (None, ('"prompts.csv"', '""'), "plan.toml: prompts is '', empty: write a file of prompts"),
        (None, ('"prompts.csv"', '"new"'), "plan.toml: prompts is 'new', a folder: write a file"),
        (None, ('metrics = ["kid"', 'features = "dinov9", metrics = ["kid"'), "'dinov9'"),
        (
            None,
            ('scorers = ["tiny-clip"]', 'judges = ["tiny-clip"]'),
            "preference.judges names tiny-clip, a scorer of kind 'clip', and takes",
        ),
        (
            None,
            ("[probes]", '[failure_analysis]\nsafety = ["tiny-clip"]\n[probes]'),
            "failure_analysis.safety names tiny-clip, a scorer of kind 'clip', and takes",
        ),
        (None, ('reference = "reference"', 'reference = "nowhere"'), "nowhere: no such folder"),
        (None, ('scorers = ["tiny-clip"]', 'battles = ["b.csv"]'), "b.csv"),
    ],
)
def test_faults_are_named_before_anything_is_computed(tmp_path, damage, change, message):
    folder = write_generators(tmp_path, 6, 3, reference=4)
    file = write_plan(folder)
    if change:
        text = file.read_text()
        assert change[0] in text
        file.write_text(text.replace(*change))
    if damage:
        damage(folder)
    with pytest.raises(T2VError) as error:
        run_protocol(read_plan(folder / "plan.toml"), ProtocolOptions())
    assert message in str(error.value)


def test_one_folder_with_several_images_of_a_prompt_has_seeds(tmp_path):
    folder = write_generators(tmp_path, 6, 3, reference=4)
    for name in ("new", "old"):
        (folder / f"{name}_all").mkdir()
        for k in range(3):
            for n in range(6):
                image = folder / name / f"seed_{k}" / f"{n:05}.png"
                shutil.copy(image, folder / f"{name}_all" / f"{n:05}_{k}.png")
    text = PLAN.format(new='"new_all"', old='"old_all"')
    (folder / "plan.toml").write_text(text)
    images = read_images(read_plan(folder / "plan.toml"))
    assert images.model.seeds == 3
    assert images.model.images[1][2].name == "00002_1.png"
    (folder / "new_all" / "00002_1.png").unlink()
    with pytest.raises(T2VError, match=r"3 images of most prompts and fewer of 1: 00002"):
        read_images(read_plan(folder / "plan.toml"))


def test_shards_of_two_workers_are_the_run_of_one(folder, report, tmp_path, monkeypatch):
    monkeypatch.chdir(folder)
    write_alone(folder)
    words = ["protocol", "alone.toml", "--device", "cpu", "--cache", str(tmp_path / "features")]
    store = ["--store", str(tmp_path / "s.sqlite")]
    for number in (1, 2):
        done = CliRunner().invoke(app, [*words, *store, "--shard", f"{number}/2", "--json"])
        assert done.exit_code == 0, done.output
    parts = [str(tmp_path / f"s-{number}-of-2.sqlite") for number in (1, 2)]
    assert CliRunner().invoke(app, ["store", "merge", store[1], *parts]).exit_code == 0
    done = CliRunner().invoke(app, [*words, *store, "--json"])
    content = json.loads(done.stdout)
    for facts in content["provenance"]["scorers"].values():
        assert facts["counts"]["computed"] == 0
    values = [f["difference"]["value"] for f in content["prompt_adherence"]["figures"]]
    whole = figure(report.pillars["prompt_adherence"], "tiny-clip").difference.value
    assert values == pytest.approx([whole], abs=1e-6)
    done = CliRunner().invoke(app, [*words, *store, "--shard", "1/2", "--out", "report"])
    assert "leave out --out" in done.output
