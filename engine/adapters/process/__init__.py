"""The engine's processes of its own: pools start workers, a fork server forks them, workers run handlers."""

import os

FOLDER = os.path.dirname(__file__)  # frames of a traceback from here are the engine's, not the user's
