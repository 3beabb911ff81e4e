"""The vendored bundle is the one that was reviewed, with its licences, and names no addresses."""

from __future__ import annotations

import json
import re
from hashlib import sha256
from pathlib import Path

import explorer

VENDOR = Path(explorer.__file__).parent / "vendor"


def test_the_files_are_those_whose_hashes_are_committed() -> None:
    listed = dict(
        reversed(line.split()) for line in (VENDOR / "SHA256SUMS").read_text().splitlines()
    )
    assert set(listed) == {"vendor.js", "uplot.css", "LICENSES.txt"}
    for name, expected in listed.items():
        assert sha256((VENDOR / name).read_bytes()).hexdigest() == expected, name


def test_every_bundled_package_is_pinned_and_has_its_licence() -> None:
    package = json.loads((VENDOR / "build" / "package.json").read_text())
    licences = (VENDOR / "LICENSES.txt").read_text()
    readme = (VENDOR / "README.md").read_text()
    for name, version in package["dependencies"].items():
        assert re.fullmatch(r"\d+\.\d+\.\d+", version), name
        assert f"--- {name} {version}\n" in licences
        assert f"| {name} | {version} |" in readme


def test_the_lock_file_names_hashes_but_no_addresses() -> None:
    lock = json.loads((VENDOR / "build" / "package-lock.json").read_text())
    for name, entry in lock["packages"].items():
        assert "resolved" not in entry, name
        assert not name or entry["integrity"].startswith("sha512-"), name


def test_the_bundle_knows_no_other_host() -> None:
    found = set(re.findall(r"(?:https?|wss?)://[^\s\"'`/]+", (VENDOR / "vendor.js").read_text()))
    assert found == {"http://www.w3.org"}, "names of XML namespaces, which nothing fetches"
