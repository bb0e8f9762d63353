"""The gate: what is worse fails, what cannot be compared is refused and told, files are valid."""

import json
import shutil
import subprocess
import sys
from xml.etree import ElementTree

import numpy as np
import pytest
from helpers.benchmarks.toy_benchmark import Guesses, Knows, Toys
from helpers.processes import run_python
from PIL import Image
from typer.testing import CliRunner

import t2v_eval
from t2v_eval.cli.main import app
from t2v_eval.errors import BenchmarkDataError, InputError
from t2v_eval.report.gate.checks import not_worse, within_window
from t2v_eval.report.gate.junit import to_junit
from t2v_eval.report.gate.pairing import check_failed, id_difference, matched_runs
from t2v_eval.report.gate.pytest_plugin import assert_not_worse
from t2v_eval.report.report import Report, compare

pytestmark = pytest.mark.filterwarnings("ignore:.*figures are not those of the whole benchmark")
PROMPTS = [f"prompt {n}" for n in range(20)]
HOSTILE = "<b>&\x1b[31m\ufffe"


def redness(images, texts):
    """Score the red of the first pixel, 0 to 1."""
    return [[image.getpixel((0, 0))[0] / 255] * len(texts) for image in images]


def draw(folder, reds, recipe=None):
    """Write two images of each prompt: of this red, and of 10 more."""
    folder.mkdir(parents=True, exist_ok=True)
    for n, red in enumerate(reds):
        for k in range(2):
            Image.new("RGB", (4, 4), (int(red) + 10 * k, n, k)).save(folder / f"{n:05}_{k}.png")
    if recipe is not None:
        (folder / "recipe.json").write_text(json.dumps(recipe))
    return folder


def report_of(root, *folders, prompts=PROMPTS, version="1", out=None, **options):
    root.mkdir(exist_ok=True)
    lines = ["Prompts,Category", *(f"{prompt},none" for prompt in prompts)]
    (root / "drawbench.csv").write_text("\n".join(lines))
    skipping = {"on_error": options.pop("on_error", "raise")}
    scorer = t2v_eval.from_function(redness, name="red", version=version, **skipping)
    report = compare(scorer, "drawbench", root=root, images=folders, resamples=20, **options)
    if out is not None:
        report.write(out)
    return report


@pytest.fixture(scope="module")
def generators(tmp_path_factory):
    """Report folders of a baseline, one as good, one a little and one much worse."""
    root = tmp_path_factory.mktemp("generators")
    reds = 100 + np.arange(20) % 7
    noise = np.array([2, -2] * 10)
    for name, values in {
        "old": reds,
        "same": reds,
        "alike": reds + noise,
        "worse": reds - 40 + noise,
    }.items():
        draw(root / name, values, {"version": 1, "seed": 0, "steps": 30 if name == "old" else 20})
        report_of(root / "prompts", root / name, out=root / f"report-{name}")
    return root


def gate(*arguments):
    done = CliRunner().invoke(app, ["gate", *map(str, arguments)])
    return done.exit_code, done.output


def test_the_same_passes_and_the_worse_fails(generators):
    old = generators / "report-old"
    code, output = gate(generators / "report-same", "--baseline", old)
    assert code == 0 and "not worse by more than 0.01 (p < 0.001)" in output
    code, output = gate(generators / "report-worse", "--baseline", old)
    assert code == 3 and "FAILED  worse by score of red on drawbench" in output
    assert "worse by more than 0.01" in output
    code, output = gate(generators / "report-worse", "--baseline", old, "--margin", "0.2")
    assert code == 0
    assert gate(old, "--baseline", generators / "report-worse")[0] == 0, "better passes"


def test_figures_of_generators_are_those_of_their_pixels(generators):
    new, old = generators / "report-alike", generators / "report-old"
    (check,) = not_worse(new, old, margin=0.02).checks
    reds = (100 + np.arange(20) % 7 + 5) / 255
    assert check.baseline_value == pytest.approx(reds.mean(), rel=1e-6)
    assert check.test.difference.value == pytest.approx(0, abs=1e-6)
    # Differences are 2 / 255 and -2 / 255, ten times each: their standard error is
    error = 2 / 255 / np.sqrt(19)
    assert check.test.bound == pytest.approx(-1.729132811521367 * error, rel=1e-4)  # t of 19, 0.95
    assert check.items == check.test.units == 20
    assert (check.new, check.baseline, check.scorer) == ("alike", "old", "red")
    # Too small a margin for so few items: it may be worse, and does not pass.
    result = not_worse(new, old, margin=0.002)
    assert not result.passed and "may be worse by more than 0.002" in result.checks[0].verdict


