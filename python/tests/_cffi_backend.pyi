# cffi comes without types. The generated ztensor/_native/ffi.py imports this module of it, and the type check, which looks
# here for the modules that it does not find, sees it when the library has been built beside the sources.
from typing import Any

def __getattr__(name: str) -> Any: ...
