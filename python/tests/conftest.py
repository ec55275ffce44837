"""Fixtures that the tests share."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

import ztensor

# Examples of each property, and no limit of time, since machines differ.
settings.register_profile(
    "ztensor",
    max_examples=int(os.environ.get("ZTENSOR_EXAMPLES", "200")),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("ztensor")


def pytest_configure(config: pytest.Config) -> None:
    # torch says this once a process when a sparse tensor is made; every other warning stays an error.
    for message in (
        "Sparse (CSR|CSC|BSR|BSC) tensor support is in beta state",
        "Sparse invariant checks are implicitly disabled",
    ):
        config.addinivalue_line("filterwarnings", f"ignore:{message}:UserWarning")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a file may be written; the directory holds nothing else."""
    return tmp_path / "model.zt"


@pytest.fixture(params=["mmap", "read"])
def mode(request: pytest.FixtureRequest) -> str:
    """Both ways to read a file."""
    return str(request.param)


@pytest.fixture(params=["mmap", "read", "bytes"])
def opened(request: pytest.FixtureRequest) -> Callable[..., ztensor.Reader]:
    """Opens the file of a path in each of the three ways."""

    def open_reader(path: Any, **options: Any) -> ztensor.Reader:
        if request.param == "bytes":
            return ztensor.Reader(Path(path).read_bytes(), **options)
        return ztensor.Reader(path, mode=request.param, **options)

    return open_reader


@pytest.fixture
def rng() -> np.random.Generator:
    """The same random numbers for every test."""
    return np.random.default_rng(20240229)
