"""The examples in docstrings run."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import ztensor

MODULES = [name for _, name, is_package in pkgutil.iter_modules(ztensor.__path__, "ztensor.") if not is_package]


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples_run(name: str) -> None:
    if name.endswith("torch"):
        pytest.importorskip("torch")
    module = importlib.import_module(name)
    names = {**vars(module), "Reader": ztensor.Reader, "Writer": ztensor.Writer}
    found = doctest.testmod(module, extraglobs=names)
    assert not found.failed
    if name == "ztensor._reader":
        assert found.attempted
