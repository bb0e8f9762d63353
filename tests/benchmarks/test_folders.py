"""Folders of images as the scripts of prompt sets, operating systems and people leave them.

The writers below follow what each set's own script does, written anew.
"""

import json

import pytest
from helpers.benchmarks.small_files import draw

from t2v_eval.benchmarks.forms import image_folders
from t2v_eval.benchmarks.forms.image_folders import match
from t2v_eval.benchmarks.forms.prompt_names import Prompt
from t2v_eval.errors import BenchmarkDataError
from t2v_eval.registry import benchmarks

pytestmark = pytest.mark.filterwarnings("ignore:.*the figures are:t2v_eval.errors.T2VWarning")

GENEVAL = ["a photo of a bench", "a photo of two dogs", "a photo of a red car"]
SKILLS = "color shape texture spatial non_spatial complex numeracy 3d_spatial".split()


def prompts(*texts, ids=()):
    return [Prompt(ids[n] if ids else str(n), text) for n, text in enumerate(texts)]


def matched(folder, texts, *names, ids=()):
    """The names of each prompt's images, and what was said of the folder."""
    for seed, name in enumerate(names):
        draw(folder / name, seed)
    actual = match(folder, prompts(*texts, ids=ids))
    return [[p.relative_to(folder).as_posix() for p in group] for group in actual.images], actual


