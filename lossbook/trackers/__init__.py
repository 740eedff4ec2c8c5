"""Other trackers. `mirror` and `source` are the contracts; one folder a tracker holds both directions and its file formats."""
