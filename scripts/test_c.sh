#!/usr/bin/env bash
# Tests the C ABI: builds the library, checks that header, exports and tests name the same things and that nothing of an
# earlier release is missing, compiles every program of tests/c as C99 and as C++ and that of tests/cpp as C++17 and C++20,
# and runs each; the C99 and C++17 ones under valgrind too, or where valgrind is missing with the compiler's sanitizers.
#
# CARGO, CC, CXX, PYTHON and CARGO_TARGET_DIR are honoured. TMPDIR has to have 1.3 GB free, or one test is skipped. Works from any directory and leaves nothing behind but the build.
# The last line is `N passed, N failed`; the exit status is 0 if nothing failed.
set -euo pipefail
export LC_ALL=C

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cargo=${CARGO:-cargo}
cc=${CC:-cc}
cxx=${CXX:-c++}
python=${PYTHON:-python3}
target=${CARGO_TARGET_DIR:-$root/target}

header=$root/ztensor.h
sources=$root/tests/c
tests=(test_layout test_api test_misuse test_threads)
programs=("${tests[@]}" example_write example_read)

for tool in "$cargo" "$cc" "$cxx" "$python" nm; do
    if ! command -v "$tool" >/dev/null; then
        echo "$tool is missing; it is needed for the tests in C" >&2
        exit 1
    fi
done

"$cargo" build --quiet --manifest-path "$root/Cargo.toml" --target-dir "$target"
library=$(cd "$target/debug" && pwd)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
. "$root/scripts/steps.sh"

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

# Those that take a handle.
functions_refuse_freed_handles() {
    sed -n 's/^[A-Za-z].* \**\(zt_[a-z0-9_]*\)(\(const \)\{0,1\}Zt\(Reader\|Batch\|Buffer\|Writer\) \*[a-z].*/\1/p' "$header" | missing_from "$sources/test_freed.c" '%s('
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

# What programs see is what is committed, and has everything that each release had.
abi_is_described() {
    "$python" "$root/scripts/abi.py" "$header" "$library/libztensor.so" >"$work/abi.txt"
    diff -u "$root/tests/abi/current.txt" "$work/abi.txt" || { echo "after an addition: make abi"; false; }
}

abi_is_kept() { # RELEASE
    local lost
    lost=$(comm -23 "$root/tests/abi/$1/abi.txt" "$work/abi.txt")
    if [[ -n $lost ]]; then
        echo "$lost"
        false
    fi
}

# A program that was compiled with a release's header runs with today's library.
old_program_runs() { # RELEASE
    local old=$root/tests/abi/$1
    "$cc" -std=c99 -Wall -Wextra -Werror -pedantic "-I$old" "$old/program.c" -o "$work/old-$1" "${link[@]}"
    run_test "$work/old-$1"
}

# The example in the header's introduction is a whole program.
introduction_runs() {
    mkdir "$work/introduction"
    sed -n '/^ \*     #include <stdio.h>/,/^ \* To compile/p' "$header" | sed '$d; s/^ \* \{0,5\}//' \
        >"$work/introduction/program.c"
    "$cc" -std=c99 -Wall -Wextra -Werror "-I$root" "$work/introduction/program.c" -o "$work/introduction/program" "${link[@]}"
    (cd "$work/introduction" && ./program) | paste -sd, | grep -qx '1,2,3,4,5,6'
}

version=$(sed -n '/^version = /{ s/.*"\(.*\)".*/\1/p; q; }' "$root/Cargo.toml")
strict=(-Wall -Wextra -Werror -pedantic -g -pthread "-DEXPECTED_VERSION=\"$version\"" "-I$root")
link=("-L$library" "-Wl,-rpath,$library" -lztensor)

compile_c() { # PROGRAM OUTPUT OPTIONS...
    local program=$1 output=$2
    shift 2
    "$cc" -std=c99 "${strict[@]}" "$@" "$sources/$program.c" -o "$output" "${link[@]}"
}

# compile_hpp STANDARD OUTPUT OPTIONS...: the test of ztensor.hpp.
compile_hpp() {
    local standard=$1 output=$2
    shift 2
    "$cxx" "-std=$standard" "${strict[@]}" "$@" "$root/tests/cpp/test_hpp.cpp" -o "$output" "${link[@]}"
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
step "every function is given a handle that was freed" functions_refuse_freed_handles
step "functions of the header = exports of the library" functions_are_exported
step "every struct is pinned" structs_are_pinned
step "every constant is pinned" constants_are_pinned
step "the ABI is what tests/abi/current.txt says" abi_is_described
for folder in "$root"/tests/abi/*/; do
    release=$(basename "$folder")
    step "the ABI has all that $release had" abi_is_kept "$release"
    step "the program of $release runs" old_program_runs "$release"
done
step "the introduction's example runs" introduction_runs

for program in "${programs[@]}"; do
    step "compile $program as C99" compile_c "$program" "$work/c-$program"
    step "compile $program as C++" compile_cpp "$program" "$work/cpp-$program"
done
run "C99" "$work/c-"
run "C++" "$work/cpp-"

for standard in c++17 c++20; do
    step "compile test_hpp as $standard" compile_hpp "$standard" "$work/$standard-hpp"
    step "test_hpp, $standard" run_test "$work/$standard-hpp"
done

# Valgrind would hold all the memory of this one itself.
step "compile test_zero_copy as C99" compile_c test_zero_copy "$work/zero-copy"
step "test_zero_copy" run_test "$work/zero-copy" "$work"
grep -E 'skipped|raised' "$work/log" || true

# This one sets limits to its own memory.
step "compile test_memory as C99" compile_c test_memory "$work/memory"
step "test_memory" run_test "$work/memory"

# And this one has a malloc of its own.
step "compile test_freed as C99" compile_c test_freed "$work/freed"
step "test_freed" run_test "$work/freed"

if command -v valgrind >/dev/null; then
    run "valgrind" "$work/c-" valgrind -q --error-exitcode=9 --leak-check=full --show-leak-kinds=definite \
        --errors-for-leak-kinds=definite
    step "test_hpp, valgrind" run_test valgrind -q --error-exitcode=9 --leak-check=full --show-leak-kinds=definite \
        --errors-for-leak-kinds=definite "$work/c++17-hpp"
else
    echo "valgrind is not installed (apt-get install valgrind): the sanitizers, which see less, take its place"
    for program in "${programs[@]}"; do
        step "compile $program with sanitizers" compile_c "$program" "$work/san-$program" \
            -fsanitize=address,undefined -fno-sanitize-recover=all
    done
    run "sanitizers" "$work/san-"
    step "compile test_hpp with sanitizers" compile_hpp c++17 "$work/san-hpp" -fsanitize=address,undefined \
        -fno-sanitize-recover=all
    step "test_hpp, sanitizers" run_test "$work/san-hpp"
fi

report
