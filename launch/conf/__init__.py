"""Hydra configuration files of the commands."""
