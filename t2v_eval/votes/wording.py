"""What the pages say: the question, the choices with their keys, and the default instructions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Choice:
    """A choice.

    Attributes:
        value: what the file of answers calls it.
        key: the key that chooses it, as browsers call it.
        key_name: what the page calls the key.
        label: the words of its button.
        label_below: its words where the images stand below each other, if they differ.
        meaning: a further line of its button.

    >>> Choice("tie", "t", "T", "Tie").label
    'Tie'
    """

    value: str | int
    key: str
    key_name: str
    label: str
    label_below: str = ""
    meaning: str = ""


@dataclass(frozen=True, slots=True)
class Side:
    """An image of a task: its text for who cannot see it, and its label.

    >>> Side("image").label
    ''
    """

    alt: str
    label: str = ""
    label_below: str = ""


@dataclass(frozen=True, slots=True)
class Wording:
    """All words of a kind of page that are not in its template, and what depends on the kind.

    Attributes:
        question: what people are asked.
        sides: the images of a task.
        choices: what people choose from.
        instructions: what they read first; empty lines part paragraphs.
        things: what tasks are called.
        file: how the name of a file of answers begins.
        count: the argument of the command that says how many tasks there are.
        script: the script of its answers.
        note: the label of the field for a note, and its key; "" where there is none.

    >>> WORDING["rate"].sides[0].alt
    'image'
    """

    question: str
    sides: tuple[Side, ...]
    choices: tuple[Choice, ...]
    instructions: str
    things: str
    file: str
    count: str
    script: str = "choices.js"
    note: str = ""


WORDING: Mapping[Literal["vote", "rate"], Wording] = {
    "vote": Wording(
        "Which image shows the text better?",
        (Side("first image", "Left", "Upper"), Side("second image", "Right", "Lower")),
        (
            Choice("left", "ArrowLeft", "←", "Left is better", "Upper is better"),
            Choice("tie", "t", "T", "Tie", meaning="both are equally good"),
            Choice("both bad", "b", "B", "Both bad", meaning="neither shows it"),
            Choice("right", "ArrowRight", "→", "Right is better", "Lower is better"),
        ),
        "You see a text and two images. Say which image shows the text better: what it names, how "
        "many, of which kind, and where. Only what the text says matters, not which image is more "
        "beautiful.\n\nSome pairs have an obvious answer. Open an image to see it large.",
        things="pairs",
        file="votes",
        count="pairs",
    ),
    "rate": Wording(
        "How much of the text does the image show?",
        (Side("image"),),
        (
            Choice(1, "1", "1", "Nothing", meaning="it does not match"),
            Choice(2, "2", "2", "Little", meaning="most is missing or wrong"),
            Choice(3, "3", "3", "Half", meaning="as much is right as wrong"),
            Choice(4, "4", "4", "Most", meaning="little is missing or wrong"),
            Choice(5, "5", "5", "Everything", meaning="it matches fully"),
        ),
        "You see a text and an image. Say how much of the text the image shows: what it names, how "
        "many, of which kind, and where. Only what the text says matters, not whether the image is "
        "beautiful.\n\nSome images have an obvious answer. Open an image to see it large.",
        things="images",
        file="ratings",
        count="limit",
    ),
}
