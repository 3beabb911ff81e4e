"""Who may ask over HTTP: Host, Origin, content type, operator's token. Pure functions of headers.

A page in a browser must not reach the node behind its user's back. Three checks close that way:

  Host      must name this node, or a page could bind its own name to 127.0.0.1 (DNS rebinding)
  Origin    where a browser sends one, must be this host or be allowed by name
  type      must be application/json, which no HTML form can send without a CORS preflight

Sources: OWASP "DNS rebinding" and "CSRF" cheat sheets; the Fetch standard on CORS-safelisted types.
"""

from __future__ import annotations

import hmac
import ipaddress

LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "[::1]"})

ANY_HOST = "*"
"""In the allow-list: every Host passes. For a node behind a proxy that checks it."""

_JSON = "application/json"
_BEARER = "Bearer "


def host_name(host_header: str) -> str:
    """The Host header without its port, in lower case; IPv6 literals keep their brackets."""
    if host_header.startswith("["):
        return host_header.partition("]")[0].lower() + "]"
    return host_header.partition(":")[0].lower()


def as_host(address: str) -> str:
    """A bind address as it stands in a Host header."""
    return f"[{address}]" if ":" in address else address.lower()


class Guard:
    """The allow-lists of one server."""

    __slots__ = ("_hosts", "_origins", "_token")

    def __init__(
        self, *, hosts: frozenset[str], origins: frozenset[str], admin_token: str | None
    ) -> None:
        self._hosts = LOOPBACK_HOSTS | {each.lower() for each in hosts}
        self._origins = origins
        self._token = None if admin_token is None else admin_token.encode()

    def host_allowed(self, host_header: str | None) -> bool:
        """Whether the Host header names this node."""
        if ANY_HOST in self._hosts:
            return True
        return host_header is not None and host_name(host_header) in self._hosts

    def origin_allowed(self, origin: str | None, host_header: str | None) -> bool:
        """Whether the Origin header is absent, is this very host, or is allowed by name."""
        if origin is None or origin in self._origins:
            return True
        # scheme "://" host [":" port], RFC 6454 section 6.2; a general URL parser raises on some.
        return host_header is not None and origin.partition("://")[2].lower() == host_header.lower()

    def cors_origin(self, origin: str | None) -> str | None:
        """The origin to name in CORS headers, or None. Off unless origins are configured."""
        return origin if origin in self._origins else None

    def is_operator(self, authorization: str | None, client: str | None) -> bool:
        """Whether the Authorization header carries the operator's token, from this machine.

        From elsewhere it would have crossed a network in clear text.
        """
        if client is None or not is_loopback(client):
            return False
        if self._token is None or authorization is None or not authorization.startswith(_BEARER):
            return False
        # Bytes that are no text came through as lone surrogates, which plain UTF-8 does not have.
        shown = authorization[len(_BEARER) :].encode(errors="surrogatepass")
        return hmac.compare_digest(shown, self._token)


def is_loopback(address: str) -> bool:
    """Whether an IP address is this machine's own."""
    try:
        return ipaddress.ip_address(address.partition("%")[0]).is_loopback
    except ValueError:
        return False


def is_json(content_type: str | None) -> bool:
    """Whether the Content-Type header is application/json, with or without parameters."""
    if content_type is None:
        return False
    return content_type == _JSON or content_type.partition(";")[0].strip().lower() == _JSON
