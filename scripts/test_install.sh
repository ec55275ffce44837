#!/usr/bin/env bash
# test_install.sh: runs `make install` into a prefix of its own, builds an outside project against it by pkg-config and by
# CMake, in C and C++, shared and static, runs what was built, and takes the library away again.
#
# CMAKE and PKG_CONFIG name the programs. The last line is `N passed, N failed`.
set -euo pipefail
export LC_ALL=C
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cmake=${CMAKE:-cmake}
pkg_config=${PKG_CONFIG:-pkg-config}
cc=${CC:-cc}
cxx=${CXX:-c++}
version=$(sed -n '/^version = /{ s/.*"\(.*\)".*/\1/p; q; }' "$root/Cargo.toml")
major=${version%%.*}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
prefix=$work/prefix
. "$root/scripts/steps.sh"

make_it() {
    make --no-print-directory -C "$root" "$@"
}

list() {
    (cd "$1" && find . \( -type f -o -type l \) | sort)
}

install_lists_its_files() {
    mkdir -p "$prefix/lib/cmake/other" "$prefix/include"
    touch "$prefix/lib/cmake/other/other-config.cmake" "$prefix/include/other.h" "$prefix/lib/libother.so"
    list "$prefix" >"$work/before"
    make_it install PREFIX="$prefix"
    cat >"$work/expected" <<FILES
./include/other.h
./include/ztensor.h
./include/ztensor.hpp
./lib/cmake/other/other-config.cmake
./lib/cmake/ztensor/ztensor-config-version.cmake
./lib/cmake/ztensor/ztensor-config.cmake
./lib/libother.so
./lib/libztensor.a
./lib/libztensor.so
./lib/libztensor.so.$major
./lib/libztensor.so.$version
./lib/pkgconfig/ztensor.pc
./share/doc/ztensor/LICENSE-APACHE
./share/doc/ztensor/LICENSE-MIT
./share/doc/ztensor/LICENSE-THIRD-PARTY
FILES
    list "$prefix" | diff "$work/expected" -
    [[ $(readlink "$prefix/lib/libztensor.so") == libztensor.so.$major ]]
    [[ $(readlink "$prefix/lib/libztensor.so.$major") == libztensor.so.$version ]]
    objdump -p "$prefix/lib/libztensor.so" | grep -qE "SONAME +libztensor.so.$major\$"
}

destdir_is_put_before() {
    make_it install DESTDIR="$work/stage" PREFIX=/opt/ztensor LIBDIR=/opt/ztensor/lib64
    grep -qx 'libdir=/opt/ztensor/lib64' "$work/stage/opt/ztensor/lib64/pkgconfig/ztensor.pc"
    [[ -f $work/stage/opt/ztensor/include/ztensor.h ]]
    ! grep -rq "$work" "$work/stage/opt/ztensor/lib64/pkgconfig" "$work/stage/opt/ztensor/lib64/cmake"
    make_it uninstall DESTDIR="$work/stage" PREFIX=/opt/ztensor LIBDIR=/opt/ztensor/lib64
    [[ -z $(list "$work/stage") ]]
}

# Both libraries give the functions of the header and nothing else.
libraries_export_the_header() {
    sed -n 's/^[A-Za-z].*\b\(zt_[a-z0-9_]*\)(.*/\1/p' "$root/ztensor.h" | sort >"$work/functions"
    nm -D --defined-only "$prefix/lib/libztensor.so" | awk '{ print $NF }' | sort | diff "$work/functions" -
    nm -g --defined-only "$prefix/lib/libztensor.a" | awk 'NF == 3 { print $3 }' | sort | diff "$work/functions" -
}

flags() {
    PKG_CONFIG_PATH=$prefix/lib/pkgconfig "$pkg_config" "$@" ztensor
}

runs() { # PROGRAM, with the shared library found in the prefix
    LD_LIBRARY_PATH=$prefix/lib "$1" | grep -qx "$version good"
}

pkg_config_knows_the_version() {
    [[ $(flags --modversion) == "$version" ]]
}

