"""Every Python example of docs/python-api.md runs as it is written there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("scipy")
pytest.importorskip("ml_dtypes")

SPEC = Path(__file__).parents[2] / "docs" / "python-api.md"

IMPORTS = "import numpy as np\nfrom ztensor import Reader, Writer\n"
TORCH = "import torch\nimport ztensor.torch\n"
MODEL = (
    IMPORTS + "with Writer('model.zt') as writer:\n"
    "    writer.add_tensor('weights', np.ones((512, 768), np.float32))\n"
    "    writer.add_tensor('bias', np.zeros(512, np.float32))\n"
)


class Example(NamedTuple):
    """What a block takes for granted, and what it prints."""

    heading: str
    #: Run before the block: what the text around it has said already.
    preamble: str = ""
    #: A regular expression for all that the block prints.
    prints: str = ""


#: One row for each block, in order.
EXAMPLES = [
    Example("Quick Start"),
    Example("Writer"),
    Example("`Writer(file_path: str)`", IMPORTS),
    Example(
        "`writer.add_tensor(name, tensor, compress=False)`", IMPORTS + "data = np.arange(10000).reshape(100, 100)\n"
    ),
    Example("`writer.add_sparse_csr(name, values, indices, indptr, shape)`", IMPORTS),
    Example("`writer.add_sparse_coo(name, values, indices, shape)`", IMPORTS),
    Example("Reader"),
    Example("`Reader(file_path: str)`", MODEL, r"Contains 2 tensors\nTensor names: \['weights', 'bias'\]\n"),
    Example("`reader[key]`", MODEL),
    Example("`reader.read_tensor(name, to='numpy')`", MODEL),
    Example("`reader.metadata(name)`", MODEL, r"Name: weights\nShape: \(512, 768\)\nDtype: float32\n"),
    Example("Iteration", MODEL, r"weights: \(512, 768\)\nbias: \(512,\)\n"),
    Example("Membership testing", MODEL, r"Found weights!\n"),
    Example("TensorMetadata", MODEL, r"<TensorMetadata name='weights' shape=\(512, 768\) dtype='float32'>\n"),
    Example("PyTorch API (`ztensor.torch`)"),
    Example("`save_file(tensors, filename, metadata=None)`"),
    Example("`load_file(filename, device='cpu')`", MODEL),
    Example("`save(tensors, metadata=None) -> bytes`", TORCH),
    Example("`load(data) -> dict`", TORCH + "data = ztensor.torch.save({'weights': torch.ones(3)})\n"),
    Example("`save_model(model, filename, metadata=None, force_contiguous=True)`"),
    Example(
        "`load_model(model, filename, strict=True, device='cpu')`",
        TORCH + "ztensor.torch.save_model(torch.nn.Linear(1024, 512), 'linear.zt')\n",
    ),
    Example("Error Handling", IMPORTS, r"Error: nonexistent\.zt: .*No such file or directory.*\n"),
    Example("Basic Read/Write", "", r"✓ weights: \(512, 1024\)\n✓ bias: \(1024,\)\n"),
    Example("Compressed Tensors", "", r"Encoding: zstd\n"),
    Example("Sparse Tensors", "", r"<class 'scipy\.sparse\._csr\.csr_matrix'>\n"),
    Example("PyTorch Integration"),
    Example("Half-Precision Types", "", r"bfloat16\n"),
    Example(
        "More of `Writer` and `Reader`", "", r"\{'epoch': 3\} \{'unit': 'mm'\}\n\(2, 3\) 2 zt/1\n"
    ),
    Example("Long calls", "", r"(\d+ of \d+ bytes\n)+"),
    Example("NumPy dictionaries and conversion", "", r"\[1\. 1\. 1\.\] \[1\. 1\. 1\.\]\n"),
]

#: The lines that need a GPU. Without one, they alone are changed, to load to the CPU.
CUDA_LINES = [
    'tensors = load_file("model.zt", device="cuda:0")',
    'missing, unexpected = load_model(model, "linear.zt", device="cuda:0")',
]


def blocks() -> list[tuple[str, str]]:
    """Every Python block of the document with the heading that it stands under."""
    found = []
    heading = ""
    language = None
    code: list[str] = []
    for line in SPEC.read_text(encoding="utf-8").splitlines():
        if language is None and line.startswith("#"):
            heading = line.lstrip("#").strip()
        elif language is None and line.startswith("```"):
            language, code = line[3:].strip(), []
        elif line.startswith("```"):
            if language == "python":
                found.append((heading, "\n".join(code) + "\n"))
            language = None
        else:
            code.append(line)
    return found


def test_every_block_is_in_the_table() -> None:
    assert [heading for heading, _ in blocks()] == [example.heading for example in EXAMPLES]


def test_no_fence_is_overlooked() -> None:
    text = SPEC.read_text(encoding="utf-8")
    assert len(re.findall(r"^\s*```\s*[Pp]y", text, re.MULTILINE)) == len(blocks())


def test_the_lines_that_need_a_gpu_are_these() -> None:
    lines = [line for _, code in blocks() for line in code.splitlines() if "cuda" in line]
    assert lines == CUDA_LINES


@pytest.mark.parametrize("number", range(len(EXAMPLES)), ids=[re.sub(r"\W+", "-", row.heading) for row in EXAMPLES])
def test_example_runs_as_written(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    example = EXAMPLES[number]
    code = blocks()[number][1]
    if not torch.cuda.is_available():
        for line in CUDA_LINES:
            code = code.replace(line, line.replace('"cuda:0"', '"cpu"'))
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(example.preamble, "<preamble>", "exec"), names)
    capsys.readouterr()
    exec(compile(code, f"<{example.heading}>", "exec"), names)
    assert re.fullmatch(example.prints, capsys.readouterr().out)
