"""DVCLive: the tables in its folder."""
