"""Begin a roll-out: two bundles, what must be shown, what it is for, and about how long it will take."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from drivetrain.data.datasheet import find_open_questions
from drivetrain.errors import Conflict, InvalidConfig, InvalidInput, NotFound
from drivetrain.rollout.scope import parse_scope
from drivetrain.rollout.stages import START
from drivetrain.store.deployments import Deployment
from drivetrain.store.ids import new_id
from drivetrain.store.store import Store
from drivetrain.store.versions import Version

from .premortem import QUESTIONS, answer_premortem
from .rollout import binding
from .rollout_config import RolloutConfig
from .rollout_forecast import Plan, plan_rollout
from .versions import describe_version, register_version

__all__ = ["Plan", "Started", "plan_rollout", "prepare_config", "start_rollout"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """What was begun, or would be."""

    candidate: Version
    incumbent: Version | None
    config: RolloutConfig
    plan: Plan
    deployment: Deployment | None  # None: it was only tried
    runs_before: int  # starts of the same name with the same candidate, whose evidence it takes over


def prepare_config(config: RolloutConfig, candidate: Path, *, datasheet: Path | None = None) -> RolloutConfig:
    """With what the bundle says: its promise, and what its datasheet, or a newer one, leaves open."""
    from drivetrain.bundle.archive import read_bundle

    bundle = read_bundle(candidate)
    if bundle.manifest.task != "classification":
        raise InvalidConfig(
            "candidate", got=f"a model for {bundle.manifest.task}", want="one that gives each picture one label"
        )
    parse_scope(config.scope, classes=bundle.manifest.classes)
    data = bundle.members.get("DATASHEET.md", b"") if datasheet is None else _read(datasheet)
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise InvalidInput("datasheet", got=str(datasheet or "DATASHEET.md"), want="text in UTF-8") from None
    return replace(
        config,
        threshold=str(bundle.manifest.decision.get("statement", "")),
        open_questions=find_open_questions(text),
        datasheet_sha256=hashlib.sha256(data).hexdigest(),
    )


def start_rollout(
    store: Store,
    name: str,
    *,
    candidate: Path,
    incumbent: Path | None,
    config: RolloutConfig,
    by: str,
    reason: str,
    premortem: Mapping[str, str] | None = None,
    is_dry: bool = False,
) -> Started:
    """Begin at manual, where it decides nothing. `config` comes from `prepare_config`.

    Raises Conflict where the name or the model has one that goes on, or where an earlier start of the same name with
    the same candidate had to show something else: its evidence is taken over.
    """
    if not by.strip() or not reason.strip():
        raise InvalidConfig("by" if not by.strip() else "reason", got="none", want="a name, and a reason")
    if unknown := [one for one in premortem or {} if one not in QUESTIONS]:
        raise InvalidInput("pre-mortem", got=", ".join(unknown), want=f"some of: {', '.join(QUESTIONS)}")
    at = store.deployments.clock()
    new = describe_version(candidate, at=at, by=by)
    old = None if incumbent is None else describe_version(incumbent, at=at, by=by)
    _check_pair(new, old)
    _check_first_step(config)
    before = [one for one in store.deployments.list() if (one.name, one.candidate) == (name, new.version)]
    _check_frozen(before, config, None if old is None else old.version)
    plan = plan_rollout(config, new, old)
    if is_dry:
        return Started(candidate=new, incumbent=old, config=config, plan=plan, deployment=None, runs_before=len(before))
    for version in (candidate, incumbent):
        if version is not None:
            register_version(store, version, at=at, by=by)
    deployment = Deployment(
        id=new_id(),
        name=name,
        model=new.model,
        candidate=new.version,
        incumbent=None if old is None else old.version,
        config=config.as_json(),
        salt=before[-1].salt if before else secrets.token_hex(8),  # who had it before has it again
        stage=START.stage,
        share=START.share,
        started_at=at,
        started_by=by.strip(),
    )
    evidence = {"config": config.as_json(), "plan": plan.as_json(), "starts_before": len(before)}
    bound = binding(store, deployment.id, "start", None, START, by=by.strip(), reason=reason.strip(), evidence=evidence)
    made = store.deployments.start(deployment, seal=bound)
    answer_premortem(store, made, premortem or {}, by=by.strip())
    return Started(candidate=new, incumbent=old, config=config, plan=plan, deployment=made, runs_before=len(before))


def _check_pair(new: Version, old: Version | None) -> None:
    if old is None:
        return
    if old.digest == new.digest:
        raise Conflict("candidate", got=f"{new.version}, which is the incumbent too", want="another version")
    if old.model != new.model:
        raise InvalidConfig(
            "candidate",
            got=f"the model {new.model}",
            want=f"a version of {old.model}, the incumbent's model",
            hint=f"Make it with `drivetrain train ... --name {old.model}`; the file may be called otherwise.",
        )
    if set(old.facts.get("classes", ())) != set(new.facts.get("classes", ())):
        raise InvalidConfig("candidate", got="other classes than the incumbent", want="the same classes")


def _check_first_step(config: RolloutConfig) -> None:
    """Without shadow it decides before anyone saw it at work: then not everywhere."""
    if not config.has_shadow and not config.scope.strip():
        raise InvalidConfig(
            "scope",
            got="everywhere, without shadow",
            want="where it may decide first, such as site=north: nothing is known of it by then",
        )


def _check_frozen(before: list[Deployment], config: RolloutConfig, incumbent: str | None) -> None:
    for one in before:
        theirs = RolloutConfig.from_json(one.config).frozen | {"incumbent": one.incumbent}
        ours = config.frozen | {"incumbent": incumbent}
        if other := [name for name in theirs if theirs[name] != ours[name]]:
            raise Conflict(
                "rollout",
                got=", ".join(f"{name} {ours[name]}" for name in other),
                want=", ".join(f"{name} {theirs[name]}" for name in other) + ", as when its evidence began",
                hint="Another name begins with no evidence.",
            )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise NotFound("datasheet", got=f"{path} ({exc.strerror})", want="a datasheet.md that was filled in") from None
