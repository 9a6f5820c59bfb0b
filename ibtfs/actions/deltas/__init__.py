"""Finding what of new bytes is in old ones, and deltas for others."""
