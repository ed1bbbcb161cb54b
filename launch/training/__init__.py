"""Training: what ``blockstep train`` decides, does in each rank, follows and leaves behind."""