def write_geneval(root, folder, samples=4):
    """As diffusers_generate.py does: a folder a line, its samples, and a grid of them."""
    root.mkdir(exist_ok=True)
    rows = [{"tag": "t", "include": [], "prompt": text} for text in GENEVAL]
    (root / "evaluation_metadata.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    for index, row in enumerate(rows):
        place = folder / f"{index:0>5}"
        for sample in range(samples):
            draw(place / "samples" / f"{sample:05}.png", 10 * index + sample)
        draw(place / "grid.png", 99)
        (place / "metadata.jsonl").write_text(json.dumps(row))


def write_compbench(root, folder, texts, each=2):
    """As inference_eval.py does, once for each skill: one count of files over all its prompts."""
    root.mkdir(exist_ok=True)
    for skill in SKILLS:
        (root / f"{skill}_val.txt").write_text("".join(f"{t}\n" for t in texts[skill]))
        count = 0
        for number, text in enumerate(texts[skill]):
            for _ in range(each):
                draw(folder / skill / "samples" / f"{text}_{count:06}.png", count)
                count += 1
            draw(folder / skill / f"{text}-grid-{number:05}.png", 99)


def items_of(name, root, folder, **options):
    benchmark = benchmarks.create(name, root=root, images=folder, **options)
    return benchmark, benchmark.items()


def below(folder, item):
    return sorted(image[len(str(folder)) + 1 :] for image in item.images)


def test_geneval_as_its_own_scripts_write_and_read_it(tmp_path):
    write_geneval(tmp_path / "set", tmp_path / "mine")
    draw(tmp_path / "mine/00001/samples/mask.png", 5)  # which evaluate_images.py passes by
    draw(tmp_path / "mine/logs/samples/00000.png", 5)  # and this: not a number
    benchmark, items = items_of("geneval", tmp_path / "set", tmp_path / "mine")
    assert [item.texts for item in items] == [[text] for text in GENEVAL]
    for index, item in enumerate(items):
        custom = [f"{index:05}/samples/{k:05}.png" for k in range(4)]
        assert below(tmp_path / "mine", item) == custom
    (folder,) = benchmark.selection.folders
    assert folder.rules == {"in GenEval's layout": 12}
    assert folder.ignored["beside samples/"] == 3
    assert "12 images in GenEval's layout" in benchmark.selection.remarks[0]


def test_geneval_made_of_other_prompts_is_told(tmp_path):
    write_geneval(tmp_path / "set", tmp_path / "mine")
    (tmp_path / "mine/00001/metadata.jsonl").write_text(json.dumps({"prompt": "a photo of a cat"}))
    with pytest.raises(
        BenchmarkDataError, match=r"00001.*'a photo of a cat'.*'a photo of two dogs"
    ):
        items_of("geneval", tmp_path / "set", tmp_path / "mine")


def test_compbench_as_its_own_scripts_write_it(tmp_path):
    texts = {
        skill: [f"a {skill} thing.", f"{n} things of {skill}"] for n, skill in enumerate(SKILLS)
    }
    texts["shape"] = ["a round bagel and a square toaster", "a round bagel and a square toaster."]
    texts["numeracy"] = ["7", "two 7"]
    write_compbench(tmp_path / "set", tmp_path / "mine", texts)
    benchmark, items = items_of("t2i-compbench", tmp_path / "set", tmp_path / "mine")
    assert len(items) == 16
    for n, item in enumerate(items):
        skill, place = SKILLS[n // 2], n % 2
        text = texts[skill][place]
        custom = [f"{skill}/samples/{text}_{2 * place + k:06}.png" for k in range(2)]
        assert below(tmp_path / "mine", item) == custom
    assert benchmark.selection.folders[0].rules == {"by prompt in T2I-CompBench's layout": 32}
    assert sum(benchmark.selection.folders[0].ignored.values()) == 16


@pytest.mark.parametrize("name", ["{}_000000.png", "samples/{}_000000.png", "color/{}_000000.png"])
def test_one_skill_of_compbench_alone(tmp_path, name):
    texts = {skill: [f"a {skill} thing", f"another {skill}"] for skill in SKILLS}
    write_compbench(tmp_path / "set", tmp_path / "unused", texts, each=0)
    for text in texts["color"]:
        draw(tmp_path / "mine" / name.format(text), 0)
    _, items = items_of("t2i-compbench", tmp_path / "set", tmp_path / "mine", subset="color")
    assert [item.texts[0] for item in items] == texts["color"]


def test_a_prompt_that_occurs_twice_takes_its_image_for_each(tmp_path):
    texts = ["a bagel", "a cat", "a bagel", "A bagel."]
    actual, how = matched(tmp_path, texts, "a_bagel_0.png", "a cat.png")
    assert actual == [["a_bagel_0.png"], ["a cat.png"], ["a_bagel_0.png"], ["a_bagel_0.png"]]
    assert how.shared == ["3"]
    actual, _ = matched(tmp_path / "numbers", texts, "0.png", "1.png", "3.png")
    assert actual[2] == [], "whoever counts has one each"


@pytest.mark.parametrize(
    ("texts", "names", "expected"),
    [
        (["bond", "7", "a cat"], ["bond.png", "7.png", "a cat.png"], [0, 1, 2]),
        (["bond", "2", "a cat"], ["bond.png", "2.png", "a cat.png"], [0, 1, 2]),
        (["300", "1", "0"], ["300.png", "1.png", "0.png"], [0, 1, 2]),
        (
            ["bond", "2", "a cat"],
            ["2_000000.png", "bond_000001.png", "a cat_000002.png"],
            [1, 0, 2],
        ),
        (["2", "bond", "a cat"], ["0.png", "1.png", "2.png"], [0, 1, 2]),
        (["2", "bond", "a cat"], ["00000.png", "00001.png", "00002.png"], [0, 1, 2]),
        (["11:44", "bond"], ["11_44.png", "bond.png"], [0, 1]),
    ],
)
def test_prompts_that_are_numbers(tmp_path, texts, names, expected):
    actual, _ = matched(tmp_path, texts, *names)
    assert [names.index(group[0]) for group in actual] == [
        expected.index(n) for n in range(len(texts))
    ]


LONG = "a very long prompt of a robot that walks along the river and then stops"
TEXTS = [
    "a red cube, on a blue ball!",
    LONG,
    "Café №5 — 50% off",
    "犬と猫",
    "AC/DC on a stage: live?",
]


@pytest.mark.parametrize(
    "names",
    [
        ["0.png", "1.png", "2.png", "3.png", "4.png"],
        ["00000_seed42.png", "1-0.png", "2_0_seed7.webp", "3 (1).png", "0004_12.jpg"],
        ["prompt_0000/x.png", "prompt_0001/x.png", "prompt_2/x.png", "3/a.png", "4/grid/../a.png"],
        ["a_red_cube_on_a_blue_ball.png", "a_very_long_prompt_of_a_robot.png",
         "cafe-no5-50-off.png", "犬と猫_1.png", "AC_DC_on_a_stage_live.png"],
        ["a-red-cube,-on-a-blue-ball!_3.png", LONG[:50] + ".png",
         "Caf%C3%A9%20%E2%84%965_50%25_off.png",
         "%E7%8A%AC%E3%81%A8%E7%8C%AB.png", "ACDC on a stage live.png"],
        ["0000_a_red_cube.png", "0001-a very long.png", "0002_Café №5.png", "0003_犬と猫_0.png",
         "0004_AC_DC on a stage live_seed1.png"],
    ],
)  # fmt: skip
def test_names_of_many_kinds(tmp_path, names):
    names = [name.replace("grid/../", "") for name in names]
    actual, _ = matched(tmp_path, TEXTS, *names)
    assert actual == [[name] for name in names]


def test_two_prompts_that_a_name_may_stand_for_are_both_named(tmp_path):
    texts = ["a cat on a mat", "a cat, on a mat", "a dog"]
    with pytest.raises(BenchmarkDataError, match=r"'a cat on a mat'.*'a cat, on a mat'"):
        matched(tmp_path / "slugs", texts, "a-cat-on-a-mat.png", "a-dog.png")
    actual, _ = matched(tmp_path / "exact", texts, "a cat on a mat_0.png", "a cat, on a mat_0.png")
    assert actual == [["a cat on a mat_0.png"], ["a cat, on a mat_0.png"], []]
    long = ["a photo of two dogs and a bench", "a photo of two dogs and a boat"]
    with pytest.raises(BenchmarkDataError, match=r"bench'.*boat'"):
        matched(tmp_path / "cut", long, "a photo of two dogs and a b.png")


def test_files_of_systems_and_notebooks_are_no_images(tmp_path):
    junk = [
        "._0.png",
        ".hidden/1.png",
        "__MACOSX/0.png",
        "__MACOSX/0/._x.png",
        "@eaDir/1.png/t.jpg",
    ]
    junk += [
        ".ipynb_checkpoints/1-checkpoint.png",
        "1/.ipynb_checkpoints/1.png",
        "lost+found/0.png",
    ]
    for name in ("Thumbs.db", "desktop.ini", ".DS_Store", "0.txt", "0.json", "notes.json"):
        (tmp_path / name).write_bytes(b"{")
    actual, how = matched(tmp_path, ["a cat", "a dog"], "0.png", "1/a.png", "grid-0001.png", *junk)
    assert actual == [["0.png"], ["1/a.png"]]
    assert how.facts("mine", 1, 1).ignored == {"of the system": len(junk), "a grid": 1}


def test_files_beside_images_say_what_they_show(tmp_path):
    rows = [{"file_name": "x/b.png", "text": "a cat"}, {"file_name": "a.png", "text": "a dog"}]
    rows += [{"file_name": "0.png", "text": "something else"}]
    (tmp_path / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    actual, how = matched(tmp_path, ["a cat", "a dog"], "x/b.png", "a.png", "0.png")
    assert actual == [["x/b.png"], ["a.png"]]
    assert how.ignored == {"by metadata.jsonl it is of no prompt of the set": ["0.png"]}
    table = tmp_path / "csv"
    table.mkdir()
    (table / "metadata.csv").write_text("file_name,prompt\nq.png,a dog\nr.png,a cat\n")
    assert matched(table, ["a cat", "a dog"], "q.png", "r.png")[0] == [["r.png"], ["q.png"]]
    ids = ["coco_3", "drawbench_8"]
    tifa = tmp_path / "tifa"
    tifa.mkdir()
    (tifa / "my_imgs.json").write_text(json.dumps({"coco_3": "z.jpg", "drawbench_8": "y.jpg"}))
    assert matched(tifa, ["a", "b"], "y.jpg", "z.jpg", ids=ids)[0] == [["z.jpg"], ["y.jpg"]]


def test_ids_of_a_set(tmp_path):
    ids = ["coco_301091", "vrd_2", "vrd_2_1"]
    names = ["coco_301091_0.jpg", "coco_301091_1.jpg", "vrd_2.png", "vrd_2_1.png", "coco_3.jpg"]
    actual, _ = matched(tmp_path, ["a", "b", "c"], *names, ids=ids)
    assert actual == [names[:2], ["vrd_2.png"], ["vrd_2_1.png"]]


def test_links_to_folders_are_followed_once(tmp_path):
    draw(tmp_path / "elsewhere/a.png", 0)
    draw(tmp_path / "mine/1.png", 1)
    (tmp_path / "mine/0").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (tmp_path / "mine/loop").symlink_to(tmp_path / "mine", target_is_directory=True)
    assert matched(tmp_path / "mine", ["a cat", "a dog"])[0] == [["0/a.png"], ["1.png"]]


@pytest.mark.parametrize("name", ["0", "00007", "seed_3", "Seed 12", "run-1"])
def test_a_folder_of_a_run_is_no_prompt(tmp_path, name):
    """One image of each prompt for each seed: its number says whose it is, not the folder's."""
    texts = [f"a photo of {n} dogs" for n in range(70)]
    result, how = matched(tmp_path, texts, *(f"{name}/{n:05}.png" for n in range(70)))
    assert result == [[f"{name}/{n:05}.png"] for n in range(70)]
    assert dict(how.rules) == {"by number, in the folder of a run": 70}


def test_many_samples_of_a_prompt_are_not_a_run(tmp_path):
    texts = [f"a photo of {n} dogs" for n in range(70)]
    result, _ = matched(tmp_path, texts, *(f"3/{n:05}.png" for n in range(20)))
    assert len(result[3]) == 20 and sum(map(len, result)) == 20


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("an oil painting by Salvador Dalí of a cat", "an-oil-painting-by-salvador-dal-of-a-cat"),
        ("the Sierpiński triangle, of Egypt", "TheSierpiskitriangleofEgypt"),
        ("a smiling sloth, in a leather jacket", "a%20smiling%20sloth%2C%20in%20a%20leather%2"),
        ("a very long prompt of a dog at Zürich", "a%20very%20long%20prompt%20of%20a%20dog%20at%"),
        ("猫と犬が公園で遊ぶ photo", "猫と犬が公園で遊ぶ photo"),
    ],
)
def test_names_of_ascii_and_names_cut_within_an_escape(tmp_path, text, name):
    result, _ = matched(tmp_path, ["a bench", text, "犬が寝る photo"], f"{name}.png")
    assert result == [[], [f"{name}.png"], []]


def test_letters_of_ascii_alone_tell_no_prompt_of_another_script(tmp_path):
    result, how = matched(tmp_path, ["猫と犬が公園で遊ぶ cat", "a dog"], "cat.png")
    assert result == [[], []] and how.ignored == {"of no prompt of the set": ["cat.png"]}


def test_with_skip_a_name_of_several_prompts_is_left_out(tmp_path):
    texts = ["a squirrel standing on a stump and a dog", "a squirrel standing on a stump and a cat"]
    names = ["a squirrel standing on a stu", f"{texts[1]}"]
    with pytest.raises(BenchmarkDataError, match="stands for both"):
        matched(tmp_path, texts, *(f"{name}.png" for name in names))
    result = match(tmp_path, prompts(*texts), skip=True)
    assert [len(of) for of in result.images] == [0, 1]
    assert result.ignored == {"may be of several prompts": [f"{names[0]}.png"]}


def test_samples_may_be_written_in_capitals(tmp_path):
    for n, name in enumerate(("Samples", "SAMPLES", "samples")):
        write_geneval(tmp_path / "set", tmp_path / name)
        for place in (tmp_path / name).iterdir():
            (place / "samples").rename(place / "in_between")
            (place / "in_between").rename(place / name)
        _, items = items_of("geneval", tmp_path / "set", tmp_path / name)
        assert [len(item.images) for item in items] == [4, 4, 4], n
        assert not any("grid" in image for item in items for image in item.images)


def test_the_refusal_names_the_folder_within_that_matches(tmp_path):
    write_geneval(tmp_path / "set", tmp_path / "out" / "sdxl")
    with pytest.raises(BenchmarkDataError) as refused:
        items_of("geneval", tmp_path / "set", tmp_path / "out")
    hint = f"a folder within it matches: pass `images=['{tmp_path}/out/sdxl']`"
    assert hint in str(refused.value)
    write_geneval(tmp_path / "set", tmp_path / "out" / "flux")
    with pytest.raises(
        BenchmarkDataError, match="folders within it match: pass `images=\\[.*flux', "
    ):
        items_of("geneval", tmp_path / "set", tmp_path / "out")
    draw(tmp_path / "deep" / "x" / "images" / "00000.png")
    draw(tmp_path / "deep" / "x" / "notes" / "00000.png")
    for n in (1, 2):
        draw(tmp_path / "deep" / "x" / "images" / f"{n:05}.png", n)
    with pytest.raises(BenchmarkDataError, match="`images=\\['.*/deep/x/images'\\]`"):
        items_of("geneval", tmp_path / "set", tmp_path / "deep")
    draw(tmp_path / "bad" / "images" / "dog.png")
    with pytest.raises(BenchmarkDataError) as refused:
        items_of("geneval", tmp_path / "set", tmp_path / "bad")
    assert "within it" not in str(refused.value)


def test_folders_that_link_to_each_other_are_read_once(tmp_path):
    draw(tmp_path / "all" / "a" / "00000.png")
    draw(tmp_path / "all" / "b" / "00001.png", 1)
    (tmp_path / "all" / "a" / "x").symlink_to(tmp_path / "all" / "b")
    (tmp_path / "all" / "b" / "y").symlink_to(tmp_path / "all" / "a")
    (tmp_path / "all" / "loop.png").symlink_to(tmp_path / "all" / "loop.png")
    (tmp_path / "all" / "00002.png").mkdir()
    paths = list(image_folders._image_paths(tmp_path / "all", image_folders.FolderMatch([])))
    assert [path.relative_to(tmp_path / "all").as_posix() for path in paths] == [
        "a/00000.png", "a/x/00001.png", "b/00001.png", "b/y/00000.png"
    ]  # fmt: skip


@pytest.mark.parametrize("content", ["3\n", '"file_name"\n', "[1]\n", "null\n", '{"seed": 1}\n'])
def test_metadata_that_name_no_files_are_not_of_images(tmp_path, content):
    write_geneval(tmp_path / "set", tmp_path / "out")
    (tmp_path / "out" / "metadata.jsonl").write_text(content)
    _, items = items_of("geneval", tmp_path / "set", tmp_path / "out")
    assert [len(item.images) for item in items] == [4, 4, 4]


@pytest.mark.parametrize("name", ["{:05}.png", "{:05}/samples/0000.png", "seed_7/{}_0.png"])
@pytest.mark.parametrize("on_missing", ["raise", "skip"])
def test_numbers_from_one_are_never_read_as_those_from_zero(name, on_missing, tmp_path):
    write_geneval(tmp_path / "set", tmp_path / "unused")
    for number in (1, 2, 3):
        draw(tmp_path / "mine" / name.format(number), number)
    with pytest.raises(BenchmarkDataError, match="these seem to start at 1, as there is 3"):
        items_of("geneval", tmp_path / "set", tmp_path / "mine", on_missing=on_missing)
    draw(tmp_path / "mine" / name.format(0), 0)  # so that 3 is one too many
    assert len(items_of("geneval", tmp_path / "set", tmp_path / "mine")[1]) == 3


def test_numbers_within_a_skill_may_start_at_one_too(tmp_path):
    texts = {skill: [f"a {skill} {k}" for k in "abc"] for skill in SKILLS}
    write_compbench(tmp_path / "set", tmp_path / "unused", texts)
    for skill in SKILLS:
        for number in (0, 1, 2):
            draw(tmp_path / "from0" / skill / f"{number:03}.png", number)
            draw(tmp_path / "from1" / skill / f"{number + 1:03}.png", number)
    with pytest.raises(BenchmarkDataError, match="these seem to start at 1, as there is 3"):
        items_of("t2i-compbench", tmp_path / "set", tmp_path / "from1", on_missing="skip")
    benchmark, items = items_of("t2i-compbench", tmp_path / "set", tmp_path / "from0")
    assert [below(tmp_path / "from0", item) for item in items] == [
        [f"{skill}/{number:03}.png"] for skill in SKILLS for number in range(3)
    ]
    assert benchmark.selection.folders[0].rules == {"by number in T2I-CompBench's layout": 24}


def test_a_number_before_those_of_most_prompts_is_that_of_a_run(tmp_path):
    (tmp_path / "set").mkdir()
    rows = [json.dumps({"tag": "t", "prompt": f"prompt {'x' * n}"}) for n in range(1, 81)]
    (tmp_path / "set" / "evaluation_metadata.jsonl").write_text("\n".join(rows))
    for run in (0, 1):
        for number in range(80):
            draw(tmp_path / "mine" / f"{run}_{number:05}.png", 0)
            draw(tmp_path / "few" / f"{number}_{run}.png", 0)
    with pytest.raises(BenchmarkDataError, match="0 stands before 80 others, .* folder seed_0"):
        items_of("geneval", tmp_path / "set", tmp_path / "mine", on_missing="skip")
    assert len(items_of("geneval", tmp_path / "set", tmp_path / "few")[1]) == 80
