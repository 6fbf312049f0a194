"""The one door to numba: loops over pixels and triangles, compiled at their first call."""

import inspect
from collections.abc import Callable
from typing import TypeVar

try:
    import numba
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError("rendering needs numba: pip install 'zero123[data]'") from missing

F = TypeVar("F", bound=Callable[..., object])


def compiled(function: F) -> F:
    """Compile a loop; it keeps its machine code on disk and lets other threads run beside it.

    The machine code is made anew when the loop's own file changes, not when a loop of another file
    that it calls does: then touch its file too.
    """
    bare = inspect.unwrap(function)  # numba reads bytecode: a type checker around it is no loop
    fast: F = numba.njit(cache=True, nogil=True, error_model="numpy")(bare)
    return fast
