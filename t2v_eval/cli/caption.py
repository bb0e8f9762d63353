"""``t2v-eval caption``: scores of captions, with or without human references."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from t2v_eval.cards import ModelCard
from t2v_eval.cli import console
from t2v_eval.cli.help.completion import model_names
from t2v_eval.cli.options import (
    AsJson,
    CheckpointPath,
    Device,
    NoStore,
    OnError,
    ScorerOptionPairs,
    StorePath,
    scorer_options,
)
from t2v_eval.cli.progress import Bars
from t2v_eval.errors import InputError, UnsupportedError
from t2v_eval.registry import models

if TYPE_CHECKING:
    from t2v_eval.evaluation.captioning.baselines import Baselines
    from t2v_eval.evaluation.captioning.captions import Captions, CaptionScores

Candidates = Annotated[
    Path, typer.Argument(help='JSON file of the captions to score: {"image": "caption"}.')
]
References = Annotated[
    Path | None,
    typer.Option(
        help='JSON file of human captions: {"image": ["caption", ...]}. Default: no references.',
        metavar="FILE",
    ),
]
CaptionModel = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        "--scorer",
        help="Name of a scorer; `list models` shows them. Default: the one marked for captions, "
        "with or without references.",
        autocompletion=model_names,
    ),
]
ScoreFile = Annotated[
    Path | None,
    typer.Option(
        help="JSON file to write the scores to, or a .csv, .jsonl or .parquet file with a row for "
        "each image. Default: no file is written.",
        metavar="FILE",
    ),
]
WithBaselines = Annotated[
    bool,
    typer.Option(
        "--baselines",
        help="Also compute BLEU, METEOR, ROUGE-L, CIDEr and, where its parser is installed, SPICE "
        "from the references (extra captions; needs Java).",
    ),
]
WordTokenizer = Annotated[
    str,
    typer.Option(
        help="How --baselines finds words: ptb as published, or none to split at blanks, which "
        "needs no Java.",
        metavar="ptb|none",
    ),
]
BertName = Annotated[
    str | None,
    typer.Option(
        help="Model of BERTScore, which --baselines then computes too: a name of the Hugging Face "
        "hub, such as roberta-large, or a folder. Default: no BERTScore.",
        metavar="NAME|FOLDER",
    ),
]
BertLayer = Annotated[
    int | None,
    typer.Option(
        help="Hidden layer of --bert-model. Default: the one that bert-score chose for the model.",
        min=1,
        metavar="NUMBER",
    ),
]


def caption(
    candidates: Candidates,
    images: Annotated[Path, typer.Argument(help="Folder of the images or videos, or a glob.")],
    references: References = None,
    model: CaptionModel = None,
    baselines: WithBaselines = False,
    tokenizer: WordTokenizer = "ptb",
    bert_model: BertName = None,
    bert_layer: BertLayer = None,
    out: ScoreFile = None,
    on_error: OnError = "error",
    store: StorePath = None,
    no_store: NoStore = False,
    device: Device = None,
    checkpoint: CheckpointPath = None,
    option: ScorerOptionPairs = None,
    as_json: AsJson = False,
) -> None:
    """Score the captions of a folder's images or videos and print the mean.

    The JSON files name an image by its file name without the extension. References are human
    captions of the same image, for scorers that use them and for --baselines, which prints the
    usual metrics of captions against references beside the scores.
    """
    from t2v_eval.utils.files import check_file

    if out is not None:
        check_file(out)
    if baselines and references is None:
        raise InputError("--baselines compares captions with references: name --references FILE")
    if (bert_model or bert_layer) and not baselines:
        raise InputError("--bert-model and --bert-layer belong to --baselines: name it too")
    # An unknown name is reported before a model is loaded.
    card = models.card(model) if model else _default_scorer(bool(references))
    options = scorer_options(
        on_error=on_error,
        store=store,
        no_store=no_store,
        device=device,
        checkpoint=checkpoint,
        option=option,
    )
    from t2v_eval.evaluation.captioning.captions import Captions

    captions = Captions.read(candidates, images, references, on_error == "skip")
    measured = None
    if baselines:
        measured = _baselines(captions, tokenizer, bert_model, bert_layer, device)
    with console.stoppable(options.store), Bars() as bars:
        result = captions.score(options.load(card), bars.add(card.name))
    written = result if measured is None else result.beside(measured, [*captions.files])
    _show(result, written, measured, as_json)
    console.say_failures(card.name, result.counts.cells, Counter(result.failures.values()))
    if out is not None:
        written.write(out)
        console.note(f"{len(result.scores)} scores are in {out}")
    console.exit_if_all_failed(result.counts.used)


def _baselines(
    captions: Captions,
    tokenizer: str,
    bert_model: str | None,
    bert_layer: int | None,
    device: str | None,
) -> Baselines:
    """Compute the baselines, before the scorer is loaded, and say which were not."""
    from t2v_eval.evaluation.captioning.baselines import check_baselines
    from t2v_eval.evaluation.captioning.bert import BertModel
    from t2v_eval.evaluation.captioning.tokens import check_tokenizer

    checked = check_tokenizer(tokenizer)
    check_baselines(checked)
    bert = BertModel(bert_model, bert_layer, device) if bert_model else None
    with console.waiting("comparing the captions with their references"):
        measured = captions.baselines(tokenizer=checked, bert=bert)
    for name, reason in measured.missing.items():
        console.note(f"{name} was not computed: {reason}")
    if measured.bert:
        console.note(f"BERTScore is the F1 of {measured.bert}, not rescaled")
    return measured


def _show(
    result: CaptionScores, written: CaptionScores, measured: Baselines | None, as_json: bool
) -> None:
    """Print the means, with intervals and reasons where there are baselines."""
    means = result.means()
    if measured is None:
        if as_json:
            console.print_json({"means": means, "scores": result.scores})
        for key, mean in () if as_json else means.items():
            console.show(f"{key}: {mean:.4f}")
        return
    intervals = {**measured.corpus, **result.intervals()}
    if as_json:
        console.print_json(
            {
                "means": means,
                "baselines": {name: row.value for name, row in measured.corpus.items()},
                "intervals": {name: [row.low, row.high] for name, row in intervals.items()},
                "not_computed": measured.missing,
                "scores": written.scores,
            }
        )
        return
    rows = [
        [name, f"{row.value:.4f}", f"[{row.low:.4f}, {row.high:.4f}]"]
        for name, row in intervals.items()
    ]
    console.print_aligned(["metric", "value", "95 % interval"], rows)


def _default_scorer(references: bool) -> ModelCard:
    """Return the card marked for captions with references, or for captions alone."""
    captions = "references" if references else "alone"
    for card in models.cards.values():
        if card.captions == captions:
            return card
    raise UnsupportedError(
        f"no scorer's card has `captions = {captions!r}`; name a scorer with --model"
    )
