"""The one place that loads the shared library."""

from __future__ import annotations

from typing import Any

from ztensor import _native  # type: ignore[attr-defined, unused-ignore]  # made by the build

ffi: Any = _native.ffi
lib: Any = _native.lib

if lib.zt_abi_version() != lib.ZT_ABI_VERSION:
    raise ImportError(
        f"the ztensor library has ABI version {lib.zt_abi_version()}, this package was made for "
        f"{lib.ZT_ABI_VERSION}: reinstall ztensor"
    )
