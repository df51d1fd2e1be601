"""The model card: Markdown that travels with a model, with Hugging Face's front matter."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from drivetrain.data.side_counts import SideCounts
from drivetrain.trust.evaluation import Evaluation
from drivetrain.trust.label_evaluation import MultiLabelEvaluation
from drivetrain.trust.value_evaluation import ValueEvaluation

from .report_values import number
from .report_view import percent

__all__ = ["ModelCard", "write_model_card"]

_UNFILLED = "*Nobody has filled this in yet.*"
# what YAML forbids or reads as a line break inside quotes, and JSON leaves as it is
_UNSAFE_IN_YAML = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")
# what Markdown or HTML reads as more than text: anywhere, an underscore at a word's edge, the start of a line
_MARKUP = re.compile(r"[\\`*\[\]|~$<>&]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])|^[#+=-]|(?<=^\d)[.)]|(?<=^\d\d)[.)]")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """All that a model card tells."""

    name: str
    evaluation: Evaluation | MultiLabelEvaluation | ValueEvaluation
    policy_statement: str  # when it decides alone, and what is promised there
    backbone: str  # in words, with its licence
    counts: Mapping[str, Mapping[str, int]] | SideCounts  # split -> class -> pictures, such as train and valid
    pictures: str = "pictures it had never seen"  # what was evaluated
    dataset: str = "pictures of its maker"
    base_model: str = ""  # a Hugging Face id; left out when there is none
    license: str = "other"
    n_unreadable: int = 0
    intended_use: str = ""
    not_for: str = ""
    created_at: datetime | None = None  # None inside a bundle, whose digest must not hold the time
    limits: Sequence[str] = ()  # beside those that hold for every such model
    provenance: Mapping[str, str] = field(default_factory=dict)  # digests, seed, versions, parent


def write_model_card(card: ModelCard) -> str:
    """The card as Markdown; names in it are other people's and are escaped, in YAML and in Markdown."""
    parts = [_front_matter(card), f"# {_md(card.name)}", *_use(card), *_data(card), *_evaluation(card), *_how_to(card)]
    text = "\n\n".join([*parts, *_limits(card), *_provenance(card)]) + "\n"
    return text.encode("utf-8", "backslashreplace").decode()  # a folder name need not be UTF-8, the card must


def _front_matter(card: ModelCard) -> str:
    # the hub has no name for measuring; of the two others it makes no difference
    task = "image-regression" if isinstance(card.evaluation, ValueEvaluation) else "image-classification"
    lines = [
        "---",
        f"license: {_yaml(card.license)}",
        "library_name: drivetrain",
        *(["pipeline_tag: image-classification"] if task == "image-classification" else []),
        "tags:",
        "- drivetrain",
        f"- {task}",
        "- onnx",
        *([f"base_model: {_yaml(card.base_model)}"] if card.base_model else []),
        "model-index:",
        f"- name: {_yaml(card.name)}",
        "  results:",
        "  - task:",
        f"      type: {task}",
        "    dataset:",
        f"      name: {_yaml(card.dataset)}",
        "      type: imagefolder",
        "    metrics:",
    ]
    for kind, value in _metrics(card.evaluation):
        lines += [f"    - type: {kind}", f"      value: {value}"]
    return "\n".join([*lines, "---"])


def _metrics(told: Evaluation | MultiLabelEvaluation | ValueEvaluation) -> list[tuple[str, str]]:
    """(the hub's name, number) of what can be said."""
    if isinstance(told, Evaluation):
        found: dict[str, float | None] = {"accuracy": told.accuracy, "f1": told.macro_f1, "log_loss": told.log_loss}
    elif isinstance(told, MultiLabelEvaluation):
        found = {"f1": told.macro_f1, "average_precision": told.macro_average_precision, "accuracy": told.exact}
    else:
        first = told.per_value[0]
        return [("mae", f"{first.mae:.6g}"), ("rmse", f"{first.rmse:.6g}")] + (
            [] if first.r2 is None else [("r_squared", f"{first.r2:.4f}")]
        )
    return [(kind, f"{value:.4f}") for kind, value in found.items() if value is not None]


def _use(card: ModelCard) -> list[str]:
    names = ", ".join(_md(label) for label in card.evaluation.classes)
    n = len(card.evaluation.classes)
    if isinstance(card.evaluation, Evaluation):
        what = f"Tells {n} classes of pictures apart: {names}."
    elif isinstance(card.evaluation, MultiLabelEvaluation):
        what = f"Finds any of {n} labels in a picture, none to all of them: {names}."
    else:
        what = f"Measures {names} of what a picture shows, in the unit of its labels."
    return [
        what,
        "## What it is for",
        _md(card.intended_use) or _UNFILLED,
        "## What it is not for",
        _md(card.not_for) or _UNFILLED,
    ]


