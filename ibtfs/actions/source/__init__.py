"""Reading the source: listed, opened, read, never through a link."""
