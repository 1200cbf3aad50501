"""Pictures of runs, of data sets and of measurements; they need matplotlib, which `figure` looks for."""
