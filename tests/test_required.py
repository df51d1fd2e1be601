"""CI must not pass on a skip: `--require` turns skips of a marker into failures."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = """
import pytest

@pytest.mark.browser
def test_browser():
    pytest.skip("no Chromium")

@pytest.mark.realdata
def test_photographs(data_root):
    pass

def test_other():
    pytest.skip("not on this system")
"""
GONE = 'import pytest\npytest.skip("no module", allow_module_level=True)\n'


@pytest.mark.parametrize(
    ("options", "modules", "code", "said"),
    [
        ([], [TESTS, GONE], 0, "4 skipped"),
        (["--require=browser"], [TESTS], 1, "a test marked 'browser' skipped, but must run here: Skipped: no Chromium"),
        (["--require=realdata"], [TESTS], 1, "Skipped: set DRIVETRAIN_DATA to the folder that holds clothing/"),
        (["--require=browser", "--require=realdata"], [TESTS], 1, "1 failed, 1 skipped, 1 error"),
        (["--require=browser"], [GONE], 2, "a module skipped itself, but must run here: Skipped: no module"),
    ],
)
def test_a_required_skip_fails(
    options: list[str],
    modules: list[str],
    code: int,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("DRIVETRAIN_DATA", raising=False)
    shutil.copy(Path(__file__).with_name("conftest.py"), tmp_path / "conftest.py")
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n    browser\n    realdata\n")
    for number, text in enumerate(modules):
        (tmp_path / f"test_{number}.py").write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rs", *options],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert said in done.stdout
