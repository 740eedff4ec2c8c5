"""Neptune: what its exporter wrote."""
