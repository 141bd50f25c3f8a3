"""The engine's processes of its own: pools start workers, a fork server forks them, workers run handlers."""
