"""A deploy that went wrong."""

raise ImportError("it is meant to fail")
