"""`./just gen-certs DIRECTORY`: a self-signed certificate, and its private key."""

from __future__ import annotations

import datetime
import sys
from pathlib import Path

from wschat.datadir import make_certificate


def main() -> None:
    directory = Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    for path in make_certificate(directory, datetime.datetime.now(datetime.UTC)):
        print(path)


if __name__ == "__main__":
    main()
