"""A pool: one supervisor process with its slots. `supervisor.py` has the loop, `process.py` starts it."""
