"""Published agreement of metrics with people, recomputed from the authors' own files.

    python tests/performance/reproduce_tables.py FOLDER [--write TABLES]

FOLDER holds the files as their authors publish them; whichever are there are used:

    tifa160/human_annotations_with_scores.json    github.com/Yushi-Hu/tifa, human_annotations
    tifa160/dsg_tifa160_anns.csv                  github.com/linzhiqiu/t2v_metrics, datasets
    dsg/{mplug,instructblip,pali17b}_{vq2a,dsg}.csv, dsg-1k-anns.csv, tifa160-likert-anns.csv
                                                  github.com/j-min/DSG
    sugarcrepe/gpt4v_correct_{split}.json         github.com/RAIVNLab/sugar-crepe, gpt-4v-results
    t2vscore/t2vscore_results.csv, t2vscore_alignment_score.json
                                                  github.com/linzhiqiu/t2v_metrics, datasets
    GenAI-Bench/results/{task}/{model}/pairwise.json
                                                  github.com/TIGER-AI-Lab/GenAI-Bench
    VIEScore/paper_implementation/_answers, _human_annotations
                                                  github.com/TIGER-AI-Lab/VIEScore
    T2IScoreScore/data/metadata.csv, output/scores_final_all_2.csv
                                                  github.com/michaelsaxon/T2IScoreScore

goldens/agreement.json has the values that must come out and where each was printed. With --write,
the tables are also written as CSV, for `t2v-eval agree`. The exit code is 1 if any value is off.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from t2v_eval.evaluation.agreement import Agreement, agreement
from t2v_eval.evaluation.answers import score_answers
from t2v_eval.inputs.questions.files import read_questions
from t2v_eval.inputs.tables import write_table

GOLDENS = Path(__file__).parents[1] / "goldens" / "agreement.json"
Rows = list[dict[str, Any]]

VQA = {"mplug-large": "mplug", "instruct-blip": "instructblip", "pali-17b": "pali17b"}
GENERATORS = {
    "mini-dalle": "mini_dalle",
    "sd1dot1": "stable_diffusion_v1_1",
    "sd1dot5": "stable_diffusion_v1_5",
    "sd2dot1": "stable_diffusion_v2_1",
    "vq-diffusion": "vq_diffusion",
}
SPLITS = "add_att add_obj replace_att replace_obj replace_rel swap_att swap_obj".split()


def tifa160(folder: Path) -> Rows:
    """TIFA's scores beside the average of its own two raters."""
    return list(_json(folder / "tifa160/human_annotations_with_scores.json").values())


def tifa160_likert(folder: Path) -> Rows:
    """TIFA's scores beside the mean of the five Likert ratings that DSG collected."""
    ratings = defaultdict(list)
    for row in _csv(folder / "tifa160/dsg_tifa160_anns.csv"):
        ratings[f"{row['source_id']}_{GENERATORS[row['model_type']]}"].append(int(row["answer"]))
    named = _json(folder / "tifa160/human_annotations_with_scores.json")
    return [{**row, "likert": _mean(ratings[name])} for name, row in named.items()]


def dsg(folder: Path) -> Rows:
    """DSG's Likert means beside the share of generated questions that a model answers with yes.

    As in the authors' script, only "yes" is right, and a prompt none of whose questions was
    answered scores 0. The columns of DSG are what `t2v-eval questions score` writes.
    """
    ratings = defaultdict(list)
    for row in _csv(folder / "dsg/tifa160-likert-anns.csv"):
        ratings[row["t2i_model"], row["item_id"]].append(int(row["answer"]))
    table: dict[tuple[str, str], dict[str, Any]] = {
        key: {"prompt": key[1], "likert": _mean(values)} for key, values in ratings.items()
    }
    questions = read_questions(folder / "dsg/dsg-1k-anns.csv")
    options: Any = {
        "match": "exact",
        "unanswered": "zero",
        "where": {"item_id": "tifa160_*"},
    }
    for name, file in VQA.items():
        answers: dict[tuple[str, str], list[bool]] = defaultdict(list)
        for row in _csv(folder / f"dsg/{file}_vq2a.csv"):
            answers[row["t2i_model"], row["item_id"]].append(row["answer"] == "yes")
        for key, columns in table.items():
            columns[f"vq2a / {name}"] = _mean(answers[key] or [False])
        rows = _csv(folder / f"dsg/{file}_dsg.csv")
        for column, dependency in (("dsg", "direct"), ("dsg without dependency", "none")):
            scores = score_answers(rows, questions, "dsg", dependency=dependency, **options)
            for text in scores.texts:
                table[text.image, text.item][f"{column} / {name}"] = text.score
    return list(table.values())


