"""What makes a repository unreadable, and what is stored unforgeable, to whoever has no key."""
