"""What the pages of roll-outs are given: facts from the store, counted on from where the last look stopped."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from drivetrain.serve.page.words import numbers_of, share

if TYPE_CHECKING:
    from drivetrain.flows.rollout_evidence import EvidenceReader
    from drivetrain.store.store import Store

__all__ = ["DONE", "RolloutShelf", "list_cards", "list_version_rows", "read_log", "state_of", "when"]

_KEPT_MAX = 16  # roll-outs whose counts are kept in memory
DONE = {  # what an act came to, told on the page after it
    "advance": "The step was taken.",
    "hold": "It is on hold.",
    "resume": "It goes on.",
    "rollback": "The new model was taken back. It decides nothing any more.",
    "marker": "The new model was taken back, by a file beside the database, which cannot be written just now.",
    "premortem": "The answers are kept.",
    "alerts": "The alert is closed.",
}


@dataclass
class _Kept:
    reader: EvidenceReader
    lock: threading.Lock = field(default_factory=threading.Lock)


class RolloutShelf:
    """Describes roll-outs; of each it counts only what came since the last time. One an app, from any thread."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._lock = threading.Lock()

    def describe(self, store: Store, name: str) -> dict[str, Any]:
        """As `describe_rollout`, with times in words. Raises NotFound."""
        from drivetrain.flows.rollout import get_deployment
        from drivetrain.flows.rollout_evidence import EvidenceReader
        from drivetrain.flows.rollout_status import describe_rollout

        deployment = get_deployment(store, name)
        with self._lock:
            kept = self._kept.pop(deployment.id, None) or _Kept(EvidenceReader(store, deployment))
            self._kept[deployment.id] = kept
            if len(self._kept) > _KEPT_MAX:
                self._kept.popitem(last=False)
        with kept.lock:
            facts = describe_rollout(store, deployment.id, reader=kept.reader)
        for answer in facts["premortem"]:
            answer["when"] = when(answer.get("at"))
        for alert in facts["alerts"]:
            alert["when"] = when(alert["at"])
        last = facts["last_event"]
        last_when = last["at"][:16].replace("T", " ") if last else ""
        return facts | {"started": when(facts["started_at"]), "ended": when(facts["ended_at"]), "last_when": last_when}


def state_of(facts: Mapping[str, Any]) -> str:
    """Changes with whatever the forms of the page rest on."""
    alerts = ",".join(alert["id"] for alert in facts["alerts"])
    answered = sum(answer.get("at") or 0.0 for answer in facts["premortem"])
    return f"{facts['revision']}:{alerts}:{answered:.3f}"


def list_cards(store: Store, shelf: RolloutShelf) -> dict[str, Any]:
    """Those that go on, described, and those that are over, a line each, the newest first."""
    deployments = store.deployments.list()[::-1]
    newest = {one.name: one.id for one in reversed(deployments)}
    return {
        "cards": [shelf.describe(store, one.id) for one in deployments if one.ended_at is None],
        "ended": [
            {
                "name": one.name,
                "link": one.name if newest[one.name] == one.id else one.id,
                "stands": one.stage.replace("_", " "),
                "candidate": one.candidate,
                "incumbent": one.incumbent or "people",
                "started": when(one.started_at),
                "ended": when(one.ended_at),
            }
            for one in deployments
            if one.ended_at is not None
        ],
    }


def read_log(store: Store, name: str) -> dict[str, Any]:
    """The ledger, and whether it is whole."""
    from drivetrain.flows.rollout import get_deployment, verify

    deployment = get_deployment(store, name)
    entries = [
        {
            **{key: entry[key] for key in ("number", "by", "action", "before", "after", "reason", "digest")},
            "when": entry["at"][:19].replace("T", " "),
        }
        for entry in store.deployments.ledger(deployment.id)
    ]
    return {"name": deployment.name, "id": deployment.id, "entries": entries, "broken": verify(store, deployment.id)}


def list_version_rows(store: Store) -> list[dict[str, Any]]:
    """Model -> its versions, the newest first: data, parent, evaluation, where each is live and since when."""
    from drivetrain.flows.versions import list_versions

    models: dict[str, list[dict[str, Any]]] = {}
    for state in reversed(list_versions(store)):
        version, facts = state.version, state.version.facts
        lineage = facts.get("lineage") or {}
        told = facts.get("evaluation")
        right = numbers_of(told, "accuracy")
        ends = numbers_of(told, "accuracy_low", "accuracy_high")
        counted = numbers_of(told, "n")
        models.setdefault(version.model, []).append(
            {
                "version": version.version,
                "is_live": state.is_live,
                "live": ("since " + when(state.live_since)) if state.live_since else "since before its first roll-out",
                "rollout": state.rollout,
                "stage": (state.stage or "").replace("_", " "),
                "data": str(lineage.get("data_digest") or "")[:12],
                "parent": version.parent or "",
                "right": "" if right is None else share(right[0]),
                "between": "" if ends is None else f"{share(ends[0])} to {share(ends[1])}",
                "n": "" if counted is None else f"{counted[0]:,.0f}",
                "registered": when(version.registered_at),
                "by": version.registered_by,
            }
        )
    return [{"model": model, "versions": rows} for model, rows in models.items()]


def when(at: float | None) -> str:
    """UTC, to the minute; empty for never."""
    return "" if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M")
