"""Agreement of existing scores: against scipy, pairs counted one by one, and figures by hand."""

import itertools
import json
import math
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from helpers.resamples import of_resample
from performance import reproduce_tables
from performance.reproduce_tables import GOLDENS, TABLES
from scipy import stats
from sklearn.metrics import average_precision_score, roc_auc_score
from typer.testing import CliRunner

from t2v_eval.cli.main import app
from t2v_eval.errors import InputError, TableError
from t2v_eval.evaluation.agreement import Counts, agreement
from t2v_eval.evaluation.rating_tables.columns import numbers, split_tags
from t2v_eval.evaluation.rating_tables.observations import Observations
from t2v_eval.evaluation.rating_tables.statistic import statistic_of
from t2v_eval.inputs.tables import write_table
from t2v_eval.stats.agreement_metrics import METRICS

EXCERPTS = Path(__file__).parents[2] / "fixtures" / "agreement"
RUNNER = CliRunner()


def pair_accuracy(s, h, threshold=0.0):
    """Pairs ordered alike or tied in both, counted one by one."""
    right = 0
    pairs = list(itertools.combinations(range(len(s)), 2))
    for i, j in pairs:
        ds, dh = s[i] - s[j], h[i] - h[j]
        tied = abs(ds) <= threshold
        right += tied if dh == 0 else (not tied and ds * dh > 0)
    return right / len(pairs)


def calibrated(s, h):
    differences = {0.0} | {abs(a - b) for a, b in itertools.combinations(s, 2)}
    return max(pair_accuracy(s, h, threshold) for threshold in differences)


def ignoring(s, h):
    pairs = [(i, j) for i, j in itertools.combinations(range(len(s)), 2) if h[i] != h[j]]
    return sum((s[i] - s[j]) * (h[i] - h[j]) > 0 for i, j in pairs) / len(pairs)


ORACLES = {
    "pearson": lambda s, h: stats.pearsonr(s, h).statistic,
    "spearman": lambda s, h: stats.spearmanr(s, h).statistic,
    "tau_b": lambda s, h: stats.kendalltau(s, h).statistic,
    "tau_c": lambda s, h: stats.kendalltau(s, h, variant="c").statistic,
    "acc23": calibrated,
    "acc_strict": pair_accuracy,
    "acc_ignore": ignoring,
}


@pytest.mark.parametrize("name", ["tifa160", "tifa160-likert", "dsg", "t2vscore"])
def test_excerpts_of_published_files_against_oracles(name):
    read, columns = TABLES[name]
    rows = read(EXCERPTS)
    goldens = [row for row in json.loads(GOLDENS.read_text()) if row["table"] == name]
    scores = list(dict.fromkeys(row["column"] for row in goldens))
    result = agreement(rows, scores=scores, resamples=1, **columns)
    h = [float(row[columns["human"]]) for row in rows]
    for column in scores:
        s = [float(row[column]) for row in rows]
        for metric, oracle in ORACLES.items():
            value = result.scores[column]["all"][metric].value
            assert value == pytest.approx(oracle(s, h), abs=1e-9), (column, metric)


def test_the_published_tables_are_all_there():
    goldens = json.loads(GOLDENS.read_text())
    counts = {name: sum(row["table"] == name for row in goldens) for name in TABLES}
    assert counts == {
        "tifa160": 20, "tifa160-likert": 50, "dsg": 18, "sugarcrepe": 14, "t2vscore": 16,
        **{f"genai-bench-{task}": 16 for task in reproduce_tables.TASKS},
        **{f"viescore-{part}": 8 for part in ("SC", "PQ", "O")},
        **{f"viescore-{part}-by-generator": 58 for part in ("SC", "PQ", "O")},
        "t2iscorescore": 66,
    }  # fmt: skip


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


def figures_of(name, folder, column):
    read, columns = TABLES[name]
    return agreement(read(folder), scores=[column], resamples=1, **columns)


