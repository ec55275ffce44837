"""Writes python/LICENSE-THIRD-PARTY, the licences of what is linked into the shared library; the wheel carries them.

    python scripts/licenses.py          write it, after a dependency changed
    python scripts/licenses.py --check  fail if it is not what would be written
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "python" / "LICENSE-THIRD-PARTY"
#: Of a choice of licences, the first of these that is offered.
PREFERRED = ("LICENSE-MIT", "LICENSE", "LICENSE.md")
#: Beside the one that was chosen: they cover parts, such as the C library that a crate contains.
BESIDE = ("LICENSE-UNICODE", "LICENSE.BSD-3-Clause", "LICENSE.BSD-2-Clause", "zstd/LICENSE")


def linked() -> list[dict[str, Any]]:
    """The packages that the library is made of, by name."""
    command = [os.environ.get("CARGO", "cargo"), "metadata", "--format-version", "1", "--locked"]
    command += ["--filter-platform", "x86_64-unknown-linux-gnu"]
    metadata = json.loads(subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout)
    packages = {package["id"]: package for package in metadata["packages"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    found, waiting = set(), [metadata["resolve"]["root"]]
    while waiting:
        for dependency in nodes[waiting.pop()]["deps"]:
            is_linked = any(kind["kind"] is None for kind in dependency["dep_kinds"])
            if is_linked and dependency["pkg"] not in found:
                found.add(dependency["pkg"])
                waiting.append(dependency["pkg"])
    return sorted((packages[one] for one in found), key=lambda package: (package["name"], package["version"]))


def texts(package: dict[str, Any]) -> list[str]:
    """The licences of a package."""
    folder = Path(package["manifest_path"]).parent
    chosen = [next(name for name in PREFERRED if (folder / name).exists())]
    chosen += [name for name in BESIDE if (folder / name).exists()]
    return ["\n".join(line.rstrip() for line in (folder / name).read_text("utf-8").strip().splitlines()) for name in chosen]


def document() -> str:
    """Each licence once, under the names of those that are licensed so."""
    holders: dict[str, list[str]] = {}
    for package in linked():
        for text in texts(package):
            holders.setdefault(text, []).append(f"{package['name']} {package['version']}")
    parts = ["The shared library of ztensor contains these works, under the licences that follow their names."]
    parts += [f"{'=' * 80}\n{', '.join(names)}\n{'=' * 80}\n\n{text}" for text, names in holders.items()]
    return "\n\n".join(parts) + "\n"


def main() -> int:
    expected = document()
    if "--check" not in sys.argv[1:]:
        OUT.write_text(expected, "utf-8")
    elif not OUT.exists() or OUT.read_text("utf-8") != expected:
        print(f"{OUT.relative_to(ROOT)} does not fit Cargo.lock: run `make licenses`", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