def sugarcrepe(folder: Path) -> Rows:
    """Whether GPT-4V chose the true caption, with it shown first and second; 1 is true."""
    rows: Rows = []
    for split in SPLITS:
        result = _json(folder / f"sugarcrepe/gpt4v_correct_{split}.json")
        for item in result["positive-first"]:
            right = {f"GPT-4V {order}": int(of[item]) for order, of in result.items()}
            rows.append({"split": split, "true caption": 1, **right})
    return rows


def t2vscore(folder: Path) -> Rows:
    """Four metrics beside one rating of alignment a video."""
    rated = _json(folder / "t2vscore/t2vscore_alignment_score.json")
    return [
        {**row, "alignment": rated[row["video_id"]]["models"][row["model_name"]][0]}
        for row in _csv(folder / "t2vscore/t2vscore_results.csv")
    ]


VOTES = {
    "[[A>B]]": "leftvote",
    "[[B>A]]": "rightvote",
    "[[A=B=Good]]": "tievote",
    "[[A=B=Bad]]": "bothbad_vote",
}
TIES = "tievote", "bothbad_vote"
TASKS = "image_generation image_edition video_generation".split()


def genai_bench(task: str, folder: Path) -> Rows:
    """People's votes on pairs beside those of each model; an unreadable answer is wrong."""
    found = folder / "GenAI-Bench/results" / task
    if not found.is_dir():
        raise FileNotFoundError(2, "No such folder", str(found))
    rows: dict[int, dict[str, Any]] = {}
    for path in sorted(found.glob("*/pairwise.json")):
        for answer in _json(path):
            row = rows.setdefault(answer["idx"], {"people": answer["human_vote"]})
            if row["people"] != answer["human_vote"]:
                raise ValueError(f"{path}: item {answer['idx']} has another vote of people")
            vote = VOTES.get(answer["model_vote"], "unreadable")
            if answer["model_vote"] == "[[A=B]]" and row["people"] in TIES:
                vote = row["people"]  # as in the leaderboard, a tie without its kind is right
            row[path.parent.name] = vote
    return list(rows.values())


RATERS = ["rater1", "rater2", "rater3"]


def viescore(part: str, folder: Path) -> Rows:
    """Gemini's scores beside three raters: SC (semantic), PQ (quality) or O, their geometric mean.

    A score is the lowest of what a model says of an image, from 0 to 10.
    """
    root = folder / "VIEScore/paper_implementation"
    answers = root / "_answers/results_gemini_0shot"
    if not answers.is_dir():
        raise FileNotFoundError(2, "No such folder", str(answers))
    rows: Rows = []
    for of_model in sorted(answers.glob("*/*")):
        task, model = of_model.parent.name, of_model.name
        rated = [
            {row["uid"]: json.loads(row[model]) for row in _csv(path, "\t")}
            for path in sorted(
                (root / "_human_annotations/ImagenHub_human_eval_results" / task).glob("*.tsv")
            )
        ]
        scores = [_lowest(of_model / f"{name}.json") for name in ("SC", "PQ")]
        for image in rated[0]:
            row: dict[str, Any] = {"task": task, "generator": f"{task}/{model}", "image": image}
            scored = all(image in of for of in scores)
            row["gemini"] = _part(part, [of[image] for of in scores]) if scored else None
            for rater, ratings in zip(RATERS, rated, strict=True):
                row[rater] = _part(part, ratings[image])
            rows.append(row)
    return rows


def _lowest(path: Path) -> dict[str, float]:
    """The lowest score of each image, which may be a number or a list."""
    return {
        image: min(map(int, answer["score"])) / 10
        if isinstance(answer["score"], list)
        else min(1.0, max(0.0, answer["score"] / 10))
        for image, answer in _json(path).items()
    }


def _part(part: str, both: list[float]) -> float:
    semantic, quality = (min(1.0, max(0.0, value)) for value in both)
    return {"SC": semantic, "PQ": quality, "O": math.sqrt(semantic * quality)}[part]


