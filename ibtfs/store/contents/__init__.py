"""Contents: random access through chains of extent maps, and the digests of slabs."""
