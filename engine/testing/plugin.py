"""Fixtures for pytest, there as soon as Ganger is installed."""
