"""The on-disk format: bytes to values and back; no paths, no clock, no I/O.

FORMAT.rst, in this folder, describes every byte.
"""
