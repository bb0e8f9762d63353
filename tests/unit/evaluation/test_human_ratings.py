"""Ratings of a part of the images: which row is of which prompt, generator and image."""

import pytest

from t2v_eval.errors import TableError
from t2v_eval.evaluation.benchmark import Item
from t2v_eval.evaluation.human_ratings import HumanRatings, RatedCell

ITEMS = [
    Item(["flux/0_0.png", "flux/0_1.png", "sdxl/0.png"], ["a cat"], id="cat"),
    Item(["flux/1.png", "sdxl/1.png"], ["a dog"], id="dog"),
    Item(["flux/2.png"], ["a dog"], id="hound"),
]
NAMES = [["flux", "flux", "sdxl"], ["flux", "sdxl"], ["flux"]]


def placed(tmp_path, text, name="ratings.csv"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return HumanRatings.read(path).place(ITEMS, NAMES)


def test_rows_are_of_a_prompt_by_its_id_or_its_text(tmp_path):
    by_id = placed(tmp_path, "id,generator,rating\ncat,flux,4\ndog,sdxl,2\n")
    assert by_id.cells == [RatedCell(0, "flux", [0, 1], 4.0), RatedCell(1, "sdxl", [1], 2.0)]
    by_text = placed(tmp_path, "prompt;generator;human\na cat;flux;4\ndog;sdxl;2\n")
    assert by_text.cells == by_id.cells
    assert placed(tmp_path, "text,generator,rating\na cat,flux,4\n").cells == by_id.cells[:1]


def test_raters_have_columns_or_rows(tmp_path):
    columns = "prompt,generator,rater_Ann,rater_Bo\ncat,flux,4,5\ndog,flux,,2\nhound,flux,,\n"
    cells = placed(tmp_path, columns).cells
    assert cells == [RatedCell(0, "flux", [0, 1], 4.5), RatedCell(1, "flux", [0], 2.0)]
    rows = "prompt,generator,rating\ncat,flux,4\ncat,flux,5\ncat,flux,3\n"
    assert placed(tmp_path, rows).cells == [RatedCell(0, "flux", [0, 1], 4.0)]


def test_an_image_is_found_by_its_name(tmp_path):
    text = "prompt,generator,image,rating\ncat,flux,old/place/0_1.png,5\ncat,sdxl,,1\n"
    assert placed(tmp_path, text).cells == [
        RatedCell(0, "flux", [1], 5.0),
        RatedCell(0, "sdxl", [2], 1.0),
    ]
    twice = "cat,flux,0_1.png,5\ncat,flux,0_1.png,4\ncat,flux,0_0.png,1\n"
    assert placed(tmp_path, f"prompt,generator,image,rating\n{twice}").cells == [
        RatedCell(0, "flux", [0, 1], pytest.approx(2.75))
    ]


def test_a_generator_is_a_name_or_the_path_of_its_folder(tmp_path):
    text = "prompt,generator,rating\ncat,runs/flux/,4\ncat,C:\\images\\sdxl,3\n"
    assert [cell.generator for cell in placed(tmp_path, text).cells] == ["flux", "sdxl"]


def test_other_columns_may_stand_for_the_generator(tmp_path):
    expected = [RatedCell(0, "flux", [0, 1], 4.0)]
    for column in ("images", "model"):
        assert placed(tmp_path, f"prompt,{column},rating\ncat,flux,4\n").cells == expected
    cells = placed(tmp_path, "prompt,image,rating\ncat,out/flux/0_0.png,4\n").cells
    assert cells == [RatedCell(0, "flux", [0], 4.0)]


def test_rows_of_other_prompts_and_generators_are_counted(tmp_path):
    text = "prompt,generator,rating\ncat,flux,4\nhorse,flux,4\ncat,turbo,3\nhound,sdxl,2\n"
    ratings = placed(tmp_path, text)
    assert len(ratings.cells) == 1 and ratings.unused == 3 and ratings.file == "ratings.csv"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prompt,rating\ncat,4\n", "no column generator"),
        ("generator,rating\nflux,4\n", "no column prompt; .*Call it prompt or id"),
        ("prompt,generator,score\ncat,flux,4\n", "no column rating; .*rater_NAME"),
        ("prompt,generator,rating\ncat,flux,good\n", "row 1"),
        ("prompt,generator,rating\ncat,flux,\n", "no row has a rating"),
        ("prompt,generator,rating\ncat,flux,4\n,flux,4\n", "row 2: prompt is empty"),
        ("prompt,generator,rating\ncat,,4\n", "row 1: generator is empty"),
        ("prompt,generator,rating\na dog,flux,4\n", "row 1: 2 prompts are 'a dog': give the id"),
        ("prompt,generator,image,rating\ncat,flux,7.png,4\n", "row 1: flux has no image '7.png'"),
        (
            "prompt,generator,rating\ncat,turbo,4\n",
            "row 1 is of 'cat' by 'turbo', and .* flux, sdxl",
        ),
    ],
)
def test_what_cannot_be_used_is_named_with_its_row(tmp_path, text, message):
    with pytest.raises(TableError, match=f"(?s)ratings\\.csv.*{message}"):
        placed(tmp_path, text)


def test_a_path_of_another_type_is_named():
    with pytest.raises(Exception, match="human=3"):
        HumanRatings.read(3)
