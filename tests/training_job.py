"""`twincar`, with batch norms that do not look at the batch where FROZEN_NORMS is set, and a process that can die.

On CPUs each process normalises by its own part of a batch, so only without that are several processes exactly one. The
process DIE_RANK ends without a word when the epoch DIE_EPOCH begins, counted from 0.
"""

from __future__ import annotations

import os

from torch import nn

from twincar.cli import main
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


if __name__ == "__main__":
    train.TrainingModule = ObservedModule  # type: ignore[misc]
    main()
