#!/usr/bin/env bash
# test_bindings.sh [--install]: the examples in other languages. Each writes a file, which it
# and Python check, checks the one that Python wrote, and finds those wrong that differ from it in one thing. Examples whose toolchain is missing are skipped; with --install, what can be had
# without root is fetched first, into build/ and the caches of the languages' own tools, and a missing toolchain is a failure.
#
# PYTHON has cffi and finds the package. The last line is `N passed, N failed`.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
python=${PYTHON:-python3}
install=${1:-}
cache=${XDG_CACHE_HOME:-$HOME/.cache}/ztensor
build=$root/build/bindings
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
files=()
. "$root/scripts/steps.sh"

export ZTENSOR_PREFIX=$work/prefix
make --no-print-directory -s install PREFIX="$ZTENSOR_PREFIX" DESTDIR= LIBDIR= INCLUDEDIR=
export LD_LIBRARY_PATH=$ZTENSOR_PREFIX/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
mkdir -p "$build"

# example NAME TOOLS PREPARE COMMAND...: makes the program, lets it write a file and check Python's.
example() {
    local name=$1 tool prepare=$3
    for tool in $2; do
        if ! command -v "$tool" >/dev/null; then
            if [[ $install ]]; then
                echo "FAILED  $name: $tool is not here; install it by the system's means"
                failed=$((failed + 1))
            else
                echo "skipped $name: $tool is not here"
            fi
            return
        fi
    done
    shift 3
    if [[ $prepare != none ]]; then
        step "$name is built" "$prepare"
        ((status == 0)) || return 0
    fi
    step "$name writes" "$@" write "$work/$name.zt"
    ((status == 0)) || return 0
    step "$name reads its own file" "$@" check "$work/$name.zt"
    step "$name reads Python's" "$@" check "$work/Python.zt"
    step "$name finds what differs" refused "$@"
    files+=("$work/$name.zt")
}

# refused COMMAND...: the program finds each of the files wrong that are.
refused() {
    local file
    for file in "$work"/other-*.zt; do
        if "$@" check "$file"; then
            echo "$(basename "$file") was found good"
            return 1
        fi
    done
}

in_python() {
    env -u LD_LIBRARY_PATH "$python" "$@"
}

# The file is made by the Python package, and by what every example has to agree with. The others differ in one thing each.
python_writes() {
    in_python - "$work" <<'PYTHON'
import sys
import ml_dtypes, numpy as np
from ztensor import Writer

cycle = lambda count: (0x3F80 + np.arange(count) % 128).astype(np.uint16).view(ml_dtypes.bfloat16)
dense, compressed, values = cycle(8).reshape(2, 4), cycle(65536).reshape(256, 256), np.array([1, 2, 3], np.float32)

def write(name, dense=dense, compressed=compressed, values=values, columns=3):
    with Writer(f"{sys.argv[1]}/{name}.zt") as writer:
        writer.add_tensor("dense", dense)
        writer.add_tensor("compressed", compressed, compress=True)
        indices, indptr = np.array([0, 2, 1], np.int32), np.array([0, 2, 3], np.int64)
        writer.add_sparse_csr("csr", values, indices, indptr, (2, columns))

write("Python")
write("other-type", dense=dense.view(np.uint16))
write("other-shape", dense=dense.reshape(4, 2))
write("other-columns", columns=4)
write("other-value", values=values + 1)
changed = compressed.copy()
changed[-1, -1] = 9
write("other-end", compressed=changed)
PYTHON
}

python_reads() {
    in_python - "$1" <<'PYTHON'
import sys
import numpy as np
from ztensor import Reader

with Reader(sys.argv[1]) as reader:
    reader.verify()
    assert (reader["dense"].view(np.uint16) == 0x3F80 + np.arange(8).reshape(2, 4)).all()
    assert (reader["compressed"].view(np.uint16).reshape(-1) == 0x3F80 + np.arange(65536) % 128).all()
    assert reader.metadata("compressed").encoding == "zstd"
    assert (reader["csr"].toarray() == [[1, 0, 2], [0, 3, 0]]).all()
PYTHON
}

ctypes_lists() {
    in_python examples/c_abi_ctypes.py "$work/Python.zt" csr | paste -sd' ' | grep -qx 'dense compressed csr sum 6.0'
}

cpp_build() {
    c++ -std=c++17 -Wall -Wextra -Werror -I"$ZTENSOR_PREFIX/include" examples/tensors.cpp -L"$ZTENSOR_PREFIX/lib" -lztensor \
        -o "$build/cpp"
}
go_build() {
    (cd examples/go && CGO_ENABLED=1 CGO_CFLAGS="-I$ZTENSOR_PREFIX/include" CGO_LDFLAGS="-L$ZTENSOR_PREFIX/lib" \
        PKG_CONFIG_PATH=$ZTENSOR_PREFIX/lib/pkgconfig go build -o "$build/go" .)
}
node_build() {
    mkdir -p "$build/node"
    cp examples/node/* "$build/node"
    [[ -d $build/node/node_modules/koffi || -n $install ]] || return 1
    (cd "$build/node" && npm install --silent --no-audit --no-fund)
}
java_build() {
    mvn -q -B -f examples/java -Doutput.directory="$build/java" compile dependency:copy-dependencies
}

step "Python writes" python_writes
step "ctypes lists Python's" ctypes_lists
example cffi "$python" none env -u LD_LIBRARY_PATH "$python" examples/c_abi_cffi.py
example C++ c++ cpp_build "$build/cpp"
example Go "go pkg-config" go_build "$build/go"
if [[ $install || -d $build/node/node_modules/koffi ]]; then
    example JavaScript "node npm" node_build node "$build/node/tensors.js"
else
    echo "skipped JavaScript: koffi is not here; make test-bindings fetches it"
fi
if [[ $install || -d $build/java/dependency ]]; then
    example Java "java javac mvn" java_build java -cp "$build/java/classes:$build/java/dependency/*" Tensors
else
    echo "skipped Java: JNA is not here; make test-bindings fetches it"
fi
if [[ $install || -f $cache/tools/luajit/.complete ]] || command -v luajit >/dev/null; then
    example Lua "$(command -v luajit || echo apt-get)" none \
        scripts/with_tool.sh luajit luajit "$cache/tools" -- luajit examples/lua/tensors.lua
else
    echo "skipped Lua: luajit is not here; make test-bindings fetches it"
fi
for file in "${files[@]}"; do
    name=$(basename "$file" .zt)
    step "Python reads $name's" python_reads "$file"
done
report
