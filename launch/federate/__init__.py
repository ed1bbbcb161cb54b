"""Federated training: what ``blockstep federate`` decides, does in each rank, and leaves behind."""
