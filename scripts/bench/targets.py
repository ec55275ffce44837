"""The table of what has to be reached, and how each figure follows from the medians."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import Any, Callable

import workloads
from cases import CASES, COUNTS, DTYPES
from subjects import PEER_1, PEER_2, PEER_12

MIB = workloads.MIB
OURS = "ztensor"

#: Medians: case, subject, field of a measurement.
Medians = dict[str, dict[str, dict[str, Any]]]


@dataclass(frozen=True)
class Row:
    """One line of the table. `find` gives the figure; it raises KeyError if a case or subject was not measured."""

    what: str
    against: Callable[[Medians], str]
    find: Callable[[Medians], float]
    limit: float
    at_least: bool = True
    unit: str = "×"
    #: True if the figure says how many times faster than the peer: those are plotted.
    speed: bool = False

    def reached(self, figure: float) -> bool:
        return figure >= self.limit if self.at_least else figure <= self.limit

    def target(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {show(self.limit, self.unit)}"


def show(figure: float, unit: str) -> str:
    """A figure and its unit; ratios with the decimals that decide."""
    if math.isnan(figure):
        return "not measured"
    digits = 4 if unit == ": 1" else 2 if figure < 100 else 0
    return f"{figure:.{digits}f} {unit}"


def seconds(medians: Medians, case: str, subject: str) -> float:
    return medians[case][subject]["seconds"]


def ratio(medians: Medians, case: str, subject: str) -> float:
    """The bytes of the data to those stored."""
    found = medians[case][subject]
    return found["bytes"] / found["stored"]


def speed(what: str, case: str, peers: tuple[str, ...], limit: float) -> Row:
    """How many times faster than the fastest of the peers. A peer that failed makes the row fail, not the target easier."""

    def fastest(medians: Medians) -> str:
        return min(peers, key=lambda peer: seconds(medians, case, peer))

    def against(medians: Medians) -> str:
        peer = fastest(medians)
        return peer if len(peers) == 1 else f"{peer}, the fastest of {len(peers)}"

    return Row(
        what,
        against,
        lambda medians: seconds(medians, case, fastest(medians)) / seconds(medians, case, OURS),
        limit,
        speed=True,
    )


def packed(what: str, case: str, peers: tuple[str, ...], limit: float) -> Row:
    """The ratio of compression; those of the peers stand beside it."""
    return Row(
        what,
        lambda medians: ", ".join(f"{peer} {ratio(medians, case, peer):.3f}" for peer in peers),
        lambda medians: ratio(medians, case, OURS),
        limit,
        unit=": 1",
    )


def stored(what: str, case: str, base: tuple[str, str], against: str, limit: float) -> Row:
    """The stored size, to that of another case and subject."""
    return Row(
        what,
        lambda _: against,
        lambda medians: medians[case][OURS]["stored"] / medians[base[0]][base[1]]["stored"],
        limit,
        at_least=False,
    )


def each(what: str, case: str, field: str, scale: float, unit: str, limit: float) -> Row:
    """What the C library's open costs for each tensor, scaled to the unit."""

    def find(medians: Medians) -> float:
        found = medians[case]["ztensor core"]
        return found[field] / (found["bytes"] / 16) * scale

    return Row(what, lambda _: "", find, limit, at_least=False, unit=unit)


def linear(limit: float) -> Row:
    """The time per tensor with the most tensors, to that with a tenth of them."""

    def time(medians: Medians, count: int) -> float:
        found = medians[f"open {count} tensors"]["ztensor core"]
        return found["seconds"] / found["bytes"]

    return Row(
        f"open, core only: time a tensor with {COUNTS[-1]:,}",
        lambda _: f"with {COUNTS[-2]:,}",
        lambda medians: time(medians, COUNTS[-1]) / time(medians, COUNTS[-2]),
        limit,
        at_least=False,
    )


def peak(what: str, case: str, limit: float, owned: bool = False) -> Row:
    """How far memory rises, in MiB; with `owned`, beyond the tensors that come back."""

    def find(medians: Medians) -> float:
        found = medians[case][OURS]
        return (found["peak_rss_delta"] - (found["bytes"] if owned else 0)) / MIB

    return Row(what, lambda _: "", find, limit, at_least=False, unit="MiB")


def import_row() -> Row:
    return Row(
        "import ztensor",
        lambda _: "import numpy",
        lambda medians: seconds(medians, "import", OURS) / seconds(medians, "import", "numpy"),
        1.15,
        at_least=False,
        unit="× its time",
    )


