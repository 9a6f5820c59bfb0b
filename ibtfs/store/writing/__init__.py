"""What a run writes: archives one after another, contents, pages, and what it may refer to."""
