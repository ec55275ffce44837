"""What README.md and docs/c-api.md show works as it stands there."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ztensor
from ztensor import Reader, Writer

ROOT = Path(__file__).parents[2]


def blocks(document: str, language: str) -> list[str]:
    """The code blocks of a language."""
    text = (ROOT / document).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def run(code: str, **names: Any) -> dict[str, Any]:
    """Run a block as a program of its own."""
    names["__name__"] = "__main__"
    exec(compile(code, "<block>", "exec"), names)
    return names


@pytest.fixture(autouse=True)
def somewhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_readme_in_python() -> None:
    first, *_ = blocks("README.md", "python")
    found = run(first)
    assert found["weights"].shape == (512, 1024) and not found["rows"].any()


def test_readme_with_torch() -> None:
    torch = pytest.importorskip("torch")
    _, second, _ = blocks("README.md", "python")
    if not torch.cuda.is_available():
        second = second.replace('device="cuda:0"', 'device="cpu"')
    model = torch.nn.Linear(64, 64, dtype=torch.bfloat16)
    found = run(second, model=model)
    assert torch.equal(found["state"]["weight"].cpu(), model.weight)


def test_readme_converts() -> None:
    *_, last = blocks("README.md", "python")
    shutil.copy(ROOT / "tests" / "data" / "legacy" / "1.1.1" / "single_f32.zt", "old.zt")
    run(last)
    with Reader("new.zt") as reader:
        assert reader.format == "zt/1" and reader["w"].tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.skipif(not shutil.which("cc"), reason="there is no C compiler")
def test_readme_in_c() -> None:
    (code,) = blocks("README.md", "c")
    Path("program.c").write_text(code, encoding="utf-8")
    library = Path(ztensor.get_library())
    command = ["cc", "-Wall", "-Wextra", "-Werror", f"-I{ztensor.get_include()}", "program.c", str(library)]
    subprocess.run([*command, f"-Wl,-rpath,{library.parent}", "-o", "program"], check=True)
    failed = subprocess.run(["./program"], capture_output=True, text=True)
    assert failed.returncode == 1 and "model.zt" in failed.stderr
    with Writer("model.zt") as writer:
        writer.add_tensor("weights", np.array([1.5, 2.5], np.float32))
    assert subprocess.run(["./program"], check=True, capture_output=True, text=True).stdout == "1.500000\n"


def test_the_header_goes_to_cffi_after_one_line() -> None:
    (code,) = blocks("docs/c-api.md", "python")
    # In a process of its own, as a script of somebody else's.
    code += 'print(lib.zt_abi_version() == lib.ZT_ABI_VERSION, ffi.sizeof("ZtTensorSpec"), ffi.string(lib.zt_version()).decode())\n'
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == f"True 96 {ztensor.__version__}\n"
