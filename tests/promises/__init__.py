"""What ibtfs promises as a whole, whichever layers keep it."""
