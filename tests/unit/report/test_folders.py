"""Many reports on one page, and reports in the formats of others."""

import copy
import json
import os
import re
import shutil
import time
from datetime import datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import huggingface_hub
import jsonschema
import pytest
import yaml
from typer.testing import CliRunner

from t2v_eval.cli.main import app

FIXTURES = Path(__file__).parents[2] / "fixtures"
SCHEMA = json.loads((FIXTURES / "every_eval_ever" / "eval.schema.json").read_text())
RUN = json.loads((FIXTURES / "reports" / "version-1.json").read_text())["runs"][0]
HOSTILE = "<img src=x onerror=alert(1)> & '\"{{ 7*7 }}"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


def run_of(benchmark, scorer, value, generators=(), **changes):
    """A run of report.json; of generators, each has 0.1 more than the one before."""
    run = copy.deepcopy(RUN)
    run["scorer"].update(name=scorer, id=f"{scorer} 1")
    metrics = generators if len(generators) > 1 else ["score" if generators else "auroc"]
    run["benchmark"].update(
        name=benchmark,
        headline=metrics[0],
        folders=[
            {"folder": name, "prompts": 9, "prompts_of_all": 9, "rules": {}, "ignored": {}}
            for name in generators
        ],
    )
    values = [value + 0.1 * k for k in range(len(metrics))]
    run["metrics"] = {
        name: {"value": v, "low": v - 0.05, "high": v + 0.05}
        for name, v in zip(metrics, values, strict=True)
    }
    return run | {"by_tag": {}} | changes


def write(folder, *runs, created="2026-05-04T03:02:01+00:00", page=True):
    folder.mkdir(parents=True, exist_ok=True)
    content = {"schema_version": 2, "created": created, "runs": runs, "differences": []}
    (folder / "report.json").write_text(json.dumps(content))
    if page:
        (folder / "report.html").write_text("")
    return folder


def call(*arguments):
    done = CliRunner().invoke(app, [*map(str, arguments)])
    return done.exit_code, done.output


class Page(HTMLParser):
    """The links, rows and pictures of a page."""

    def __init__(self, text):
        super().__init__()
        self.links, self.tags, self.cells, self.titles = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        if tag == "a":
            self.links.append(dict(attributes)["href"])
        if tag == "tr":
            self.cells.append([])

    def handle_data(self, data):
        if "svg" in self.tags and self.tags[-1] == "title" and data.strip():
            self.titles.append(data)
        if self.cells and data.strip() and self.tags[-1] in ("td", "b", "small", "a", "th"):
            self.cells[-1].append(data.strip())


def index_of(tmp_path, *folders, out="pages/index.html"):
    code, output = call("reports", "index", *folders, "--out", tmp_path / out)
    assert code == 0, output
    return Page((tmp_path / out).read_text(encoding="utf-8")), output


def test_figures_dates_changes_and_links_of_many_reports(tmp_path):
    for n, value in enumerate((0.5, 0.75, 0.625)):
        created = f"2026-0{n + 1}-02T03:04:05+00:00"
        write(
            tmp_path / f"runs/{n}", run_of("drawbench", "clip", value, [f"v{n}"]), created=created
        )
    page, output = index_of(tmp_path, tmp_path / "runs")
    assert "3 reports" in output
    assert page.cells[1][:3] == ["2026-03-02 03:04", "0.625", "0.575 to 0.675"]
    assert [row[3] for row in page.cells[1:]] == ["−0.125", "+0.250", "0"]
    assert [row[4:6] for row in page.cells[1:3]] == [["2", "v2"], ["1", "v1"]]
    links = [link for link in page.links if not link.startswith("#")]
    assert links == ["../runs/2/report.html", "../runs/1/report.html", "../runs/0/report.html"]
    assert all((tmp_path / "pages" / link).exists() for link in links)
    assert page.titles == [
        "v0, 0, 2026-01-02 03:04: 0.500 [0.450, 0.550]",
        "v1, 1, 2026-02-02 03:04: 0.750 [0.700, 0.800]",
        "v2, 2, 2026-03-02 03:04: 0.625 [0.575, 0.675]",
    ]


def test_only_what_can_be_compared_shares_a_chart(tmp_path):
    rated = [run_of("rated", "clip", 0.5), run_of("rated", "vqa", 0.75)]
    other_items = run_of("rated", "clip", 0.5, data={"sha256": "ab" * 32, "files_sha256": None})
    prompts = [run_of("prompts", scorer, 0.5, ["a", "b"]) for scorer in ("clip", "vqa")]
    write(tmp_path / "1", *rated, *prompts)
    write(tmp_path / "2", *rated, other_items, *prompts, created="2026-06-01T00:00:00+00:00")
    page, _ = index_of(tmp_path, tmp_path / "1", tmp_path / "2", out="index.html")
    text = (tmp_path / "index.html").read_text()
    heads = [head.strip() for head in re.findall(r"<h3>([^<]*)", text)]
    assert heads == ["mean score by clip", "mean score by vqa", "auroc", "auroc"]
    assert page.tags.count("svg") == 3, "one figure alone has no trend"
    assert len(page.cells) == 4 + 4 + 4 + 4 + 1


