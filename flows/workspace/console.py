"""Where people read: a terminal, or a file that has no width of its own."""

from rich.console import Console
from rich.table import Table

_FILE_WIDTH = 160


def console(to_stderr: bool = False) -> Console:
    """Return a console for sentences and tables; standard error where standard output is for JSON."""
    made = Console(stderr=to_stderr, highlight=False)
    if not made.is_terminal:
        made.width = _FILE_WIDTH
    return made


def table(*columns: str, right: tuple[str, ...] = ()) -> Table:
    """Return an empty table; columns named in `right` are numbers."""
    made = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return made
