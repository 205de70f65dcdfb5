"""From a log call to the journal: device values, steps, times, secrets and interrupts."""
