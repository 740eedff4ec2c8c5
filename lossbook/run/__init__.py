"""The training process's side: `init()`, `Run` and the values that can be logged."""
