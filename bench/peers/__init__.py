"""The same work on other task queues. They live in an environment of their own; nothing here imports the engine."""
