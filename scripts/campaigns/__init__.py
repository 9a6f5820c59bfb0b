"""Long trials of ibtfs, each a module with `add_options` and `run`, as `base.Campaign` says.

A new one (faults, races, fuzz) is a module here and a line in the table of ``scripts/campaign``.
What a campaign does, a test may do in small: the trials themselves are in ``tests/support``.
"""
