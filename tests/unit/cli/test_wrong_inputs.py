"""What people type and pass by mistake: one line each, which names the item and the remedy.

The command line speaks of flags, a call in Python of arguments.
"""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.toy import draw_image
from typer.testing import CliRunner

import t2v_eval
from t2v_eval.cli.main import app
from t2v_eval.errors import T2VError
from t2v_eval.evaluation.agreement import agreement
from t2v_eval.evaluation.options import open_benchmark
from t2v_eval.inputs.tables import read_table
from t2v_eval.report.gate.checks import not_worse, within_window
from t2v_eval.report.reader import read_report
from t2v_eval.report.report import Report
from t2v_eval.stats.bootstrap import bootstrap_interval

FILES = {
    "notes.txt": "a cat\n",
    "notes.py": "x = 1\n",
    "text.png": "no image",
    "empty.png": "",
    "prompts.csv": "prompt,id\na cat,0\na dog,1\n",
    "twice.csv": "prompt,id\na cat,0\na dog,0\n",
    "captions.csv": "caption\na cat\na dog\n",
    "numbers.jsonl": '{"prompt": "a cat"}\n{"prompt": 5}\n',
    "blank.txt": "\n\n",
    "empty.csv": "",
    "battles.csv": "model_a,model_b,winner\na,b,tie\n",
    "header.csv": "image,text,human\n",
    "judged.csv": "image,text,human\n0.png,a cat,1\n1.png,a dog,0\n",
    "unrated.csv": "image,text\n0.png,a cat\n",
    "words.csv": "image,text,human\n0.png,a cat,good\n",
    "gone.csv": "image,text,human\n0.png,a,1\n9.png,b,2\n",
    "windows.csv": "image,text,human\ngen\\0.png,a cat,1\ngen\\1.png,a dog,0\n",
    "ragged.csv": "image,text\n0.png,a,b\n",
    "quote.csv": 'image,text\n0.png,"a\n',
    "same.csv": "image,image\n0.png,a\n",
    "pairs.csv": "image,caption\n0.png,a\n",
    "broken.json": '[\n{"image": "0.png",\n',
    "list.json": '["a cat", "a dog"]',
    "line.jsonl": '{"image": "0.png", "text": "a"}\n{"image"\n',
    "table.parquet": "no parquet",
    "table.xlsx": "x",
    "no-store.db": "x" * 200,
}
FOLDERS = {"gen": (0, 1), "deep/gen/images": (0, 1), "none": (), "half": (0,)}
SCORE = "score -m tiny-clip --no-store"
ONE = f"{SCORE} 0.png -t a"
PAIRS = f"{SCORE} --pairs"
EVAL = "eval -m tiny-clip --no-store"
OWN = f"{EVAL} -b prompts.csv --images gen"
GPT = "score -m gpt-4o 0.png -t a --no-store"
TABLE = [
    # Names.
    ("score -m tiny-clpi 0.png -t a", "no model called 'tiny-clpi'", "'tiny-clip'"),
    (f"{EVAL} -b winogroud", "no benchmark called 'winogroud'", "'winoground'"),
    ("data winogrond", "no benchmark called 'winogrond'", "'winoground'"),
    (f"{ONE} --template vqascor", "no template called 'vqascor'", "'vqascore'"),
    ("list modls", "'modls'", "'models'"),
    ("list", "Missing argument", "models, benchmarks, templates"),
    ("list models gone.py:f", "gone.py", "no such file"),
    ("list models notes.py:f", "notes.py:f", "notes.py:FUNCTION"),
    ("list benchmarks lost.csv", "lost.csv", "no such file"),
    ("report export none --to eee", "none", "no report.json", "--out"),
    ("report export none", "'--to'", "eee, hub"),
    ("evl", "'evl'", "'eval'"),
    (f"{EVAL} -b prompts.csv --imgaes gen", "--imgaes", "--images"),
    # Values of flags.
    (f"{ONE} --on-error ignore", "'--on-error'", "'ignore'", "'skip'"),
    (f"{OWN} --on-missing ignore", "'--on-missing'", "'ignore'", "'skip'"),
    (f"{ONE} --image-mode raw", "'--image-mode'", "'raw'", "'original'"),
    (f"{ONE} --dtype float8", "--dtype float8", "'bfloat16'"),
    (f"{ONE} --device gpu", "--device gpu", "'cpu'"),
    (f"{ONE} --device cuda:99", "--device cuda:99", "'cpu'"),
    (f"{ONE} --batch-size 0", "--batch-size 0", "1 or more"),
    (f"{OWN} --resamples 0", "--resamples 0", "at least 1"),
    (f"{OWN} --resamples ten", "'--resamples'", "integer"),
    (f"{OWN} --seed -1", "--seed -1", "at least 0"),
    (f"{OWN} --limit 0", "--limit 0", "1"),
    (f"{GPT} --max-cost -1 --option api_key=k", "--max-cost -1.0", "0 or more"),
    (f"{GPT} --max-requests 0 --option api_key=k", "--max-requests 0", "1 or more"),
    # Pairs of a flag.
    (f"{ONE} --option scale", "--option 'scale'", "KEY=VALUE"),
    (f"{ONE} --option shade=1", "takes no --option shade=", "list models tiny-clip"),
    (f"{ONE} --option fps=8", "takes no --option fps=", "video.frames"),
    (f"{EVAL} -b scenes --benchmark-option m=1", "no --benchmark-option m=", "takes n, seed"),
    (f"{EVAL} -b scenes --benchmark-option n=0", "--benchmark-option n=0", "at least one"),
    (f"{OWN} --column prompt", "--column 'prompt'", "FIELD=COLUMN"),
    (f"{OWN} --column promt=prompt", "'promt'", "use prompt, id, tags"),
    (f"{OWN} --column prompt=promt", "no column 'promt'", "--column prompt=prompt"),
    # Too much or too little.
    (f"{PAIRS} pairs.csv 0.png -t a", "--pairs", "not both"),
    (f"{SCORE} 0.png", "'tiny-clip' needs", "--text"),
    (SCORE, "pass images", "--pairs"),
    ("eval -b scenes", "'--model'"),
    ("compare -m tiny-clip -b scenes", "two scorers", "repeat --model"),
    (GPT, "a key is needed", "--option api_key=", "OPENAI_API_KEY"),
    ("score -m openai-compatible:m 0.png -t a --no-store", "--option base_url=", "http://"),
    # Texts without content, options that do not fit together, and files that are passed twice.
    (f"{SCORE} 0.png -t ''", "--text ''", "is empty"),
    (f"{SCORE} 0.png -t a -t ' '", "--text ' '", "is empty"),
    ("prefer 0.png 1.png '' -m gpt-4o-preference", "TEXT ''", "is empty"),
    ("prefer 0.png ./0.png a -m gpt-4o-preference", "0.png and ./0.png are the same"),
    ("prefer gen gen a -m gpt-4o-preference", "gen and gen are the same"),
    (f"{ONE} --image-column file", "--image-column", "with --pairs"),
    (f"{ONE} --text-column file", "--text-column", "with --pairs"),
    (f"{ONE} --source-column file", "--source-column", "with --pairs"),
    (f"{ONE} --json --spreadsheet", "--spreadsheet", "--json", "leave one out"),
    (f"{ONE} --answer Yes", "'Yes' has no meaning", "pass --question alone"),
    ("rank battles.csv ./battles.csv", "battles.csv is passed twice"),
    ("rank battles.csv --min-attention 0.5", "--min-attention", "--key"),
    # Several values after one flag, and arguments that nothing takes.
    (f"{EVAL} -b prompts.csv --images gen half", "'half'", "--images gen --images half", "eval -"),
    (f"{EVAL} -b prompts.csv --images=gen half", "'half'", "--images gen --images half"),
    ("compare -m toy-a toy-b -b scenes", "'toy-b'", "repeat -m", "-m toy-a -m toy-b"),
    (f"{EVAL} -b a.csv b.csv c.csv", "'b.csv', 'c.csv'", "-b a.csv -b b.csv"),
    (f"{EVAL} -b a b a", "'b', 'a'", "-b a -b b"),
    ("agree judged.csv --human a b --scores c d", "'b'", "--human a --human b"),
    ("agree judged.csv --scores c d --human a b", "'b'", "--human a --human b"),
    (f"{OWN} --limit 1 2", "'2' after --limit", "quotes"),
    (f"{OWN} --json 2", "'2' after --json", "takes no value"),
    ("gate gen half", "'half'", "gate --help"),
    ("score --text", "'--text'", "score --help"),
    (
        f"{EVAL} -b prompts.csv --images gen,half",
        "no folder gen,half",
        "--images gen --images half",
    ),
    ("eval -m tiny-clip,tiny-negclip -b scenes", "pass each", "-m", "tiny-clip"),
    # The home of nobody.
    (f"{EVAL} -b ~nobody-here/p.csv --images gen", "~nobody-here/p.csv", "no such user"),
    (f"{EVAL} -b prompts.csv --images ~nobody-here/p", "~nobody-here/p", "no such user"),
    (f"{OWN} --out ~nobody-here/report", "~nobody-here/report", "no such user"),
    (f"{ONE} --checkpoint ~nobody-here/w", "~nobody-here/w", "no such user"),
    ("score -m ~nobody-here/s.py:f 0.png -t a --no-store", "~nobody-here/s.py", "no such user"),
    ("list models ~nobody-here/s.py:f", "~nobody-here/s.py", "no such user"),
    ("report export ~nobody-here/r --to hub", "~nobody-here/r", "no such user"),
    ("generate --pipeline ~nobody-here/p -b prompts.csv --out g", "~nobody-here/p", "no such user"),
    # Reports and gates.
    ("report export nope --to eee", "nope: no such folder"),
    ("gate nope --baseline none", "nope: no such folder"),
    ("gate none --baseline none --json gen", "gen is a folder", "--json"),
    ("gate none --baseline none --junit gen", "gen is a folder", "--junit"),
    # Images.
    (f"{SCORE} 9.png -t a", "9.png: no such file"),
    (f"{SCORE} none -t a", "none"),
    (f"{SCORE} *.jpg -t a", "*.jpg"),
    (f"{SCORE} empty.png -t a", "empty.png", "empty"),
    (f"{SCORE} text.png -t a", "text.png", "save it again as PNG"),
    (f"{SCORE} https://example.org/a.png -t a", "https://example.org/a.png", "--allow-urls"),
    # Tables.
    (f"{PAIRS} nope.csv", "nope.csv: no such file"),
    (f"{PAIRS} pairs.csv", "no column 'text'", "'caption'", "--text-column"),
    (f"{PAIRS} ragged.csv", "ragged.csv, row 1 (line 2)", "3 values", "2 columns"),
    (f"{PAIRS} quote.csv", "quote.csv, row 1", "quotation mark"),
    (f"{PAIRS} latin.csv", "latin.csv", "line 2", "save it as UTF-8"),
    (f"{PAIRS} broken.json", "broken.json is not JSON", "line 3"),
    (f"{PAIRS} line.jsonl", "line.jsonl, row 2 (line 2)", "not JSON"),
    (f"{PAIRS} table.parquet", "table.parquet is not a Parquet file"),
    (f"{PAIRS} empty.csv", "empty.csv has no rows"),
    (f"{PAIRS} header.csv", "header.csv has no rows"),
    (f"{PAIRS} table.xlsx", "table.xlsx", "ends in .csv"),
    (f"{PAIRS} same.csv", "same.csv", "'image' occurs 2 times"),
    # Where results go.
    (f"{ONE} --out scores.txt", "scores.txt", "ends in .csv"),
    (f"{ONE} --out notes.txt/s.csv", "notes.txt", "another --out"),
    (f"{OWN} --out notes.txt", "notes.txt is a file", "another --out"),
    (f"{OWN} --out /proc/none", "/proc/none", "another --out"),
    ("score -m tiny-clip 0.png -t a --store gen", "gen is a folder", "with --store"),
    ("score -m tiny-clip 0.png -t a --store no-store.db", "no-store.db is not", "with --store"),
    ("store stats --store nope.sqlite", "no store at nope.sqlite", "--store"),
    # Prompts and judgements of one's own.
    (f"{EVAL} -b prompts.csv", "set of 2 prompts", "as --images"),
    (
        f"{EVAL} -b judged.csv --images gen",
        "judged.csv has a column of images",
        "leave --images out",
    ),
    (f"{EVAL} -b prompts.csv --images nope", "no folder nope", "as --images"),
    (f"{EVAL} -b prompts.csv --images 0.png", "0.png is a file", "as --images"),
    (f"{OWN} --images ./gen/", "gen is passed twice as --images"),
    (f"{EVAL} -b list.json --images gen", "list.json, row 1", "not a JSON object"),
    (f"{EVAL} -b prompts.csv --images none", "no image in none", "00000.png"),
    (f"{EVAL} -b prompts.csv --images deep", "deep", "--images deep/gen/images"),
    (f"{EVAL} -b prompts.csv --images half", "'a dog'", "--on-missing skip"),
    (f"{EVAL} -b captions.csv --images gen", "captions.csv", "--column prompt=caption"),
    (f"{EVAL} -b numbers.jsonl --images gen", "numbers.jsonl, row 2", "not a text"),
    (f"{EVAL} -b blank.txt --images gen", "blank.txt has no prompts", "one a line"),
    (f"{EVAL} -b twice.csv --images gen", "twice.csv, row 2", "the id '0'", "row 1"),
    (f"{EVAL} -b unrated.csv", "no column 'human'", "--column human=..."),
    (f"{EVAL} -b words.csv", "words.csv, row 1", "'good'"),
    (f"{EVAL} -b windows.csv", "windows.csv, row 1", "with / in the place of \\"),
    (
        f"{EVAL} -b prompts.csv --images comfy",
        "0 ('a cat')",
        "file_name and prompt in a metadata.csv",
    ),
    (f"{EVAL} -b gone.csv", "gone.csv, row 2: 9.png", "--on-missing skip"),
    (f"{EVAL} -b nope.csv", "nope.csv: no such file"),
    (f"{EVAL} -b table.xlsx", "'table.xlsx'", ".parquet"),
    # Published benchmarks.
    (f"{EVAL} -b winoground --root nope", "no folder nope", "as --root"),
    (f"{EVAL} -b winoground --root 0.png", "0.png is a file", "as --root"),
    (f"{EVAL} -b winoground --root none", "none holds neither", "as --root"),
    (f"{EVAL} -b winoground --images gen", "takes no --images", "leave it out"),
    (f"{EVAL} -b scenes --subset colr", "--subset colr", "attribute"),
    ("data winoground --root nope", "no folder nope", "as --root"),
    # Ratings in a table.
    ("agree nope.csv --human human --scores s", "nope.csv: no such file"),
    ("agree judged.csv --human humn --scores human", "judged.csv", "no column 'humn'", "'human'"),
    ("agree words.csv --human human --scores human", "words.csv: row 1", "'good'"),
    # Weights.
    (f"{ONE} --checkpoint nope", "checkpoint 'nope'", "ORG/NAME"),
]


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("OPENAI_API_KEY", "T2V_EVAL_DATA"):
        monkeypatch.delenv(name, raising=False)
    for name, content in FILES.items():
        Path(name).write_text(content)
    Path("latin.csv").write_bytes("image,text\n0.png,ein Bär\n".encode("latin-1"))
    for folder, numbers in {**FOLDERS, ".": (0, 1)}.items():
        Path(folder).mkdir(parents=True, exist_ok=True)
        for n in numbers:
            draw_image(n).save(f"{folder}/{n}.png")
    Path("comfy").mkdir()
    for n in (1, 2):
        draw_image(n).save(f"comfy/ComfyUI_{n:05}_.png")
    return tmp_path


