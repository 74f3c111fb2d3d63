"""How much of a computation is done by Python itself, without a clock."""

import sys


def python_steps(function):
    """Count the lines, calls and returns of Python that a call takes, loops line by line."""
    steps, before = 0, sys.gettrace()

    def count(*_):
        nonlocal steps
        steps += 1
        return count

    sys.settrace(count)
    try:
        function()
    finally:
        sys.settrace(before)
    return steps
