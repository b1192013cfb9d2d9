"""Names of the files in the folder of a training run, see `runs.RunFolder`; here, they need no other import."""

from __future__ import annotations

CONFIG_FILE, TRAINED_ON_FILE, HISTORY_FILE = "config.yaml", "trained_on.csv", "metrics.csv"
WEIGHTS_FILE, CHECKPOINT_FILE, LOCK_FILE = "best.safetensors", "last.ckpt", "train.lock"
