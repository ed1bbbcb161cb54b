"""``blockstep dashboard``: the wandb workspace of a project, as code."""
