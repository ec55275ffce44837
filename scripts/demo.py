"""Saves a model's weights as .zt files, loads each back, compares every tensor bit for bit, and prints a table."""

import sys
import time
from pathlib import Path

import ml_dtypes
import numpy as np
from safetensors.numpy import load_file as load_safetensors

import ztensor
from ztensor.numpy import load_file, save_file


def timed(function):
    start = time.perf_counter()
    result = function()
    return result, time.perf_counter() - start


def same_bits(left, right):
    return (
        left.keys() == right.keys()
        and all(left[name].dtype == right[name].dtype and left[name].shape == right[name].shape for name in left)
        and all(left[name].tobytes() == right[name].tobytes() for name in left)
    )


def main():
    source, folder = Path(sys.argv[1]), Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    weights = load_safetensors(source)
    half = {
        name: array.astype(ml_dtypes.bfloat16) if array.dtype == np.float32 else array
        for name, array in weights.items()
    }
    size = sum(array.nbytes for array in weights.values())
    print(f"\nztensor {ztensor.__version__}: {len(weights)} tensors, {size / 1e6:.1f} MB of weights\n")
    print(f"  {'file':24} {'size':>9} {'ratio':>7} {'save':>9} {'load':>9}  bits")
    failed = False
    for name, tensors, compress in (
        ("fp32.zt", weights, False),
        ("fp32-compressed.zt", weights, True),
        ("bf16-compressed.zt", half, True),
    ):
        path = folder / name
        path.unlink(missing_ok=True)
        _, saving = timed(lambda: save_file(tensors, path, compress=compress))
        loaded, loading = timed(lambda: {key: array.sum() is None or array for key, array in load_file(path).items()})
        same = same_bits(tensors, loaded)
        failed |= not same
        raw = sum(array.nbytes for array in tensors.values())
        stored = path.stat().st_size
        print(
            f"  {name:24} {stored / 1e6:6.1f} MB {raw / stored:6.3f}x {saving * 1e3:6.0f} ms {loading * 1e3:6.0f} ms  "
            f"{'the same' if same else 'DIFFER'}"
        )
    print("\n  ratio: bytes of the tensors to bytes of the file; load: with every element touched\n")
    print(f"  The files are in {folder}.")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
