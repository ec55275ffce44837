"""Writes the first inputs of the fuzz targets into a directory: one folder for each target.

usage: fuzz_seeds.py DIRECTORY

They come from the golden, reject and legacy files of the tests, and a few are made up. The same call writes the same
files.
"""

import struct
import sys
from pathlib import Path

DATA = Path(__file__).resolve().parent.parent / "tests" / "data"
SIGNATURE = b"\x89ZTM\r\n\x1a\n"
# Longer ones make every step slow.
MAX_INDEX = 4096
MAX_FILE = 12 * 1024
# What fuzz/src/file.rs reads in the first byte: mend, disk, compress, verify, disarm.
FLAGS = [0b00001, 0b01110, 0b11101]


def index_of(file: bytes) -> bytes:
    """The index of a file, or nothing."""
    if len(file) < 128 or file[-8:] != SIGNATURE:
        return b""
    offset, size = struct.unpack("<QQ", file[-64:-48])
    return file[offset : offset + size]


def index_seeds():
    for folder in ("golden", "reject"):
        for path in sorted((DATA / folder).glob("*.zt")):
            index = index_of(path.read_bytes())
            if 0 < len(index) <= MAX_INDEX:
                yield f"{folder}-{path.stem}", index


def file_seeds(folders, flags):
    for folder in folders:
        for path in sorted((DATA / folder).rglob("*.zt")):
            file = path.read_bytes()
            if len(file) <= MAX_FILE:
                number = sum(path.name.encode()) % len(flags)
                yield f"{path.parent.name}-{path.stem}", bytes([flags[number]]) + file


def choice_seeds(kinds):
    """Bytes that stand for choices: each kind first, then a few shapes of data."""
    tails = {
        "zeros": bytes(64),
        "ramp": bytes(range(256)),
        "ones": b"\x01" * 128,
        "frame": bytes.fromhex("28b52ffd24051100000102030405") + bytes(32),
        "text": b"the quick brown fox jumps over the lazy dog; " * 8,
    }
    for kind in range(kinds):
        for name, tail in tails.items():
            yield f"{kind:02}-{name}", bytes([kind]) + tail


def main() -> None:
    seeds = {
        "index": index_seeds(),
        "file": file_seeds(["golden", "reject"], FLAGS),
        "legacy": file_seeds(["legacy"], FLAGS),
        "codec": choice_seeds(4),
        "abi": choice_seeds(32),
    }
    for target, files in seeds.items():
        folder = Path(sys.argv[1]) / target
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files:
            (folder / name).write_bytes(content)


if __name__ == "__main__":
    main()
