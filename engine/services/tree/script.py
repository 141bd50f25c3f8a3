"""The tree for a script, as its Scheduler starts it: `python -m engine.services.tree.script BOOTSTRAP READY LIFELINE`.

The three are descriptors: the root reads from the first what it is to do, says once on the second that it is ready
or why not, and ends when the third does, which is when the script has ended.
"""

import os
import sys

from engine.services.tree.run import run_for_script


def main(arguments: list[str]) -> int:
    """Run the tree; return the exit code."""
    bootstrap_fd, ready_fd, lifeline_fd = map(int, arguments)
    for fd in (ready_fd, lifeline_fd):
        os.set_inheritable(fd, False)
    return run_for_script(bootstrap_fd, ready_fd, lifeline_fd)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
