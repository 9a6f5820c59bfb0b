"""Changing what opens a sealed repository."""
