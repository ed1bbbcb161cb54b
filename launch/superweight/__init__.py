"""SuperWeight ensembles: what `blockstep superweight` decides, does, follows and leaves behind."""
