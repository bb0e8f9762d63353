"""The texts that an image should show: quotes of prompts, and tables."""

import pytest

from t2v_eval.errors import InputError, TableError
from t2v_eval.inputs.target_texts import TargetTexts, quoted, read_target_texts


@pytest.mark.parametrize(
    ("prompt", "texts"),
    [
        ('a sign "OPEN" and "7 to 9"', ["OPEN", "7 to 9"]),
        ("a shop's sign says 'Don't walk'", ["Don't walk"]),
        ("the dogs' bowl says 'EAT', it's red", ["EAT"]),
        ("a '90s poster, a timer at '30s', a 5' 10\" door", ["30s"]),
        ("‘Don’t walk’ on a shop’s door", ["Don’t walk"]),
        ("“He said ‘hi’” and ‚ja‘", ["He said ‘hi’", "ja"]),
        ("„offen“ „zu” »neu« «OUVERT» ‹ici› ＂广＂", ["offen", "zu", "neu", "OUVERT", "ici", "广"]),
        ("看板「営業中」と『本日休業』", ["営業中", "本日休業"]),
        ("two lines “OPEN\ndaily”, and  ' x ' alone", ["OPEN\ndaily"]),
        ('a 5" tall and 6" wide plate \'A "B"\', ”Hej” »Moi»', ['A "B"', "Hej", "Moi"]),
        (
            "“Route 66” ''double'' 'rock 'n' roll' 〝営業〟",
            ["Route 66", "double", "rock 'n' roll", "営業"],
        ),
        # Quotes within quotes, escaped or of the same marks; unclosed ones before others.
        ('a sign "say \\"hi\\" now" and \'it\\\'s on\'', ['say "hi" now', "it's on"]),
        (
            'a disk "C:\\" on “she said “hi” to me” «A «B» C»',
            ["C:\\", "she said “hi” to me", "A «B» C"],
        ),
        ('the letters \\"A\\" and \\"B\\" by \'C\'', ["A", "B", "C"]),
        ("a “OPEN and “CLOSED”", ["CLOSED"]),
        # Apostrophes at the beginning of a word, and inches behind a space.
        ("'tis the season on a card 'JOY'", ["JOY"]),
        ("the class of '99 with a banner 'Summer of '69'", ["Summer of '69"]),
        ("'Get 'em now' and '24 HOURS'", ["Get 'em now", "24 HOURS"]),
        ('a 27 " screen that shows "HELLO" in room 5 "A"', ["HELLO", "A"]),
        ('nothing: "" \'\' “ ” an "unclosed quote', []),
        ("'unclosed" + r" \'" * 200 + ' and "A"', ["A"]),  # takes no exponential time
    ],
)
def test_quotes(prompt, texts):
    assert [*quoted(prompt)] == texts


def test_texts_of_a_table(tmp_path):
    file = tmp_path / "texts.jsonl"
    file.write_text('{"prompt": "a", "text": ["A", "B"]}\n{"prompt": "b", "text": "C"}\n')
    texts = read_target_texts(file)
    assert texts.of_prompt("a") == ("A", "B") and texts.of_prompt("b") == ("C",)
    assert texts.hash == TargetTexts({"b": ["C"], "a": ["A", "B"]}).hash
    assert texts.hash != TargetTexts({"b": ["C"], "a": ["AB"]}).hash
    with pytest.raises(InputError, match=r"texts\.jsonl has no text for the prompt 'c'.*quotes"):
        texts.of_prompt("c")
    (tmp_path / "texts.csv").write_text("prompt,text\na,A\n")
    assert read_target_texts(tmp_path / "texts.csv").of_prompt("a") == ("A",)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ('{"prompt": "a", "text": "A"}\n{"prompt": "a", "text": "B"}', "row 2.*earlier row"),
        ('{"prompt": "a", "text": [" "]}', "row 1: 'text' is"),
        ('{"prompt": "a", "text": [1]}', "row 1: 'text' is"),
        ('{"prompt": "a", "caption": "A"}', "no column 'text'"),
    ],
)
def test_a_table_that_does_not_say_it(lines, message, tmp_path):
    (tmp_path / "texts.jsonl").write_text(lines)
    with pytest.raises(TableError, match=message):
        read_target_texts(tmp_path / "texts.jsonl")