def check_line(said, words):
    """One line, without a traceback, that holds the words in their order."""
    assert said.startswith("error: ") and "Traceback" not in said
    assert len(said.strip().splitlines()) == 1, said
    assert not re.search(r"`\w+=", said), "an argument of Python"
    rest = said
    for word in words:
        assert word in rest, (word, said)
        rest = rest[rest.index(word) + len(word) :]


def test_the_table_is_long_enough():
    assert len({command for command, *_ in TABLE}) == len(TABLE) >= 60


@pytest.mark.filterwarnings("ignore::t2v_eval.errors.T2VWarning")
@pytest.mark.parametrize(("command", "words"), [(c, words) for c, *words in TABLE])
def test_a_mistake_is_one_line_in_the_words_of_the_command_line(place, command, words):
    done = CliRunner().invoke(app, shlex.split(command))
    assert done.exit_code == 2, (done.exit_code, done.stderr, done.exception)
    assert isinstance(done.exception, SystemExit) and (
        not done.stdout or command.startswith("data")
    )
    check_line(done.stderr, words)


@pytest.mark.parametrize("n", [0, 8])
def test_the_same_holds_for_a_process_of_its_own(place, n):
    command, *words = TABLE[n]
    done = subprocess.run(
        [sys.executable, "-m", "t2v_eval", *shlex.split(command)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(t2v_eval.__file__).parents[1])},
    )
    assert done.returncode == 2 and not done.stdout
    check_line(done.stderr, words)


