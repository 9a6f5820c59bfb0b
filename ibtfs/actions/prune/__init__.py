"""Freeing the room of what no backup point needs any more."""
