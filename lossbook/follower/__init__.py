"""Followers of the journal, in a process of their own beside the training.

`python -m lossbook.follower RUN_FOLDER` seals segments, keeps `summary.json` fresh, records what exactly was run,
and notices when training dies without a word. Training never waits for it and never notices its death.
"""
