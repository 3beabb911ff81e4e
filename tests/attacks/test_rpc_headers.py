"""Attacks by headers: each ends as a refusal, never as an exception that fills the log."""

from __future__ import annotations

import pytest

from rpc.guard import Guard, host_name, is_json

TOKEN = "0123456789abcdef"
GUARD = Guard(hosts=frozenset({"node.example"}), origins=frozenset(), admin_token=TOKEN)


@pytest.mark.parametrize(
    "origin",
    [
        "http://[::1",
        "http://\u2100.com",
        "http://",
        "://",
        "null",
        "",
        "\udcff",
        "node.example",
        "http://node.example@evil.example",
        "http://node.example:80/path",
        "http://evil.example/http://node.example",
        "http://evil.example",
        "http://node.example.evil.example",
        "http:" + "/" * 10_000,
    ],
)
def test_no_origin_but_our_own_passes(origin: str) -> None:
    assert not GUARD.origin_allowed(origin, "node.example")


@pytest.mark.parametrize("origin", ["http://node.example", "https://NODE.example"])
def test_our_own_does(origin: str) -> None:
    assert GUARD.origin_allowed(origin, "node.example")


@pytest.mark.parametrize(
    "authorization",
    ["Bearer \udcff", "Bearer ", "Bearer", "bearer " + TOKEN, TOKEN, "", "Bearer " + TOKEN + " "],
)
def test_no_other_spelling_of_the_token_passes(authorization: str) -> None:
    assert not GUARD.is_operator(authorization, "127.0.0.1")


@pytest.mark.parametrize(
    "client", [None, "", "10.0.0.1", "127.0.0.1.evil.example", "::ffff:8.8.8.8"]
)
def test_the_token_is_no_good_from_elsewhere(client: str | None) -> None:
    assert GUARD.is_operator(f"Bearer {TOKEN}", "127.0.0.1")
    assert not GUARD.is_operator(f"Bearer {TOKEN}", client)


@pytest.mark.parametrize(
    "host",
    [
        "[::1",
        "\udcff",
        "",
        ":80",
        "evil.example",
        "node.example.evil.example",
        "127.0.0.1.evil",
        "@",
    ],
)
def test_rebound_names_do_not_pass_for_ours(host: str) -> None:
    assert GUARD.host_allowed(host) == (host_name(host) == "[::1]")


@pytest.mark.parametrize(
    "content_type",
    ["text/plain", "application/json, text/plain", "text/plain; application/json", "", ";", None],
)
def test_what_a_form_can_send_is_not_json(content_type: str | None) -> None:
    assert not is_json(content_type)
