"""An experiment: its settings, and the folder in which a run of it lives (log, checkpoints, evaluation)."""