def t2iscorescore(folder: Path) -> Rows:
    """Scores of images beside the number of errors of their node, in graphs of one prompt."""
    metadata = _csv(folder / "T2IScoreScore/data/metadata.csv")
    scores = _csv(folder / "T2IScoreScore/output/scores_final_all_2.csv")
    natural = {int(row["id"]) for row in metadata if row["image_source"] == "Natural"}
    rows: Rows = []
    for about, row in zip(metadata, scores, strict=True):  # in one order
        graph = int(about["id"])
        part = "nat" if min(natural) <= graph <= max(natural) else "synth"
        columns = {k: v for k, v in row.items() if k not in ("id", "image_id")}
        rows.append(
            {
                "graph": graph,
                "node": about["rank"],
                "errors": int("".join(filter(str.isdigit, about["rank"]))),
                "part": "real" if graph > max(natural) else part,
                **columns,
            }
        )
    return rows


TABLES: Mapping[str, tuple[Callable[[Path], Rows], dict[str, Any]]] = {
    "tifa160": (tifa160, {"human": "human_avg", "group": "text_id"}),
    "tifa160-likert": (tifa160_likert, {"human": "likert", "group": "text_id"}),
    "dsg": (dsg, {"human": "likert", "group": "prompt"}),
    "sugarcrepe": (sugarcrepe, {"human": "true caption", "tags": "split"}),
    "t2vscore": (t2vscore, {"human": "alignment", "group": "video_id"}),
    **{
        f"genai-bench-{task}": (partial(genai_bench, task), {"human": "people", "classes": True})
        for task in TASKS
    },
    **{
        f"viescore-{part}": (
            partial(viescore, part),
            {"human": RATERS, "group": "generator", "tags": "task", "mean": "tanh"},
        )
        for part in ("SC", "PQ", "O")
    },
    **{
        f"viescore-{part}-by-generator": (
            partial(viescore, part),
            {"human": RATERS, "tags": "generator", "mean": "tanh"},
        )
        for part in ("SC", "PQ", "O")
    },
    "t2iscorescore": (
        t2iscorescore,
        {
            "human": "errors",
            "group": "graph",
            "nodes": "node",
            "tags": "part",
            "constant_groups": "zero",
        },
    ),
}


def reproduce(folder: Path, write: Path | None = None) -> list[dict[str, Any]]:
    """Every row of the goldens whose table can be made from `folder`, with `found` added."""
    expected: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in json.loads(GOLDENS.read_text(encoding="utf-8")):
        expected[row["table"]].append(row)
    checked = []
    for name, goldens in expected.items():
        read, columns = TABLES[name]
        try:
            rows = read(folder)
        except FileNotFoundError as error:
            print(f"{name}: left out, there is no {error.filename}", file=sys.stderr)
            continue
        if write is not None:
            plain = [{k: v for k, v in row.items() if not isinstance(v, list)} for row in rows]
            write_table(write / f"{name}.csv", plain)
        scores = dict.fromkeys(row["column"] for row in goldens)
        actual = agreement(rows, scores=scores, resamples=1, **columns)
        for row in goldens:
            checked.append({**row, "found": _found(actual, row)})
    return checked


def _found(actual: Agreement, row: dict[str, Any]) -> float:
    """The value of a golden row: a metric of a column, or the ceiling of the raters."""
    metric = row["metric"]
    if metric.startswith("ceiling "):
        return actual.raters[row["tag"]].ceiling[metric.removeprefix("ceiling ")].value
    return actual.scores[row["column"]][row["tag"]][metric].value


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--write", type=Path, metavar="TABLES")
    options = parser.parse_args()
    if options.write is not None:
        options.write.mkdir(parents=True, exist_ok=True)
    rows = reproduce(options.folder, options.write)
    off = 0
    for row in rows:
        right = abs(row["found"] - row["value"]) <= row["tolerance"]
        off += not right
        what = f"{row['table']}, {row['tag']}: {row['column']}, {row['metric']}"
        print(f"{'ok ' if right else 'OFF'} {row['found']:.10f} {row['value']:.10f} {what}")
    print(f"{len(rows) - off} of {len(rows)} values are as published")
    return bool(off or not rows)


def _mean(values: list[Any]) -> float:
    return float(sum(values)) / len(values)


def _csv(path: Path, delimiter: str = ",") -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as stream:
        return list(csv.DictReader(stream, delimiter=delimiter))


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    sys.exit(main())
