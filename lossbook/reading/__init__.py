"""Runs as they are read: one run, the table of all runs, filters, SQL, events and console. Writes nothing into a store."""
