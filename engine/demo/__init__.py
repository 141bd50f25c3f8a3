"""`ganger demo`: the engine at work on real input beside tasks that misbehave, and what came of it.

    tasks.py     which tasks, and how each of them is to end
    runner.py    starts everything in a temporary folder, runs them, takes it all down again
    findings.py  what happened, as plain data
    summary.py   the findings for people

It uses nothing that a user could not use: a Scheduler, its Client, and ready-made handlers.
"""

from engine.demo.runner import run_demo

__all__ = ["run_demo"]