def test_hostile_names_are_text_and_links_stay_relative(tmp_path):
    folder = tmp_path / "javascript:alert(1)" / HOSTILE.replace("/", "_")
    write(folder, run_of(HOSTILE, HOSTILE, 0.5, [HOSTILE, "other"]))
    write(tmp_path / "two", run_of(HOSTILE, HOSTILE, 0.5, [HOSTILE, "other"]))
    page, _ = index_of(tmp_path, tmp_path, out="index.html")
    assert "img" not in page.tags and "script" not in page.tags
    text = (tmp_path / "index.html").read_text()
    assert "{{ 7*7 }}" in text
    links = [link for link in page.links if not link.startswith("#")]
    assert all(re.fullmatch(r"[\w%./()~-]+", link) for link in links)
    assert all((tmp_path / unquote(link)).exists() for link in links)
    assert "default-src 'none'" in text and "http" not in text.replace("http-equiv", "")


def test_damaged_reports_are_left_out_and_told(tmp_path):
    write(tmp_path / "runs/good", run_of("rated", "clip", 0.5), page=False)
    for name, content in {
        "bad": "{",
        "odd": '{"schema_version": 2, "runs": [3], "differences": []}',
    }.items():
        (tmp_path / "runs" / name).mkdir()
        (tmp_path / "runs" / name / "report.json").write_text(content)
    page, output = index_of(tmp_path, tmp_path / "runs")
    assert "1 report:" in output and output.count("left out:") == 2
    assert page.links[-1] == "../runs/good/report.json", "without a page, its figures"
    for folders, message in (
        ([tmp_path / "none"], "no such folder"),
        ([tmp_path / "runs/bad"], "no report can be read"),
        ([tmp_path / "runs/good/report.json"], "not a folder"),
        ([tmp_path / "pages"], "holds no report.json"),
    ):
        code, output = call("reports", "index", *folders, "--out", tmp_path / "x.html")
        assert code == 2 and message in output
    assert not (tmp_path / "x.html").exists()


def many(tmp_path, count=100):
    start = datetime.fromisoformat("2026-01-01T09:00:00+00:00")
    for n in range(count):
        value = 0.5 + 0.2 * n / count + 0.02 * (n % 7 - 3) / 7
        created = (start + timedelta(days=n)).isoformat()
        runs = [run_of("prompts.csv", "vqascore", value, [f"checkpoint-{n}"])]
        runs += [run_of("rated.csv", name, value - 0.2) for name in ("clip", "vqascore")]
        write(tmp_path / "runs" / f"run-{n:03}", *runs, created=created)
    return tmp_path / "runs"


def test_a_hundred_reports_take_less_than_two_seconds(tmp_path):
    runs = many(tmp_path)
    started = time.process_time()
    index_of(tmp_path, runs)
    assert time.process_time() - started < 2


@pytest.mark.skipif(
    CHROMIUM is None and not os.environ.get("CI"),
    reason="no Chromium on PATH (on Debian: apt install chromium)",
)
def test_the_index_fits_every_screen_and_asks_for_nothing(tmp_path):
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    write(tmp_path / "runs" / "hostile", run_of(HOSTILE, HOSTILE, 0.5, [HOSTILE * 3, "other"]))
    index_of(tmp_path, many(tmp_path, 30), out="index.html")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for width, scheme in ((1440, "light"), (390, "light"), (1440, "dark")):
            context = browser.new_context(
                viewport={"width": width, "height": 900}, color_scheme=scheme
            )
            page, requests, problems = context.new_page(), [], []
            page.on("request", lambda request, seen=requests: seen.append(request.url))
            page.on("console", lambda message, seen=problems: seen.append(message.text))
            page.on("dialog", lambda dialog, seen=problems: seen.append(dialog.message))
            page.goto(f"file://{tmp_path}/index.html")
            page.screenshot(path=tmp_path / f"index-{width}-{scheme}.png")
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            assert len(requests) == 1 and not problems
        browser.close()


def exported(folder, *options, to="eee"):
    code, output = call("report", "export", folder, "--to", to, *options)
    assert code == 0, output
    return [Path(line) for line in output.splitlines()]


