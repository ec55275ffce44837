"""Tables and plots of what was measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import targets
from cases import COUNTS
from targets import Medians

MIB = 1024 * 1024


def table(head: tuple[str, ...], lines: list[tuple[str, ...]]) -> str:
    """A table in Markdown, with its columns aligned."""
    widths = [max(len(line[at]) for line in [head, *lines]) for at in range(len(head))]
    show = lambda cells: "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths)) + " |"
    return "\n".join([show(head), show(tuple("-" * width for width in widths)), *map(show, lines)])


def reach_table(medians: Medians) -> str:
    """What is reached of what was aimed at."""
    lines = [
        (row.what, against, targets.show(figure, row.unit), row.target(), "yes" if row.reached(figure) else "**no**")
        for row, against, figure in targets.rows(medians)
    ]
    return table(("what", "against", "ratio", "target", "reached"), lines)


def time(seconds: float) -> str:
    """A time with a unit that suits it."""
    for unit, scale in (("s", 1.0), ("ms", 1e3)):
        if seconds * scale >= 1:
            return f"{seconds * scale:.3g} {unit}"
    return f"{seconds * 1e6:.3g} µs"


def absolute_table(medians: Medians) -> str:
    """Every median."""
    lines = []
    for case, subjects in medians.items():
        for subject, found in subjects.items():
            size, stored = found["bytes"], found["stored"]
            lines.append(
                (
                    case,
                    subject,
                    time(found["seconds"]),
                    f"{size / found['seconds'] / 1e9:.2f}" if size >= MIB else "",
                    f"{size / MIB:.1f}" if size else "",
                    f"{stored / MIB:.2f}" if stored else "",
                    f"{found['peak_rss_delta'] / MIB:.1f}",
                    f"{found['spread']:.0%}",
                )
            )
    head = ("case", "subject", "time", "GB/s", "data, MiB", "stored, MiB", "memory rise, MiB", "spread")
    return table(head, lines)


def page(medians: Medians, about: dict[str, str], runs: int, quick: bool) -> str:
    """All of it as Markdown."""
    warning = "\nThis was a quick run, of a twentieth of the data: its figures are not to be compared.\n" if quick else ""
    medians_of = f"Medians of {runs} runs, of two to twelve times as many where they differ much"
    measured = "A single run" if runs == 1 else medians_of
    return f"""# Benchmarks

`make bench` measures all of this and writes this page. {measured}, each in a
fresh process, subjects taking turns, after a warm-up of each. Files are on {about['filesystem']}; nothing is flushed to a disk. Loads
are timed with the data touched: a byte of every page, or, for *load model*, all of it; for that and for *load small* the file is made
anew right before each run, with no other beside it, so that all lie in the same memory. Compression is in memory. Where an
operation takes memory of its own, as much was used and freed right before: a virtual machine may have to get back from its host
what nobody used for a while.
{warning}
{table(('machine and versions', ''), list(about.items()))}

![How many times faster than the peer](benchmarks-speed.svg)

![Time to open a file](benchmarks-index.svg)

## Targets

{reach_table(medians)}

"× its time" and rows of sizes and memory are better when smaller; all others are better when larger. The ratio of a *graph*
is that of the column indices to the whole stored matrix. The *mixed bag* and its zstd run on one thread each; levels 19 and 3 are
compared on the first 8 MiB, once, since sizes do not vary.

## All medians

"Memory rise" is how far resident memory rose during the operation, mapped pages and the result included. "Spread" is the
distance of the slowest from the fastest run, in parts of the median.

{absolute_table(medians)}
"""


def plot_speed(medians: Medians, path: Path) -> None:
    """Horizontal bars: how many times faster than the peer, with the target as a mark."""
    import matplotlib.pyplot as plt

    found = [(row, against, figure) for row, against, figure in targets.rows(medians) if row.speed and figure == figure]
    if not found:
        return
    found.reverse()
    figure, axes = plt.subplots(figsize=(9, 0.27 * len(found) + 1))
    places = range(len(found))
    reached = [row.reached(value) for row, _, value in found]
    axes.barh(places, [value - 1 for _, _, value in found], left=1, color=["#2a6f97" if yes else "#c1666b" for yes in reached])
    axes.scatter([row.limit for row, _, _ in found], places, marker="|", s=90, color="black", zorder=3, label="target")
    axes.set_yticks(places, [f"{row.what} / {against.split(',')[0]}" for row, against, _ in found], fontsize=8)
    axes.set_xscale("log")
    highest = max(max(value, row.limit) for row, _, value in found)
    axes.set_xlim(min(0.5, *(value for _, _, value in found)) * 0.9, highest * 1.6)
    for place, (_, _, value) in zip(places, found):
        axes.text(max(value, 1) * 1.03, place, f"{value:.2f}", va="center", fontsize=7)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g} ×")
    axes.xaxis.set_minor_formatter("")
    axes.set_title("times as fast as the peer (red: below the target)", fontsize=10)
    axes.set_ylim(-0.7, len(found) - 0.3)
    axes.legend(loc="lower right", fontsize=8)
    save_plot(figure, path)


def plot_index(medians: Medians, path: Path) -> None:
    """The time to open a file, over its number of tensors."""
    import matplotlib.pyplot as plt

    cases = [medians[f"open {count} tensors"] for count in COUNTS if f"open {count} tensors" in medians]
    if not cases:
        return
    figure, axes = plt.subplots(figsize=(6, 4))
    labels = {"ztensor": "ztensor", "ztensor core": "ztensor, C library alone", "safetensors": "safetensors"}
    for subject, label in labels.items():
        points = [case[subject] for case in cases if subject in case]
        axes.plot([point["bytes"] / 16 for point in points], [point["seconds"] * 1e3 for point in points], "o-", label=label)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("tensors in the file")
    axes.set_ylabel("milliseconds to open it")
    axes.grid(alpha=0.3)
    axes.legend()
    save_plot(figure, path)


def save_plot(figure: Any, path: Path) -> None:
    """An SVG that is the same for the same figures."""
    import matplotlib

    with matplotlib.rc_context({"svg.hashsalt": "ztensor", "svg.fonttype": "none"}):
        figure.savefig(path, bbox_inches="tight", metadata={"Date": None})


def write(folder: Path, medians: Medians, about: dict[str, str], runs: int, quick: bool) -> None:
    """The page and its plots."""
    import matplotlib

    matplotlib.use("svg")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "benchmarks.md").write_text(page(medians, about, runs, quick))
    plot_speed(medians, folder / "benchmarks-speed.svg")
    plot_index(medians, folder / "benchmarks-index.svg")
