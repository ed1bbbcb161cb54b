"""Comparing methods: what ``blockstep bench`` runs, and what it makes of the results."""
