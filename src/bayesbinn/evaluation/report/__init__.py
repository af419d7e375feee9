"""One self-contained HTML file about a run or a stream of tasks: its charts by matplotlib, no script, no request."""

from .page import Page as Page
from .page import write_report as write_report
from .run import run_page as run_page
from .stream import stream_page as stream_page
