"""The engine inside a script: starts it as a child process, and stops it with the script.

Imports little: a main script is re-executed in the fork server, and what it imports every worker carries.
"""

from engine.scheduler.scheduler import Scheduler, get_scheduler

__all__ = ["Scheduler", "get_scheduler"]