def test_every_eval_ever_has_a_valid_file_for_each_model(tmp_path):
    generators = run_of("drawbench", "clip", 0.5, ["base", "new"])
    generators["recipe"] = {"new": {"pipeline": "org/sdxl", "steps": 30, "options": {"a": 1}}}
    undefined = run_of("rated", "clip", 0.5)
    undefined["metrics"]["nothing"] = {"value": None, "low": None, "high": None}
    undefined["metrics"]["alone"] = {"value": 0.25, "low": None, "high": None}
    folder = write(tmp_path / "report", generators, undefined)
    files = exported(folder)
    assert exported(folder) == files, "the same report has the same names"
    path = r"data/[\w.-]+/[\w.-]+/[\w.-]+/[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-"
    records = {}
    for file in files:
        assert re.match(path, str(file.relative_to(folder / "eee")))
        record = json.loads(file.read_text())
        jsonschema.validate(record, SCHEMA)
        records[
            record["model_info"]["name"], record["evaluation_results"][0]["evaluation_name"]
        ] = record
    assert set(records) == {("base", "drawbench"), ("new", "drawbench"), ("clip", "rated")}
    new = records["new", "drawbench"]
    assert new["model_info"]["id"] == "org/sdxl" and new["model_info"]["developer"] == "org"
    assert new["model_info"]["additional_details"]["recipe.options"] == '{"a": 1}'
    (result,) = new["evaluation_results"]
    assert result["score_details"]["score"] == pytest.approx(0.6)
    interval = result["score_details"]["uncertainty"]["confidence_interval"]
    assert (interval["lower"], interval["upper"]) == (pytest.approx(0.55), pytest.approx(0.65))
    assert result["metric_config"]["additional_details"]["scorer_id"] == "clip 1"
    names = [
        r["metric_config"]["metric_name"] for r in records["clip", "rated"]["evaluation_results"]
    ]
    assert names == ["auroc", "alone"], "an undefined figure is none"


def test_hostile_names_stay_within_the_folder(tmp_path):
    folder = write(tmp_path / "report", run_of("../../b", "..", 0.5), run_of("/etc", "a/b", 0.5))
    for to in (["--to", "eee"], ["--to", "hub"]):
        names = [run_of("../../b", "..", 0.5)] if to[1] == "hub" else []
        target = write(tmp_path / "one", *names) if names else folder
        extra = ["--dataset", "a/b"] if names else []
        for file in exported(target, *extra, to=to[1]):
            assert file.resolve().is_relative_to((target / to[1]).resolve())


def test_the_validator_of_every_eval_ever_passes(tmp_path):
    validate = pytest.importorskip("every_eval_ever.validator.validate")
    folder = write(tmp_path / "report", run_of("drawbench", "clip", 0.5, ["base"]))
    (file,) = exported(folder, "--model-id", "org/name")
    assert validate.main([str(file)]) == 0


def test_results_of_the_hub_are_read_by_its_library(tmp_path):
    folder = write(tmp_path / "report", run_of("winoground", "clip", 0.5))
    (file,) = exported(folder, "--task", "group", "--dataset", "facebook/winoground", to="hub")
    assert file.relative_to(folder) == Path("hub/clip/.eval_results/winoground.yaml")
    (entry,) = huggingface_hub.parse_eval_result_entries(yaml.safe_load(file.read_text()))
    assert (entry.dataset_id, entry.task_id, entry.value) == ("facebook/winoground", "group", 0.5)
    assert entry.date == "2026-05-04T03:02:01+00:00" and "auroc by clip" in entry.notes
    two = write(tmp_path / "two", run_of("prompts", "clip", 0.5, ["a", "b"]))
    files = exported(two, "--dataset", "org/prompts", to="hub")
    assert [f.parts[-3] for f in files] == ["a", "b"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--to", "hub"], "no data set of the hub is known for mine: name one with --dataset"),
        (["--to", "hub", "--dataset", "a/b", "--out", "OUT.yaml"], "one file, but 2 are"),
        (["--to", "paper"], "--to"),
    ],
)
def test_what_cannot_be_exported_is_told(tmp_path, options, message):
    folder = write(tmp_path / "report", run_of("mine", "clip", 0.5, ["a", "b"]))
    options = [option.replace("OUT", str(tmp_path / "out")) for option in options]
    code, output = call("report", "export", folder, *options)
    assert code == 2 and message in output
    assert call("report", "export", tmp_path / "none", "--to", "eee")[0] == 2
    empty = write(tmp_path / "empty")
    assert "no figure to export" in call("report", "export", empty, "--to", "eee")[1]


def test_one_model_fits_one_file(tmp_path):
    folder = write(tmp_path / "report", run_of("mine", "clip", 0.5, ["a"]))
    (file,) = exported(folder, "--out", tmp_path / "result.json", "--model-id", "org/a")
    assert json.loads(file.read_text())["model_info"]["id"] == "org/a"
