"""W&B: the mirror, the cloud and offline sources, and the transaction log that both sides use."""
