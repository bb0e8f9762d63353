"""The plan of a protocol: keys, types and values that cannot be used are named with a remedy."""

import random
import tomllib

import pytest
from helpers.protocol_files import PLAN

from t2v_eval.errors import T2VError
from t2v_eval.protocol.draft import PlanDraft, plan_markdown, plan_toml
from t2v_eval.protocol.plan import read_plan
from t2v_eval.protocol.sizes import plan_sizes

SHORTEST = """
prompts = "prompts.csv"
model = {name = "new", images = ["new"]}
baseline = {name = "old", images = ["old"]}
"""


def read(folder, text):
    file = folder / "plan.toml"
    file.write_text(text)
    return read_plan(file)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("promts = 'a.csv'\n" + SHORTEST, "called 'promts'. Did you mean 'prompts'"),
        (SHORTEST.replace('prompts = "prompts.csv"', ""), "the key prompts is missing"),
        (SHORTEST.replace(', images = ["old"]', ""), "baseline: the key images is missing"),
        (SHORTEST.replace('["old"]', '"old"'), "baseline: images is 'old': write a list"),
        (SHORTEST + "alpha = 1.5", "alpha is 1.5: write a number between 0 and 1"),
        (SHORTEST + "alpha = 'x'", "alpha is 'x': write a number"),
        (SHORTEST + "resamples = true", "resamples is True: write a whole number"),
        (SHORTEST + "seed = -1", "seed is -1: write a whole number of at least 0"),
        (SHORTEST + "version = 2", "version is 2, and this version of t2v-eval reads 1"),
        (SHORTEST + "sizes = 3", "sizes is 3: write a table"),
        (SHORTEST + "[sizes]\npower = 0.01", "sizes.power is 0.01"),
        (SHORTEST.replace('"old", i', '"new", i'), "model and baseline are both called 'new'"),
        (SHORTEST + "[preference]\nvotes = ['a.json']", "preference has no keys"),
        (
            SHORTEST + "[[criteria]]\npillar = 'preferences'\nkind = 'better'",
            "criteria 1: pillar is",
        ),
        (SHORTEST + "[[criteria]]\npillar = 'preference'\nkind = 'not_worse'", "needs margin"),
        (
            SHORTEST + "[[criteria]]\npillar = 'preference'\nkind = 'better'\nmargin = 1",
            "better takes no margin",
        ),
        (
            SHORTEST + "[[criteria]]\npillar = 'preference'\nkind = 'at_most'\nlimit = 1",
            "needs figure",
        ),
        (SHORTEST + "resamples = 1000000000", "resamples is 1000000000: write at most 1,000,000"),
        (
            SHORTEST + "[prompt_adherence]\nscorers = ['a', 'b', 'a']",
            "prompt_adherence.scorers has a twice",
        ),
        (SHORTEST + "[preference]\nbattles = ['a.csv', 'a.csv']", "battles has a.csv twice"),
        (
            SHORTEST + "[sample_quality]\ndistances = [{metrics = []}]",
            "sample_quality.distances 1 has no metrics",
        ),
        (
            SHORTEST + "[sample_quality]\ndistances = [{metrics = ['kid']}, {metrics = ['kid']}]",
            "sample_quality.distances has kid of the default network twice",
        ),
        (
            SHORTEST + "[[criteria]]\npillar = 'preference'\nkind = 'at_most'\nlimit = inf",
            "limit is inf: write a number",
        ),
        (SHORTEST + "x = ", "is not valid TOML"),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path, text, message):
    with pytest.raises(T2VError) as error:
        read(tmp_path, text)
    assert message in str(error.value)
    assert str(tmp_path / "plan.toml") in str(error.value)


def test_a_plan_that_is_not_there_is_named(tmp_path):
    with pytest.raises(T2VError, match=r"no such file; `t2v-eval plan"):
        read_plan(tmp_path / "plan.toml")
    with pytest.raises(T2VError, match=r"a folder; `t2v-eval plan"):
        read_plan(tmp_path)


def mutated(value, rng):
    """A value of TOML with one place changed to another type, removed or renamed."""
    wrong = rng.choice([0, -1, 1.5, "x", True, [], ["x"], {}, [{}], {"x": 1}, 10**30])
    if isinstance(value, dict) and value:
        key = rng.choice(list(value))
        change = rng.random()
        if change < 0.2:
            return {k: v for k, v in value.items() if k != key}
        if change < 0.4:
            return {f"{k}x" if k == key else k: v for k, v in value.items()}
        return value | {key: mutated(value[key], rng) if rng.random() < 0.6 else wrong}
    if isinstance(value, list) and value and rng.random() < 0.7:
        place = rng.randrange(len(value))
        return [mutated(v, rng) if k == place else v for k, v in enumerate(value)]
    return wrong


def test_changed_plans_are_read_or_refused(tmp_path, monkeypatch):
    """Whatever stands in a plan, reading it raises nothing but the errors of the library."""
    whole = tomllib.loads(PLAN.format(new='"new"', old='"old"'))
    file = tmp_path / "plan.toml"
    file.write_text("")
    rng = random.Random(0)
    refused = 0
    for _ in range(400):
        changed = mutated(whole, rng)
        monkeypatch.setattr("t2v_eval.protocol.plan.read_toml", lambda _, c=changed: c)
        try:
            read_plan(file)
        except T2VError as error:
            refused += 1
            assert str(file) in str(error)
    assert refused > 200


def test_a_written_plan_reads_back(tmp_path):
    sizes = plan_sizes(0.2, seeds=4, review=80)
    draft = PlanDraft(
        sizes=sizes,
        scorers=["a", 'b "c"'],
        distances=[("net", ["kid", "fid"])],
        prompts="söts\\prompts.csv",
        model=["new"],
        baseline=["old/0", "old/1"],
        families=["clip"],
    )
    plan = read(tmp_path, plan_toml(draft))
    assert plan.sizes == sizes.sizes
    assert plan.prompt_adherence.scorers == ("a", 'b "c"')
    assert plan.prompts == "söts\\prompts.csv"
    assert plan.probes.families == ("clip",)
    figures = [(c.pillar, c.kind, c.figure, c.gate) for c in plan.criteria]
    assert figures == [
        ("prompt_adherence", "better", "", False),
        ("prompt_adherence", "not_worse", "a", True),
        ("prompt_adherence", "not_worse", 'b "c"', True),
        ("sample_quality", "not_worse", "kid (net)", True),  # no criterion of FID of few images
        ("preference", "not_worse", "votes", False),
        ("failure_analysis", "at_most", "unsafe", False),
    ]
    assert "needs 199 prompts" in plan_markdown(draft)


def test_the_gate_has_its_criteria_alone(tmp_path):
    plan = read(tmp_path, PLAN.format(new='"new"', old='"old"')).for_gate()
    assert [c.name for c in plan.criteria] == ["no loss of adherence", "kid"]
    assert plan.preference.scorers == ()
    assert plan.probes.skip
    with pytest.raises(T2VError, match="no criterion is of the gate"):
        read(tmp_path, SHORTEST).for_gate()
