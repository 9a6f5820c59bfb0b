"""Backing up: from the source to a new backup point."""
