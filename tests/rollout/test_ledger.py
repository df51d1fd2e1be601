from __future__ import annotations

from dataclasses import replace

import pytest

from drivetrain.errors import InvalidInput
from drivetrain.rollout.ledger import FIRST, LedgerEntry, find_break, seal


def chain(n: int) -> list[LedgerEntry]:
    entries: list[LedgerEntry] = []
    for number in range(1, n + 1):
        entry = LedgerEntry(
            deployment="bears",
            number=number,
            at=f"2026-11-22T10:{number:02}:00+00:00",
            by="Ana",
            action="hold",
            before="limited",
            after="limited, held",
            reason="rain on the lens",
            evidence={"log_e": 1.25 * number, "why": ["é", None]},
            previous=entries[-1].digest if entries else FIRST,
        )
        entries.append(seal(entry))
    return entries


def test_a_chain_that_was_left_alone_is_whole() -> None:
    assert find_break(chain(20)) is None
    assert find_break([]) is None


@pytest.mark.parametrize("place", [0, 7, 19])
def test_every_change_shows(place: int) -> None:
    number = place + 1
    for change in ({"by": "Bob"}, {"evidence": {"log_e": 9.0}}, {"at": "2027"}, {"reason": ""}, {"digest": FIRST}):
        entries = chain(20)
        entries[place] = replace(entries[place], **change)
        assert find_break(entries) == f"entry {number} was changed after it was written"


def test_what_was_taken_out_put_in_or_sealed_anew_shows() -> None:
    whole = chain(10)
    assert find_break(whole[:4] + whole[5:]) == "entry 5 is missing: entry 6 stands in its place"
    assert find_break([whole[1], whole[0], *whole[2:]]) == "entry 1 is missing: entry 2 stands in its place"
    forged = seal(replace(whole[4], by="Bob"))
    assert find_break([*whole[:4], forged, *whole[5:]]) == "entry 6 does not follow the one before it"


def test_evidence_that_is_no_json_is_refused() -> None:
    entry = replace(chain(1)[0], evidence={"log_e": float("nan")})
    with pytest.raises(InvalidInput, match="evidence"):
        seal(entry)
