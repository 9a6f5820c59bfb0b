"""Repositories that an ibtfs on another machine serves: what is said, who asks, who answers."""
