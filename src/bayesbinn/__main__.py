"""`python -m bayesbinn`: the command-line tool."""

from .cli import main

main()
