"""What holds for every benchmark that others publish: files as they are, and what is missing."""

import json
import shutil
import warnings
from collections import Counter
from pathlib import Path

import pytest
from helpers.benchmarks.examples import EXAMPLES, opened
from helpers.toy import ToyEdit, ToyEmbedding

from t2v_eval.errors import BenchmarkDataError, T2VWarning
from t2v_eval.evaluation.options import open_benchmark
from t2v_eval.evaluation.run import evaluate
from t2v_eval.evaluation.verdicts import named_in
from t2v_eval.inputs.media import Edit
from t2v_eval.registry import benchmarks, models

pytestmark = pytest.mark.filterwarnings("ignore:.*the figures are:t2v_eval.errors.T2VWarning")
names = pytest.mark.parametrize("name", EXAMPLES)


@pytest.fixture(scope="module")
def written_files(tmp_path_factory):
    """The folder of each layout, written once; tests that change one copy it."""
    result = {}
    for name, example in EXAMPLES.items():
        result[name] = tmp_path_factory.mktemp(name)
        example.write(result[name])
    return result


@names
def test_items_and_a_run(written_files, name):
    benchmark = opened(name, written_files[name])
    items = benchmark.items()
    assert len(items) == EXAMPLES[name].items and len({item.id for item in items}) == len(items)
    assert all(item.id and item.texts and item.images for item in items)
    assert items == benchmark.items() and benchmark.card.kind
    edits = isinstance(items[0].images[0], Edit)
    run = evaluate(ToyEdit() if edits else ToyEmbedding(), benchmark, resamples=10)
    assert run.counts.failed == 0
    assert set(benchmark.chance) <= set(run.metrics)
    assert run.benchmark.headline in run.metrics


@names
@pytest.mark.parametrize("custom", [False, True])
def test_a_folder_of_the_benchmark_s_name_will_do(written_files, tmp_path, name, custom):
    root = shutil.copytree(written_files[name], tmp_path / name) if custom else written_files[name]
    of_prompts = benchmarks.card(name).kind == "prompts"
    generated = {"images": [root / "images"]} if of_prompts else {}
    actual = open_benchmark(name, tmp_path if custom else root, **generated)
    assert len(actual.items()) == EXAMPLES[name].items and actual.root == root


@names
def test_fewer_items_than_published_are_said(written_files, name):
    if "expected" not in benchmarks.card(name).args:
        return  # how many items there are is not published
    with pytest.warns(T2VWarning, match=f"{EXAMPLES[name].items} items and {name} has"):
        opened(name, written_files[name]).items()


@names
def test_nothing_is_read_before_items(tmp_path, name):
    opened(name, tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


@names
@pytest.mark.parametrize("where", [None, "nowhere", "empty"])
def test_missing_data_names_the_page_and_the_step(tmp_path, name, where):
    (tmp_path / "empty").mkdir()
    root = where and tmp_path / where
    card = benchmarks.card(name)
    assert card.page.startswith("https://") and card.obtain and card.size and card.license
    with pytest.raises(BenchmarkDataError) as caught:
        opened(name, root).items()
    assert card.page in str(caught.value) and card.obtain in str(caught.value)
    assert "`root=`" in str(caught.value) and str(root or "a folder") in str(caught.value)


@names
def test_each_file_is_missed(written_files, tmp_path, name):
    ends = (".json", ".jsonl", ".csv", ".tsv", ".txt", ".py")
    files = [path for path in sorted(written_files[name].rglob("*")) if path.suffix in ends]
    for n, path in enumerate(files):
        root = shutil.copytree(written_files[name], tmp_path / str(n))
        path = root / path.relative_to(written_files[name])
        path.unlink()
        with pytest.raises(BenchmarkDataError) as caught:
            opened(name, root).items()
        assert path.name in str(caught.value) or str(path.parent) in str(caught.value)
    assert files or any(written_files[name].rglob("*.parquet"))


@names
def test_a_missing_image_is_named(written_files, tmp_path, name):
    root = shutil.copytree(written_files[name], tmp_path / "root")
    named = [i for i in opened(name, root).items()[-1].images if isinstance(i, str)]
    if not named:
        return  # the images are in the tables
    missing = Path(named[0])
    missing.unlink()
    with pytest.raises(BenchmarkDataError, match="missing|have no image") as caught:
        opened(name, root).items()
    assert missing.stem in str(caught.value)


@names
def test_extra_files_do_not_matter(written_files, tmp_path, name):
    root = shutil.copytree(written_files[name], tmp_path / "root")
    items = opened(name, root).items()
    for folder in [root, *(path for path in root.rglob("*") if path.is_dir())]:
        (folder / "zzz.jpg").write_bytes(b"")
        (folder / "notes.json").write_text("{")
    assert opened(name, root).items() == items


@names
def test_broken_json_and_keys_that_occur_twice(written_files, tmp_path, name):
    for path in sorted(written_files[name].glob("*.json")):
        root = shutil.copytree(written_files[name], tmp_path / path.stem)
        for content, message in (("{", "is not JSON"), ("3", "holds int")):
            (root / path.name).write_text(content)
            with pytest.raises(BenchmarkDataError, match=message) as caught:
                opened(name, root).items()
            assert path.name in str(caught.value)
        content = json.loads((written_files[name] / path.name).read_text())
        if isinstance(content, dict):
            pairs = [f"{json.dumps(k)}: {json.dumps(v)}" for k, v in content.items()]
            (root / path.name).write_text("{" + ", ".join([*pairs, pairs[0]]) + "}")
            with pytest.raises(BenchmarkDataError, match="occurs twice"):
                opened(name, root).items()


@names
def test_a_working_directory_does_not_matter(written_files, tmp_path, name, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", T2VWarning)
        assert opened(name, written_files[name]).items()
    assert not list(tmp_path.iterdir()), "nothing is written"


@pytest.mark.parametrize(
    ("benchmark", "metric", "scorer", "figure"),
    [
        ("mmrb2-t2i", "accuracy", "hpsv3", 0.602),
        ("mmrb2-t2i", "accuracy", "unified-reward", 0.598),
        ("mmrb2-edit", "accuracy", "edit-reward-qwen2.5-vl", 0.672),
        ("editreward-bench", "group_accuracy", "edit-reward", 0.3842),
        ("editreward-bench", "group_accuracy", "edit-reward-qwen2.5-vl", 0.3678),
        ("videogen-rewardbench", "overall_with_ties", "videoreward", 0.6126),
    ],
)
def test_published_figures_are_found_by_the_names_of_papers(benchmark, metric, scorer, figure):
    table = benchmarks.card(benchmark).published[metric]
    assert table[named_in(table, models.card(scorer).known_as)] == figure


def test_a_name_of_a_paper_is_that_of_one_scorer():
    names = [name for card in models.cards.values() for name in card.known_as]
    assert [name for name, count in Counter(names).items() if count > 1] == []
    for card in benchmarks.cards.values():
        for table in card.published.values():
            for scorer in models.cards.values():
                assert len({*scorer.known_as} & {*table}) <= 1, (card.name, scorer.name)
