#!/usr/bin/env bash
# Installs a wheel into bare environments, with no Rust toolchain in reach, and runs the quick start there: with the
# given Python, and with the oldest supported one where the machine has it.
set -euo pipefail
wheel="$(realpath "$1")"
cd "$(dirname "$0")/.."

scratch="$(mktemp -d)"
trap 'rm -rf "$scratch"' EXIT
passed=0
failed=0
for python in "${PYTHON:-python3}" python3.9; do
    if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 9))' 2>/dev/null; then
        echo "test_wheel: $python is not here, skipped"
        continue
    fi
    version="$("$python" -c 'import platform; print(platform.python_version())')"
    environment="$scratch/$version"
    "$python" -m venv "$environment"
    # Nothing but the environment and the system's basic tools is on the path.
    path="$environment/bin:/usr/bin:/bin"
    if env PATH="$path" sh -c 'command -v cargo rustc' >/dev/null; then
        echo "test_wheel: a Rust toolchain is in /usr/bin; the test cannot show that none is needed"
    fi
    if env PATH="$path" python -m pip install --quiet --disable-pip-version-check "$wheel" &&
        (cd "$scratch" && env -u PYTHONPATH PATH="$path" bash -euo pipefail -c '
            python "$0/quick_start.py"
            # Whoever has the wheel has the licences.
            python -c "from importlib.metadata import files; \
                print(sum(file.name.startswith(\"LICENSE-\") for file in files(\"ztensor\")))" | grep -qx 3
            # Header and library through cffi and ctypes.
            python "$0/c_abi_cffi.py" write c.zt
            python "$0/c_abi_cffi.py" check c.zt
            python "$0/c_abi_ctypes.py" c.zt csr | tail -n 1 | grep -qx "sum 6.0"
        ' "$OLDPWD/examples"); then
        echo "test_wheel: Python $version: ok"
        passed=$((passed + 1))
    else
        echo "test_wheel: Python $version: FAILED"
        failed=$((failed + 1))
    fi
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
