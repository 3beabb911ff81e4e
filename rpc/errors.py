"""What a call can be answered with besides a result: codes, reasons, and the exceptions for them.

The code says which family, `data.reason` says what exactly, and the reason strings are the
contract: a client decides on (code, reason), never on the message. Every error carries
`data: {reason, retryable, ...facts}`; `retryable` means that the same call may succeed later.

    RpcError
      ParseError            -32700  PARSE_ERROR
      InvalidRequest        -32600  INVALID_REQUEST
      MethodNotFound        -32601  METHOD_NOT_FOUND
      InvalidParams         -32602  INVALID_PARAMS, or a finer reason of the method
      InternalError         -32603  INTERNAL_ERROR
      NotFound              -32001  BLOCK_NOT_FOUND, TRANSACTION_NOT_FOUND, ...
      Unavailable           -32002  PRUNED (earliestHeight), SYNCING, DEADLINE_EXCEEDED, ...
      TransactionRejected   -32003  the ledger's reason, NONCE_TOO_LOW and so on
      MethodDisabled        -32004  METHOD_DISABLED
      LimitExceeded         -32005  RATE_LIMITED (retryAfterMs), BATCH_TOO_LARGE, ...
      Unauthorized          -32010  UNAUTHORIZED

Source of the first five: JSON-RPC 2.0 specification, section 5.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import orjson

Facts = Mapping[str, object]


class RpcError(Exception):
    """A call that is answered with an error. Subclasses fix the code; instances carry the facts."""

    code: ClassVar[int] = -32603
    default_reason: ClassVar[str] = "INTERNAL_ERROR"
    default_retryable: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        reason: str | None = None,
        retryable: bool | None = None,
        facts: Facts | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = self.default_reason if reason is None else reason
        self.retryable = self.default_retryable if retryable is None else retryable
        self.facts: Facts = {} if facts is None else facts

    def as_object(self) -> dict[str, object]:
        """The JSON-RPC error object: {code, message, data: {reason, retryable, ...facts}}."""
        data = {"reason": self.reason, "retryable": self.retryable, **self.facts}
        return {"code": self.code, "message": self.message, "data": data}

    def encoded(self) -> bytes:
        """The error object as JSON. The facts are plain JSON values by contract."""
        return orjson.dumps(self.as_object())


class ParseError(RpcError):
    """The body is not JSON as RFC 8259 has it, or is nested too deep to be read."""

    code = -32700
    default_reason = "PARSE_ERROR"


class InvalidRequest(RpcError):
    """JSON, but not a Request object."""

    code = -32600
    default_reason = "INVALID_REQUEST"


class MethodNotFound(RpcError):
    """No method of that name."""

    code = -32601
    default_reason = "METHOD_NOT_FOUND"


class InvalidParams(RpcError):
    """The parameters do not fit the method."""

    code = -32602
    default_reason = "INVALID_PARAMS"


class InternalError(RpcError):
    """Our own failure. Nothing about it leaves the node; the node's log has it."""

    code = -32603
    default_reason = "INTERNAL_ERROR"
    default_retryable = True


class NotFound(RpcError):
    """The thing asked for does not exist here and was not pruned."""

    code = -32001
    default_reason = "NOT_FOUND"


class Unavailable(RpcError):
    """It may exist, but this node cannot answer: pruned (`earliestHeight`), syncing, too slow."""

    code = -32002
    default_reason = "UNAVAILABLE"
    default_retryable = True


class TransactionRejected(RpcError):
    """The ledger refuses the transaction; `reason` and the facts are the ledger's own."""

    code = -32003
    default_reason = "TRANSACTION_REJECTED"


class MethodDisabled(RpcError):
    """The method exists but this node does not serve it."""

    code = -32004
    default_reason = "METHOD_DISABLED"


class LimitExceeded(RpcError):
    """A named limit was reached. With `retryAfterMs` where waiting helps."""

    code = -32005
    default_reason = "LIMIT_EXCEEDED"


class Unauthorized(RpcError):
    """The method needs an authority the caller has not shown."""

    code = -32010
    default_reason = "UNAUTHORIZED"


def rate_limited(retry_after_ms: int) -> LimitExceeded:
    """The caller's network has used up its tokens; they are back in `retry_after_ms`."""
    return LimitExceeded(
        f"too many calls; try again in {retry_after_ms} ms",
        reason="RATE_LIMITED",
        retryable=True,
        facts={"retryAfterMs": retry_after_ms},
    )


STANDARD_ERRORS: tuple[type[RpcError], ...] = (
    ParseError,
    InvalidRequest,
    MethodNotFound,
    InvalidParams,
    InternalError,
)
"""Errors that any call can be answered with."""