def test_differing_recipes_are_told(generators):
    code, output = gate(generators / "report-same", "--baseline", generators / "report-old")
    assert code == 0 and "recipes of same and its baseline old differ: steps 20 and 30" in output
    content = json.loads((generators / "report-old" / "report.json").read_text())
    assert content["runs"][0]["recipe"] == {"old": {"version": 1, "seed": 0, "steps": 30}}
    assert not not_worse(generators / "report-old", generators / "report-old").notes


def test_recipes_are_in_page_and_markdown_and_damaged_ones_refused(generators, tmp_path):
    draw(tmp_path / "new", [100] * 20, {"steps": 30, "rewriting": "<script>alert(1)</script>"})
    report_of(tmp_path / "prompts", tmp_path / "new", out=tmp_path / "report")
    page = (tmp_path / "report" / "report.html").read_text()
    assert "<dt>recipe of new</dt><dd>steps 30, rewriting &#34;&lt;script&gt;" in page
    assert "recipe of new: steps 30" in (tmp_path / "report" / "report.md").read_text()
    (recipe,) = [f.recipe for f in Report.load(tmp_path / "report").runs[0].benchmark.folders]
    assert recipe == {"steps": 30, "rewriting": "<script>alert(1)</script>"}
    for content, message in (("[1]", "holds list, not a JSON object"), ("{", "is not JSON")):
        (tmp_path / "new" / "recipe.json").write_text(content)
        with pytest.raises(BenchmarkDataError, match=f"new/recipe.json .*{message}"):
            report_of(tmp_path / "prompts", tmp_path / "new")


def test_a_baseline_that_names_no_generator_is_that_of_its_only_folder(generators, tmp_path):
    shutil.copytree(generators / "report-old", tmp_path / "old")
    lines = (tmp_path / "old" / "scores.csv").read_text().splitlines()
    lines = [line.rpartition(",")[0] for line in lines]
    assert lines[0].endswith(",tags")
    (tmp_path / "old" / "scores.csv").write_text("\n".join(lines))
    (tmp_path / "old" / "samples.npz").unlink()
    (check,) = not_worse(generators / "report-worse", tmp_path / "old").checks
    assert (check.new, check.baseline, check.passed) == ("worse", "old", False)


def test_generators_of_one_name_are_compared_and_others_told(generators, tmp_path):
    folders = [generators / name for name in ("old", "worse")]
    two = report_of(tmp_path / "two", *folders)
    result = not_worse(two, report_of(tmp_path / "one", generators / "old", generators / "alike"))
    assert [(c.new, c.baseline, c.passed) for c in result.checks] == [("old", "old", True)]
    assert any("only in the new report: generator" in note for note in result.notes)
    assert any("only in the baseline: generator" in note for note in result.notes)
    result = not_worse(two, two, metric="worse")
    assert [c.new for c in result.checks] == ["worse"]
    with pytest.raises(InputError, match="has no metric 'nobody'; it has old, worse"):
        not_worse(two, two, metric="nobody")
    with pytest.raises(InputError, match="share no generator"):
        not_worse(two, report_of(tmp_path / "one", generators / "alike"))


def test_one_generator_that_is_worse_fails_the_gate(generators, tmp_path):
    old = draw(tmp_path / "old" / "other", 100 + np.arange(20) % 7)
    new = draw(tmp_path / "new" / "other", 60 + np.arange(20) % 7)
    folders = generators / "old", old
    result = not_worse(
        report_of(tmp_path / "prompts", generators / "old", new),
        report_of(tmp_path / "prompts", *folders),
    )
    assert {c.new: c.passed for c in result.checks} == {"old": True, "other": False}
    assert not result.passed


def test_items_of_a_group_are_one_unit(generators):
    reports = [Report.load(generators / name) for name in ("report-alike", "report-old")]
    for report in reports:
        for n, item in enumerate(report.runs[0].items):
            object.__setattr__(item, "group", f"group {n // 4}")  # items are frozen
    (check,) = not_worse(*reports, margin=0.02).checks
    assert (check.items, check.test.units) == (20, 5)


