"""The command `recon`, also as `python -m recon`."""

import os
import sys

from recon.interrupts import stoppable


def main() -> None:
    """Run the command line; Ctrl-C is understood from here on, while Python still imports."""
    # Before torch is imported: OpenMP's threads sleep between operations. Spinning, they would take
    # the cores from the kernel's threads, and from other programs.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    with stoppable(is_process=True):
        from recon.cli.main import run

        run(sys.argv[1:])


if __name__ == "__main__":
    main()
