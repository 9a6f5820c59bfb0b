"""Repairing a repository: what can be had again is."""
