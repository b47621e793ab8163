"""`python -m sweep`: the command where its script is not on the path."""

from sweep.cli import main

main()
