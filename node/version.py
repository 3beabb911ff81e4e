"""The program's version, from the installed distribution."""

from __future__ import annotations

from functools import lru_cache
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version

DISTRIBUTION = "tallystick"


@lru_cache(maxsize=1)
def version() -> str:
    """As in pyproject.toml; "0+source" where only the source tree is there."""
    try:
        return installed_version(DISTRIBUTION)
    except PackageNotFoundError:
        return "0+source"
