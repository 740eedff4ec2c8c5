"""Logs in JSON, JSON Lines, CSV and text, as trainers write them."""
