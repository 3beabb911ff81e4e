"""Property tests of this folder run without a deadline: the machine may be busy."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("p2p", deadline=None)
settings.load_profile("p2p")
