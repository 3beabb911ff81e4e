"""What holds for every test: hypothesis judges results, not the clock of a busy machine."""

from hypothesis import settings

settings.register_profile("tally", deadline=None)
settings.load_profile("tally")
