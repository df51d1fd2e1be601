"""`check` on real photographs: it finds what is there, cries no wolf, and is quick the second time."""

from __future__ import annotations

from pathlib import Path

import pytest

from drivetrain.data.datasheet import DATASHEET_FILE
from drivetrain.flows.check import CheckConfig, CheckResult, check
from drivetrain.progress import SilentProgress
from drivetrain.settings import load_settings

pytestmark = pytest.mark.realdata


@pytest.fixture(scope="module", params=["a fifth", pytest.param("all", marks=pytest.mark.slow)])
def linked(request: pytest.FixtureRequest, data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The photographs by links, so that nothing is written beside them."""
    root = tmp_path_factory.mktemp("linked") / "clothing"
    for part in ("test", "validation") if request.param == "a fifth" else ("test", "train", "validation"):
        for file in (data_root / "clothing" / part).rglob("*.jpg"):
            place = root / file.relative_to(data_root / "clothing")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(file)
    return root


@pytest.fixture(scope="module")
def results(linked: Path, shared_cache: Path) -> list[CheckResult]:
    settings = load_settings(environ={}, flags={"cache_dir": shared_cache})
    config = CheckConfig(data=linked, page=linked.parent / "check.html")
    return [check(config, settings=settings, progress=SilentProgress()) for _ in range(2)]


def test_no_false_alarm_and_one_picture_in_two_classes(results: list[CheckResult], linked: Path) -> None:
    first, is_whole = results[0], (linked / "train").exists()
    assert first.n_pictures == (3781 if is_whole else 713)
    told = {finding.code: finding.count for finding in first.findings if finding.severity != "note"}
    # of all, a pair of shorts that is a skirt too; of a fifth, too few in nine classes to promise much
    assert told == ({"near_two_labels": 2} if is_whole else {"few_pictures": 9})
    assert not [code for code in (finding.code for finding in first.findings) if code.startswith("mirror")]
    assert f"{first.n_pictures:,} readable pictures in 10 classes." in (linked / DATASHEET_FILE).read_text()


def test_styles_flag_one_photograph_in_a_hundred_at_most(results: list[CheckResult]) -> None:
    first = results[0]
    flagged = [finding for finding in first.findings if finding.code.startswith("style_")]
    assert sum(finding.count for finding in flagged) < first.n_pictures / 100
    assert sum(finding.count for finding in flagged if finding.code == "style_drawn") <= 3


def test_the_second_time_nothing_is_decoded(results: list[CheckResult]) -> None:
    first, again = results
    assert (again.n_decoded, again.findings) == (0, first.findings)
