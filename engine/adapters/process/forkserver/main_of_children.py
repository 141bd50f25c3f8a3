"""The main module of what a handler starts through multiprocessing by "spawn" or "forkserver": see `main_script`."""

from engine.adapters.process.forkserver.main_script import execute_in_child

if __name__ == "__mp_main__":  # else it is only imported
    globals().update(execute_in_child())
