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
from drivetrain.serve.page.card_numbers import Table, list_facts, list_limits, list_promise, tell_each
from drivetrain.serve.page.shelf import Leaf
from drivetrain.serve.page.words import numbers_of, share

__all__ = ["CardView", "render_markdown", "view_card"]

_MAX_CHARS = 200_000  # of Markdown; a card has a few thousand
_MAX_BINS = 2_000
_FRONT_MATTER = re.compile(r"\A---\r?\n.*?\r?\n---\r?\n", re.DOTALL)
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
    limits: Table | None  # of each label
    dots: Sequence[Dot]
    calibration: str
    lineage: Sequence[tuple[str, str]]
    markdown: Markup


def view_card(model: ServedModel, leaf: Leaf) -> CardView:
    """Everything that is there; a manifest is somebody else's, so what is not as it should be is left out."""
    told, task = model.evaluation, model.task
    title, table = tell_each(told, task)
    error = numbers_of(told, "ece")
    return CardView(
        facts=list_facts(told, task),
        per_class=table,
        per_class_title=title,
        promise=list_promise(model.policy, told, task),
        limits=list_limits(model.policy, model.classes) if task == "multilabel" else None,
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


def _dots(told: object) -> list[Dot]:
    bins = told.get("reliability") if isinstance(told, Mapping) else None
    dots = []
    for one in bins[:_MAX_BINS] if isinstance(bins, list | tuple) else ():
        numbers = numbers_of(one, "confidence", "accuracy", "accuracy_low", "accuracy_high", "n")
        if numbers is None or not all(0 <= number <= 1 for number in numbers[:4]):
            continue
        said, right, low, high, n = numbers
        words = f"{n:,.0f} pictures of about {share(said)}: {share(right)} right"
        dots.append(Dot(x=_at(said), y=_at(1 - right), low=_at(1 - low), high=_at(1 - high), words=words))
    return dots


def _at(of: float) -> float:
    return round(100 * of, 2)


def _lineage(leaf: Leaf) -> list[tuple[str, str]]:
    rows = []
    for name, value in (leaf.lineage or {}).items():
        if value is not None and isinstance(value, str | int | float) and not isinstance(value, bool):
            rows.append((_LINEAGE.get(str(name), str(name)[:80].replace("_", " ")), str(value)[:200]))
    return ([("Made", leaf.created_at[:40])] if leaf.created_at else []) + rows
