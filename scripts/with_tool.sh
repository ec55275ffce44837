#!/usr/bin/env bash
# with_tool.sh TOOL PACKAGE FOLDER -- COMMAND...: runs a command that needs a tool of the system. If the tool is missing, the
# distribution's package and what it depends on are unpacked into FOLDER/TOOL, which needs no root.
set -euo pipefail
tool=$1
package=$2
folder=$3/$1
shift 4
if ! command -v "$tool" >/dev/null; then
    if [[ ! -f $folder/.complete ]]; then
        if ! command -v apt-get >/dev/null || ! command -v dpkg >/dev/null; then
            echo "$tool is missing, and there is no apt to get it with: install it by the system's own means" >&2
            exit 1
        fi
        echo "unpacking $package into $folder" >&2
        rm -rf "$folder"
        mkdir -p "$folder/packages"
        mapfile -t packages < <(apt-get --simulate --no-install-recommends install "$package" | awk '/^Inst/ { print $2 }')
        # As root, apt would become a user who may not write here, and complain.
        (cd "$folder/packages" && apt-get --quiet=2 -o APT::Sandbox::User=root download "${packages[@]}") ||
            { echo "$package could not be fetched: is there a network, and is \`apt-get update\` recent?" >&2; exit 1; }
        for archive in "$folder"/packages/*.deb; do
            dpkg -x "$archive" "$folder"
        done
        rm -r "$folder/packages"
        touch "$folder/.complete"
    fi
    libraries=$(find "$folder" -name '*.so*' -printf '%h\n' | sort -u | paste -sd:)
    export PATH=$folder/usr/bin:$PATH LD_LIBRARY_PATH=$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
fi
exec "$@"
