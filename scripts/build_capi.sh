#!/usr/bin/env bash
# Builds what `make install` installs, into the folder given: the shared library under its versioned name, and the static
# one, of which only the functions of ztensor.h are visible, so that it goes with a program that has another zstd or
# another library made of Rust in it.
set -euo pipefail
cd "$(dirname "$0")/.."
out=$1
target=${CARGO_TARGET_DIR:-target}

# MAJOR.MINOR.PATCH, kept in Cargo.toml alone.
version=$(sed -n '/^version = /{ s/.*"\(.*\)".*/\1/p; q; }' Cargo.toml)
# Of a release 0.x another 0.y may break what Rust programs use, but not the C ABI: that has a number of its own, and
# tests/abi holds it still. So the soname carries the major number alone, and a C program need not be linked anew.
soname=libztensor.so.${version%%.*}

"${CARGO:-cargo}" rustc --quiet --profile capi --lib --crate-type cdylib,staticlib -- \
    -C link-arg=-Wl,-soname,"$soname"

rm -rf "$out"
mkdir -p "$out"
cp "$target/capi/libztensor.so" "$out/libztensor.so.$version"
# Everything that the functions need in one object, whose other symbols become its own.
mapfile -t functions < <(sed -n 's/^[A-Za-z].*\b\(zt_[a-z0-9_]*\)(.*/\1/p' ztensor.h)
wanted=("${functions[@]/#/--undefined=}")
kept=("${functions[@]/#/--keep-global-symbol=}")
ld -r --gc-sections "${wanted[@]}" "$target/capi/libztensor.a" -o "$out/ztensor.o"
# Bitcode that comes with Rust's own library would make linkers take the object for one of theirs.
objcopy --strip-debug --remove-section=.llvmbc --remove-section=.llvmcmd "${kept[@]}" "$out/ztensor.o"
ar rcs "$out/libztensor.a" "$out/ztensor.o"
rm "$out/ztensor.o"
