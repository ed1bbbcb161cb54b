"""Searching: what ``blockstep search`` decides, does in each rank, follows and leaves behind."""
