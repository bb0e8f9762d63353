"""Text files of users: UTF-8, and what spreadsheets and editors of other systems write."""

import codecs
import json

import pytest
from helpers.benchmarks.small_files import draw

from t2v_eval.errors import BenchmarkDataError, InputError, TableError
from t2v_eval.evaluation.captioning.captions import Captions
from t2v_eval.inputs.tables import read_table
from t2v_eval.registry import benchmarks
from t2v_eval.report.reader import read_report
from t2v_eval.utils.text_file import decode_text, read_text
from t2v_eval.utils.toml import read_toml

TEXT = "ein Bär, 猫\n\U0001f431\n"
ENCODINGS = {
    "UTF-8": lambda text: text.encode(),
    "UTF-8 with a mark": lambda text: codecs.BOM_UTF8 + text.encode(),
    "UTF-16 LE with a mark": lambda text: codecs.BOM_UTF16_LE + text.encode("utf-16-le"),
    "UTF-16 BE with a mark": lambda text: codecs.BOM_UTF16_BE + text.encode("utf-16-be"),
    "UTF-16 LE": lambda text: text.encode("utf-16-le"),
    "UTF-16 BE": lambda text: text.encode("utf-16-be"),
    "UTF-32 LE with a mark": lambda text: codecs.BOM_UTF32_LE + text.encode("utf-32-le"),
    "UTF-32 BE with a mark": lambda text: codecs.BOM_UTF32_BE + text.encode("utf-32-be"),
}


@pytest.mark.parametrize("encode", ENCODINGS.values(), ids=ENCODINGS)
def test_each_encoding_is_the_same_text(encode, tmp_path):
    (tmp_path / "a.txt").write_bytes(encode(TEXT))
    assert read_text(tmp_path / "a.txt") == TEXT
    (tmp_path / "a.txt").write_bytes(encode(TEXT.replace("\n", "\r\n")))
    assert read_text(tmp_path / "a.txt") == TEXT
    assert decode_text(encode(""), "a.txt") == ""


@pytest.mark.parametrize("encode", ENCODINGS.values(), ids=ENCODINGS)
def test_tables_captions_reports_and_cards_are_read(encode, tmp_path):
    row = {"image": "é.png", "text": "ein Bär"}
    files = {
        "t.csv": "image,text\né.png,ein Bär\n",
        "t.tsv": "image\ttext\né.png\tein Bär\n",
        "t.jsonl": json.dumps(row, ensure_ascii=False) + "\n\n",
        "t.json": json.dumps([row], ensure_ascii=False),
    }
    for name, text in files.items():
        (tmp_path / name).write_bytes(encode(text))
        assert read_table(tmp_path / name) == [row], name
    draw(tmp_path / "images" / "é.png", 0)
    (tmp_path / "c.json").write_bytes(encode('{"é": "ein Bär"}'))
    (tmp_path / "r.json").write_bytes(encode('{"é": ["ein Bär"]}'))
    read = Captions.read(tmp_path / "c.json", tmp_path / "images", tmp_path / "r.json")
    assert read.captions == {"é": "ein Bär"} and read.references == {"é": ["ein Bär"]}
    (tmp_path / "report.json").write_bytes(
        encode('{"schema_version": 2, "runs": [], "differences": []}')
    )
    assert read_report(tmp_path / "report.json") == {
        "schema_version": 2,
        "runs": [],
        "differences": [],
    }
    (tmp_path / "a.toml").write_bytes(encode('[b]\r\nquestion = "ein Bär?"\r\n'))
    assert read_toml(tmp_path / "a.toml") == {"b": {"question": "ein Bär?"}}


SKILLS = "color shape texture spatial non_spatial complex numeracy 3d_spatial".split()


@pytest.mark.filterwarnings("ignore:.*the figures are:t2v_eval.errors.T2VWarning")
@pytest.mark.parametrize("encode", ENCODINGS.values(), ids=ENCODINGS)
def test_prompt_files_and_metadata_beside_images_are_read(encode, tmp_path):
    (tmp_path / "set").mkdir()
    for n, skill in enumerate(SKILLS):
        # A line separator of Unicode is part of a prompt, not the end of its line.
        (tmp_path / "set" / f"{skill}_val.txt").write_bytes(encode(f"ein Bär\u2028{n}\r\n"))
        draw(tmp_path / "images" / f"x{n}.png", n)
    rows = [{"file_name": f"x{n}.png", "text": f"ein Bär\u2028{n}"} for n in range(8)]
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (tmp_path / "images" / "metadata.jsonl").write_bytes(encode(text))
    benchmark = benchmarks.create(
        "t2i-compbench", root=tmp_path / "set", images=tmp_path / "images"
    )
    items = benchmark.items()
    assert [item.texts[0] for item in items] == [f"ein Bär\u2028{n}" for n in range(8)]
    assert [item.images[0][-6:] for item in items] == [f"x{n}.png" for n in range(8)]


def test_bytes_that_are_no_text_are_told_by_file_and_offset(tmp_path):
    bad = b'{"a":\n "caf\xe9"}'
    for name in ("t.csv", "t.json", "t.jsonl"):
        (tmp_path / name).write_bytes(bad)
        message = f"{name} is not UTF-8 text in line 2, at byte 11: save it as UTF-8"
        with pytest.raises(TableError, match=message):
            read_table(tmp_path / name)
    draw(tmp_path / "a.png", 0)
    with pytest.raises(TableError, match=r"t.json is not UTF-8 text .* byte 11: save it as"):
        Captions.read(tmp_path / "t.json", tmp_path)
    with pytest.raises(InputError, match=r"t.json is not UTF-8 text .* byte 11: save it as"):
        read_toml(tmp_path / "t.json")
    (tmp_path / "t.json").write_bytes(codecs.BOM_UTF16_LE + b"[\0]")
    with pytest.raises(TableError, match="t.json is not UTF-16 text in line 1, at byte 4"):
        read_table(tmp_path / "t.json")
    (tmp_path / "evaluation_metadata.jsonl").write_bytes(b'{"tag": "t", "prompt": "\xff"}')
    with pytest.raises(BenchmarkDataError, match="evaluation_metadata.jsonl is not UTF-8 text"):
        benchmarks.create("geneval", root=tmp_path, images=tmp_path).items()
