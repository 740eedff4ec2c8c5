"""The dashboard: a server on the reading API, and the page that it serves."""
