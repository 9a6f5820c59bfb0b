"""Restoring: from a backup point to a folder."""
