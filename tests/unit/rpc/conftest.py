"""A node with a real store, and the dispatcher in front of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.rpc_asking import Asking
from tests.kit.rpc_node import RpcNode


@pytest.fixture
def node(tmp_path: Path) -> Iterator[RpcNode]:
    made = RpcNode(tmp_path)
    yield made
    made.close()


@pytest.fixture
def ask(node: RpcNode) -> Asking:
    return Asking(node)