# shellcheck disable=SC2046
by_pkg_config() { # LANGUAGE KIND
    local compile source output=$work/pc-$1-$2
    if [[ $1 == c ]]; then
        compile=("$cc" -std=c99) source=$root/tests/install/main.c
    else
        compile=("$cxx" -std=c++17) source=$root/tests/install/main.cpp
    fi
    compile+=(-Wall -Wextra -Werror)
    case $2 in
        shared) "${compile[@]}" "$source" $(flags --cflags --libs) -o "$output" ;;
        # The library static, the C library not.
        static) "${compile[@]}" $(flags --cflags) "$source" -Wl,-Bstatic $(flags --libs) -Wl,-Bdynamic \
            $(flags --static --libs | sed 's/-lztensor//') -o "$output" ;;
        # Everything.
        all-static) "${compile[@]}" -static "$source" $(flags --cflags --static --libs) -o "$output" ;;
    esac
    if [[ $2 == shared ]]; then
        readelf -d "$output" | grep -q "NEEDED.*libztensor.so.$major]"
        runs "$output"
    else
        ! readelf -d "$output" | grep -q 'NEEDED.*ztensor'
        "$output" | grep -qx "$version good"
    fi
}

by_cmake() {
    "$cmake" -S "$root/tests/install" -B "$work/cmake" -DCMAKE_PREFIX_PATH="$1" -DCMAKE_C_COMPILER="$cc" \
        -DCMAKE_CXX_COMPILER="$cxx"
    "$cmake" --build "$work/cmake"
    local program
    for program in c cpp; do
        # Programs that CMake built find the library by themselves.
        "$work/cmake/$program-ztensor" | grep -qx "$version good"
        "$work/cmake/$program-static" | grep -qx "$version good"
        readelf -d "$work/cmake/$program-ztensor" | grep -q "NEEDED.*libztensor.so.$major]"
        ! readelf -d "$work/cmake/$program-static" | grep -q 'NEEDED.*ztensor'
    done
    rm -rf "$work/cmake"
}

by_cmake_after_a_move() {
    cp -a "$prefix" "$work/moved"
    by_cmake "$work/moved"
}

# What README.md says to do, in a home that has nothing else.
readme_is_followed() {
    local home=$work/home project=$work/project status=0
    mkdir -p "$home" "$project"
    sed -n '/^```c$/,/^```$/p' "$root/README.md" | sed '1d; $d' >"$project/program.c"
    sed -n '/^make install/,/^```$/p' "$root/README.md" | sed '$d' >"$project/commands"
    (
        cd "$project"
        export HOME=$home
        make() { command make --no-print-directory -C "$root" "$@"; }
        . ./commands
        # It says what it lacks, having found the library.
        ./program 2>message
    ) || status=$?
    ((status == 1))
    grep -q 'model.zt: cannot open' "$project/message"
}

uninstall_leaves_the_rest() {
    make_it uninstall PREFIX="$prefix"
    list "$prefix" | diff "$work/before" -
    [[ ! -d $prefix/lib/cmake/ztensor ]]
}

step "install puts its files there" install_lists_its_files
step "DESTDIR and LIBDIR" destdir_is_put_before
step "the libraries export the header's functions alone" libraries_export_the_header
if command -v "$pkg_config" >/dev/null; then
    step "pkg-config knows the version" pkg_config_knows_the_version
    for language in c cpp; do
        for kind in shared static all-static; do
            step "$language, $kind, by pkg-config" by_pkg_config "$language" "$kind"
        done
    done
    if [[ $pkg_config -ef $(command -v pkg-config || true) ]]; then
        step "the README's commands" readme_is_followed
    fi
else
    echo "test_install: $pkg_config is not here, skipped"
fi
if command -v "$cmake" >/dev/null; then
    step "C and C++, shared and static, by CMake" by_cmake "$prefix"
    step "by CMake after the tree was moved" by_cmake_after_a_move
else
    echo "test_install: $cmake is not here, skipped"
fi
step "uninstall takes exactly that away" uninstall_leaves_the_rest
report
