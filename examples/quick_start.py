"""The first steps: write a file, read it back, look at what it holds."""

import os
import tempfile

import numpy as np

from ztensor import Reader, Writer

path = os.path.join(tempfile.mkdtemp(), "model.zt")
weights = np.random.default_rng(0).standard_normal((512, 1024)).astype(np.float32)

with Writer(path, metadata={"epoch": 3}) as writer:
    writer.add_tensor("weights", weights)
    writer.add_tensor("compressed", weights, compress=True)
    writer.add_tensor("bias", np.zeros(1024, dtype=np.float32))

with Reader(path) as reader:
    for metadata in reader:
        print(f"{metadata.name:12} {metadata.shape!s:12} {metadata.dtype_str:8} {metadata.encoding:5} {metadata.size:9} bytes")
    assert reader.file_metadata == {"epoch": 3}
    reader.verify()
    loaded = reader["compressed"]

# What was read is ours: it outlives the reader and can be written to.
assert np.array_equal(loaded, weights)
loaded *= 2
print("ok")
