"""The read-only view of a repository: what is shown, and nothing of how it is served."""
