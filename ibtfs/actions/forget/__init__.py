"""Backup points that go: which ones by rules, and their removal."""
