"""Each call to Redis fails in turn."""