def test_another_scorer_is_refused_and_named(generators, tmp_path):
    other = report_of(tmp_path / "prompts", generators / "same", version="2")
    with pytest.raises(InputError, match=r": version=2 in the new report and version=1 in the"):
        not_worse(other, generators / "report-old")


def test_ids_of_scorers_are_compared_key_by_key():
    new = "vqa w=1 chat='USER: a b' question='Is \"{}\" = it?' note=two words"
    old = "vqa w=1 chat='USER: c b' dtype=float32 question='Is \"{}\" = it?' note=three words"
    assert id_difference(new, old) == (
        "chat='USER: a b' in the new report and chat='USER: c b' in the baseline, "
        "note=two words in the new report and note=three words in the baseline, "
        "no dtype in the new report and dtype=float32 in the baseline"
    )


def test_mean_scores_of_two_scorers_have_no_difference(generators, tmp_path):
    half = t2v_eval.from_function(lambda images, texts: [[0.5] * len(texts) for _ in images])
    common = {"root": tmp_path, "images": [generators / "same"], "resamples": 20}
    report_of(tmp_path, generators / "same")
    red = t2v_eval.from_function(redness)
    report = compare([red, half], "drawbench", **common)
    assert report.differences == [] == report.to_json()["differences"]


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        (["prompt x", *PROMPTS[1:]], r"1 of 20 items of the baseline .* first 0 \('prompt 0'\)"),
        ([f"another {n}" for n in range(20)], "20 of 20 items of the baseline"),
    ],
)
def test_other_items_are_refused_and_counted(generators, tmp_path, prompts, message):
    other = report_of(tmp_path / "prompts", generators / "same", prompts=prompts)
    with pytest.raises(InputError, match=message):
        not_worse(other, generators / "report-old")


def test_items_are_known_by_their_text_and_more_of_them_are_told(generators, tmp_path):
    draw(tmp_path / "same", [100, *(100 + np.arange(20) % 7)])
    more = report_of(tmp_path / "prompts", tmp_path / "same", prompts=["more", *PROMPTS])
    result = not_worse(more, generators / "report-old")
    assert result.passed and result.checks[0].items == 20
    assert result.checks[0].test.difference.value == pytest.approx(0, abs=1e-6)
    assert any("1 of 21 items" in note and "'more'" in note for note in result.notes)
    with pytest.raises(InputError, match="1 of 21 items of the baseline are not in the new report"):
        not_worse(generators / "report-old", more)


def test_scores_that_only_one_report_lacks_are_refused(generators, tmp_path):
    shutil.copytree(generators / "same", tmp_path / "same")
    (tmp_path / "same" / "00003_1.png").write_bytes(b"no image")
    broken = report_of(tmp_path / "prompts", tmp_path / "same", on_error="skip")
    with pytest.raises(InputError, match=r"1 scores failed only in the new report .*'prompt 3'"):
        not_worse(broken, generators / "report-old")
    assert not_worse(broken, broken).passed
    (tmp_path / "same" / "00003_1.png").unlink()
    (tmp_path / "same" / "00003_0.png").unlink()
    fewer = report_of(tmp_path / "prompts", tmp_path / "same", on_missing="skip")
    with pytest.raises(InputError, match="1 of 20 items of the baseline"):
        not_worse(fewer, generators / "report-old")


@pytest.fixture(scope="module")
def scorers(tmp_path_factory):
    """Folders of reports of toy scorers on rated items."""
    root = tmp_path_factory.mktemp("scorers")
    for name, scorer in {"knows": Knows(), "guesses": Guesses()}.items():
        compare(scorer, [Toys(n=40)], resamples=200).write(root / name)
    return root


def test_scorers_are_compared_by_their_headline(scorers):
    code, output = gate(scorers / "guesses", "--baseline", scorers / "knows")
    assert code == 3 and "Guesses by right on Toys: 0.650, baseline Knows 1.000" in output
    assert gate(scorers / "knows", "--baseline", scorers / "guesses")[0] == 0
    assert gate(scorers / "knows", "--baseline", scorers / "knows")[0] == 0


