"""tally config: a home's settings."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from node.cli.common import HomeOption, JsonOption, existing_home, group, guarded
from node.cli.output import bold, dim, show, table

app = group("config", "Show, set and check a home's settings.")


@app.command("show")
@guarded
def show_(
    *,
    home: HomeOption = None,
    origin: Annotated[
        bool, typer.Option("--origin", help="Say where each value comes from.", show_default=False)
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show the settings in force: environment > config.toml > defaults."""
    import os

    from node.config import get_setting, load_config, setting_names
    from node.config_file import to_toml

    place = existing_home(home)
    loaded = load_config(place.config_file, os.environ)
    values = {name: get_setting(loaded.config, name) for name in setting_names()}
    if origin:
        json_value: Any = {
            name: {"value": value, "origin": loaded.origins[name]} for name, value in values.items()
        }
        lines = table(
            ("SETTING", "VALUE", "ORIGIN"),
            [(name, to_toml(value), loaded.origins[name]) for name, value in values.items()],
        )
    else:
        json_value = values
        lines, section = [], ""
        for name, value in values.items():
            here, _, key = name.partition(".")
            if here != section:
                lines += ["", bold(f"[{here}]")] if section else [bold(f"[{here}]")]
                section = here
            is_default = loaded.origins[name] == "default"
            lines.append(f"{key} = {to_toml(value)}" + (dim("  # default") if is_default else ""))
    show(json_value, lines, as_json=as_json)


@app.command("set")
@guarded
def set_(
    name: Annotated[str, typer.Argument(metavar="NAME", help="For example rpc.port.")],
    value: Annotated[str, typer.Argument(metavar="VALUE", help="Lists: words with commas.")],
    *,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Set one value in config.toml; comments and order stay."""
    from node.config import ConfigError, load_config, parse_text, setting_names, unknown_setting
    from node.config_file import change, render, to_toml
    from node.home import write_file

    place = existing_home(home)
    if name not in setting_names():
        raise ConfigError((unknown_setting(name),))
    # Checked with all its neighbours before anything is written.
    load_config(place.config_file, {}, {name: value})
    parsed = parse_text(name, value)
    file = place.config_file
    text = file.read_text(encoding="utf-8") if file.exists() else render({})
    write_file(file, change(text, name, parsed).encode(), replace=True)
    shown = list(parsed) if isinstance(parsed, tuple) else parsed
    show(
        {"name": name, "value": shown, "file": str(file)},
        f"{name} = {to_toml(parsed)} in {file}; a running node reads it at its next start",
        as_json=as_json,
    )


@app.command()
@guarded
def check(*, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Check settings, network definition and the safety of the keys' files."""
    import os

    from genesis.definition import load_network
    from node.config import load_config

    place = existing_home(home)
    loaded = load_config(place.config_file, os.environ)
    changed = sum(origin != "default" for origin in loaded.origins.values())
    lines = [
        f"settings   good, {changed} set, the rest defaults",
        f"secrets    good, {len(place.secrets())} files that only you can read",
    ]
    facts: dict[str, Any] = {"home": str(place.root), "settings": changed, "genesisHash": None}
    if place.genesis_file.exists():
        network = load_network(place.genesis_file)
        facts["genesisHash"] = "0x" + network.genesis_hash.hex()
        facts["chainId"] = network.chain_id
        lines.append(f"network    good, {network.chain_id} {facts['genesisHash']}")
    else:
        lines.append(f"network    none: {place.genesis_file} does not exist")
    show(facts, lines, as_json=as_json)
