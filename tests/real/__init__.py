"""Checks on real data, which is never part of the repository: its folder comes from a variable or an option."""
