"""MLflow: the mirror and the source."""
