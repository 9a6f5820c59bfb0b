"""What of a repository is needed, what goes when points are forgotten, and how it goes."""
