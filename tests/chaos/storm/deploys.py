"""Other code for an engine of the storm: an older version, that of another service, or one that cannot be imported."""

FULL, OLDER, FOREIGN, BROKEN = (f"tests.chaos.storm.{name}" for name in ("handlers", "older", "foreign", "broken"))
KINDS = (FULL, OLDER, FOREIGN, BROKEN)
