"""`pytest tests/scenarios --rewrite` saves the actual output for review in the diff."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rewrite", action="store_true", help="save the scenarios' actual output")
