"""Only `./dev libraries` runs these: they want wheels of a gigabyte, and some minutes."""

import os

collect_ignore_glob = [] if os.environ.get("TESTS_OF_LIBRARIES") else ["test_*.py"]
