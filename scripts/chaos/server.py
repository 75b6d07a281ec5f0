"""
`twistd`, in a process whose wall clock can be set: the time of day is off by
what a shared file says, for everything that asks Python for it.
"""

from __future__ import annotations

import mmap
import os
import struct
import sys
import time

OFFSET = struct.Struct("d")


def main() -> None:
    with open(os.environ["CHAOS_CLOCK"], "rb") as file:
        offset = mmap.mmap(file.fileno(), OFFSET.size, prot=mmap.PROT_READ)
    real = time.time
    time.time = lambda: real() + OFFSET.unpack_from(offset)[0]
    from twisted.scripts.twistd import run  # noqa: PLC0415  # it takes the clock when imported

    sys.argv[0] = "twistd"
    run()


if __name__ == "__main__":
    main()
