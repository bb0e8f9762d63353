"""TIFA160 (Hu et al. 2023): 160 prompts, the images of five generators, and two sets of raters.

    https://github.com/Yushi-Hu/tifa            human_annotations: two raters, 1 to 5
    https://github.com/linzhiqiu/t2v_metrics    datasets: tifa160.json, dsg_tifa160_anns.csv
    ROOT/tifa160.json                  {image: {text_id, image_path, text}}
    ROOT/dsg_tifa160_anns.csv          five Likert ratings per image, of DSG (Cho et al. 2024)
    ROOT/human_annotations.json        instead, for `raters="tifa"`: as tifa160.json, with
                                       human_scores, the two ratings of TIFA's authors
    ROOT/coco_669925_mini_dalle.jpg    the images (tifa160.zip), here or in ROOT/images
    ROOT/tifa_v1.0_question_answers.json, ROOT/dsg-1k-anns.csv
                                       the questions of TIFA and of DSG, for scorers that ask them

An item is a prompt with its five images. The human value is the mean of an image's ratings: of the
Likert ratings in the tables of VQAScore, of the two raters in those of TIFA. Tags say where the
prompt is from.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from typing_extensions import override

from t2v_eval.errors import BenchmarkDataError, InputError
from t2v_eval.evaluation.benchmark import Item
from t2v_eval.inputs.questions.files import read_questions
from t2v_eval.inputs.questions.question import Questions

from .forms.published import Published, field, mean, number, read_json, rows
from .forms.ratings import RatingsForm

GENERATORS = {
    "mini-dalle": "mini_dalle",
    "sd1dot1": "stable_diffusion_v1_1",
    "sd1dot5": "stable_diffusion_v1_5",
    "sd2dot1": "stable_diffusion_v2_1",
    "vq-diffusion": "vq_diffusion",
}
LIKERT = "dsg_tifa160_anns.csv"
TIFA_QUESTIONS = "tifa_v1.0_question_answers.json"
DSG_QUESTIONS = "dsg-1k-anns.csv"


class Tifa160(Published, RatingsForm):
    """The prompts of the published files in `root`.

    Args:
        raters: "likert" (five per image) or "tifa" (two per image).
    """

    def __init__(self, *, raters: str = "likert", **options: Any) -> None:
        super().__init__(**options)
        if raters not in ("likert", "tifa"):
            raise InputError(f"`raters={raters!r}`: use 'likert' or 'tifa'")
        self.raters = raters

    @property
    def _images_file(self) -> str:
        return "tifa160.json" if self.raters == "likert" else "human_annotations.json"

    @override
    def read(self, folder: Path) -> Iterator[Item]:
        likert = self.raters == "likert"
        path = self.file(self._images_file)
        rows_by_image = read_json(path, dict)
        ratings = self._likert(set(rows_by_image)) if likert else {}
        prompts: dict[str, list[tuple[str, dict[str, Any], float]]] = defaultdict(list)
        for name, row in rows_by_image.items():
            where = f"{path}, {name!r}"
            ratings_of_image = (
                ratings.get(name, []) if likert else field(row, "human_scores", list, where)
            )
            human = mean(ratings_of_image, f"{where}: the image", 1, 5)
            prompts[field(row, "text_id", str, where)].append((name, row, human))
        for prompt, rated in prompts.items():
            texts = {field(row, "text", str, f"{path}, {name!r}") for name, row, _ in rated}
            if len(texts) > 1:
                raise BenchmarkDataError(f"{path}: {prompt!r} has the texts {sorted(texts)}")
            yield Item(
                images=[
                    self.image_path(field(row, "image_path", str, name), ".", "images")
                    for name, row, _ in rated
                ],
                texts=[texts.pop()],
                labels={
                    "human": [human for _, _, human in rated],
                    "generator": [_generator(name, prompt) for name, _, _ in rated],
                },
                tags=(prompt.partition("_")[0],),
                id=prompt,
            )

    @override
    def questions(self, rule: str = "tifa") -> Questions:
        """Return DSG's questions for its rule, and TIFA's for the others, about the texts here.

        White space in two of the texts differs from that in the files of questions.
        """
        path = self.file(DSG_QUESTIONS if rule == "dsg" else TIFA_QUESTIONS)
        rated = read_json(self.file(self._images_file), dict)
        texts = [field(row, "text", str, f"{path}, {name!r}") for name, row in rated.items()]
        by_text = {" ".join(text.split()): text for text in texts}
        listed = [
            replace(question, text=by_text[words])
            for question in read_questions(path, "dsg" if rule == "dsg" else "tifa")
            if (words := " ".join(question.text.split())) in by_text
        ]
        return Questions(listed, name=str(path))

    def _likert(self, names: set[str]) -> dict[str, list[float]]:
        path = self.file(LIKERT)
        ratings: dict[str, list[float]] = defaultdict(list)
        table = rows(path, "model_type", "source_id", "worker_id", "answer")
        raters: set[tuple[str, ...]] = set()
        for n, row in enumerate(table, 1):
            rater = row["model_type"], row["source_id"], row["worker_id"]
            if rater in raters:
                raise BenchmarkDataError(
                    f"{path}, row {n}: {row['worker_id']} rated {row['source_id']} by "
                    f"{row['model_type']} before"
                )
            raters.add(rater)
            generator = GENERATORS.get(row["model_type"])
            name = f"{row['source_id']}_{generator}"
            if name not in names:
                raise BenchmarkDataError(
                    f"{path}, row {n}: tifa160.json has no image of {row['source_id']!r} by "
                    f"{row['model_type']!r}"
                )
            ratings[name].append(number(row["answer"], f"{path}, row {n}: 'answer'", 1, 5))
        return ratings


def _generator(image: str, prompt: str) -> str:
    """Return the generator in the name of an image, as mini_dalle in coco_669925_mini_dalle."""
    return image.removeprefix(f"{prompt}_")
