"""Where things are on disk: `run.json`, ids of runs, media and staging."""
