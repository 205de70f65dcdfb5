"""Names of other libraries over the runs of this one: a program that uses them changes its import, and nothing else."""
