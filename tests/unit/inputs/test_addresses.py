"""Images and stores at addresses that fsspec reads; only with the user's word."""

from __future__ import annotations

import json
import pickle
import tempfile
from collections import Counter

import fsspec
import numpy as np
import pytest
from helpers.toy import ToyEmbedding, draw_image, expected
from typer.testing import CliRunner

from t2v_eval.cli.inputs.table_input import RowColumns, read_blocks
from t2v_eval.cli.main import app
from t2v_eval.errors import InputError, MediaError, MissingPackageError, OutputError, TableError
from t2v_eval.evaluation.options import open_benchmark
from t2v_eval.inputs import addresses, decode_budget
from t2v_eval.inputs import media as media_module
from t2v_eval.inputs.addresses import files_at, is_address, read_address, upload_file
from t2v_eval.inputs.media import decode, open_media
from t2v_eval.inputs.tables import read_table, write_table
from t2v_eval.store import Store, text_key

MEMORY = fsspec.filesystem("memory")


def as_png(seed, path):
    draw_image(seed).save(path)
    return path.read_bytes()


@pytest.fixture
def bucket(tmp_path):
    """The address of a folder in memory with two images."""
    for n in range(2):
        MEMORY.pipe(f"/bucket/{n}.png", as_png(n, tmp_path / f"{n}.png"))
    yield "memory://bucket"
    MEMORY.rm("/bucket", recursive=True)


def call(*arguments, code=0):
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.output


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_an_image_at_an_address_is_the_image_of_its_content(bucket, tmp_path, kind):
    address = f"{bucket}/1.png" if kind == "memory" else f"file://{tmp_path}/1.png"
    media = open_media(address, "image", "any")
    assert media.key == open_media(tmp_path / "1.png").key
    np.testing.assert_array_equal(decode(pickle.loads(pickle.dumps(media))), draw_image(1))
    score = ToyEmbedding(allow_urls="any")(address, "a cat")
    np.testing.assert_allclose(score[0, 0], expected(draw_image(1), "a cat"), rtol=1e-6)


@pytest.mark.parametrize("allow", [False, True, "private"])
@pytest.mark.parametrize("address", ["file:///etc/passwd", "local:///etc/passwd", "s3://b/a.png"])
def test_no_table_reads_files_or_stores_without_the_users_word(monkeypatch, allow, address):
    monkeypatch.setattr(addresses, "_file_system", None)
    with pytest.raises(MediaError, match="`allow_urls='any'`"):
        open_media(address, "image", allow)


@pytest.mark.parametrize(
    ("address", "error", "message"),
    [
        ("memory://bucket/gone.png", MediaError, "cannot be read: no such file"),
        ("nope://bucket/a.png", InputError, "no file system has this address: .*nope"),
        ("simplecache::memory://bucket/1.png", InputError, "several parts"),
        ("s3://bucket/a.png", MissingPackageError, "s3fs"),
    ],
)
def test_what_cannot_be_read_is_named(bucket, monkeypatch, address, error, message):
    if address.startswith("s3"):
        lacking = ImportError("Install s3fs to access S3")
        monkeypatch.setattr("fsspec.core.url_to_fs", lambda _: (_ for _ in ()).throw(lacking))
    with pytest.raises(error, match=message):
        read_address(address, "image", "any")


def test_a_large_file_is_refused(bucket, monkeypatch):
    monkeypatch.setattr(addresses, "MAX_BYTES", 100)
    with pytest.raises(MediaError, match="larger than"):
        read_address(f"{bucket}/0.png", "image", "any")


def test_an_image_is_read_once_while_there_is_room(bucket, monkeypatch):
    """Its key, size and pixels come from one download; without room, each reads it."""
    counts = Counter()

    def read(address, *arguments):
        counts[address] += 1
        return read_address(address, *arguments)

    monkeypatch.setattr(media_module, "read_address", read)
    files = [f"{bucket}/{n}.png" for n in range(2)]
    scorer = ToyEmbedding(allow_urls="any")
    scores = scorer(files, "a cat")
    assert counts == dict.fromkeys(files, 1)
    monkeypatch.setattr(decode_budget, "spare_bytes", lambda: 0)
    np.testing.assert_array_equal(ToyEmbedding(allow_urls="any")(files, "a cat"), scores)
    assert min(counts.values()) > 2


