"""The view served by libfuse 3, at the low level: nodes by number, answers packed."""
