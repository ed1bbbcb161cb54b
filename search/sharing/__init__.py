"""Learning where weights share: clusters by their gradients, then coefficients by theirs."""