def test_content_that_changes_between_key_and_pixels_is_refused(bucket, tmp_path, monkeypatch):
    monkeypatch.setattr(decode_budget, "spare_bytes", lambda: 0)
    media = open_media(f"{bucket}/0.png", "image", "any")
    MEMORY.pipe("/bucket/0.png", as_png(5, tmp_path / "5.png"))
    with pytest.raises(MediaError, match="changed while it was being scored"):
        decode(media)


def test_globs_of_addresses_stand_for_files(bucket):
    assert files_at(f"{bucket}/*.png") == ["memory:///bucket/0.png", "memory:///bucket/1.png"]
    assert files_at(f"{bucket}/0.png") == [f"{bucket}/0.png"]
    with pytest.raises(InputError, match="no file matches"):
        files_at(f"{bucket}/*.jpg")


def test_commands_take_addresses(bucket, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pairs.csv").write_text(f"image,text\n{bucket}/0.png,a cat\n1.png,a cat\n")
    score = ["score", "-m", "tiny-clip", "--no-store", "--json", "-q"]
    allowed = ["--option", "allow_urls=any"]
    rows = json.loads(call(*score, *allowed, "--pairs", "pairs.csv"))
    again = json.loads(call(*score, *allowed, f"{bucket}/*.png", "-t", "a cat"))
    assert [row["score"] for row in rows] == [row["score"] for row in again]
    message = call(*score, "--pairs", "pairs.csv", code=2)
    assert "read with your credentials" in message
    assert "--option allow_urls=any" in message


def test_folders_of_addresses_stand_for_their_images(bucket):
    MEMORY.pipe({"/bucket/t.csv": b"x", "/bucket/.0.png": b"x", "/bucket/in.png/2.png": b"x"})
    endings = (".jpg", ".png")
    listed = ["memory:///bucket/0.png", "memory:///bucket/1.png"]
    assert files_at(bucket, endings) == files_at(f"{bucket}/", endings) == listed
    assert files_at(f"{bucket}/0.png", endings) == [f"{bucket}/0.png"]
    assert files_at(f"{bucket}/gone", endings) == [f"{bucket}/gone"]
    assert files_at("https://a.org/b?c=*", endings) == ["https://a.org/b?c=*"]
    with pytest.raises(InputError, match="the folder holds no images"):
        files_at(bucket, (".webp",))


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet"])
def test_a_table_at_an_address_is_the_table_of_its_file(tmp_path, ending):
    rows = [{"image": "Bär & co/ü #1.png", "text": "a cat", "human": 1}]
    write_table(tmp_path / f"t{ending}", rows)
    MEMORY.pipe(f"/tables/t{ending}", (tmp_path / f"t{ending}").read_bytes())
    assert read_table(f"memory://tables/t{ending}") == read_table(tmp_path / f"t{ending}")


def test_images_of_a_table_at_an_address_start_there(bucket):
    rows = "image,text,human\n0.png,a cat,1\nfile:///b.png,a cat,2\n"
    MEMORY.pipe("/bucket/rated.csv", rows.encode())
    images = [f"{bucket}/0.png", "file:///b.png"]
    benchmark = open_benchmark(f"{bucket}/rated.csv")
    assert [item.images for item in benchmark.items()] == [[image] for image in images]
    columns = RowColumns("image", "text")
    blocks = read_blocks(None, None, f"{bucket}/rated.csv", columns, None).blocks
    assert [list(block.images) for block in blocks] == [[image] for image in images]


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("memory://bucket/gone.csv", "memory://bucket/gone.csv: cannot be read: no such file"),
        ("memory://u:secret@bucket/gone.csv", r"memory://\*\*\*@bucket/gone.csv: cannot"),
        ("https://a.org/t.csv", "a table is not downloaded from a URL"),
        ("memory://bucket/0.png", "a table ends in"),
    ],
)
def test_a_table_at_an_address_that_cannot_be_read_is_named(bucket, address, message):
    with pytest.raises(TableError, match=message):
        read_table(address)


