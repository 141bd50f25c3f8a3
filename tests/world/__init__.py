"""A world of supervisors, keepers and clients that never happened: one thread, one seed, no process and no Redis.

    python -m tests.world --seeds 1000       look for a seed that breaks a promise
    python -m tests.world --seed 42 --trace  play that one again, with all that happens

The real parts are those that decide: `Pool` with its core, the keeper's `Rounds` with its duties. What they speak to is
made here: time (`clock.py`), Redis (`store.py`, held to the real scripts by tests/contract/test_world_store.py), the
network (`wire.py`), processes (`host.py`). `ledger.py` has the promises, `nemesis.py` what is done to break them.
"""
