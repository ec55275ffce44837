#!/usr/bin/env bash
# Tests the C ABI: builds the library, checks that header, exports and tests name the same things, compiles every
# program of tests/c as C99 and as C++, and runs each; the C99 ones under valgrind too, or where valgrind is missing with
# the compiler's sanitizers.
#
# CARGO, CC, CXX and CARGO_TARGET_DIR are honoured. Works from any directory and leaves nothing behind but the build.
# The last line is `N passed, N failed`; the exit status is 0 if nothing failed.
set -euo pipefail
export LC_ALL=C

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cargo=${CARGO:-cargo}
cc=${CC:-cc}
cxx=${CXX:-c++}
target=${CARGO_TARGET_DIR:-$root/target}

header=$root/ztensor.h
sources=$root/tests/c
tests=(test_layout test_api test_misuse test_threads)
programs=("${tests[@]}" example_write example_read)

for tool in "$cargo" "$cc" "$cxx" nm; do
    if ! command -v "$tool" >/dev/null; then
        echo "$tool is missing; it is needed for the tests in C" >&2
        exit 1
    fi
done

"$cargo" build --quiet --manifest-path "$root/Cargo.toml" --target-dir "$target"
library=$(cd "$target/debug" && pwd)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0
failed=0

# step NAME COMMAND...: runs the command and counts it; its output is shown if it fails. The command is no condition of
# an `if`, since bash would ignore `set -e` in all of it.
step() {
    local name=$1 status
    shift
    set +e
    (
        set -e
        "$@"
    ) >"$work/log" 2>&1
    status=$?
    set -e
    if ((status == 0)); then
        passed=$((passed + 1))
        echo "ok      $name"
    else
        failed=$((failed + 1))
        echo "FAILED  $name"
        sed 's/^/        /' "$work/log"
    fi
}

# missing_from FILE FORMAT: fails if a word of standard input, put into the format, does not stand in the file.
missing_from() {
    local file=$1 format=$2 word found=0
    while read -r word; do
        # shellcheck disable=SC2059
        if ! grep -qF -- "$(printf "$format" "$word")" "$file"; then
            echo "$(basename "$file") does not mention $word"
            found=1
        fi
    done
    return "$found"
}

# Every zt_...( of the header, in declarations and in comments.
functions() {
    grep -oE '\bzt_[a-z0-9_]+\(' "$header" | tr -d '(' | sort -u
}

functions_are_called() {
    functions | missing_from "$sources/test_misuse.c" '%s('
}

functions_are_exported() {
    nm -D --defined-only "$library/libztensor.so" | awk '{ print $NF }' | sort >"$work/exported"
    functions | diff --label 'functions in ztensor.h' --label 'exports of the library' -u - "$work/exported"
}

structs_are_pinned() {
    sed -n 's/^} \(Zt[A-Za-z]*\);$/\1/p' "$header" | missing_from "$sources/test_layout.c" 'sizeof(%s) == '
}

constants_are_pinned() {
    sed -n 's/^#define \(ZT_[A-Z0-9_]*\) .*/\1/p' "$header" | missing_from "$sources/test_layout.c" 'CHECK(%s == '
}

version=$(sed -n '/^version = /{ s/.*"\(.*\)".*/\1/p; q; }' "$root/Cargo.toml")
strict=(-Wall -Wextra -Werror -pedantic -g -pthread "-DEXPECTED_VERSION=\"$version\"" "-I$root")
link=("-L$library" "-Wl,-rpath,$library" -lztensor)

compile_c() { # PROGRAM OUTPUT OPTIONS...
    local program=$1 output=$2
    shift 2
    "$cc" -std=c99 "${strict[@]}" "$@" "$sources/$program.c" -o "$output" "${link[@]}"
}

compile_cpp() {
    "$cxx" -x c++ -std=c++17 "${strict[@]}" "$sources/$1.c" -o "$2" "${link[@]}"
}

# Runs a test in a directory of its own, which must be empty afterwards.
run_test() {
    local directory left
    directory=$(mktemp -d "$work/run.XXXXXX")
    (cd "$directory" && timeout 900 "$@")
    left=$(ls -A "$directory")
    if [[ -n $left ]]; then
        echo "left behind: $left"
        false
    fi
}

# run_examples PREFIX COMMAND...: runs the two examples, one on the other's file.
run_examples() {
    local prefix=$1 directory
    shift
    directory=$(mktemp -d "$work/run.XXXXXX")
    timeout 900 "$@" "${prefix}example_write" "$directory/model.zt"
    timeout 900 "$@" "${prefix}example_read" "$directory/model.zt" >"$directory/output"
    cat "$directory/output"
    grep -q '^the file is intact' "$directory/output"
    grep -q '^weights, row 1: 1.5 1.75 2 2.25 2.5 2.75$' "$directory/output"
    # And a file that is not there is an error, not a crash.
    local status=0
    timeout 900 "$@" "${prefix}example_read" "$directory/nothing.zt" || status=$?
    ((status == 1))
}

# run KIND PREFIX COMMAND...: runs the programs that were compiled to that prefix, with the command before them.
run() {
    local kind=$1 prefix=$2 program
    shift 2
    for program in "${tests[@]}"; do
        step "$program, $kind" run_test "$@" "$prefix$program"
    done
    step "examples, $kind" run_examples "$prefix" "$@"
}

step "every function is misused" functions_are_called
step "functions of the header = exports of the library" functions_are_exported
step "every struct is pinned" structs_are_pinned
step "every constant is pinned" constants_are_pinned

for program in "${programs[@]}"; do
    step "compile $program as C99" compile_c "$program" "$work/c-$program"
    step "compile $program as C++" compile_cpp "$program" "$work/cpp-$program"
done
run "C99" "$work/c-"
run "C++" "$work/cpp-"

if command -v valgrind >/dev/null; then
    run "valgrind" "$work/c-" valgrind -q --error-exitcode=9 --leak-check=full --show-leak-kinds=definite \
        --errors-for-leak-kinds=definite
else
    echo "valgrind is not installed (apt-get install valgrind): the sanitizers, which see less, take its place"
    for program in "${programs[@]}"; do
        step "compile $program with sanitizers" compile_c "$program" "$work/san-$program" \
            -fsanitize=address,undefined -fno-sanitize-recover=all
    done
    run "sanitizers" "$work/san-"
fi

echo "$passed passed, $failed failed"
((failed == 0))