def test_votes_of_models_are_read_as_the_leaderboard_reads_them(tmp_path):
    answers = [
        ("[[A>B]]", "leftvote"), ("[[B>A]]", "leftvote"), ("[[A=B]]", "bothbad_vote"),
        ("[[A=B]]", "rightvote"), (None, "tievote"), ("[[A=B=Bad]]", "bothbad_vote"),
        ("[[Tie]]", "tievote"), ("[[A=B=Good]]", "tievote"),
    ]  # fmt: skip
    rows = [
        {"idx": n, "model_vote": said, "human_vote": vote} for n, (said, vote) in enumerate(answers)
    ]
    write(tmp_path / "GenAI-Bench/results/image_generation/mine/pairwise.json", rows)
    figures = figures_of("genai-bench-image_generation", tmp_path, "mine").scores["mine"]["all"]
    assert figures["accuracy"].value == 4 / 8


def test_scores_of_viescore_are_the_lowest_of_an_image(tmp_path):
    root = tmp_path / "VIEScore/paper_implementation"
    said = {"SC": [[8, 3], [9, 9], 10, [0, 5]], "PQ": [5, [4], [9, 10], 12]}
    for part, scores in said.items():
        content = {f"{n}.jpg": {"score": score} for n, score in enumerate(scores)}
        write(root / f"_answers/results_gemini_0shot/Task/SD/{part}.json", content)
    rated = [[(1, 1), (0.5, 1), (1, 0.5), (0, 1)], [(1, 0), (1, 1), (1, 1), (0, 0.5)]]
    rated.append([(0.5, 0.5)] * 4)
    for k, ratings in enumerate(rated, 1):
        lines = [f"{n}.jpg\t[{s},{q}]" for n, (s, q) in enumerate(ratings)]
        path = root / f"_human_annotations/ImagenHub_human_eval_results/Task/T_rater{k}.tsv"
        write(path, "\n".join(["uid\tSD", *lines]))
    scores = {
        "SC": [0.3, 0.9, 1, 0], "PQ": [0.5, 0.4, 0.9, 1],
        "O": [math.sqrt(0.15), 0.6, math.sqrt(0.9), 0],
    }  # fmt: skip
    for part, expected in scores.items():
        rows = TABLES[f"viescore-{part}"][0](tmp_path)
        assert [row["gemini"] for row in rows] == pytest.approx(expected)
        both = {"SC": lambda s, _: s, "PQ": lambda _, q: q, "O": lambda s, q: math.sqrt(s * q)}
        human = [np.mean([both[part](*of[n]) for of in rated]) for n in range(4)]
        result = figures_of(f"viescore-{part}", tmp_path, "gemini").scores["gemini"]["all"]
        rho = stats.spearmanr(expected, np.round(human, 9)).statistic
        assert result["spearman_per_group"].value == pytest.approx(math.tanh(rho)), part


def test_graphs_of_t2iscorescore_have_parts(tmp_path):
    metadata = ["id,image_source,rank", "0,SD2.0,0", "0,SD2.0,1a", "0,SD2.0,1b"]
    metadata += ["1,Natural,0", "1,Natural,2a", "2,SD2.1,0", "2,SD2.1,0"]
    write(tmp_path / "T2IScoreScore/data/metadata.csv", "\n".join(metadata))
    scores = ["id,image_id,mine", "0,0,0.9", "0,1,0.9", "0,2,0.1", "1,0,0.4", "1,1,0.6"]
    scores += ["2,0,0.5", "2,1,"]
    write(tmp_path / "T2IScoreScore/output/scores_final_all_2.csv", "\n".join(scores))
    by_tag = figures_of("t2iscorescore", tmp_path, "mine").scores["mine"]
    values = {tag: of["ks_per_group"].value for tag, of in by_tag.items()}
    assert values == {"all": (0.5 + 1 + 0) / 3, "synth": 0.5, "nat": 1, "real": 0}


