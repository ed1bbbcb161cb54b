"""``blockstep plan``: what training would cost on other devices."""