def test_a_large_table_and_prompts_at_an_address_are_refused(bucket, monkeypatch):
    MEMORY.pipe("/bucket/p.csv", b"prompt\na cat\n")
    with pytest.raises(TableError, match="prompts are read from a file: copy it here"):
        open_benchmark(f"{bucket}/p.csv")
    monkeypatch.setattr(addresses, "MAX_TABLE_BYTES", 3)
    with pytest.raises(TableError, match="larger than"):
        read_table(f"{bucket}/p.csv")


def test_a_table_of_an_evaluation_is_downloaded_once(bucket, monkeypatch):
    MEMORY.pipe("/bucket/rated.csv", b"image,text,human\n0.png,a cat,1\n1.png,a cat,2\n")
    read = []

    def content(address, limit, of=addresses._content):
        read.append(address)
        return of(address, limit)

    monkeypatch.setattr(addresses, "_content", content)
    benchmark = open_benchmark(f"{bucket}/rated.csv")
    assert benchmark.items() == benchmark.items()
    assert read == [f"{bucket}/rated.csv"]


def test_images_start_at_a_root_that_is_an_address(bucket, tmp_path):
    (tmp_path / "rated.csv").write_text("image,text,human\n0.png,a cat,1\n1.png,a cat,2\n")
    images = [f"{bucket}/0.png", f"{bucket}/1.png"]
    benchmark = open_benchmark(str(tmp_path / "rated.csv"), root=bucket)
    assert [image for item in benchmark.items() for image in item.images] == images
    options = ["-m", "tiny-clip", "--no-store", "--json", "-q", "--option", "allow_urls=any"]
    table = ["score", "--pairs", tmp_path / "rated.csv", "--root", bucket]
    rows = json.loads(call(*table, *options))
    by_name = json.loads(call("score", *images, "-t", "a cat", *options))
    assert [row["image"] for row in rows] == images
    assert [row["score"] for row in rows] == [row["score"] for row in by_name]


def test_agreement_and_power_read_tables_at_addresses(bucket, tmp_path):
    rows = "".join(f"{n % 2}.png,{n * 7 % 5},{n * 3 % 7},{n % 3}\n" for n in range(9))
    MEMORY.pipe("/bucket/scored.csv", b"image,human,a,b\n" + rows.encode())
    (tmp_path / "scored.csv").write_bytes(MEMORY.cat("/bucket/scored.csv"))
    flags = ["--human", "human", "--scores", "a", "--scores", "b", "--resamples", 5, "--json"]
    for command in ("agree", "power"):
        at_address = call(command, f"{bucket}/scored.csv", *flags)
        assert at_address == call(command, tmp_path / "scored.csv", *flags)
    call("agree", f"{bucket}/scored.csv", *flags, "--out", tmp_path / "report")
    assert f"{bucket}/0.png" in (tmp_path / "report" / "scores.csv").read_text()


@pytest.mark.parametrize(
    "flags",
    [
        ["score", "a.png", "-t", "a", "--store"],
        ["score", "a.png", "-t", "a", "--no-store", "--out"],
        ["eval", "-b", "winoground", "--no-store", "--root"],
    ],
)
def test_an_address_where_a_path_is_needed_is_refused(tmp_path, monkeypatch, flags):
    monkeypatch.chdir(tmp_path)
    draw_image(0).save("a.png")
    message = call(*flags, "memory://u:secret@b/x.csv", "-m", "tiny-clip", code=2)
    assert f"{flags[-1]} 'memory://***@b/x.csv': an address cannot stand here" in message
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"], "no folder is called memory:"


