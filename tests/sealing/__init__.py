"""Sealing: what opens, and above all what must not."""
