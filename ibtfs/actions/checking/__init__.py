"""Looking for damage: what is looked at, and what seems damaged until it was looked at again."""