@pytest.fixture
def shards(tmp_path):
    """Two stores with a score each."""
    for n in (1, 2):
        store = Store(tmp_path / f"s-{n}-of-2.sqlite")
        rows = [(f"image {n}", text_key("a cat"), n / 4, None, None)]
        store.put_cells("mine v1", rows, {f"image {n}": "x"}, {text_key("a cat"): "a cat"})
    yield tmp_path
    MEMORY.rm("/stores", recursive=True)


def test_uploaded_stores_are_merged_from_their_addresses(shards):
    for n in (1, 2):
        # The store is open, with its rows in the journal beside the file.
        store = Store(shards / f"s-{n}-of-2.sqlite")
        assert len(list(store.rows())) == 1
        call("store", "upload", f"memory://stores/s-{n}.sqlite", "--store", store.path)
    assert sorted(MEMORY.ls("/stores", detail=False)) == [
        "/stores/s-1.sqlite",
        "/stores/s-2.sqlite",
    ]
    out = shards / "all.sqlite"
    assert "2 scores" in call("store", "merge", out, "memory://stores/s-*.sqlite")
    assert [row.value for row in Store(out).rows()] == [0.25, 0.5]
    call("store", "merge", out, "memory://stores/s-*.sqlite", shards / "s-1-of-2.sqlite")


def test_a_store_without_its_journal_is_not_taken_for_the_whole(tmp_path):
    store, out = Store(tmp_path / "s-1.sqlite"), tmp_path / "all.sqlite"
    rows = [("image", text_key("a cat"), 0.5, None, None)]
    store.put_cells("mine v1", rows, {"image": "x"}, {text_key("a cat"): "a cat"})
    for address in (f"file://{store.path}", f"file://{tmp_path}/s-*.sqlite"):
        refused = " ".join(call("store", "merge", out, address, code=2).split())
        assert f"{store.path} is not complete" in refused and "store upload" in refused
        assert not out.exists()
    store.close()
    assert "1 scores" in call("store", "merge", out, f"file://{store.path}")


def test_an_upload_that_is_interrupted_leaves_what_was_there(shards, monkeypatch):
    call("store", "upload", "memory://stores/s.sqlite", "--store", shards / "s-1-of-2.sqlite")
    before = MEMORY.cat("/stores/s.sqlite")
    for error, seen in ((OSError("quota"), OutputError), (KeyboardInterrupt(), KeyboardInterrupt)):

        def fail(stream, copy, error=error):
            copy.write(stream.read(100))
            raise error

        monkeypatch.setattr("shutil.copyfileobj", fail)
        with pytest.raises(seen):
            upload_file(shards / "s-2-of-2.sqlite", "memory://stores/s.sqlite")
    assert MEMORY.cat("/stores/s.sqlite") == before
    assert MEMORY.ls("/stores", detail=False) == ["/stores/s.sqlite"]


def test_a_store_that_cannot_be_fetched_or_uploaded_is_named(shards):
    printed = call("store", "merge", shards / "all.sqlite", "memory://stores/gone.sqlite", code=2)
    assert "memory://stores/gone.sqlite: cannot be read: no such file" in printed
    assert "is no address" in call(
        "store", "upload", "s.sqlite", "--store", shards / "s-1-of-2.sqlite", code=2
    )
    (shards / "file").touch()
    address = f"file://{shards}/file/s.sqlite"
    printed = call("store", "upload", address, "--store", shards / "s-1-of-2.sqlite", code=2)
    assert f"{address}: cannot be written: " in printed
    assert tempfile.gettempdir() not in printed.replace(str(shards), ""), "the copy is gone by now"
    MEMORY.pipe("/stores/other.sqlite", b"not a store")
    refused = call("store", "merge", shards / "all.sqlite", "memory://stores/other.sqlite", code=2)
    assert "is not a t2v-eval store" in refused


@pytest.mark.parametrize("path", ["a.png", "C:/a.png", "C:\\a.png", "/x/a.png", "a://", "://a", ""])
def test_paths_are_no_addresses(path):
    assert not is_address(path)
