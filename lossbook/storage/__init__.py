"""Sealed segments: the Parquet files that journal segments become, and the rows, buckets and figures read from them."""