def test_with_a_margin_of_zero_only_what_is_higher_passes(scorers, generators):
    margin = "--margin", "0"
    for folder in (scorers / "knows", generators / "report-old"):
        code, output = gate(folder, "--baseline", folder, *margin)
        assert code == 3 and "not shown to be higher (p = 1.000" in output
        assert "with a margin above 0, what is as high passes" in output
    code, output = gate(scorers / "knows", "--baseline", scorers / "guesses", *margin)
    assert code == 0 and "higher (p " in output
    code, output = gate(scorers / "guesses", "--baseline", scorers / "knows", *margin)
    assert code == 3 and "worse by more than 0" in output


def test_a_sample_and_all_items_are_refused_with_the_remedy(tmp_path, generators):
    all_items = Report.load(generators / "report-old")
    few, others = (report_of(tmp_path, generators / "old", limit=5, seed=n) for n in (0, 1))
    for baseline, said in [
        (all_items, "new report has limit 5 and seed 0, the baseline no limit"),
        (others, "new report has limit 5 and seed 0, the baseline limit 5 and seed 1"),
    ]:
        with pytest.raises(InputError, match=f"{said}: evaluate both with the same limit and seed"):
            not_worse(few, baseline)
    assert not_worse(all_items, few).passed, "items that only the new report has are left out"


def test_images_that_only_the_new_report_lacks_are_refused(tmp_path):
    draw(tmp_path / "a", [100] * 6)
    draw(tmp_path / "b", [120] * 6)
    folders, options = (tmp_path / "a", tmp_path / "b"), {"prompts": PROMPTS[:6]}
    baseline = report_of(tmp_path / "prompts", *folders, **options)
    for file in (tmp_path / "b").glob("00002_*.png"):
        file.unlink()
    fewer = report_of(tmp_path / "prompts", *folders, on_missing="skip", **options)
    with pytest.raises(InputError, match=r"b has no image of 1 of 6 items .*'prompt 2'"):
        not_worse(fewer, baseline, metric="b")
    assert not_worse(baseline, fewer, metric="b").checks[0].items == 5


def test_scores_that_failed_in_one_report_alone_are_refused(scorers):
    report = Report.load(scorers / "knows")
    pair = next(matched_runs(report, report, []))
    for failed, base_failed, said in [
        ({(0, 0)}, set(), "1 scores failed only in the new report and 0 only in the baseline"),
        (set(), {(1, 0)}, "0 scores failed only in the new report and 1 only in the baseline"),
    ]:
        with pytest.raises(InputError, match=said):
            check_failed(pair, [(0, 0), (1, 1)], failed, base_failed)


def test_metrics_that_a_report_lacks_are_refused(scorers):
    code, output = gate(scorers / "knows", "--baseline", scorers / "knows", "--metric", "wrong")
    assert code == 2 and "has no metric 'wrong'; it has right, undefined" in output
    code, output = gate(scorers / "knows", "--baseline", scorers / "knows", "--metric", "undefined")
    assert code == 2 and "undefined is undefined" in output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resamples": 100}, "resamples is 100 in the new report and 200"),
        ({"resamples": 200, "seed": 1}, "seed is 1 in the new report and 0"),
        ({"resamples": 200, "subset": "even"}, "items of the baseline are not in the new report"),
    ],
)
def test_samples_that_are_not_paired_are_refused(scorers, options, message):
    with pytest.raises(InputError, match=message):
        not_worse(compare(Knows(), [Toys(n=40)], **options), scorers / "knows")


def test_other_ratings_and_images_are_refused(tmp_path):
    def table(name, shift=0, red=100):
        rows = ["image,text,human"]
        for n in range(6):
            path = tmp_path / f"{n}_{red}.png"
            Image.new("RGB", (4, 4), (red + n, n, 9)).save(path)
            rows.append(f"{path},text {n},{n % 3 + shift * (n == 4)}")
        (tmp_path / name).mkdir()
        (tmp_path / name / "rated.csv").write_text("\n".join(rows))
        scorer = t2v_eval.from_function(redness, name="red", version="1")
        return compare(scorer, str(tmp_path / name / "rated.csv"), resamples=50)

    first = table("a")
    with pytest.raises(InputError, match=r"1 of 6 items have other ratings.*'text 4'"):
        not_worse(table("b", shift=1), first)
    with pytest.raises(InputError, match="the image files differ: their SHA-256 is"):
        not_worse(table("c", red=150), first)


