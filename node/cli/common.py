"""What commands share: options, where the node is, and how failures reach the user."""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec, TypeVar

import typer

from node.cli.output import CliError, Exit, show_error

if TYPE_CHECKING:
    from node.home import Home
    from rpc.client import RpcClient

NODE_VARIABLE = "TALLY_NODE"
DEFAULT_URL = "http://127.0.0.1:8700"

JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON value instead of text.", show_default=False)
]
NodeOption = Annotated[
    str | None,
    typer.Option(
        "--node",
        metavar="URL",
        help=f"Node to ask. Else {NODE_VARIABLE}, the home's settings, a running devnet, "
        f"{DEFAULT_URL}.",
        show_default=False,
    ),
]
HomeOption = Annotated[
    str | None,
    typer.Option(
        "--home",
        metavar="DIR",
        help="Home folder. Else TALLY_HOME, ~/.tally.",
        show_default=False,
    ),
]
PassphraseOption = Annotated[
    str | None,
    typer.Option(
        "--passphrase-file",
        metavar="FILE",
        help="File with the key stores' passphrase (mode 0600); else asked for.",
        show_default=False,
    ),
]
YesOption = Annotated[
    bool, typer.Option("--yes", "-y", help="Do not ask whether to go on.", show_default=False)
]

P = ParamSpec("P")
R = TypeVar("R")


def guarded(function: Callable[P, R]) -> Callable[P, R]:
    """Turn a command's foreseen failures into a message and an exit code."""

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        as_json = bool(kwargs.get("as_json", False))
        try:
            return function(*args, **kwargs)
        except CliError as error:
            show_error(error, as_json=as_json)
            raise typer.Exit(error.code) from error
        except (typer.Exit, typer.Abort):
            raise
        except KeyboardInterrupt:
            raise typer.Exit(130) from None
        except Exception as error:
            from node.cli.failures import explain

            explained = explain(error)
            if explained is None:
                raise
            show_error(explained, as_json=as_json)
            raise typer.Exit(explained.code) from error

    return run


def reads_answers(function: Callable[P, R]) -> Callable[P, R]:
    """For commands that take a node's answer apart: one of another shape is the node's failure.

    Goes below `guarded`.
    """

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except (KeyError, TypeError, ValueError, AttributeError, ZeroDivisionError) as error:
            raise CliError(
                f"the node's answer is not what the method promises ({error!r})",
                reason="BAD_ANSWER",
                hint="is this the RPC address of a Tallystick node, and of this version?",
            ) from error

    return run


def node_url(node: str | None, home: str | None = None) -> tuple[str, str]:
    """(URL, where it came from)."""
    for text, origin in ((node, "--node"), (os.environ.get(NODE_VARIABLE), NODE_VARIABLE)):
        if text:
            url = text if "://" in text else f"http://{text}"
            return url.rstrip("/"), origin
    from node.home import resolve_home

    here = resolve_home(home)
    if here.config_file.exists():
        from node.config import load_config

        rpc = load_config(here.config_file, os.environ).config.rpc
        if rpc.port:
            host = "127.0.0.1" if rpc.host in ("0.0.0.0", "::") else rpc.host  # noqa: S104 - read
            shown = f"[{host}]" if ":" in host else host
            return f"http://{shown}:{rpc.port}", str(here.config_file)
    from node.devnet.state import running_url

    devnet = running_url()
    return (devnet, "the running devnet") if devnet else (DEFAULT_URL, "the default")


def ask(
    question: Callable[[RpcClient], Awaitable[R]],
    node: str | None,
    home: str | None = None,
) -> R:
    """The answer of `question` by the chosen node. Raises CliError."""
    url, origin = node_url(node, home)
    return asyncio.run(_ask(question, url, origin))


async def _ask(question: Callable[[RpcClient], Awaitable[R]], url: str, origin: str) -> R:
    from rpc.client import AnswerTimeout, ClientError, ConnectionFailed, RpcClient

    try:
        async with RpcClient(url) as client:
            return await question(client)
    except (ConnectionFailed, AnswerTimeout) as error:
        cause = getattr(error.__cause__, "os_error", error.__cause__)
        number = getattr(cause, "errno", None)
        why = os.strerror(number) if number else error.detail
        raise CliError(
            f"cannot reach {url} (from {origin}): {why}",
            code=Exit.UNREACHABLE,
            reason="UNREACHABLE",
            hint="start a node with `tally start`, a local network with `tally devnet up`, "
            "or name another with --node URL",
            facts={"url": url},
        ) from error
    except ClientError as error:
        from node.cli.failures import explain

        raise (explain(error) or error) from error


def existing_home(home: str | None) -> Home:
    """The chosen home, which must exist and be safe. Raises HomeError."""
    from node.home import resolve_home

    chosen = resolve_home(home)
    chosen.require()
    return chosen


def group(name: str, help_: str) -> typer.Typer:
    """A command with subcommands; alone it prints its help."""
    return typer.Typer(
        name=name, help=help_, no_args_is_help=True, add_completion=False, rich_markup_mode=None
    )


def parse_json(text: str) -> Any:
    """A JSON value, or the text itself where it is none."""
    import json

    try:
        return json.loads(text)
    except ValueError:
        return text
