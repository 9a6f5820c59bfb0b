"""The storage of a repository: its verbs, and the local folder that has them."""
