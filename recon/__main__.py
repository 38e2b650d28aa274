"""Run the command line: `python -m recon`."""

from recon.cli.main import main

main()
