"""The read-only view of a repository, and the protocols that show it."""
