"""How much of each GPU did a run use? Memory and utilisation, also of W&B's cloud (`lossbook gpu`)."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lossbook.cli.gpu import answer
from lossbook.cli.wandb_scripts import run_script

if __name__ == "__main__":
    sys.exit(run_script("query_wandb_gpu.py", "Show memory and utilisation of each GPU of a run.", answer))
