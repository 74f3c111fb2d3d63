"""How an example ends that lacks data or packages."""

from __future__ import annotations

__all__ = ["LeftOut"]


class LeftOut(SystemExit):
    """Ends a script with one line on what it lacks; nothing has failed, the exit status is 0.

    Parameters
    ----------
    line : str
        What is missing, and what to do.

    Examples
    --------
    >>> try:
    ...     raise LeftOut("This example needs Pillow: pip install pillow")
    ... except SystemExit as stop:
    ...     print(stop.code)
    This example needs Pillow: pip install pillow
    0
    """

    def __init__(self, line: str) -> None:
        super().__init__(line)
        self.code = 0
        print(line)
