"""One self-contained HTML file about a run: no script, no request, colours of the reader's choice of light or dark."""

from .page import render as render
from .write import write_report as write_report
