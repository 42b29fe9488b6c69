"""What a command does with memory that is freed."""

import ctypes
import os
import sys

# The numbers that glibc's malloc.h has for them, and what they are set to.
_OPTIONS = {
    -8: 1,  # M_ARENA_MAX: the arenas of threads give memory back whatever the others say
    -4: 0,  # M_MMAP_MAX
    -1: -1,  # M_TRIM_THRESHOLD: none
    -2: 2**26,  # M_TOP_PAD: so many bytes more, whenever there are too few
}


def keep_memory() -> None:
    """Has the process keep what is freed for the next step, where the C library is glibc.

    Else every step asks the kernel for the pages of its large arrays again, which takes up to a fifth of its time.
    Settings in the environment (``MALLOC_*``, ``GLIBC_TUNABLES``) have precedence. It counts for the whole process:
    call it first, before there are threads.

    Source: the manual page mallopt(3).

    >>> keep_memory()
    """
    if sys.platform != "linux" or any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # other C libraries have none
    if mallopt is not None:
        for option, value in _OPTIONS.items():
            mallopt(option, value)
