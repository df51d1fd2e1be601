"""A model's card as a page: what its manifest claims, in tables, and the Markdown that travels with it, harmless."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup

from drivetrain.serve.model import ServedModel
from drivetrain.serve.page.shelf import Leaf
from drivetrain.serve.page.words import decimal, numbers_of, share
from drivetrain.task import Task

__all__ = ["CardView", "Table", "render_markdown", "view_card"]

_MAX_CHARS = 200_000  # of Markdown; a card has a few thousand
_MAX_ROWS = 2_000
_FRONT_MATTER = re.compile(r"\A---\r?\n.*?\r?\n---\r?\n", re.DOTALL)
_DASH = "–"
_LINEAGE = {  # what its maker wrote down -> in words; the rest under its own name
    "data_digest": "Data, by digest",
    "split_digest": "Split, by digest",
    "weights_digest": "Pretrained weights, by digest",
    "seed": "Seed",
    "backbone": "Backbone",
    "backbone_licence": "Its licence",
    "parent": "Made from",
    "drivetrain": "drivetrain",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows of text under heads; the first cell names its row."""

    heads: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dot:
    """One bin of the picture of calibration, in its coordinates: 0 to 100, down being little."""

    x: float
    y: float
    low: float
    high: float
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CardView:
    """What the page shows."""

    facts: Sequence[tuple[str, str, str]]  # what, number, its interval or meaning
    per_class: Table | None
    per_class_title: str
    promise: Sequence[tuple[str, str]]
    dots: Sequence[Dot]
    calibration: str
    lineage: Sequence[tuple[str, str]]
    markdown: Markup


def view_card(model: ServedModel, leaf: Leaf) -> CardView:
    """Everything that is there; a manifest is somebody else's, so what is not as it should be is left out."""
    told, task = model.evaluation, model.task
    title, table = _per_class(told, task)
    error = numbers_of(told, "ece")
    return CardView(
        facts=_facts(told, task),
        per_class=table,
        per_class_title=title,
        promise=_promise(model.policy),
        dots=_dots(told),
        calibration=f"On average its probabilities are off by {share(error[0])}." if error else "",
        lineage=[*_lineage(leaf), ("Version", model.version)],
        markdown=render_markdown(leaf.card),
    )


def render_markdown(text: str) -> Markup:
    """Markdown as HTML of a few harmless tags: no HTML of its own, no pictures, no link but to the web.

    Headings begin at the third level, below those of the page.
    """
    parser = _markdown()
    tokens = [made for token in parser.parse(_FRONT_MATTER.sub("", text[:_MAX_CHARS])) for made in _tame(token)]
    return Markup(parser.renderer.render(tokens, parser.options, {}))  # noqa: S704 - by the parser, which escapes


@cache
def _markdown() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False}).enable("table").disable(["image", "autolink"])
    parser.validateLink = lambda url: url.startswith(("https://", "http://"))  # type: ignore[method-assign]
    return parser


def _tame(token: Token) -> list[Token]:
    """As our page needs it: lower headings, no style, links that tell nobody where they stood, tables that scroll."""
    if token.type.startswith("heading_"):
        token.tag = f"h{min(6, int(token.tag[1]) + 2)}"
    token.attrs.pop("style", None)
    for child in token.children or []:
        if child.type == "link_open":
            child.attrSet("rel", "noopener noreferrer nofollow")
    if token.type == "table_open":
        frame: dict[str, str | int | float] = {
            "class": "scroll",
            "tabindex": "0",
            "role": "group",
            "aria-label": "Table",
        }
        return [Token("frame_open", "div", 1, attrs=frame, block=True), token]
    if token.type == "table_close":
        return [token, Token("frame_close", "div", -1, block=True)]
    return [token]


def _facts(told: object, task: Task) -> list[tuple[str, str, str]]:
    found: list[tuple[str, str, str]] = []

    def add(what: str, name: str, *, is_share: bool, meaning: str = "") -> None:
        numbers, ends = numbers_of(told, name), numbers_of(told, f"{name}_low", f"{name}_high")
        if numbers is None:
            return
        shown = share if is_share else decimal
        between = f"{shown(ends[0])} to {shown(ends[1])}" if ends else meaning
        found.append((what, shown(numbers[0]), between))

    if n := numbers_of(told, "n"):
        found.append(("Pictures", f"{n[0]:,.0f}", "held out of its training"))
    if task == "classification":
        add("Right", "accuracy", is_share=True)
        add("Right, all classes counting alike", "balanced_accuracy", is_share=True, meaning="mean recall")
        add("F1", "macro_f1", is_share=False, meaning="mean over classes, of 1")
        add("Log loss", "log_loss", is_share=False)
    elif task == "multilabel":
        add("Every label right", "exact", is_share=True)
        add("F1", "macro_f1", is_share=False)
        add("Average precision", "macro_average_precision", is_share=False)
    add("Calibration error", "ece", is_share=True)
    return found


