"""The command `recon`, also as `python -m recon`."""

import sys

from recon.interrupts import stoppable


def main() -> None:
    """Run the command line; Ctrl-C is understood from here on, while Python still imports."""
    with stoppable(is_process=True):
        from recon.cli.main import run

        run(sys.argv[1:])


if __name__ == "__main__":
    main()
