"""All probes by name, what they cost, and how they are run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from t2v_eval.errors import T2VError, UnknownNameError
from t2v_eval.protocol.probes import (
    circularity,
    covariates,
    duplicates,
    inflation,
    prompt_floor,
    prompt_length,
)
from t2v_eval.protocol.probes.image_edits import EDITS
from t2v_eval.protocol.probes.inputs import ProbeInputs, ProbeResult, not_measured


@dataclass(frozen=True, slots=True)
class Probe:
    """A probe.

    Attributes:
        name: of the probe.
        question: what it asks.
        measure: computes the answer.
        per_image: how often each image is scored anew by each scorer that reads text.
        per_prompt: how often each prompt is scored with an image of no generator.
        edits: how often each image of one generator is scored anew, at most, by each scorer that
            runs on this machine.

    >>> PROBES["inflation"].cells(prompts=500, seeds=3)
    3000
    """

    name: str
    question: str
    measure: Callable[[ProbeInputs], ProbeResult]
    per_image: int = 0
    per_prompt: int = 0
    edits: int = 0

    def cells(self, prompts: int, seeds: int, remote: bool = False) -> int:
        """Return the largest number of cells that the probe scores with one scorer.

        Args:
            prompts: the number of prompts.
            seeds: the number of images of each prompt and generator.
            remote: whether the scorer is behind an API.
        """
        edits = 0 if remote else self.edits
        return prompts * (seeds * (2 * self.per_image + edits) + self.per_prompt)


PROBES: Mapping[str, Probe] = {
    probe.name: probe
    for probe in (
        Probe(prompt_length.NAME, prompt_length.QUESTION, prompt_length.prompt_length),
        Probe(inflation.NAME, inflation.QUESTION, inflation.inflation, per_image=1),
        Probe(covariates.NAME, covariates.QUESTION, covariates.covariates, edits=len(EDITS)),
        Probe(
            prompt_floor.SHUFFLED,
            prompt_floor.SHUFFLED_QUESTION,
            prompt_floor.shuffled_prompts,
            per_image=1,
        ),
        Probe(
            prompt_floor.TEXT_ALONE,
            prompt_floor.TEXT_ALONE_QUESTION,
            prompt_floor.text_alone,
            per_prompt=1,
        ),
        Probe(duplicates.NAME, duplicates.QUESTION, duplicates.duplicates),
        Probe(circularity.NAME, circularity.QUESTION, circularity.circularity),
    )
}
"""Every probe by its name, in the order of the report."""


def check_names(names: Sequence[str]) -> None:
    """Check that there is a probe of each name.

    Args:
        names: of `PROBES`.

    Raises:
        UnknownNameError: there is no probe of a name.

    >>> check_names(["inflation"])
    """
    for name in names:
        if name not in PROBES:
            remedy = f"There are {', '.join(PROBES)}."
            raise UnknownNameError.nearest("probe", name, PROBES, remedy)


def run_probes(inputs: ProbeInputs, names: Sequence[str] = ()) -> list[ProbeResult]:
    """Run probes; one that fails says why, and the others go on.

    Args:
        inputs: the images and their scores.
        names: of `PROBES`; empty for all.

    Raises:
        UnknownNameError: there is no probe of a name.
    """
    check_names(names)
    results = []
    for probe in (PROBES[name] for name in names or PROBES):
        try:
            results.append(probe.measure(inputs))
        except T2VError as error:
            results.append(not_measured(probe.name, probe.question, str(error).rstrip(".")))
    return results
