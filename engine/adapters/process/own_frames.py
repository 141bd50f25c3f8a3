"""Which frames of a traceback are the engine's, and not the user's: those of the modules in this folder."""

import os

FOLDER = os.path.dirname(__file__)