def _per_class(told: object, task: Task) -> tuple[str, Table | None]:
    if task == "regression":
        heads = ["Value", "Off by, on average", "95 % interval", "R²", "Bias"]
        return "Each value", _table(told, "per_value", "name", heads, _value_cells)
    if task == "multilabel":
        heads = ["Label", "Pictures", "Found", "Right when found", "F1"]
        return "Each label", _table(told, "per_label", "label", heads, _class_cells)
    heads = ["Class", "Pictures", "Found", "Right when named", "F1"]
    return "Each class", _table(told, "per_class", "label", heads, _class_cells)


def _table(told: object, key: str, name: str, heads: list[str], cells: object) -> Table | None:
    rows = told.get(key) if isinstance(told, Mapping) else None
    if not isinstance(rows, list | tuple):
        return None
    assert callable(cells)
    made = [
        [str(row[name])[:200], *cells(row)]
        for row in rows[:_MAX_ROWS]
        if isinstance(row, Mapping) and isinstance(row.get(name), str)
    ]
    return Table(heads=heads, rows=made) if made else None


def _class_cells(row: Mapping[str, object]) -> list[str]:
    count = numbers_of(row, "n")
    f1 = numbers_of(row, "f1")
    return [
        f"{count[0]:,.0f}" if count else _DASH,
        _with_interval(row, "recall"),
        _with_interval(row, "precision"),
        f"{f1[0]:.2f}" if f1 else _DASH,
    ]


def _value_cells(row: Mapping[str, object]) -> list[str]:
    mae, ends = numbers_of(row, "mae"), numbers_of(row, "mae_low", "mae_high")
    r2, bias = numbers_of(row, "r2"), numbers_of(row, "bias")
    return [
        decimal(mae[0]) if mae else _DASH,
        f"{decimal(ends[0])} to {decimal(ends[1])}" if ends else _DASH,
        f"{r2[0]:.2f}" if r2 else _DASH,
        decimal(bias[0]) if bias else _DASH,
    ]


def _with_interval(row: Mapping[str, object], name: str) -> str:
    of, ends = numbers_of(row, name), numbers_of(row, f"{name}_low", f"{name}_high")
    if of is None:
        return _DASH
    return share(of[0]) + (f" ({100 * ends[0]:.0f} to {100 * ends[1]:.0f})" if ends else "")


def _promise(policy: Mapping[str, object]) -> list[tuple[str, str]]:
    promise = policy.get("promise")
    found = []
    if (most := numbers_of(promise, "max_error", "confidence")) is not None:
        found.append(("Wrong among those it decides, at most", f"{_round(most[0])}, with confidence {_round(most[1])}"))
    if (seen := numbers_of(promise, "n_calibration", "n_accepted", "n_wrong")) is not None:
        pictures, decided, wrong = (f"{number:,.0f}" for number in seen)
        found.append(("Shown on", f"{pictures} pictures kept apart: {decided} decided, {wrong} of them wrong"))
    if (covers := numbers_of(promise, "coverage", "coverage_low", "coverage_high")) is not None:
        found.append(("Decides by itself", f"{share(covers[0])} ({share(covers[1])} to {share(covers[2])})"))
    sets = policy.get("label_set")
    if (coverage := numbers_of(sets, "coverage")) is not None:
        found.append(("Its label set holds the right one in", _round(coverage[0])))
    return found


def _dots(told: object) -> list[Dot]:
    bins = told.get("reliability") if isinstance(told, Mapping) else None
    dots = []
    for one in bins[:_MAX_ROWS] if isinstance(bins, list | tuple) else ():
        numbers = numbers_of(one, "confidence", "accuracy", "accuracy_low", "accuracy_high", "n")
        if numbers is None or not all(0 <= number <= 1 for number in numbers[:4]):
            continue
        said, right, low, high, n = numbers
        words = f"{n:,.0f} pictures of about {share(said)}: {share(right)} right"
        dots.append(Dot(x=_at(said), y=_at(1 - right), low=_at(1 - low), high=_at(1 - high), words=words))
    return dots


def _round(of: float) -> str:
    """What somebody asked for: 5 %, not 5.0 %."""
    return f"{100 * of:.4g}\N{NO-BREAK SPACE}%"


def _at(of: float) -> float:
    return round(100 * of, 2)


def _lineage(leaf: Leaf) -> list[tuple[str, str]]:
    rows = []
    for name, value in (leaf.lineage or {}).items():
        if value is not None and isinstance(value, str | int | float) and not isinstance(value, bool):
            rows.append((_LINEAGE.get(str(name), str(name)[:80].replace("_", " ")), str(value)[:200]))
    return ([("Made", leaf.created_at[:40])] if leaf.created_at else []) + rows
