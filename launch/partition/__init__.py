"""Partitioned networks: what ``blockstep partition`` decides, does, follows and leaves behind."""
