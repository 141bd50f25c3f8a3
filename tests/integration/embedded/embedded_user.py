"""A process that uses the embedded Redis of a folder: says `open <url>`, and stays until its standard input ends.

Run as a program by the tests of the embedded Redis.
"""

import os
import sys
from pathlib import Path

from engine.adapters.redis.embedded.server import open_embedded
from engine.errors import EngineError

if __name__ == "__main__":
    try:
        embedded = open_embedded(Path(sys.argv[1]), os.environ.get("GANGER_REDIS_BINARY"))
    except EngineError as error:
        print(f"failed {error}", flush=True)
        sys.exit(1)
    print(f"open {embedded.url}", flush=True)
    sys.stdin.read()
    embedded.close()