def _data(card: ModelCard) -> list[str]:
    counts = SideCounts.of(card.counts)
    told = f"From {_md(card.dataset)}. Files that could not be read and were left out: {card.n_unreadable:,}."
    if counts.task == "regression":
        head = ["split", "value", "pictures", "lowest", "median", "highest", "standard deviation"]
        rows = [
            [_md(split), _md(name), f"{counts.pictures[split]:,}"]
            + [number(value) for value in (of.low, of.median, of.high, of.spread)]
            for split, values in counts.values.items()
            for name, of in values.items()
        ]
        return ["## Data", told, _table(head, rows)]
    splits = list(counts.labels)
    rows = [
        [_md(label), *(f"{counts.labels[split].get(label, 0):,}" for split in splits)]
        for label in card.evaluation.classes
    ]
    what, whole = ("class", "**all**") if counts.task == "classification" else ("label", "**all pictures**")
    totals = [whole, *(f"{counts.pictures[split]:,}" for split in splits)]
    return ["## Data", told, _table([what, *(_md(split) for split in splits)], [*rows, totals])]


def _evaluation(card: ModelCard) -> list[str]:
    told = card.evaluation
    if isinstance(told, MultiLabelEvaluation):
        return _tell_labels(card, told)
    if isinstance(told, ValueEvaluation):
        return _tell_values(card, told)
    rows = [
        [
            _md(row.label),
            f"{row.n:,}",
            _share(row.recall, row.recall_low, row.recall_high),
            _share(row.precision, row.precision_low, row.precision_high),
            "–" if row.f1 is None else f"{row.f1:.2f}",
        ]
        for row in told.per_class
    ]
    alone = told.deferral
    return [
        "## Evaluation",
        f"**{percent(told.accuracy)} of {told.n:,} {_md(card.pictures)}** were named right "
        f"(95 % interval {percent(told.accuracy_low, unit='')} to {percent(told.accuracy_high)}).",
        f"Balanced accuracy {percent(told.balanced_accuracy)}, macro F1 {told.macro_f1:.3f}, "
        f"log loss {_drawn(told.log_loss, told.log_loss_low, told.log_loss_high, '{:.3f}'.format)}, "
        f"Brier score {_drawn(told.brier, told.brier_low, told.brier_high, '{:.3f}'.format)}, "
        f"calibration error {percent(told.ece)}.",
        _table(["class", "pictures", "recall", "precision", "F1"], rows),
        "## When it defers",
        _md(card.policy_statement),
        f"It decided {alone.n_accepted:,} of these {told.n:,} pictures alone, {percent(alone.coverage)}, and left the "
        f"rest to a person. Of those it decided, {alone.n_wrong:,} were wrong: "
        f"{_share(alone.error, alone.error_low, alone.error_high)}. "
        f"It took {told.ood.n_flagged:,} of all, {percent(told.ood.rate)}, for something it does not know.",
    ]


def _tell_labels(card: ModelCard, told: MultiLabelEvaluation) -> list[str]:
    rows = [
        [
            _md(row.label),
            f"{row.n:,}",
            _share(row.recall, row.recall_low, row.recall_high),
            _share(row.precision, row.precision_low, row.precision_high),
            _score(row.f1, row.f1_low, row.f1_high),
            _score(row.average_precision, row.average_precision_low, row.average_precision_high),
            f"{row.n_decided:,}",
            _share(row.error, row.error_low, row.error_high),
        ]
        for row in told.per_label
    ]
    alone = told.deferral
    macro_f1 = _score(told.macro_f1, told.macro_f1_low, told.macro_f1_high)
    precision = _score(
        told.macro_average_precision, told.macro_average_precision_low, told.macro_average_precision_high
    )
    head = ["label", "pictures", "recall", "precision", "F1", "average precision", "decided alone", "wrong there"]
    return [
        "## Evaluation",
        f"**{percent(told.exact)} of {told.n:,} {_md(card.pictures)}** got every label right "
        f"(95 % interval {percent(told.exact_low, unit='')} to {percent(told.exact_high)}).",
        f"Macro F1 {macro_f1}, macro average precision {precision}, wrong labels {percent(told.wrong_share)} of all, "
        f"Brier score {told.brier:.3f}, calibration error {percent(told.ece)}.",
        _table(head, rows),
        "## When it defers",
        _md(card.policy_statement),
        f"It decided every label of {alone.n_accepted:,} of these {told.n:,} pictures alone, "
        f"{percent(alone.coverage)}, and had one wrong at least in {alone.n_wrong:,} of them: "
        f"{_share(alone.error, alone.error_low, alone.error_high)}. "
        f"It took {told.ood.n_flagged:,} of all, {percent(told.ood.rate)}, for something it does not know.",
    ]


