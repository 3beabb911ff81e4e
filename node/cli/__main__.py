"""`python -m node.cli`, for processes that must run with this very interpreter."""

from __future__ import annotations

from node.cli import main

if __name__ == "__main__":
    main()
