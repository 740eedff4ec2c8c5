"""What did a run log? The keys in groups, of W&B's cloud or of anything that Lossbook reads (`lossbook keys`)."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lossbook.cli.keys import answer_keys
from lossbook.cli.wandb_scripts import run_script

if __name__ == "__main__":
    sys.exit(run_script("inspect_wandb_keys.py", "List every key that a run logged, in groups.", answer_keys))
