"""The runtime: stages, links, workers, checkpoints. It knows no network and no search."""
