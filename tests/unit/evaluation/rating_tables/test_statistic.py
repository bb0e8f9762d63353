"""Metrics of a table: each of its options against a computation by hand or by scipy."""

import itertools
import json
import math

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from t2v_eval.errors import InputError, TableError
from t2v_eval.evaluation.agreement import agreement, measure
from t2v_eval.evaluation.agreement_runs import agreement_runs
from t2v_eval.evaluation.rating_tables.table import RatedTable
from t2v_eval.report.report import Report
from t2v_eval.stats.averages import average
from t2v_eval.stats.raters import krippendorff_alpha

NAN = math.nan


def drawn(n=48, seed=0):
    """Rows of 12 prompts x 4 generators, with three raters and two columns of scores."""
    rng = np.random.default_rng(seed)
    rows = []
    for k in range(n):
        quality = rng.normal() + 0.4 * (k % 4)
        raters = np.clip(np.round(3 + quality + rng.normal(0, 0.6, 3)), 1, 5).astype(int)
        rows.append(
            {
                "prompt": k // 4,
                "generator": "abcd"[k % 4],
                "tags": ("even", "odd", "odd;third")[k // 4 % 3],
                **{f"r{j}": int(r) for j, r in enumerate(raters, 1)},
                "near": quality + rng.normal(0, 0.5),
                "far": rng.normal(),
            }
        )
    return rows


RATERS = ["r1", "r2", "r3"]


def figures(rows, human=RATERS, scores="near", tag="all", **options):
    result = agreement(rows, human, [scores], **{"resamples": 5, **options})
    (column,) = result.scores
    return {name: interval.value for name, interval in result.scores[column][tag].items()}


def column(rows, name):
    return np.array([row[name] for row in rows], np.float64)


def mean_of(rows):
    return np.mean([[row[r] for r in RATERS] for row in rows], axis=1)


def test_each_rating_is_an_observation():
    rows = drawn()
    flat = [row[r] for row in rows for r in RATERS]
    score = [row["near"] for row in rows for _ in RATERS]
    each = figures(rows, ratings="each")
    assert each["tau_c"] == pytest.approx(stats.kendalltau(score, flat, variant="c").statistic)
    assert each["spearman"] == pytest.approx(stats.spearmanr(score, flat).statistic)
    mean = stats.kendalltau(column(rows, "near"), mean_of(rows), variant="c").statistic
    assert figures(rows)["tau_c"] == pytest.approx(mean)
    lists = [{"human": str([row[r] for r in RATERS]), "near": row["near"]} for row in rows]
    assert figures(lists, "human", ratings="each") == each


def test_a_row_is_resampled_with_all_of_its_ratings():
    rows = drawn(8)
    result = agreement(rows, RATERS, ["near"], ratings="each", resamples=40, seed=3)
    expected = []
    for drawn_rows in np.random.default_rng(3).integers(0, 8, (40, 8)):
        flat = [rows[n][r] for n in drawn_rows for r in RATERS]
        score = [rows[n]["near"] for n in drawn_rows for _ in RATERS]
        expected.append(stats.pearsonr(score, flat).statistic)
    interval = result.scores["near"]["all"]["pearson"]
    # Half the distance of the quantiles of one deviation, on Fisher's z, for 8 rows and not 24.
    spread = np.ptp(np.arctanh(np.quantile(expected, stats.norm.cdf([-1, 1])))) / 2
    half = math.sqrt(8 / 7) * stats.t.ppf(0.975, 7) * spread
    limits = np.tanh(np.arctanh(interval.value) + half * np.array([-1, 1]))
    assert interval[1:] == pytest.approx(tuple(limits))
    assert result.counts["near"]["all"].units == 8


def test_the_order_of_raters_changes_nothing():
    rows = [{**row, "r1": 0.1 * row["r1"], "r2": 1e16 * row["r2"]} for row in drawn()]
    expected = figures(rows)
    for order in itertools.permutations(RATERS):
        assert figures(rows, list(order)) == expected


def groups_of(rows, key="prompt"):
    parts = {}
    for row in rows:
        parts.setdefault(row[key], []).append(row)
    return list(parts.values())


@pytest.mark.parametrize("how", ["plain", "weighted", "fisher-z", "tanh"])
def test_averages_over_groups_and_tags(how):
    rows = drawn(120)[:-3]  # groups of 20 generators' rows, and of fewer
    rows = [{**row, "group": k % 7} for k, row in enumerate(rows)]
    got = figures(rows, group="group", tags="tags", mean=how)
    parts = groups_of(rows, "group")
    values = [stats.kendalltau(column(of, "near"), mean_of(of)).statistic for of in parts]
    sizes = np.array([len(of) for of in parts], float)
    assert got["tau_b_per_group"] == pytest.approx(average(np.array(values), sizes, how))
    tags = {
        tag: [row for row in rows if tag in row["tags"].split(";")]
        for tag in ("even", "odd", "third")
    }
    values = [stats.spearmanr(column(of, "near"), mean_of(of)).statistic for of in tags.values()]
    sizes = np.array([len(of) for of in tags.values()], float)
    assert got["spearman_per_tag"] == pytest.approx(average(np.array(values), sizes, how))
    # Shares have no Fisher's z.
    of_tags = [figures(of)["acc_ignore"] for of in tags.values()]
    plain = average(np.array(of_tags), sizes, "weighted" if how == "weighted" else "plain")
    assert got["acc_ignore_per_tag"] == pytest.approx(plain)


def test_means_over_tags_of_means_over_groups():
    rows = drawn()
    got = figures(rows, group="prompt", tags="tags", mean="tanh")
    by_tag = []
    for tag in ("even", "odd", "third"):
        of = [row for row in rows if tag in row["tags"].split(";")]
        rho = [stats.spearmanr(column(g, "near"), mean_of(g)).statistic for g in groups_of(of)]
        by_tag.append(math.tanh(np.mean(rho)))
        assert figures(rows, tag=tag, group="prompt", tags="tags", mean="tanh")[
            "spearman_per_group"
        ] == pytest.approx(by_tag[-1])
    assert got["spearman_per_group_per_tag"] == pytest.approx(math.tanh(np.mean(by_tag)))


def test_a_constant_group_is_left_out_or_0():
    rows = [
        {"g": g, "h": h, "s": s}
        for g, h, s in [
            ("x", 1, 1),
            ("x", 2, 2),
            ("x", 3, 3),
            ("y", 2, 5),
            ("y", 2, 6),
            ("z", 1, 1),
        ]
    ]
    skip = figures(rows, "h", "s", group="g")
    zero = figures(rows, "h", "s", group="g", constant_groups="zero")
    assert skip["pearson_per_group"] == pytest.approx(1)
    assert zero["pearson_per_group"] == pytest.approx(0.5), "a group of one row is no group"
    assert zero["tau_b_per_group"] == pytest.approx(0.5)
    assert zero["acc_ignore_per_group"] == skip["acc_ignore_per_group"] == 1


def test_generators_are_compared_by_their_means():
    rows = drawn()
    rows[5]["near"] = None  # a rating without a score counts for neither mean
    got = figures(rows, system="generator", group="prompt")
    rated = [row for row in rows if row["near"] is not None]
    parts = groups_of(rated, "generator")
    s = [column(of, "near").mean() for of in parts]
    h = [mean_of(of).mean() for of in parts]
    assert got["pearson_system"] == pytest.approx(stats.pearsonr(s, h).statistic)
    assert got["spearman_system"] == pytest.approx(stats.spearmanr(s, h).statistic)
    assert got["tau_b_system"] == pytest.approx(stats.kendalltau(s, h).statistic)
    pairs = [(a, b) for a, b in itertools.combinations(range(4), 2) if h[a] != h[b]]
    right = [(s[a] - s[b]) * (h[a] - h[b]) > 0 for a, b in pairs]
    assert got["acc_ignore_system"] == pytest.approx(np.mean(right))
    assert got["spearman"] == pytest.approx(
        stats.spearmanr(column(rated, "near"), mean_of(rated)).statistic
    ), "both levels at once"


def test_generators_that_are_not_there_are_undefined():
    rows = [{**row, "generator": ""} for row in drawn(8)]
    assert math.isnan(figures(rows, system="generator")["pearson_system"])


def test_numbers_of_any_size_are_accepted():
    rows = [{"human": h, "s": s * 1e300} for h, s in ((1, 0.1), (2, 0.4), (3, 0.3), (4, 0.5))]
    rows = [{**row, "other": 1e-300 * row["human"] ** 2} for row in rows]
    assert figures(rows, "human", "s")["spearman"] == pytest.approx(0.8)
    table = RatedTable.read(rows, ["human", "s"], ["s", "other"])
    result = measure(table)
    assert result.raters["all"].alpha.value == pytest.approx(
        krippendorff_alpha(np.array([[r["human"] / 1e300, r["s"] / 1e300] for r in rows]))
    )
    (difference,) = Report(agreement_runs(table, result, "t.csv")).differences
    assert 0 < difference.p["pearson"] <= 1


def test_nodes_are_separated_within_groups():
    rows = [
        {"id": graph, "rank": rank, "errors": int(rank[0]), "s": s}
        for graph, rank, s in [
            (0, "0", 0.9), (0, "0", 0.7), (0, "1a", 0.8), (0, "1b", 0.2), (0, "1b", 0.75),
            (1, "0", 0.4), (1, "2", 0.3), (2, "1a", 0.1), (2, "1b", 0.9),
        ]
    ]  # fmt: skip
    nodes = {
        0: {"0": [0.9, 0.7], "1a": [0.8], "1b": [0.2, 0.75]}, 1: {"0": [0.4], "2": [0.3]},
    }  # fmt: skip
    first = np.mean([stats.ks_2samp(nodes[0]["0"], nodes[0][n]).statistic for n in ("1a", "1b")])
    got = figures(rows, "errors", "s", group="id", nodes="rank")
    assert got["ks_per_group"] == pytest.approx((first + 1) / 2)
    got = figures(rows, "errors", "s", group="id", nodes="rank", constant_groups="zero")
    assert got["ks_per_group"] == pytest.approx((first + 1 + 0) / 3)
    # A row without a score is not there: not as a graph, and not in its weight.
    more = [*rows, {**rows[0], "s": None}, {"id": 3, "rank": "0", "errors": 0, "s": None}]
    assert figures(more, "errors", "s", group="id", nodes="rank", constant_groups="zero") == got
    got = figures(more, "errors", "s", group="id", nodes="rank", mean="weighted")
    assert got["ks_per_group"] == pytest.approx((5 * first + 2 * 1) / 7)
    one = [row for row in rows if row["id"] == 0]
    assert figures(one, "errors", "s", nodes="rank")["ks"] == pytest.approx(first)


def test_rows_that_are_pairs():
    rows = [
        {"a": a, "b": b, "vote": vote}
        for a, b, vote in [
            (0.9, 0.1, "left"), (0.9, 0.1, "right"), (0.5, 0.5, "left"), (0.5, 0.5, "tie"),
            (0.1, 0.3, "Model_B"), (0.1, 0.3, "tie (bothbad)"), (None, 0.3, "left"), (1, 0, ""),
        ]
    ]  # fmt: skip
    got = figures(rows, "vote", "a", versus=["b"])
    assert got == {"pair_accuracy": 2 / 4, "preference_accuracy": (1 + 0 + 0.5 + 1 + 1 + 0.5) / 6}
    numbers = [
        {**row, "vote": v} for row, v in zip(rows, (1, 0, 1, 0.5, 0, 0.5, 1, ""), strict=True)
    ]
    assert figures(numbers, "vote", "a", versus=["b"]) == got
    with pytest.raises(TableError, match="row 1: 'vote' is 'A > B', no preference: write 1, "):
        figures([{**rows[0], "vote": "A > B"}], "vote", "a", versus=["b"])
    with pytest.raises(InputError, match="`versus=` names 2 columns beside 1"):
        figures(rows, "vote", "a", versus=["b", "a"])


def test_ratings_that_are_classes():
    truth = ["cat", "dog", "cat", "bird", "dog", "cat", None]
    labels = ["cat", "cat", "cat", "bird", "bird", "unclear", "dog"]
    rows = [{"h": h, "s": s} for h, s in zip(truth, labels, strict=True)]
    got = figures(rows, "h", "s", classes=True)
    assert got["accuracy"] == pytest.approx(3 / 6)
    with pytest.warns(UserWarning, match="y_pred contains classes"):
        expected = balanced_accuracy_score(truth[:6], labels[:6])
    assert got["balanced_accuracy"] == pytest.approx(expected)

    rng = np.random.default_rng(1)
    classes = ["bird", "cat", "dog"]
    scores = rng.dirichlet([1, 1, 1], 6)
    rows = [
        {"h": h, "s": dict(zip(classes, p, strict=True))}
        for h, p in zip(truth[:6], scores.tolist(), strict=True)
    ]
    got = figures(rows, "h", "s", classes=True)
    areas = roc_auc_score(truth[:6], scores, multi_class="ovr", labels=classes)
    assert got["auroc_macro"] == pytest.approx(areas)
    best = [classes[k] for k in scores.argmax(axis=1)]
    right = [a == b for a, b in zip(best, truth[:6], strict=True)]
    assert got["accuracy"] == pytest.approx(np.mean(right))
    with pytest.raises(TableError, match="'s' holds numbers, and no class of the ratings: 'cat', "):
        figures([{"h": h, "s": 0.5} for h in ("cat", "dog")], "h", "s", classes=True)
    never = [{"h": h, "s": "unclear"} for h in ("cat", "dog")]
    assert figures(never, "h", "s", classes=True)["accuracy"] == 0
    with pytest.raises(TableError, match="row 1: 's' has the class 'fish', which no rating is"):
        figures([{"h": "cat", "s": {"fish": 1}}, rows[1]], "h", "s", classes=True)


def test_metrics_by_name():
    rows = drawn()
    names = ["srcc", "krcc", "plcc", "plcc_logistic4", "rmse_logistic5", "tau_c"]
    got = figures(rows, metrics=names, group="prompt")
    assert [name for name in got if "_per_group" not in name] == names
    plain = figures(rows, group="prompt")
    assert (got["srcc"], got["krcc"], got["plcc"]) == (
        plain["spearman"], plain["tau_b"], plain["pearson"]
    )  # fmt: skip
    assert got["srcc_per_group"] == plain["spearman_per_group"]
    assert got["plcc_logistic4"] > got["plcc"] and got["rmse_logistic5"] > 0
    with pytest.raises(InputError, match="`metrics='sroc'`: no metric is called so: use pearson"):
        figures(rows, metrics=["sroc"])
    with pytest.raises(InputError, match="`metrics='auroc'` needs ratings that are labels"):
        figures(rows, metrics=["auroc"])
    with pytest.raises(InputError, match="`metrics='rmse_logistic4'` is lower for better"):
        figures(rows, metrics=["rmse_logistic4"])


def test_raters_agree_with_each_other():
    rows = drawn()
    result = agreement(rows, RATERS, ["near"], tags="tags", level="ordinal", resamples=20)
    raters = result.raters["all"]
    matrix = np.array([[row[r] for r in RATERS] for row in rows], float)
    assert raters.alpha.value == pytest.approx(krippendorff_alpha(matrix, "ordinal"))
    others = [np.delete(matrix, k, axis=1).mean(axis=1) for k in range(3)]
    rho = [stats.spearmanr(matrix[:, k], others[k]).statistic for k in range(3)]
    assert raters.ceiling["spearman"].value == pytest.approx(np.mean(rho))
    assert raters.alpha.low < raters.alpha.value < raters.alpha.high
    assert set(result.raters) == {"all", "even", "odd", "third"}
    content = result.to_json()["raters"]["all"]
    assert content["level"] == "ordinal" and set(content["ceiling"]) == {
        "pearson",
        "spearman",
        "tau_b",
    }
    assert not agreement(rows, "r1", ["near"], resamples=5).raters


@pytest.mark.parametrize(
    ("rows", "options", "name", "reason"),
    [
        ([(1, 1), (1, 2)], {}, "spearman", "all ratings are equal"),
        ([(1, 1), (2, 1)], {}, "tau_b", "all scores are equal"),
        ([(1, 1), (2, NAN)], {}, "acc23", "one row alone has a score and a rating"),
        ([(1, NAN)], {}, "acc23", "no row has a score and a rating"),
        ([(1, 1), (1, 2)], {}, "auroc", "all labels are 1"),
        ([(1, 1), (2, 1), (3, 2)], {"group": "h"}, "tau_b_per_group", "no group has two rows"),
        ([(1, 1), (2, 2), (3, 3)], {"system": "one"}, "spearman_system", "fewer than two gen"),
        ([(1, 1), (2, 2), (3, 3)], {"nodes": "one"}, "ks", "no two nodes have different ratings"),
        ([(1, 1), (2, 2), (3, 3)], {"group": "one"}, "tau_b", "no interval: there is only one"),
        (
            [(1, 1), (2, 2), (3, 3)],
            {"group": "one", "mean": "fisher-z"},
            "tau_b_per_group",
            "a part is undefined, or has a correlation of 1 or -1, whose Fisher's z is infinite",
        ),
        (
            [(1, 1), (2, 2), (3, 3)],
            {"metrics": ["plcc_logistic4"]},
            "plcc_logistic4",
            "3 rows are too few to fit 4 parameters",
        ),
    ],
)  # fmt: skip
def test_a_missing_figure_says_why(rows, options, name, reason):
    rows = [{"h": h, "s": s, "one": "one"} for h, s in rows]
    result = agreement(rows, "h", ["s"], resamples=10, **options)
    assert result.reasons["s"]["all"][name].startswith(reason)
    figure = result.to_json()["scores"]["s"]["all"][name]
    assert figure["low"] is None and figure["reason"].startswith(reason)
    json.dumps(result.to_json(), allow_nan=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ratings": "all"}, "`ratings='all'`: use one of 'mean', 'each'"),
        ({"mean": "median"}, "`mean='median'`: use one of 'plain'"),
        ({"constant_groups": "1"}, "`constant_groups='1'`: use one of 'skip', 'zero'"),
        ({"level": "ratio"}, "`level='ratio'`: use one of 'nominal'"),
        ({"classes": True, "versus": ["far"]}, "exclude each other"),
        ({"classes": True, "system": "generator"}, "`system=` needs ratings that are numbers"),
        ({"versus": ["far"], "metrics": ["srcc"]}, "`metrics=` needs ratings that are numbers"),
        ({"classes": True}, "`ratings='each'` compares with each rater"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        figures(drawn(4), **options)
