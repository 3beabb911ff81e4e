"""Who may ask: Host and Origin, content type, the operator's token."""

from __future__ import annotations

import pytest

from rpc.guard import Guard, as_host, host_name, is_json

GUARD = Guard(
    hosts=frozenset({"Node.example"}),
    origins=frozenset({"https://explorer.example"}),
    admin_token="s3cret",
)


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("localhost", True),
        ("LOCALHOST:8645", True),
        ("127.0.0.1:8645", True),
        ("[::1]:8645", True),
        ("node.example", True),
        ("evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("localhost.evil.example:8645", False),
        ("", False),
        (None, False),
    ],
)
def test_hosts(host: str | None, allowed: bool) -> None:
    assert GUARD.host_allowed(host) is allowed


def test_any_host_must_be_asked_for() -> None:
    guard = Guard(hosts=frozenset({"*"}), origins=frozenset(), admin_token=None)
    assert guard.host_allowed("evil.example")
    assert guard.host_allowed(None)


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        (None, True),
        ("http://localhost:8645", True),
        ("https://localhost:8645", True),
        ("https://explorer.example", True),
        ("http://explorer.example", False),
        ("http://localhost:3000", False),
        ("https://evil.example", False),
        ("null", False),
        ("", False),
    ],
)
def test_origins(origin: str | None, allowed: bool) -> None:
    assert GUARD.origin_allowed(origin, "localhost:8645") is allowed


def test_cors_only_by_name() -> None:
    assert GUARD.cors_origin("https://explorer.example") == "https://explorer.example"
    assert GUARD.cors_origin("http://localhost:8645") is None
    assert GUARD.cors_origin(None) is None


@pytest.mark.parametrize(
    ("header", "operator"),
    [
        ("Bearer s3cret", True),
        ("Bearer s3cret ", False),
        ("Bearer S3CRET", False),
        ("Bearer é", False),
        ("Basic s3cret", False),
        ("s3cret", False),
        (None, False),
    ],
)
def test_operator(header: str | None, operator: bool) -> None:
    assert GUARD.is_operator(header, "127.0.0.1") is operator


@pytest.mark.parametrize(
    ("client", "operator"),
    [("127.0.0.1", True), ("::1", True), ("192.0.2.1", False), ("", False), (None, False)],
)
def test_the_token_is_good_from_this_machine_only(client: str | None, operator: bool) -> None:
    assert GUARD.is_operator("Bearer s3cret", client) is operator


def test_without_a_token_nobody_is_operator() -> None:
    guard = Guard(hosts=frozenset(), origins=frozenset(), admin_token=None)
    assert not guard.is_operator("Bearer ", "127.0.0.1")


@pytest.mark.parametrize(
    ("content_type", "json"),
    [
        ("application/json", True),
        ("application/json; charset=utf-8", True),
        ("Application/JSON", True),
        ("text/plain", False),
        ("application/json-rpc", False),
        ("text/plain; application/json", False),
        (None, False),
    ],
)
def test_content_type(content_type: str | None, json: bool) -> None:
    assert is_json(content_type) is json


def test_host_spellings() -> None:
    assert host_name("[::1]:80") == "[::1]"
    assert as_host("::1") == "[::1]"
    assert as_host("127.0.0.1") == "127.0.0.1"