def _tell_values(card: ModelCard, told: ValueEvaluation) -> list[str]:
    rows = [
        [
            _md(row.name),
            _drawn(row.mae, row.mae_low, row.mae_high, number),
            _drawn(row.rmse, row.rmse_low, row.rmse_high, number),
            _score(row.r2, row.r2_low, row.r2_high),
            _drawn(row.bias, row.bias_low, row.bias_high, number),
            _share(row.covered, row.covered_low, row.covered_high),
        ]
        for row in told.per_value
    ]
    first, alone = told.per_value[0], told.deferral
    interval = f"95 % interval {number(first.mae_low)} to {number(first.mae_high)}"
    if first.mae_low is None:
        interval = "too few for an interval"
    return [
        "## Evaluation",
        f"**Off by {number(first.mae)} on average**, on {told.n:,} {_md(card.pictures)} "
        f"({interval}), "
        f"whose true values have a standard deviation of {number(first.truth_spread)}.",
        _table(["value", "mean error", "root mean square", "R²", "bias", "truth within the interval"], rows),
        "## When it defers",
        _md(card.policy_statement),
        f"It answered {alone.n_accepted:,} of these {told.n:,} pictures alone, {percent(alone.coverage)}. "
        f"It took {told.ood.n_flagged:,} of all, {percent(told.ood.rate)}, for something it does not know.",
    ]


def _how_to(card: ModelCard) -> list[str]:
    file = re.sub(r"[\x00-\x1f/\\]", "_", card.name) + ".dt"  # a name must not break out of its line
    # a run of backquotes in a name must not close the block either
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", file)), default=0))
    named = json.dumps(file, ensure_ascii=False)
    code = f'from drivetrain import load\nmodel = load({named})\nprint(model.predict("picture.jpg"))'
    return [
        "## How to use it",
        f"{fence}python\n{code}\n{fence}",
        f"{fence}sh\ndrivetrain predict {shlex.quote(file)} picture.jpg --json\n{fence}",
    ]


def _limits(card: ModelCard) -> list[str]:
    unknown = {
        Evaluation: "It knows the classes above and no other; a picture of anything else should be deferred, and some "
        "will not be.",
        MultiLabelEvaluation: "It knows the labels above and no other; a picture of anything else should be deferred, "
        "and some will not be.",
        ValueEvaluation: "It answers for any picture; one that does not show what is measured should be deferred, and "
        "some will not be.",
    }[type(card.evaluation)]
    few = {
        Evaluation: "Where a class has few pictures its interval is wide, and the truth may lie anywhere in it.",
        MultiLabelEvaluation: "Where a label has few pictures its interval is wide, and the truth may lie anywhere in "
        "it.",
        ValueEvaluation: "Values beyond those it was trained on are drawn towards them.",
    }[type(card.evaluation)]
    always = (
        unknown,
        "The numbers hold for pictures like those evaluated. Another camera, place or season can change them: "
        "measure again before relying on them there.",
        few,
    )
    return ["## Limits", "\n".join(f"- {line}" for line in (*always, *(_md(limit) for limit in card.limits)))]


def _provenance(card: ModelCard) -> list[str]:
    made = {} if card.created_at is None else {"made": card.created_at.isoformat(timespec="seconds")}
    rows = {**made, "backbone": card.backbone, **card.provenance}
    return ["## Provenance", _table(["what", "value"], [[_md(name), _md(value)] for name, value in rows.items()])]


def _share(value: float | None, low: float, high: float) -> str:
    return f"{percent(value)} ({percent(low, unit='')} to {percent(high, unit='')})" if value is not None else "–"


def _score(value: float | None, low: float | None, high: float | None) -> str:
    return "–" if value is None else _drawn(value, low, high, "{:.2f}".format)


def _drawn(value: float, low: float | None, high: float | None, show: Callable[[float], str]) -> str:
    """Without an interval where too few pictures were measured for one."""
    return show(value) if low is None or high is None else f"{show(value)} ({show(low)} to {show(high)})"


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _md(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    return _MARKUP.sub(r"\\\g<0>", " ".join(text.split()))


def _yaml(text: str) -> str:
    """A double-quoted YAML string: JSON's, but for the few characters YAML is stricter about."""
    return _UNSAFE_IN_YAML.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(text, ensure_ascii=False))
