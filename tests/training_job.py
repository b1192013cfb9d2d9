"""`twincar` in processes of its own, as `launch` starts it: what such a training does differs by its environment.

Where FROZEN_NORMS is set, batch norms do not look at the batch. On CPUs each process normalises by its own part of a
batch, so only without that are several processes exactly one. The process DIE_RANK ends without a word when the epoch
DIE_EPOCH begins, counted from 0.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from torch import nn

from twincar.cli import main
from twincar.core.config import TrainConfig
from twincar.core.files import write_text
from twincar.training import train


class ObservedModule(train.TrainingModule):
    def on_train_epoch_start(self) -> None:
        super().on_train_epoch_start()
        norms = (module for module in self.modules() if isinstance(module, nn.BatchNorm2d))
        for norm in norms if "FROZEN_NORMS" in os.environ else ():
            norm.eval()
        if [os.environ.get(name) for name in ("DIE_RANK", "DIE_EPOCH")] == [
            str(self.global_rank),
            str(self.current_epoch),
        ]:
            os._exit(3)


def observed(arguments: Sequence[str]) -> None:
    """`twincar ARGUMENTS`; the Trainer starts further processes of it as this file's."""
    train.TrainingModule = ObservedModule  # type: ignore[misc]
    sys.argv = [__file__, *arguments]
    main()


def arguments_of(config: TrainConfig, run: Path) -> list[str]:
    """Of a training by the command line, from a configuration file."""
    settings = run.with_suffix(".yaml")
    write_text(settings, config.to_yaml())
    return ["train", config.data, "--config", str(settings), "--runs", str(run.parent), "--name", run.name]


def launch(
    config: TrainConfig, run: Path, *before: str, resumed: bool = False, **environment: str
) -> subprocess.Popen[str]:
    """Train in a process that is started anew; by torchrun if that stands `before` it."""
    what = ["train", "--resume", run] if resumed else arguments_of(config, run)
    command = [*(before or [sys.executable]), Path(__file__), *what, *([] if before else ["--devices", "2"])]
    return subprocess.Popen(
        [str(word) for word in command],
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process: subprocess.Popen[str]) -> str:
    """Wait for its end, which must be a good one; what it printed."""
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return out


if __name__ == "__main__":
    observed(sys.argv[1:])
