"""The files of a run, and the disks they lie on."""
