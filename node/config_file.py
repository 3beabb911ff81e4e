"""config.toml as text: the commented file that `tally init` writes, and changing one value in it.

Changing keeps comments and order. The line that holds the setting is replaced, or one is added to
its section; the result is parsed again and must differ in exactly this setting, otherwise the file
is left alone and the user is asked to edit it.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from typing import Any

from node.config import Config, describe_setting, get_setting, setting_names

_HEAD = """\
# Settings of this node. Lines with # show defaults. The environment (TALLY__RPC__PORT) and the
# command line (--set rpc.port=8700) go before this file; `tally config show --origin` tells which.
"""


class CannotEdit(Exception):
    """The file is written in a way that a line edit would break; nothing was changed."""


def render(values: Mapping[str, Any]) -> str:
    """The file with these settings (dotted names) set and all others shown as comments."""
    lines = [_HEAD]
    section = ""
    defaults = Config()
    for name in setting_names():
        here, _, key = name.partition(".")
        if here != section:
            lines += ["", f"[{here}]"] if section else [f"[{here}]"]
            section = here
        lines.append(f"# {describe_setting(name)}")
        if name in values:
            lines.append(f"{key} = {to_toml(values[name])}")
        else:
            lines.append(f"# {key} = {to_toml(get_setting(defaults, name))}")
    return "\n".join(lines) + "\n"


def change(text: str, name: str, value: Any) -> str:
    """`text` with the setting `name` set to `value`. Raises CannotEdit, TOMLDecodeError."""
    section, _, key = name.partition(".")
    wanted = tomllib.loads(text)
    wanted.setdefault(section, {})[key] = list(value) if isinstance(value, tuple) else value
    lines = text.splitlines()
    line = f"{key} = {to_toml(value)}"
    start, end = _section_span(lines, section)
    if start is None:
        lines += ["", f"[{section}]", line]
    else:
        place = _find(lines, start, end, rf"{re.escape(key)}\s*=")
        if place is None:
            place = _find(lines, start, end, rf"#\s*{re.escape(key)}\s*=")
        if place is None:
            lines.insert(start + 1, line)
        else:
            lines[place] = line
    changed = "\n".join(lines) + "\n"
    try:
        same = tomllib.loads(changed) == wanted
    except tomllib.TOMLDecodeError:
        same = False
    if not same:
        raise CannotEdit(f"{name} stands in the file in a way that only you can edit")
    return changed


def to_toml(value: Any) -> str:
    """A value as TOML; strings, integers, booleans and arrays of strings are all there are."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(to_toml, value)) + "]"
    # JSON's escapes are TOML's too; U+007F is the one character that only TOML wants escaped.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _section_span(lines: list[str], section: str) -> tuple[int | None, int]:
    start = _find(lines, 0, len(lines), rf"\[\s*{re.escape(section)}\s*\]")
    if start is None:
        return None, len(lines)
    end = _find(lines, start + 1, len(lines), r"\[")
    return start, len(lines) if end is None else end


def _find(lines: list[str], start: int, end: int, pattern: str) -> int | None:
    for index in range(start, end):
        if re.match(r"\s*" + pattern, lines[index]):
            return index
    return None
