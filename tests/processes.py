"""Other processes without the seconds that a new interpreter takes to import the package."""

import os
import traceback
import warnings


def start(function, *args):
    """Run a function in a forked process; return its number."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking with threads
        pid = os.fork()
    if pid:
        return pid
    try:
        function(*args)
        os._exit(0)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(1)


def finish(pid):
    """Wait for a process; fail if it did."""
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
