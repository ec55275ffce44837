"""torch, SciPy and ml_dtypes are imported only when they are asked for, and missing ones are named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support import run_python

import ztensor
from ztensor import Writer

#: Put before a program: these packages cannot be imported in it.
BLOCK = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

BLOCKED = set(sys.argv[2].split(","))
sys.meta_path.insert(0, Blocker())
path = sys.argv[1]
"""


@pytest.fixture
def file(path: Path) -> Path:
    """A file with a plain, a bfloat16 and a sparse tensor."""
    ml_dtypes = pytest.importorskip("ml_dtypes")
    with Writer(path) as writer:
        writer.add_tensor("plain", np.arange(3))
        writer.add_tensor("bf16", np.array([1, 2, 3], ml_dtypes.bfloat16))
        writer.add_sparse_csr("sparse", np.array([1.0, 2]), np.array([0, 2]), np.array([0, 1, 2]), (2, 3))
    return path


def test_importing_the_package_imports_none_of_them(path: Path) -> None:
    out = run_python(
        """
import sys
import ztensor, ztensor.numpy
print([name for name in ("torch", "scipy", "ml_dtypes") if name in sys.modules])
"""
    )
    assert out == "[]\n"


def test_plain_arrays_need_none_of_them(file: Path) -> None:
    out = run_python(
        BLOCK
        + """
import numpy as np
import ztensor, ztensor.numpy
with ztensor.Writer(path + ".new") as writer:
    writer.add_tensor("x", np.arange(4.0), compress=True)
    writer.add_sparse_coo("s", np.ones(1), np.zeros((2, 1), int), (2, 3))
print(ztensor.Reader(path + ".new")["x"])
with ztensor.Reader(path) as reader:
    print(reader["plain"], reader.tensor_names, [meta.dtype_str for meta in reader], [meta.layout for meta in reader])
    reader.verify()
print(ztensor.numpy.load(ztensor.numpy.save({"y": np.ones(2)})))
""",
        file,
        "torch,scipy,ml_dtypes",
    )
    assert out.splitlines() == [
        "[0. 1. 2. 3.]",
        "[0 1 2] ['plain', 'bf16', 'sparse'] ['int64', 'bfloat16', 'float64'] ['dense', 'dense', 'sparse_csr']",
        "{'y': array([1., 1.])}",
    ]


def test_bfloat16_without_ml_dtypes_says_what_to_install(file: Path) -> None:
    out = run_python(
        BLOCK
        + """
import ztensor, ztensor.numpy
reader = ztensor.Reader(path)
for read in (lambda: reader["bf16"], lambda: reader.metadata("bf16").dtype, lambda: ztensor.numpy.load_file(path)):
    try:
        read()
    except ImportError as err:
        print(type(err).__name__, isinstance(err, ztensor.ZTensorError), "pip install 'ztensor[ml_dtypes]'" in str(err))
""",
        file,
        "ml_dtypes,scipy",
    )
    assert out == "MissingDependencyError True True\n" * 3


def test_bfloat16_without_ml_dtypes_is_read_by_torch(file: Path) -> None:
    pytest.importorskip("torch")
    out = run_python(
        BLOCK
        + """
import ztensor, ztensor.torch
print(ztensor.Reader(path).read_tensor("bf16", to="torch"))
data = ztensor.torch.save({"x": ztensor.torch.torch.ones(2, dtype=ztensor.torch.torch.bfloat16)}, compress=True)
print(ztensor.torch.load(data)["x"].dtype)
print(ztensor.torch.load_file(path)["sparse"].to_dense().tolist())
""",
        file,
        "ml_dtypes,scipy",
    )
    assert out.splitlines() == [
        "tensor([1., 2., 3.], dtype=torch.bfloat16)",
        "torch.bfloat16",
        "[[1.0, 0.0, 0.0], [0.0, 0.0, 2.0]]",
    ]


def test_a_sparse_tensor_without_scipy_says_what_to_install(file: Path) -> None:
    out = run_python(
        BLOCK
        + """
import ztensor
reader = ztensor.Reader(path)
try:
    reader["sparse"]
except ImportError as err:
    print(type(err).__name__, isinstance(err, ztensor.ZTensorError), str(err))
print(reader["plain"])
""",
        file,
        "scipy,torch",
    )
    first, second = out.splitlines()
    assert first.startswith("MissingDependencyError True tensor 'sparse' is sparse")
    assert "pip install 'ztensor[scipy]'" in first
    assert second == "[0 1 2]"


def test_torch_that_is_missing_says_what_to_install(file: Path) -> None:
    out = run_python(
        BLOCK
        + """
import ztensor
reader = ztensor.Reader(path)
for use in (lambda: reader.read_tensor("plain", to="torch"), lambda: __import__("ztensor.torch")):
    try:
        use()
    except ImportError as err:
        print(type(err).__name__, isinstance(err, ztensor.ZTensorError), "pip install 'ztensor[torch]'" in str(err))
print(reader["plain"])
""",
        file,
        "torch",
    )
    assert out == "MissingDependencyError True True\n" * 2 + "[0 1 2]\n"


def test_the_package_says_its_version_and_types() -> None:
    assert ztensor.__version__.split(".")[0].isdigit()
    assert (Path(ztensor.__file__).parent / "py.typed").exists()