def test_the_answers_of_a_prompt_become_a_score():
    rows = {}
    for row in TABLES["dsg"][0](EXCERPTS):
        rows.setdefault(row["prompt"], []).append(row)
    assert {prompt: len(ratings) for prompt, ratings in rows.items()} == dict.fromkeys(rows, 5)
    none = {row["dsg / pali-17b"] for row in rows["tifa160_134"]}
    assert none == {0.0}, "no question of this prompt was answered"
    for row in rows["tifa160_67"]:
        # One dependency of this prompt is no number, so that none of them counts.
        assert row["dsg / pali-17b"] == row["dsg without dependency / pali-17b"]
    apart = [
        row["dsg without dependency / pali-17b"] - row["dsg / pali-17b"]
        for row in rows["tifa160_137"]
    ]
    assert min(apart) == 0 and max(apart) > 0, "a question whose parent failed is not asked"


def test_the_script_says_what_is_off(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("sys.argv", ["x", str(EXCERPTS), "--write", str(tmp_path / "tables")])
    assert reproduce_tables.main() == 1
    assert "0 of 118 values are as published" in capsys.readouterr().out
    assert len(list((tmp_path / "tables").iterdir())) == 5
    monkeypatch.setattr("sys.argv", ["x", str(tmp_path)])
    assert reproduce_tables.main() == 1
    assert "t2vscore: left out, there is no" in capsys.readouterr().err


def test_accuracy_by_split():
    read, columns = TABLES["sugarcrepe"]
    column = "GPT-4V positive-first"
    actual = agreement(read(EXCERPTS), scores=[column], resamples=50, **columns)
    expected = {}
    for split in reproduce_tables.SPLITS:
        path = EXCERPTS / f"sugarcrepe/gpt4v_correct_{split}.json"
        answers = list(json.loads(path.read_text())["positive-first"].values())
        expected[split] = answers.count(True) / len(answers)
    got = {tag: metrics["accuracy"].value for tag, metrics in actual.scores[column].items()}
    assert got.pop("all") == pytest.approx(sum(expected.values()) / 7)
    assert got == pytest.approx(expected)
    assert actual.counts[column]["add_att"] == Counts(30, 30, 30)


ROWS = [
    {"prompt": "x", "human": 3, "score": 0.9, "tags": "counting; colour"},
    {"prompt": "x", "human": 1, "score": 0.2, "tags": "counting"},
    {"prompt": "x", "human": 2, "score": 0.4, "tags": "counting"},
    {"prompt": "y", "human": 1, "score": 0.8, "tags": "colour"},
    {"prompt": "y", "human": 2, "score": 0.7, "tags": ""},
    {"prompt": "y", "human": None, "score": 0.1, "tags": "colour"},
]


def test_groups_by_hand():
    result = agreement(ROWS, "human", ["score"], group="prompt", tags="tags", resamples=200)
    assert result.n == 6 and result.unit == "prompt"
    assert list(result.scores["score"]) == ["all", "counting", "colour"]
    assert result.counts["score"] == {
        "all": Counts(6, 5, 2), "counting": Counts(3, 3, 1), "colour": Counts(3, 2, 2)
    }  # fmt: skip
    value = {metric: got.value for metric, got in result.scores["score"]["all"].items()}
    # Within x all three pairs are right, within y the only one is wrong.
    assert value["tau_b_per_group"] == pytest.approx(0)
    assert value["spearman_per_group"] == pytest.approx(0)
    assert value["acc_ignore_per_group"] == 0.5 and value["acc23_per_group"] == 0.5
    assert value["acc_ignore"] == pytest.approx(
        ignoring([0.9, 0.2, 0.4, 0.8, 0.7], [3, 1, 2, 1, 2])
    )
    # With two groups a resample is x, y or both; the means can be 1, -1 and 0 and nothing else.
    low, high = result.scores["score"]["all"]["tau_b_per_group"][1:]
    assert (low, high) == (-1, 1)
    assert math.isnan(result.scores["score"]["counting"]["tau_b"].low), "one group has no spread"


def test_groups_widen_the_interval():
    rng = np.random.default_rng(0)
    rows = []
    for g in range(40):
        shared = rng.normal()
        rows += [
            {"g": g, "human": shared + 0.1 * rng.normal(), "s": shared + 0.1 * rng.normal()}
            | {"s": rng.normal() if g % 2 else shared}
            for _ in range(10)
        ]
    alone = agreement(rows, "human", ["s"], resamples=300).scores["s"]["all"]["spearman"]
    grouped = agreement(rows, "human", ["s"], group="g", resamples=300).scores["s"]["all"]
    assert grouped["spearman"].value == pytest.approx(alone.value)
    assert (grouped["spearman"].high - grouped["spearman"].low) > 1.5 * (alone.high - alone.low)


def test_labels_of_0_and_1():
    rows = [{"h": h, "s": s} for h, s in zip("110100", (0.9, 0.4, 0.4, 0.8, 0.1, 0.6), strict=True)]
    result = agreement(rows, "h", ["s"], resamples=5).scores["s"]["all"]
    h, s = [1, 1, 0, 1, 0, 0], [0.9, 0.4, 0.4, 0.8, 0.1, 0.6]
    assert result["auroc"].value == pytest.approx(roc_auc_score(h, s))
    assert result["average_precision"].value == pytest.approx(average_precision_score(h, s))
    assert "accuracy" not in result
    for row in rows:
        row["s"] = row["s"] > 0.5
    result = agreement(rows, "h", ["s"], resamples=5).scores["s"]["all"]
    assert result["accuracy"].value == pytest.approx(4 / 6)


ORDINAL = [name for name, metric in METRICS.items() if not metric.needs_labels]


@pytest.mark.parametrize("grouped", [False, True])
def test_resamples_are_of_the_same_metrics(grouped):
    rng = np.random.default_rng(5)
    for n in (2, 3, 4, 40):
        shape = (n, 3) if grouped else (n, 1)
        h = rng.integers(0, 3, shape).astype(float)
        s = (h + rng.normal(size=shape)).round()
        s[rng.random(shape) < 0.2] = np.nan
        h[np.isnan(s)] = np.nan
        if (~np.isnan(s)).sum() < 2:
            continue  # nothing is defined, and so no resample counts
        group = np.repeat(np.arange(n), shape[1]) if grouped else None
        of = statistic_of(Observations.of_rows(s.ravel(), h.reshape(-1, 1), group), ORDINAL)
        for _ in range(50):
            index = rng.integers(0, n, n)
            copies = np.bincount(index, minlength=n).repeat(shape[1])
            if copies[~np.isnan(s.ravel())].sum() < 2:
                continue
            expected = {m: of_resample(m, s.ravel(), h.ravel(), copies) for m in ORDINAL}
            actual = {m: value for m, value in of(index).items() if m in expected}
            assert actual == pytest.approx(expected, abs=1e-12, nan_ok=True)


def test_columns_become_numbers():
    values = [1, "2.5", "", None, "NaN", "n/a", True, "False", [4, None, "5"], []]
    actual = numbers([{"x": value} for value in values] + [{"y": 1}], "x")
    nan = math.nan
    np.testing.assert_array_equal(actual, [1, 2.5, nan, nan, nan, nan, 1, 0, 4.5, nan, nan])
    values = ["-0,5", "0,125", " yes", "No", "-", "#N/A", "[4, None, 5]", "[]", "1e-3"]
    actual = numbers([{"x": value} for value in values], "x")
    np.testing.assert_array_equal(actual, [-0.5, 0.125, 1, 0, nan, nan, 4.5, nan, 0.001])
    values = ["85 %", "90%", "0,5 %", "-12.5%", "0", "1", ""]
    actual = numbers([{"x": value} for value in values], "x")
    np.testing.assert_allclose(actual, [0.85, 0.9, 0.005, -0.125, 0, 1, nan], rtol=1e-15)
    assert numbers([{"x": Decimal("0.5")}, {"x": np.int8(3)}], "x").tolist() == [0.5, 3]
    assert split_tags(["a", " b ", "a"]) == ("a", "b") and split_tags(None) == ()
    assert split_tags(0) == ("0",) and split_tags(nan) == ()


@pytest.mark.parametrize("bare", ["90", 90, 1.5, "1,5", "-2", "1e2"])
def test_percentages_beside_other_numbers_are_refused(bare):
    with pytest.raises(TableError, match=f"row 3: 'x' is {bare}, but 85 % in row 1"):
        numbers([{"x": "85 %"}, {"x": "0.5"}, {"x": bare}], "x")


@pytest.mark.parametrize("value", ["1,234", "1.2.3", "10" * 300, "[1, 2", "5 stars", 10**400, {}])
def test_what_is_no_number_is_shown(value):
    with pytest.raises(TableError, match="row 1: 'x' is .*(not a number|infinite)") as caught:
        numbers([{"x": value}], "x")
    assert len(str(caught.value)) < 200


def test_objects_in_columns_are_reached_by_a_dot():
    rows = [{"x": {"y": {"z": 1}}}, {"x": {"y": {}}}, {"x": None}, {}]
    np.testing.assert_array_equal(numbers(rows, "x.y.z"), [1, *[math.nan] * 3])
    assert numbers([{"x.y": 2, "x": {"y": 3}}], "x.y").tolist() == [2], "a column comes first"
    with pytest.raises(TableError, match="no column 'w'; the columns are 'y'"):
        numbers(rows, "x.w")


def test_raters_side_by_side():
    rows = [
        {"r1": first, "r2": other, "both": both, "s": s}
        for first, other, both, s in zip(
            "1335", ["2", "", "4", ""], [1.5, 3, 3.5, 5], "1432", strict=True
        )
    ]
    rows.append({"r1": "", "r2": "", "both": None, "s": 9})
    several = agreement(rows, ["r1", "r2"], ["s"], resamples=5).to_json()
    assert several.pop("raters")["all"]["rows"] == 2
    assert several == agreement(rows, "both", ["s"], resamples=5).to_json()
    assert several["counts"]["s"]["all"] == {"rows": 5, "used": 4, "units": 4}
    with pytest.raises(InputError, match="needs a column of human"):
        agreement(rows, [], ["s"])


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        (
            ROWS,
            {"scores": ["scor"]},
            "no column 'scor'; did you mean 'score'. the columns are 'prompt', 'human', 'score'",
        ),
        (ROWS, {"human": "people"}, "no column 'people'"),
        (ROWS, {"group": "g"}, "no column 'g'"),
        (ROWS, {"tags": "t"}, "no column 't'"),
        (ROWS, {"scores": ["prompt"]}, "row 1: 'prompt' is 'x', not a number"),
        (ROWS, {"scores": []}, "at least one column"),
        (ROWS, {"scores": ["score", "score"]}, "named twice"),
        ([], {}, "needs rows"),
        ([{"human": 1, "score": "inf"}], {}, "row 1: 'score' is infinite"),
        ([{"human": 1, "score": 1, "g": ""}], {"group": "g"}, "row 1: the group 'g' is empty"),
        ([{"human": 1, "score": 1, "g": math.nan}], {"group": "g"}, "row 1: the group 'g' is em"),
    ],
)
def test_what_cannot_be_used_is_named(rows, options, message):
    arguments = {"human": "human", "scores": ["score"]} | options
    with pytest.raises((InputError, TableError), match=message):
        agreement(rows, **arguments)


