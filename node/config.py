"""Settings of one node: command line > environment > config.toml > defaults.

A setting has a dotted name, `rpc.port`. On the command line it is `--set rpc.port=8700` (the usual
ones have options of their own), in the environment `TALLY__RPC__PORT=8700`, in config.toml

    [rpc]
    port = 8700

Names that do not exist are errors in every layer, with the name that was probably meant: a
misspelt limit that silently keeps its default is worse than a node that does not start. The origin
of every value is kept for `tally config show --origin`.

Settings are this node's own business. What all nodes must agree on stands in the network
definition (genesis.document) and cannot be set here. Layers are merged here rather than by
pydantic-settings, which ignores unknown environment variables and forgets origins
(docs/decisions/0081).
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_origin

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

from genesis.document import NAME_PATTERN
from genesis.errors import Problem
from genesis.problems import problems_of, suggestion
from ledger.identity import InvalidPeerId, public_key_of

ENVIRONMENT_PREFIX = "TALLY__"

# A hundred persistent peers with long names are 15 KiB.
CONFIG_FILE_LIMIT_BYTES = 1 << 20

PERSISTENT_PEERS_MAX_COUNT = 128
"""Each is dialled for ever; a full mesh of 100 validators fits."""

DEFAULT_P2P_PORT = 9700
DEFAULT_RPC_PORT = 8700


class ConfigError(Exception):
    """Settings that cannot be used. `problems` name setting and origin; at least one."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("; ".join(map(str, problems)))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class PeerAddress:
    """Whom to dial where: PeerID, host (name or IP address), TCP port."""

    peer_id: str
    host: str
    port: int


def parse_peer_address(text: str) -> PeerAddress:
    """`PeerID@host:port`; an IPv6 address stands in brackets. Raises ValueError."""
    name, _, place = text.partition("@")
    host, _, port = place.rpartition(":")
    if not name or not host or not port.isascii() or not port.isdigit():
        raise ValueError(f"{text!r} is not PeerID@host:port")
    try:
        public_key_of(name)
    except InvalidPeerId as error:
        raise ValueError(str(error)) from error
    if not 1 <= int(port) <= 65_535:
        raise ValueError(f"port {port} is not in 1…65,535")
    if host.startswith("[") != host.endswith("]") or (":" in host and not host.startswith("[")):
        raise ValueError(f"{text!r}: an IPv6 address stands in brackets")
    return PeerAddress(name, host.strip("[]"), int(port))


def _check_peer_address(text: str) -> str:
    parse_peer_address(text)
    return text


Port = Annotated[int, Field(ge=0, le=65_535)]
Host = Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[A-Za-z0-9.:_-]+$")]
HostName = Annotated[
    str, Field(min_length=1, max_length=255, pattern=r"^(\*|[A-Za-z0-9.:_\[\]-]+)$")
]
OriginText = Annotated[str, Field(max_length=512, pattern=r"^https?://[^/\s]+$")]
PeerText = Annotated[str, AfterValidator(_check_peer_address)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class NodeSection(_Section):
    """Who this node is to people."""

    name: Annotated[str, Field(pattern=NAME_PATTERN)] = Field(
        "tally", description="shown in logs, metrics and status"
    )


class P2PSection(_Section):
    """Where other nodes reach this one."""

    host: Host = Field("0.0.0.0", description="address to listen on")  # noqa: S104 - peers are outside
    port: Port = Field(DEFAULT_P2P_PORT, description="TCP port; 0 takes a free one")
    persistent_peers: Annotated[
        tuple[PeerText, ...], Field(max_length=PERSISTENT_PEERS_MAX_COUNT)
    ] = Field((), description='dialled for ever, each "PeerID@host:port"')


class RpcSection(_Section):
    """Where programs and people ask."""

    host: Host = Field(
        "127.0.0.1", description="address to listen on; beyond loopback put a TLS proxy in front"
    )
    port: Port = Field(DEFAULT_RPC_PORT, description="TCP port; 0 takes a free one")
    allowed_hosts: tuple[HostName, ...] = Field(
        (), description='Host names accepted besides loopback; "*" for behind a checking proxy'
    )
    allowed_origins: tuple[OriginText, ...] = Field(
        (), description="web origins that may call from a browser (CORS); none by default"
    )


class MempoolSection(_Section):
    """Transactions waiting in this node's memory."""

    max_txs: Annotated[int, Field(ge=100, le=10_000_000)] = Field(50_000, description="count")
    max_bytes: Annotated[int, Field(ge=1 << 20, le=1 << 36)] = Field(
        64 << 20, description="bytes of all of them"
    )
    max_per_sender: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        1_024, description="count waiting of one sender"
    )