def test_folders_that_lack_files_are_refused(scorers, generators, tmp_path):
    shutil.copytree(scorers / "knows", tmp_path / "old")
    (tmp_path / "old" / "samples.npz").unlink()
    code, output = gate(scorers / "knows", "--baseline", tmp_path / "old")
    assert code == 2 and "the baseline has no samples.npz" in output
    (tmp_path / "old" / "scores.csv").unlink()
    code, output = gate(scorers / "knows", "--baseline", tmp_path / "old")
    assert code == 2 and "the baseline has no scores.csv" in output
    for arguments, message in (
        ([scorers / "knows"], "needs --baseline OLD, --window LOW:HIGH or both"),
        ([tmp_path / "none", "--baseline", scorers / "knows"], "no such folder or report.json"),
        ([scorers / "knows", "--baseline", generators / "report-old"], "one report has generators"),
        ([scorers / "knows", "--baseline", scorers / "knows", "--alpha", "2"], "--alpha 2.0: pass"),
        ([scorers / "knows", "--window", "high"], "--window 'high': pass two numbers"),
        ([scorers / "knows", "--window", "1:0"], "the window 1:0 is empty"),
    ):
        code, output = gate(*arguments)
        assert code == 2 and message in output, output


def test_a_window_holds_the_value_itself(generators):
    report = generators / "report-old"
    value = Report.load(report).runs[0].metrics["score"].value
    assert within_window(report, value, value).passed, "limits belong to the window"
    code, output = gate(report, "--window", f"{value + 1e-6}:1")
    assert code == 3 and "outside" in output
    code, output = gate(report, "--window", "0:1", "--baseline", report)
    assert code == 0 and output.count("passed") == 2


def test_files_are_written_for_passed_failed_and_refused(generators, tmp_path):
    files = ["--json", tmp_path / "gate.json", "--junit", tmp_path / "gate.xml"]
    wanted = {"same": (0, 0, 0), "worse": (3, 1, 0), "none": (2, 0, 1)}
    for name, (code, failures, errors) in wanted.items():
        new, old = generators / f"report-{name}", generators / "report-old"
        assert gate(new, "--baseline", old, *files)[0] == code
        suite = ElementTree.parse(tmp_path / "gate.xml").getroot()
        assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == (
            "1",
            str(failures),
            str(errors),
        )
        content = json.loads((tmp_path / "gate.json").read_text())
        assert content["passed"] is (code == 0)
        assert ("error" in content) is (code == 2)
    assert gate(new, "--baseline", old, "--json", tmp_path)[0] == 2


def test_hostile_names_are_text_in_every_output(generators, tmp_path):
    report = Report.load(generators / "report-old")
    object.__setattr__(report.runs[0].scorer, "name", HOSTILE)
    result = not_worse(report, report)
    suite = ElementTree.fromstring(to_junit(result))
    (case,) = suite
    assert case.get("classname") == "drawbench.<b>&\\u001b[31m\ufffd"
    assert "\x1b" not in to_junit(result).decode()
    json.dumps(result.to_json(), allow_nan=False)


def test_an_assertion_for_tests_says_what_is_worse(generators):
    old, worse = generators / "report-old", generators / "report-worse"
    assert assert_not_worse(Report.load(old), old, 0.01).passed
    with pytest.raises(AssertionError, match=r"worse by score of red .* worse by more than 0.01"):
        assert_not_worse(worse, old, 0.01)


def test_the_plugin_of_pytest_has_a_fixture_and_imports_no_model_library(generators, tmp_path):
    test = tmp_path / "test_mine.py"
    test.write_text(
        "import sys\n\n\ndef test_gate(assert_not_worse):\n"
        "    assert 'torch' not in sys.modules\n"
        f"    assert_not_worse({str(generators / 'report-worse')!r}, "
        f"{str(generators / 'report-old')!r}, margin=0.01)\n"
    )
    command = [sys.executable, "-m", "pytest", "-p", "t2v_eval.report.gate.pytest_plugin", test]
    done = subprocess.run(
        [*map(str, command), "-p", "no:cacheprovider"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
    )
    assert done.returncode == 1 and "worse by score of red on drawbench" in done.stdout, done
    assert run_python(
        "import json, sys, t2v_eval.report.gate.pytest_plugin\n"
        "print(json.dumps('torch' in sys.modules))"
    ) is False  # fmt: skip
