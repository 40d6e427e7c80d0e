"""Remove the databases of a run of pytest when its process is gone, however it went.

Started by :class:`~flask_dbkit.testing.runs.Run`, as a program, with one end of a pipe as its
standard input. Reading returns when the other end closes, which the kernel does even after
``kill -9``. The last line tells what is left then: nothing, after an orderly end.
"""

import json
import shutil
import sys
import time
from pathlib import Path


def main() -> None:
    """Wait for the end of the run, then tidy up."""
    left = json.loads(sys.stdin.read().splitlines()[-1])
    if not left:
        return
    folder = Path(left["shared"]["folder"])
    for _ in range(100):  # a process of the run may still be writing
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            break
        time.sleep(0.05)
    if left["place"] is not None:
        # Imported late: nearly always there is nothing to do.
        from flask_dbkit.testing.places import drop_databases  # noqa: PLC0415
        from flask_dbkit.testing.runs import Shared  # noqa: PLC0415

        drop_databases(left["place"], Shared(**left["shared"]))


if __name__ == "__main__":
    main()