def test_a_tag_called_all_is_not_the_whole_table():
    rows = [{"human": n, "s": n, "t": "all" if n else ""} for n in range(4)]
    result = agreement(rows, "human", ["s"], tags="t", resamples=5)
    assert {tag: counts.rows for tag, counts in result.counts["s"].items()} == {
        "all": 4, "all (tag)": 3
    }  # fmt: skip


@pytest.mark.parametrize("cells", [1 << 24, 8])
def test_groups_of_any_sizes_are_accepted(monkeypatch, cells):
    monkeypatch.setattr("t2v_eval.evaluation.rating_tables.statistic._MAX_CELLS", cells)
    rng = np.random.default_rng(4)
    sizes = [1, 40, 2, 3, 3, 17, 1]
    rows = [
        {"g": g, "human": rng.integers(0, 4), "s": rng.normal()}
        for g, size in enumerate(sizes)
        for _ in range(size)
    ]
    result = agreement(rows, "human", ["s"], group="g", resamples=5).scores["s"]["all"]
    groups = [[row for row in rows if row["g"] == g] for g in range(len(sizes))]
    parts = [([r["s"] for r in of], [r["human"] for r in of]) for of in groups if len(of) > 1]
    for name in ("pearson", "spearman", "tau_b", "tau_c"):
        defined = [ORACLES[name](s, h) for s, h in parts if len(set(h)) > 1]
        assert result[f"{name}_per_group"].value == pytest.approx(np.mean(defined)), name
    thresholds = {0.0} | {abs(a - b) for s, _ in parts for a, b in itertools.combinations(s, 2)}
    best = max(np.mean([pair_accuracy(s, h, t) for s, h in parts]) for t in thresholds)
    assert result["acc23_per_group"].value == pytest.approx(best)


