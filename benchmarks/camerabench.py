"""CameraBench (Lin et al. 2025): questions about the movement of the camera in videos.

    https://github.com/linzhiqiu/t2v_metrics    camerabench/data: the questions
    https://huggingface.co/datasets/syCen/Videos4CameraBench    the videos
    ROOT/binary_classification/Pan_Left.jsonl     {"image": video, "question", "label": "Yes" or
                                                  "No"}; 15 files, one per camera movement
    ROOT/vqa_and_retrieval/has_motion/....jsonl   {"pos_video", "neg_video", "pos_text",
                                                  "neg_text"}; 9 folders, one per skill
    ROOT/videos/....mp4                           the videos, here or in ROOT; or all in ROOT/data

`camerabench-binary`: an item is a video with a question whose answer is yes or no; tags are the
movements. Published are the average precision of each movement and their mean,
`mean_average_precision`. Most videos occur in several movements; intervals of the mean treat them
as different videos. `camerabench-retrieval`: two videos and two texts in Winoground's form; tags
are the skills, and `mean_...` is the mean over them, as published: "skill-based" without
complex_description, which is "caption-based".

The texts are questions. The authors ask models that answer with `{} Please only answer Yes or No.`
for the first and `{}` for the second, and the answer Yes: --question and --answer.

A video's score is the mean over evenly spaced frames, which ignores their order: videos that differ
only in direction score the same. Published figures are of models that read whole videos, as video
models do here with `whole`. Binary and question accuracy, which compare the answers Yes and No, are
not computed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from typing_extensions import override

from t2v_eval.errors import BenchmarkDataError, MissingDataError
from t2v_eval.evaluation.benchmark import Item, Scores
from t2v_eval.inputs.folders import files_in
from t2v_eval.inputs.media import MediaLike
from t2v_eval.stats.bootstrap import Statistic

from .forms.frames import FramesForm, video_frames
from .forms.macro import with_means
from .forms.published import Published, field, rows
from .forms.ratings import LabelsForm
from .forms.winoground import WinogroundForm

MOVEMENTS = (
    "Move_In", "Move_Out", "Move_Up", "Move_Down", "Move_Right", "Move_Left", "Zoom_In", "Zoom_Out",
    "Pan_Right", "Pan_Left", "Tilt_Up", "Tilt_Down", "Roll_Clockwise", "Roll_Counterclockwise",
    "Static",
)  # fmt: skip
SKILLS = (
    "motion_and_steadiness", "scene_dynamics", "motion_speed", "motion_direction",
    "confusable_motion", "has_motion", "tracking_shot", "only_motion", "complex_description",
)  # fmt: skip


class CameraBench(FramesForm, Published):
    """What both tasks have in common.

    Args:
        frames: how many frames of a video are scored, where it is not read whole.
        options: `whole` of `FramesForm`, and others.
    """

    def __init__(self, *, frames: int = 8, **options: Any) -> None:
        super().__init__(**options)
        self.frames = frames
        self._opened: dict[str, list[MediaLike]] = {}

    @override
    def items(self) -> Sequence[Item]:
        self._opened = {}
        return super().items()

    def videos(self, *names: str) -> tuple[list[MediaLike], list[list[int]]]:
        """Return the frames of videos (or the whole videos), and the indices of each video's."""
        images: list[MediaLike] = []
        positions = []
        for name in names:
            if name not in self._opened:
                path = Path(self.image_path(name, "videos", "data/videos", "."))
                self._opened[name] = video_frames(path, self.frames, "uniform", whole=self.whole)
            frames = self._opened[name]
            positions.append(list(range(len(images), len(images) + len(frames))))
            images += frames
        return images, positions


class Binary(CameraBench, LabelsForm):
    """Videos with yes/no questions: the rows of the fifteen files."""

    headline = "mean_average_precision"
    chance: ClassVar[Mapping[str, float]] = {"mean_auroc": 0.5, "auroc": 0.5}
    meanings: ClassVar[Mapping[str, str]] = {
        **LabelsForm.meanings,
        "mean_average_precision": "the mean over kinds of movement of average precision (the area "
        "under the precision-recall curve), 0 to 1",
    }

    @override
    def read(self, folder: Path) -> Iterator[Item]:
        for movement in MOVEMENTS:
            name = f"binary_classification/{movement}.jsonl"
            path = self.file(name, f"data/{name}")
            for n, row in enumerate(rows(path, "image", "question", "label"), 1):
                where = f"{path}, row {n}"
                if row["label"] not in ("Yes", "No"):
                    raise BenchmarkDataError(f"{where}: 'label' is {row['label']!r}, not Yes or No")
                video = field(row, "image", str, where)
                images, positions = self.videos(video)
                yield Item(
                    images=images,
                    texts=[field(row, "question", str, where)],
                    labels={"human": [float(row["label"] == "Yes")], "frames": positions},
                    tags=(movement,),
                    id=f"{movement}/{video}",
                )

    @override
    def statistic(self, items: Sequence[Item], scores: Scores) -> Statistic:
        return with_means(super().statistic, items, scores, names=self.metric_names)

    @override
    def paired_statistic(self, items: Sequence[Item], first: Scores, second: Scores) -> Statistic:
        return with_means(super().paired_statistic, items, first, second, names=self.metric_names)


class Retrieval(CameraBench, WinogroundForm):
    """Pairs of videos and texts: the rows of the nine folders."""

    headline = "mean_group"
    chance: ClassVar[Mapping[str, float]] = {
        f"{prefix}{name}": value
        for prefix in ("mean_", "")
        for name, value in WinogroundForm.chance.items()
    }
    meanings: ClassVar[Mapping[str, str]] = {
        **{f"mean_{name}": f"{what}; the mean over skills" for name, what in
           WinogroundForm.meanings.items()},
        **WinogroundForm.meanings,
    }  # fmt: skip

    @override
    def read(self, folder: Path) -> Iterator[Item]:
        for skill in SKILLS:
            places = [folder / place / "vqa_and_retrieval" / skill for place in (".", "data")]
            tasks = [path for place in places for path in files_in(place, "*.jsonl")]
            if not tasks:
                raise MissingDataError(
                    f"{places[0]} holds no file of questions (.jsonl): {self.remedy()}"
                )
            for path in tasks:
                keys = ("pos_video", "neg_video", "pos_text", "neg_text")
                for n, row in enumerate(rows(path, *keys), 1):
                    where = f"{path}, row {n}"
                    video, other_video, *texts = (field(row, key, str, where) for key in keys)
                    images, positions = self.videos(video, other_video)
                    kind = "caption" if skill == "complex_description" else "skill"
                    yield Item(
                        images=images,
                        texts=texts,
                        labels={"frames": positions},
                        tags=(skill, f"{kind}-based"),
                        id=f"{skill}/{path.stem}/{n}",
                    )

    @override
    def statistic(self, items: Sequence[Item], scores: Scores) -> Statistic:
        names = ["text", "image", "group"]
        return with_means(super().statistic, items, scores, names=names)
