#!/usr/bin/env bash
# A production run of the BitNet trainer with W&B: ./launch_with_wandb.sh [any flag of bitnet/train.py, which wins]
#
# One process a GPU. Lossbook keeps what is printed (the folder console/ of the run), so nothing stands between the
# training and its exit status: a pipe into tee would end with tee's.
#
#   PYTHON=…      the interpreter                [.venv/bin/python, else python3]
#   PROCESSES=…   processes on this machine      [as many as there are GPUs, else 1]
#   WANDB_MODE=…  offline where there is no network; `lossbook sync` or `wandb sync` catches up
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"

if [[ -z "${PYTHON:-}" ]]; then
    PYTHON=python3
    if [[ -x "$here/.venv/bin/python" ]]; then PYTHON="$here/.venv/bin/python"; fi
fi
if [[ -z "${PROCESSES:-}" ]]; then
    PROCESSES="$("$PYTHON" -c 'import torch; print(max(1, torch.cuda.device_count()))')"
fi
half=()
if "$PYTHON" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
    half=(--fp16)
fi
launcher=("$PYTHON")
if [[ "$PROCESSES" -gt 1 ]]; then
    launcher=("$PYTHON" -m torch.distributed.run --standalone "--nproc_per_node=$PROCESSES")
fi

exec "${launcher[@]}" "$here/bitnet/train.py" \
    --model_size rtx --dataset wikitext-103-v1 --max_length 384 \
    --batch_size 8 --gradient_accumulation_steps 3 --learning_rate 2e-4 --num_epochs 15 \
    --wandb_project bitnet-qdyt-v2 --wandb_tags production rtx \
    ${half[@]+"${half[@]}"} "$@"
