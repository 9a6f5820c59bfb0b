"""Trees of directories: read, walked, compared, followed through time."""
