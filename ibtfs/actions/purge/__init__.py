"""Taking a path out of the whole history of a repository."""
