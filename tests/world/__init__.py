"""A simulated world of supervisors, keepers and clients: one thread, one seed, no processes and no Redis.

    python -m tests.world --seeds 1000       look for a seed that breaks a promise
    python -m tests.world --seed 42 --trace  play that one again, with all that happens

The real parts are those that decide: `Pool` with its core, the keeper's `Rounds` with its duties. Everything around
them is simulated: time (`clock.py`), the network (`network.py`), processes (`host.py`), and Redis: that is the
reference model of `engine/testing/model`, which another test compares with the scripts. `ledger.py` has the promises,
`nemesis.py` tries to break them.
"""