class ConsensusSection(_Section):
    """This node's part in the agreement."""

    vote: bool = Field(
        default=True,
        description="false follows the chain without voting: a standby with a validator's keys",
    )


class KeysSection(_Section):
    """How the key stores are opened."""

    passphrase_file: str = Field(
        "",
        description="file with the passphrase (mode 0600), relative to the home; "
        "empty asks systemd's credential tally-passphrase, then the terminal",
    )


class LogSection(_Section):
    """Lines on standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="debug, info, warning or error"
    )
    format: Literal["auto", "json", "text"] = Field(
        "auto", description="json, text, or auto: text on a terminal"
    )


class MetricsSection(_Section):
    """Figures for Prometheus."""

    enabled: bool = Field(default=True, description="serve /metrics on the RPC port")


class Config(_Section):
    """All settings of a node."""

    node: NodeSection = NodeSection()
    p2p: P2PSection = P2PSection()
    rpc: RpcSection = RpcSection()
    mempool: MempoolSection = MempoolSection()
    consensus: ConsensusSection = ConsensusSection()
    keys: KeysSection = KeysSection()
    log: LogSection = LogSection()
    metrics: MetricsSection = MetricsSection()


@dataclass(frozen=True, slots=True)
class LoadedConfig:
    """The settings and, by dotted name, where each value came from."""

    config: Config
    origins: dict[str, str]


def setting_names() -> tuple[str, ...]:
    """Every dotted name, in the order of the sections."""
    return tuple(_FIELDS)


def get_setting(config: Config, name: str) -> Any:
    """The value of a dotted name that exists."""
    section, _, key = name.partition(".")
    return getattr(getattr(config, section), key)


def describe_setting(name: str) -> str:
    """What a setting is, in a few words."""
    return _FIELDS[name].description or ""


def load_config(
    file: Path | None,
    environment: Mapping[str, str],
    command_line: Mapping[str, str] | None = None,
) -> LoadedConfig:
    """The merged settings. Raises ConfigError with every problem.

    `file` may be absent (None or not there); `command_line` maps dotted names to text.
    """
    values: dict[str, dict[str, Any]] = {}
    origins = dict.fromkeys(_FIELDS, "default")
    problems: list[Problem] = []
    layers = (
        _file_layer(file, problems),
        _environment_layer(environment, problems),
        _command_line_layer(command_line or {}, problems),
    )
    for layer in layers:
        for name, value, origin in layer:
            section, _, key = name.partition(".")
            values.setdefault(section, {})[key] = value
            origins[name] = origin
    if problems:
        raise ConfigError(tuple(problems))
    try:
        config = Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError(tuple(_with_origin(error, origins))) from error
    return LoadedConfig(config, origins)


def parse_text(name: str, text: str) -> Any:
    """The value of a setting written as text. Raises ValueError.

    Lists are JSON arrays or words separated by commas; booleans are true or false.
    """
    annotation = _FIELDS[name].annotation
    if annotation is bool:
        if text not in ("true", "false"):
            raise ValueError(f"must be true or false, not {text!r}")
        return text == "true"
    if annotation is int:
        try:
            return int(text)
        except ValueError:
            raise ValueError(f"must be an integer, not {text!r}") from None
    if get_origin(annotation) is tuple:
        if not text.lstrip().startswith("["):
            return tuple(part.strip() for part in text.split(",") if part.strip())
        try:
            return tuple(json.loads(text))
        except (ValueError, RecursionError):
            raise ValueError(f"must be words with commas or a JSON array, not {text!r}") from None
    return text


def unknown_setting(name: str, where: str = "") -> Problem:
    """The problem of a dotted name that does not exist."""
    return Problem(where or name, "unknown", "there is no such setting", suggestion(name, _FIELDS))


Layer = Iterator[tuple[str, Any, str]]


def _file_layer(file: Path | None, problems: list[Problem]) -> Layer:
    if file is None or not file.exists():
        return
    try:
        if file.stat().st_size > CONFIG_FILE_LIMIT_BYTES:
            problems.append(Problem(str(file), "size", f"over {CONFIG_FILE_LIMIT_BYTES} bytes"))
            return
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        problems.append(Problem(str(file), "toml", f"not TOML: {error}"))
        return
    except OSError as error:
        problems.append(Problem(str(file), "read", f"cannot be read: {error.strerror}"))
        return
    for section, content in document.items():
        if section not in Config.model_fields:
            hint = suggestion(section, Config.model_fields)
            problems.append(Problem(f"{file}: [{section}]", "unknown", "no such section", hint))
        elif not isinstance(content, dict):
            detail = f"must be a section, [{section}], not a value"
            problems.append(Problem(f"{file}: {section}", "section", detail))
        else:
            for key, value in content.items():
                name = f"{section}.{key}"
                if name not in _FIELDS:
                    problems.append(_unknown_key(section, key, f"{file}: {name}"))
                else:
                    yield name, tuple(value) if isinstance(value, list) else value, str(file)


def _environment_layer(environment: Mapping[str, str], problems: list[Problem]) -> Layer:
    by_variable = {variable_of(name): name for name in _FIELDS}
    for variable in sorted(environment):
        if not variable.startswith(ENVIRONMENT_PREFIX):
            continue
        if variable not in by_variable:
            hint = suggestion(variable, by_variable)
            problems.append(Problem(variable, "unknown", "names no setting", hint))
            continue
        yield from _text(by_variable[variable], environment[variable], variable, problems)


def _command_line_layer(command_line: Mapping[str, str], problems: list[Problem]) -> Layer:
    for name, text in command_line.items():
        if name in _FIELDS:
            yield from _text(name, text, "command line", problems)
        else:
            problems.append(unknown_setting(name, f"--set {name}"))


def _text(name: str, text: str, origin: str, problems: list[Problem]) -> Layer:
    try:
        yield name, parse_text(name, text), origin
    except ValueError as error:
        problems.append(Problem(f"{name} ({origin})", "type", str(error)))


def variable_of(name: str) -> str:
    """The environment variable of a dotted name."""
    return ENVIRONMENT_PREFIX + name.upper().replace(".", "__")


def _unknown_key(section: str, key: str, where: str) -> Problem:
    model = Config.model_fields[section].annotation
    assert model is not None
    hint = suggestion(key, model.model_fields)
    return Problem(where, "unknown", "there is no such setting", hint)


def _with_origin(error: ValidationError, origins: Mapping[str, str]) -> Iterator[Problem]:
    for problem in problems_of(error, Config):
        name = ".".join(problem.where.split(".")[:2])
        where = f"{problem.where} ({origins.get(name, 'default')})"
        yield Problem(where, problem.rule, problem.detail, problem.hint)


def _fields() -> Iterator[tuple[str, FieldInfo]]:
    for section, field in Config.model_fields.items():
        model = field.annotation
        assert isinstance(model, type)
        assert issubclass(model, BaseModel)
        for key, inner in model.model_fields.items():
            yield f"{section}.{key}", inner


_FIELDS: dict[str, FieldInfo] = dict(_fields())
