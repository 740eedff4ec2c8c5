"""What did each GPU of a run do? With power and temperature, also of W&B's cloud (`lossbook gpu --full`)."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lossbook.cli.gpu import answer_full
from lossbook.cli.wandb_scripts import run_script

if __name__ == "__main__":
    sys.exit(
        run_script(
            "query_wandb_gpu_full.py",
            "Show memory, utilisation, power and temperature of each GPU that was at work.",
            answer_full,
        )
    )
