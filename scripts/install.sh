#!/usr/bin/env bash
# install.sh install|uninstall BUILT: puts what scripts/build_capi.sh built into $PREFIX, or takes exactly that away again.
#
#     PREFIX       where it will be used from, /usr/local by default
#     LIBDIR       $PREFIX/lib by default
#     INCLUDEDIR   $PREFIX/include by default
#     DESTDIR      put before all of them, for packages; empty by default
set -euo pipefail
umask 022
action=$1
built=$2
root=$(cd "$(dirname "$0")/.." && pwd)
prefix=${PREFIX:-/usr/local}
libdir=${LIBDIR:-$prefix/lib}
includedir=${INCLUDEDIR:-$prefix/include}
lib=${DESTDIR:-}$libdir
doc=${DESTDIR:-}$prefix/share/doc/ztensor
licenses=(LICENSE-MIT LICENSE-APACHE LICENSE-THIRD-PARTY)
include=${DESTDIR:-}$includedir
for folder in "$prefix" "$libdir" "$includedir"; do
    if [[ $folder != /* ]]; then
        echo "$folder is not absolute: PREFIX, LIBDIR and INCLUDEDIR have to be" >&2
        exit 2
    fi
done

version=$(sed -n '/^version = /{ s/.*"\(.*\)".*/\1/p; q; }' "$root/Cargo.toml")
major=${version%%.*}

uninstall() {
    rm -f "$include/ztensor.h" "$include/ztensor.hpp" "$lib/pkgconfig/ztensor.pc" \
        "$lib/libztensor.a" "$lib/libztensor.so" "$lib/libztensor.so.$major" "$lib/libztensor.so.$version" \
        "$lib/cmake/ztensor/ztensor-config.cmake" "$lib/cmake/ztensor/ztensor-config-version.cmake"
    rm -f "${licenses[@]/#/$doc/}"
    for folder in "$lib/cmake/ztensor" "$doc"; do
        if [[ -d $folder ]]; then
            rmdir --ignore-fail-on-non-empty "$folder"
        fi
    done
}

pkg_config() {
    cat <<PC
prefix=$prefix
libdir=$libdir
includedir=$includedir

Name: ztensor
Description: Tensor files that load without a copy, compress losslessly and detect damage
Version: $version
Libs: -L\${libdir} -lztensor
Libs.private: -lpthread -ldl -lm
Cflags: -I\${includedir}
PC
}

# Paths in it are relative to itself, so the tree may be moved.
cmake_config() {
    cat <<CMAKE
# ztensor::ztensor is the shared library, ztensor::static the static one. Both bring ztensor.h and ztensor.hpp.
get_filename_component(_ztensor_lib "\${CMAKE_CURRENT_LIST_DIR}/../.." ABSOLUTE)
get_filename_component(_ztensor_include "\${_ztensor_lib}/$(realpath -m --relative-to="$libdir" "$includedir")" ABSOLUTE)
if(NOT TARGET ztensor::ztensor)
  add_library(ztensor::ztensor SHARED IMPORTED)
  set_target_properties(ztensor::ztensor PROPERTIES
    IMPORTED_LOCATION "\${_ztensor_lib}/libztensor.so.$version"
    IMPORTED_SONAME "libztensor.so.$major"
    INTERFACE_INCLUDE_DIRECTORIES "\${_ztensor_include}")
  add_library(ztensor::static STATIC IMPORTED)
  set_target_properties(ztensor::static PROPERTIES
    IMPORTED_LOCATION "\${_ztensor_lib}/libztensor.a"
    IMPORTED_LINK_INTERFACE_LANGUAGES "C"
    INTERFACE_LINK_LIBRARIES "pthread;m;\${CMAKE_DL_LIBS}"
    INTERFACE_INCLUDE_DIRECTORIES "\${_ztensor_include}")
endif()
unset(_ztensor_lib)
unset(_ztensor_include)
CMAKE
}

# A program that asks for a release runs with any later one of the same major number.
cmake_version() {
    cat <<CMAKE
set(PACKAGE_VERSION "$version")
if(PACKAGE_FIND_VERSION_MAJOR STREQUAL "$major" OR NOT PACKAGE_FIND_VERSION)
  if(NOT PACKAGE_VERSION VERSION_LESS PACKAGE_FIND_VERSION)
    set(PACKAGE_VERSION_COMPATIBLE TRUE)
  endif()
  if(PACKAGE_VERSION VERSION_EQUAL PACKAGE_FIND_VERSION)
    set(PACKAGE_VERSION_EXACT TRUE)
  endif()
endif()
if(CMAKE_SIZEOF_VOID_P AND NOT CMAKE_SIZEOF_VOID_P EQUAL 8)
  set(PACKAGE_VERSION_UNSUITABLE TRUE)
endif()
CMAKE
}

install_all() {
    mkdir -p "$include" "$lib/pkgconfig" "$lib/cmake/ztensor" "$doc"
    install -m 644 "${licenses[@]/#/$root/python/}" "$doc"
    install -m 644 "$root/ztensor.h" "$root/ztensor.hpp" "$include"
    # `install` makes a new file, so that a program that has the old library open goes on with that.
    install -m 755 "$built/libztensor.so.$version" "$lib"
    install -m 644 "$built/libztensor.a" "$lib"
    ln -sf "libztensor.so.$version" "$lib/libztensor.so.$major"
    ln -sf "libztensor.so.$major" "$lib/libztensor.so"
    pkg_config >"$lib/pkgconfig/ztensor.pc"
    cmake_config >"$lib/cmake/ztensor/ztensor-config.cmake"
    cmake_version >"$lib/cmake/ztensor/ztensor-config-version.cmake"
}

case $action in
    install) install_all ;;
    uninstall) uninstall ;;
    *)
        echo "install.sh install|uninstall BUILT" >&2
        exit 2
        ;;
esac