def test_nothing_to_compare_is_undefined_and_not_an_error():
    result = agreement([{"human": 1, "s": ""}], "human", ["s"], group="human", resamples=5)
    assert all(math.isnan(item.value) for item in result.scores["s"]["all"].values())
    assert result.to_json()["scores"]["s"]["all"]["tau_b"] == {
        "value": None, "low": None, "high": None, "reason": "no row has a score and a rating"
    }  # fmt: skip


def call(*arguments, code=0):
    result = RUNNER.invoke(app, ["agree", *map(str, arguments)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_the_command_reads_every_table(tmp_path, suffix):
    table = tmp_path / f"t{suffix}"
    write_table(table, [row | {"other": -row["score"]} for row in ROWS])
    common = (table, "--human", "human", "--group", "prompt", "--tags", "tags", "--json")
    several = call(*common, "--scores", "score", "other", "--resamples", 50)
    again = call(*common, "--scores", "score", "--scores", "other", "--resamples", 50)
    assert several.stdout == again.stdout
    assert "score, all: 1 of 6 rows lack a score or a rating" in several.stderr
    content = json.loads(several.stdout)
    assert content["n"] == 6 and list(content["scores"]) == ["score", "other"]
    figure = content["scores"]["other"]["all"]["tau_c"]
    assert set(figure) == {"value", "low", "high"}
    assert figure["value"] == -content["scores"]["score"]["all"]["tau_c"]["value"]
    assert content["counts"]["score"]["all"] == {"rows": 6, "used": 5, "units": 2}
    assert list(content["scores"]["score"]) == ["all", "counting", "colour"]


def test_the_command_takes_several_raters(tmp_path):
    (tmp_path / "t.tsv").write_text("r1\tr2\tclip\n1\t2\t.1\n5\t4\t.3\n3\t\t.2\n")
    raters = ("--human", "r1", "--human", "r2")
    printed = call(tmp_path / "t.tsv", *raters, "--scores", "clip", "--resamples", 5, "--json")
    assert json.loads(printed.stdout)["scores"]["clip"]["all"]["spearman"]["value"] == 1


def test_the_command_prints_tables(tmp_path):
    write_table(tmp_path / "t.csv", ROWS)
    text = call(tmp_path / "t.csv", "--human", "human", "--scores", "score", "--group", "prompt")
    assert "by resampling each prompt" in text.stdout and "all, per group" in text.stdout
    assert "acc23" in text.stdout and "Traceback" not in text.output
    wrong = call(tmp_path / "t.csv", "--human", "human", "--scores", "x", code=2)
    assert "t.csv: there is no column 'x'" in wrong.stderr
    assert "no such file" in call("no.csv", "--human", "a", "--scores", "b", code=2).stderr


def test_rows_of_a_group_may_stand_anywhere():
    rng = np.random.default_rng(3)
    rows = [{"h": int(rng.integers(1, 6)), "s": float(rng.random()), "p": n % 4} for n in range(24)]
    taus = []
    for group in range(4):
        pairs = [(row["s"], row["h"]) for row in rows if row["p"] == group]
        taus.append(stats.kendalltau(*zip(*pairs, strict=True)).statistic)
    for order in (rows, sorted(rows, key=lambda row: row["p"]), rows[::-1]):
        metrics = agreement(order, "h", ["s"], group="p", resamples=2).scores["s"]["all"]
        assert metrics["tau_b_per_group"].value == pytest.approx(np.mean(taus))