def file_rows() -> list[Row]:
    pwrite = ("bare pwrite",)
    every = ("safetensors", "torch.load", "np.load", PEER_1, PEER_2)
    biggest = f"open {COUNTS[-1]} tensors"
    many = f"open, core only, {COUNTS[-1]:,} tensors"
    return [
        speed("save model, new name", "save model, new name", pwrite, 0.90),
        speed("save model, existing name", "save model, existing name", pwrite, 0.90),
        speed("save small", "save small", ("safetensors",), 6),
        speed("save tiny", "save tiny", ("safetensors",), 20),
        speed("load small", "load small", ("safetensors",), 8),
        speed("load small", "load small", (PEER_2,), 1.5),
        speed("load model, all touched", "load model, all touched", every, 1.0),
        speed("open tiny and read one", "open tiny and read one", ("safetensors",), 5),
        speed("open 100,000 of generation 1.2", "open generation 1.2", (PEER_12,), 1.0),
        speed("open 100,000 of generation 2", "open generation 2", (PEER_2,), 1.0),
        speed("open 100,000 of generation 1.2, read one", "open generation 1.2 and read one", (PEER_12,), 1.0),
        speed("open 100,000 of generation 2, read one", "open generation 2 and read one", (PEER_2,), 1.0),
        speed("read model into owned memory", "read model into owned memory", ("safetensors pread",), 3),
        each(f"{many}: time a tensor", biggest, "seconds", 1e6, "µs", 1.0),
        each(f"{many}: memory a tensor", biggest, "rss_delta", 1, "B", 300),
        linear(1.25),
        import_row(),
    ]


def weight_rows() -> list[Row]:
    limits = {"bf16": 1.50, "fp32": 1.216, "fp16": 1.179}
    rows = []
    for short in DTYPES:
        case = f"weights {short} compress, threads 1"
        rows.append(packed(f"weights {short}, ratio", case, ("zipnn", "zstd-3", "blosc2"), limits[short]))
        for threads in (1, 2):
            plural = f"{threads} thread{'s' if threads > 1 else ''}"
            for way, limit in (("compress", 1.5), ("decompress", 1.2)):
                rows.append(
                    speed(f"weights {short}, {way}, {plural}", f"weights {short} {way}, threads {threads}", ("zipnn",), limit)
                )
    return rows


def graph_rows() -> list[Row]:
    return [
        packed(f"graph {dtype} indices, ratio", f"graph {dtype} compress", ("zstd-3", "blosc2"), limit)
        for dtype, limit in (("int64", 7.0), ("int32", 3.5))
    ]


def bag_rows() -> list[Row]:
    rows = []
    for name in workloads.BAG:
        case = f"bag {name}"
        rows += [
            stored(f"{name}, size", f"{case} compress", (f"{case} compress", "zstd-3"), "zstd-3", 1.03),
            speed(f"{name}, compress", f"{case} compress", ("zstd-3",), 0.9),
            speed(f"{name}, decompress", f"{case} decompress", ("zstd-3",), 0.9),
            level_row(name, f"{case} level 19"),
        ]
    return rows


def level_row(name: str, case: str) -> Row:
    return stored(f"{name}, size at level 19", case, (case, "ztensor level 3"), "level 3", 1.0)


def peak_rows() -> list[Row]:
    chunks = 4 * (os.cpu_count() or 1)  # of 1 MiB each
    return [
        peak("peak memory, save raw", "peak memory, save raw", 32),
        peak("peak memory, save compressed", "peak memory, save compressed", 32 + chunks),
        peak("peak memory, load compressed", "peak memory, load compressed", chunks, owned=True),
    ]


def abi_row(action: str) -> Row:
    """The time from C to that of the Rust API."""
    case = f"C ABI, {action} tiny"
    return Row(
        f"{action} tiny in bulk from C",
        lambda _: "the Rust API",
        lambda medians: seconds(medians, case, "C") / seconds(medians, case, "Rust"),
        1.2,
        at_least=False,
        unit="× its time",
    )


ROWS: list[Row] = [
    *file_rows(),
    *weight_rows(),
    *[level_row(f"weights {short}", f"weights {short} level 19") for short in DTYPES],
    *graph_rows(),
    *bag_rows(),
    *peak_rows(),
    *[abi_row(action) for action in ("write", "read")],
]


def rows(medians: Medians) -> list[tuple[Row, str, float]]:
    """The rows whose cases were run: what it is against, and the figure; not a number if a subject of it failed."""
    found = []
    for row in ROWS:
        try:
            found.append((row, row.against(medians), row.find(medians)))
        except KeyError as missing:
            if missing.args[0] not in CASES:
                found.append((row, f"{missing.args[0]}, which failed", math.nan))
    return found
