"""Every script in this folder does what was reviewed (see tests/kit/scenario.py)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kit.scenario import run

SCRIPTS = sorted(Path(__file__).parent.glob("*/*.txt"))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_scenario(path: Path, request: pytest.FixtureRequest) -> None:
    text = path.read_text()
    actual = run(text)
    if request.config.getoption("--rewrite", default=False):
        path.write_text(actual)
    else:
        assert actual == text


def test_there_are_scripts() -> None:
    assert len(SCRIPTS) >= 12
