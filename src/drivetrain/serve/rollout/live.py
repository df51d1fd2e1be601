"""A roll-out as a server obeys it."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from drivetrain.errors import DrivetrainError
from drivetrain.flows.rollout_config import RolloutConfig
from drivetrain.flows.rollout_marker import Marker
from drivetrain.rollout.scope import Scope, parse_scope
from drivetrain.store.deployments import Deployment

__all__ = ["Arrangement", "LiveRollout", "arrange", "lives_of", "obey_markers", "read_live"]

_log = logging.getLogger("drivetrain.serve")


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveRollout:
    """One that goes on; or one that was taken back to people, whose candidate must decide nothing more."""

    deployment: Deployment
    config: RolloutConfig
    scope: Scope

    @property
    def is_over(self) -> bool:
        return self.deployment.ended_at is not None

    @property
    def has_shadow(self) -> bool:
        return self.config.has_shadow and not self.is_over


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrangement:
    """Which versions of a model a server should hold."""

    model: str
    newest: str | None  # the version that answers; None: people, or whatever the server was started with
    aside: tuple[str, ...]  # loaded beside it
    known: frozenset[str]  # versions that a roll-out of this model ever spoke of; of another, the operator is right


def read_live(deployment: Deployment) -> LiveRollout:
    """Raises InvalidConfig where another drivetrain wrote it."""
    config = RolloutConfig.from_json(deployment.config)
    scope = parse_scope(config.scope)
    # the names of headers have no capitals
    attributes = {name.lower(): values for name, values in scope.attributes.items()}
    return LiveRollout(deployment=deployment, config=config, scope=replace(scope, attributes=attributes))


def obey_markers(deployments: Iterable[Deployment], markers: Iterable[Marker]) -> list[Deployment]:
    """The same, with those taken back that a file says were, while the database could not be written."""
    by_name: Mapping[str, Marker] = {marker.name: marker for marker in markers}
    found = []
    for one in deployments:
        marker = by_name.get(one.name)
        if marker is not None and one.ended_at is None and one.started_at <= marker.at:
            found.append(replace(one, stage="rolled_back", share=0.0, ended_at=marker.at))
        else:
            found.append(one)
    return found


def arrange(deployments: Iterable[Deployment]) -> list[Arrangement]:
    """For each model with a roll-out: what its newest one asks for, the oldest given first."""
    by_model: dict[str, list[Deployment]] = {}
    for one in deployments:
        by_model.setdefault(one.model, []).append(one)
    found = []
    for model, every in by_model.items():
        last = next((one for one in every if one.ended_at is None), every[-1])
        known = frozenset(v for one in every for v in (one.candidate, one.incumbent) if v is not None)
        is_open = last.ended_at is None
        newest = last.candidate if last.stage == "live" else last.incumbent
        aside = (last.candidate,) if is_open else ()
        found.append(Arrangement(model=model, newest=newest, aside=aside, known=known))
    return found


def lives_of(deployments: Iterable[Deployment]) -> dict[str, LiveRollout]:
    """By model, the oldest given first: the one that goes on, else the last one where it was taken back to people."""
    last: dict[str, Deployment] = {}
    for one in deployments:
        if one.model not in last or last[one.model].ended_at is not None:
            last[one.model] = one
    found = {}
    for model, one in last.items():
        if one.ended_at is not None and (one.stage != "rolled_back" or one.incumbent is not None):
            continue
        try:
            found[model] = read_live(one)
        except DrivetrainError as exc:
            _log.error("%s is not obeyed: %s", one.name, exc.message)
    return found
