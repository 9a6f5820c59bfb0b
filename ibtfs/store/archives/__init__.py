"""Archives: their files, read by number and address, and written in order."""
