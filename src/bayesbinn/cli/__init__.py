"""The command-line tool: one small file per command."""

from .main import main as main
