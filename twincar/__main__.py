"""`python -m twincar` is the command line."""

from twincar.cli import main

main()
