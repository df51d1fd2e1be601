"""How a roll-out stands, in words that need no training: who decides, what is missing, how far it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from drivetrain.rollout.gates import Criterion
from drivetrain.rollout.stages import LADDER, Position
from drivetrain.store.deployments import Deployment

from .premortem import QUESTIONS
from .rollout_config import RolloutConfig
from .rollout_judge import Judged

__all__ = ["draw_ladder", "tell_decider", "tell_distance", "tell_gate", "tell_harm"]

_STEPS = ("Manual", "Limited", "5 %", "25 %", "50 %", "100 %", "Live")
_TITLES = {
    "error": "Few enough mistakes",
    "against the incumbent": "As good as the version in use",
    "requests": "Enough pictures",
    "hours": "Long enough",
    "hours of the day": "Day and night",
    "classes": "Each class often enough",
    "deferred": "Little left to people",
    "sample ratio": "Keys where they should be",
    "alerts": "No open alert",
    "datasheet": "The datasheet",
    "pre-mortem": "The pre-mortem",
    "backlog": "Seen by the new model",
}
_MOST_LACKS = 3
_NO_HARM = "No harm is shown. If it is, the new model is taken back at once, by itself."


def draw_ladder(deployment: Deployment, n_taken: int) -> list[dict[str, str]]:
    """The steps from manual to live: label, and whether each is done, now, next, ahead, or where it was stopped.

    `n_taken` is the number of steps that this start took.
    """
    is_stopped = deployment.stage == "rolled_back"
    here = min(n_taken, len(LADDER) - 1)
    for place, step in enumerate(LADDER):
        if step == (deployment.stage, deployment.share):
            here = place
    states = ["done"] * here + ["stopped" if is_stopped else "now"] + ["ahead"] * (len(LADDER) - here - 1)
    if not is_stopped and here + 1 < len(LADDER):
        states[here + 1] = "next"
    return [{"label": label, "state": state} for label, state in zip(_STEPS, states, strict=True)]


def tell_decider(deployment: Deployment, config: RolloutConfig) -> str:
    """Who decides now, of which pictures."""
    others = "people decide" if deployment.incumbent is None else f"the version in use, {deployment.incumbent}, decides"
    if deployment.stage == "manual":
        what = "sees every picture" if config.has_shadow else "waits"
        return f"{_capital(others)}. The new model {what} and decides nothing."
    if deployment.stage == "limited":
        where = f"where {config.scope.replace(',', ', ').replace('|', ' or ')}" if config.scope else "everywhere"
        return f"The new model decides {where}, as far as it is sure" + (
            f"; elsewhere {others}." if config.scope else "."
        )
    if deployment.stage == "expanding":
        share = f"{100 * deployment.share:.0f} %"
        rest = f"; of the rest {others}." if deployment.share < 1 else "."
        return f"The new model decides for {share} of the traffic, as far as it is sure{rest}"
    if deployment.stage == "live":
        return "The new model decides, everywhere. It is the version in use now."
    return f"{_capital(others)}. The new model was taken back and decides nothing."


def tell_harm(judged: Judged, *, is_over: bool) -> dict[str, Any]:
    """Whether harm is shown, and how much of the evidence for it there is (0 to 1, of its nearest kind)."""
    harm = judged.harm
    shares = [max(0.0, one.log_e / one.needed) for one in harm.criteria if one.log_e is not None and one.needed]
    sentence = "No harm was shown." if is_over else _NO_HARM
    if harm.is_met:
        sentence = " ".join(one.sentence for one in harm.criteria if one.is_met)
    return {"is_met": harm.is_met, "share": min(1.0, max(shares, default=0.0)), "sentence": sentence}


def tell_gate(judged: Judged, config: RolloutConfig, *, n_answered: int) -> list[dict[str, Any]]:
    """Each criterion: a title, whether it is met, its sentence, how far it is (0 to 1), and what it lacks in words.

    A minimum of 0 asks for nothing, so it is left out.
    """
    told = []
    asked = {
        "requests": config.gate.n_min,
        "hours": config.gate.hours_min,
        "hours of the day": config.gate.day_hours_min,
        "classes": config.gate.class_min,
    }
    for one in judged.gate.criteria:
        if one.is_met and not asked.get(one.name, 1):
            continue
        share, lacks, more = _measure(one, judged, config, n_answered=n_answered)
        told.append(
            {
                "name": one.name,
                "title": _TITLES.get(one.name, _capital(one.name)),
                "is_met": one.is_met,
                "is_test": one.log_e is not None,
                "sentence": one.sentence,
                "share": 1.0 if one.is_met else min(max(share, 0.0), 0.99),
                "lacks": "" if one.is_met else lacks,
                "requests": None if one.is_met else more,  # more of them, where that is what it lacks
            }
        )
    return told


def tell_distance(position: Position, gate: Sequence[Mapping[str, Any]], *, is_harmed: bool) -> str:
    """How far the next step is, in one sentence: "Not enough: needs 41 more requests"."""
    if position.is_over:
        return "It is over."
    if is_harmed:
        return "Harm is shown: it is to be rolled back."
    missing = [one for one in gate if not one["is_met"]]
    if not missing:
        after = position.next().in_words.removesuffix(", held")
        held = "It is on hold; else a" if position.is_held else "A"
        return f"All is shown for the next step, {after}. {held} person may take it."
    requests = [one for one in missing if one["requests"]]
    most = max(requests, key=lambda one: one["requests"], default=None)
    lacks = [] if most is None else [most["lacks"]]
    lacks += [one["lacks"] for one in missing if not one["requests"]]
    if len(lacks) > _MOST_LACKS + 1:
        lacks = [*lacks[:_MOST_LACKS], f"{len(lacks) - _MOST_LACKS} other things"]
    return f"Not enough: needs {_listed(lacks)}."


def _measure(
    one: Criterion, judged: Judged, config: RolloutConfig, *, n_answered: int
) -> tuple[float, str, int | None]:
    """(how far, what is lacking, more requests where that is it)."""
    gate, ready = config.gate, judged.ready
    step = judged.gathered.step if judged.gathered.n_steps else judged.gathered.whole
    if one.name == "requests":
        more = gate.n_min - step.n
        return _share(step.n, gate.n_min), _count(more, "more request"), more
    if one.name == "hours":
        return _share(step.hours_long, gate.hours_min), _count(gate.hours_min - step.hours_long, "more hour"), None
    if one.name == "hours of the day":
        seen = len(step.hours)
        return _share(seen, gate.day_hours_min), _count(gate.day_hours_min - seen, "more hour") + " of the day", None
    if one.name == "classes":
        counts = judged.gathered.whole.classes
        rare = [label for label, count in counts.items() if count < gate.class_min]
        share = _share(sum(min(n, gate.class_min) for n in counts.values()), len(counts) * gate.class_min)
        return (share if counts else 0.0), f"more decisions of {_listed(rare[:2]) if rare else 'any kind'}", None
    if one.name == "pre-mortem":
        return (
            _share(n_answered, len(QUESTIONS)),
            _count(len(QUESTIONS) - n_answered, "answer") + " of the pre-mortem",
            None,
        )
    lacks = {
        "alerts": f"{_count(ready.open_alerts, 'alert')} to be closed",
        "datasheet": "the datasheet answered",
        "backlog": f"the new model to see {_count(ready.backlog, 'waiting picture')}",
        "deferred": "fewer pictures left to people",
        "sample ratio": "keys that go where they should",
    }
    if one.name in lacks:
        return 0.0, lacks[one.name], None
    share = one.log_e / one.needed if one.log_e is not None and one.needed else 0.0
    if one.more is None:
        return share, "more evidence" if one.log_e is not None else one.name, None
    return share, f"about {_count(one.more, 'more request')}", one.more


def _share(have: float, want: float) -> float:
    return have / want if want else 1.0


def _count(n: float, what: str) -> str:
    """3 more hours; 1 alert; under ten in halves of an hour's tenth: 2.5 more hours."""
    shown = f"{n:,.0f}" if n >= 10 or n == int(n) else f"{n:.1f}"
    return f"{shown} {what}{'' if shown == '1' else 's'}"


def _listed(parts: Sequence[str]) -> str:
    """a, b and c."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}" if parts else "more evidence"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