def test_a_package_that_is_not_installed_is_named_with_its_extra(place, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    monkeypatch.delitem(sys.modules, "t2v_eval.benchmarks.own_dataset", raising=False)
    done = CliRunner().invoke(app, f"{EVAL} -b dataset:me/mine".split())
    assert done.exit_code == 2
    check_line(done.stderr, ["'dataset", "pip install 't2v-eval[datasets]'"])


def scorer(**options):
    return t2v_eval.load("tiny-clip", device="cpu", **options)


def compare(benchmark, **options):
    return t2v_eval.compare("tiny-clip", benchmark, **options)


PYTHON = [
    (lambda: t2v_eval.load("tiny-clpi"), "'tiny-clpi'", "'tiny-clip'"),
    (lambda: scorer(on_error="ignore"), "`on_error='ignore'`", "'skip'"),
    (lambda: scorer(image_mode="raw"), "`image_mode='raw'`", "'original'"),
    (lambda: scorer(dtype="float8"), "`dtype='float8'`", "'bfloat16'"),
    (lambda: t2v_eval.load("tiny-clip", device="gpu"), "`device='gpu'`", "'cpu'"),
    (lambda: scorer(batch_size=0), "`batch_size=0`", "1 or more"),
    (lambda: scorer(batchsize=2), "no `batchsize=`", "`batch_size=`"),
    (lambda: scorer(store="gen"), "gen is a folder", "`store=`"),
    (lambda: scorer(store="no-store.db"), "no-store.db", "`store=`"),
    (lambda: t2v_eval.load("gpt-4o")("0.png", "a"), "`api_key=`", "OPENAI_API_KEY"),
    (lambda: t2v_eval.load("gpt-4o", api_key="k", max_requests=0), "`max_requests=0`", "1 or more"),
    (lambda: scorer()("https://example.org/a.png", "a"), "`allow_urls=True`"),
    (lambda: compare("prompts.csv"), "set of 2 prompts", "`images=`"),
    (lambda: compare("judged.csv", images=["gen"]), "leave `images=` out"),
    (lambda: compare("prompts.csv", images=["deep"]), "`images=['deep/gen/images']`"),
    (lambda: compare("prompts.csv", images="half"), "'a dog'", "`on_missing="),
    (lambda: compare("captions.csv", images=["gen"]), "`columns={'prompt': 'caption'}`"),
    (lambda: compare("unrated.csv"), "no column 'human'", "`columns={'human': ...}`"),
    (lambda: compare("scenes", subset="colr"), "`subset='colr'`", "attribute"),
    (lambda: compare("scenes", resamples=0), "`resamples=0`", "at least 1"),
    (lambda: compare("scenes", seed=-1), "`seed=-1`", "at least 0"),
    (lambda: compare("scenes", benchmark_options={"m": 1}), "no `m=`", "it takes n, seed"),
    (lambda: open_benchmark("winoground", root="nope").items(), "no folder nope", "`root=`"),
    (lambda: bootstrap_interval(len, 3, resamples=0), "`resamples=0`", "at least 1"),
    # Values of another type.
    (lambda: t2v_eval.load(3), "`model=3`", "a name"),
    (lambda: t2v_eval.list_models(3), "`pattern=3`", "a glob"),
    (lambda: t2v_eval.load("tiny-clip", store=3), "`store=3`", "a path"),
    (lambda: t2v_eval.load("tiny-clip", checkpoint=3), "`checkpoint=3`", "a path"),
    (lambda: t2v_eval.compare(len, "scenes"), "`scorers=<built-in", "from_function"),
    (lambda: t2v_eval.compare([None], "scenes"), "`scorers=None`", "names"),
    (lambda: compare([{"image": "0.png"}]), "`benchmarks={'image': '0.png'}`", "files"),
    (lambda: compare({"image": ["0.png"]}), "`benchmarks={'image'", "files"),
    (lambda: compare(Path("judged.csv"), columns={"human": "humn"}), "judged.csv", "'humn'"),
    (lambda: compare("scenes", root=3), "`root=3`", "a path"),
    (lambda: compare("scenes", root="~nobody-here"), "~nobody-here", "no such user"),
    (lambda: compare("scenes", subset=3), "`subset=3`", "a tag"),
    (lambda: compare("scenes", benchmark_options="n=3"), "`benchmark_options='n=3'`", "a dict"),
    (lambda: compare("prompts.csv", images=3), "`images=3`", "a path"),
    (lambda: compare("prompts.csv", images=[3]), "`images=3`", "a path"),
    (lambda: t2v_eval.evaluate("tiny-clip", "scenes"), "`scorer='tiny-clip'`", "t2v_eval.load"),
    (lambda: t2v_eval.evaluate(scorer(), "scenes"), "`benchmark='scenes'`", "open_benchmark"),
    (lambda: t2v_eval.generate(3, "prompts.csv", "out"), "`pipeline=3`", "a Generator"),
    (lambda: t2v_eval.generate("x", ["a cat"], "out"), "`benchmark=['a cat']`", "{'0': 'a cat'}"),
    (lambda: t2v_eval.generate("x", {"0": "a cat"}, 3), "`folder=3`", "a path"),
    (lambda: Report.load(3), "`folder=3`", "a path"),
    (lambda: Report.load(b"report"), "`folder=b'report'`", "a path"),
    (lambda: read_report(None), "`path=None`", "a path"),
    (lambda: read_table(3), "`path=3`", "a path"),
    (lambda: Report(3), "`runs=3`", "evaluate"),
    (lambda: Report(["report"]), "`runs='report'`", "evaluate"),
    (lambda: Report([]).write(3), "`folder=3`", "a path"),
    (lambda: Report([]).write("out", image_pixels="768"), "`image_pixels='768'`", "whole number"),
    (lambda: not_worse(3, Report([])), "`new=3`", "a Report"),
    (lambda: not_worse(Report([]), None), "`baseline=None`", "a Report"),
    (lambda: not_worse(Report([]), Report([]), margin="0.01"), "`margin='0.01'`", "0.01"),
    (lambda: not_worse(Report([]), Report([]), alpha=None), "`alpha=None`", "0.05"),
    (lambda: within_window(Report([]), None, 1), "`low=None`", "a number"),
    (lambda: agreement({"human": [1]}, "human", ["s"]), "`rows={'human': [1]}`", "read_table"),
    (lambda: agreement([{"h": 1}], "h", ["h"], group=3), "`group=3`", "a column"),
]


@pytest.mark.parametrize("case", PYTHON, ids=[str(words) for _, *words in PYTHON])
def test_a_call_in_python_speaks_of_arguments(place, case):
    call, *words = case
    with pytest.raises(T2VError) as caught:
        call()
    rest = str(caught.value)
    assert "\n" not in rest and "--" not in rest
    for word in words:
        assert word in rest, (word, str(caught.value))
        rest = rest[rest.index(word) + len(word) :]
