"""What could go wrong, asked before it does: a roll-out does not leave its manual stage without answers."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path

from drivetrain.errors import InvalidInput, NotFound
from drivetrain.store.deployments import Deployment
from drivetrain.store.store import Store

__all__ = ["QUESTIONS", "answer_premortem", "find_unanswered", "read_premortem"]

# Name -> what is asked. After Klein 2007, "Performing a project premortem".
QUESTIONS: Mapping[str, str] = {
    "goes_wrong": "It is a year from now, and this went badly. What happened?",
    "noticed": "How would you notice, and how soon?",
    "miss": "Who is harmed by a miss, and how badly?",
    "false_alarm": "Who is harmed by a false alarm, and how badly?",
    "goes_well": "What if it goes really, really well: what will it see, or change, that it was not made from?",
    "more_traffic": "What if ten times as many pictures come?",
    "blind_trust": "What if people come to trust it blindly, and stop looking?",
    "who_stops": "Who can stop it, at any hour, and do they know how?",
}


def read_premortem(path: Path) -> dict[str, str]:
    """Answers from a TOML file: `goes_wrong = "..."`, one for each question that has one."""
    try:
        given = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise NotFound("pre-mortem", got=str(path), want="a TOML file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise InvalidInput("pre-mortem", got=f"{path}: {exc}", want="a TOML file of questions and answers") from None
    off = [name for name, answer in given.items() if name not in QUESTIONS or not isinstance(answer, str)]
    if off:
        raise InvalidInput("pre-mortem", got=", ".join(off), want=f"text for some of: {', '.join(QUESTIONS)}")
    return {name: answer for name, answer in given.items() if answer.strip()}


def answer_premortem(store: Store, deployment: Deployment, answers: Mapping[str, str], *, by: str) -> None:
    """Keep answers, by name of the question. Raises InvalidInput where one is no question of ours."""
    unknown = [name for name in answers if name not in QUESTIONS]
    if unknown:
        raise InvalidInput("question", got=", ".join(unknown), want=f"some of: {', '.join(QUESTIONS)}")
    for name, answer in answers.items():
        store.deployments.answer_premortem(deployment.id, name, answer, by)


def find_unanswered(store: Store, deployment: Deployment) -> list[str]:
    """The names of the questions without an answer, in the order in which they are asked."""
    answered = store.deployments.premortem(deployment.id)
    return [name for name in QUESTIONS if name not in answered]
