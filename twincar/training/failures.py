"""What ends training early, as errors that say what to do."""

from __future__ import annotations

import shlex
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from twincar.core.config import TrainConfig
from twincar.core.errors import TwinCarError, reason
from twincar.core.runs import RunFolder
from twincar.training.distributed import Processes, is_lost_connection


@contextmanager
def explained_failures(config: TrainConfig, run: RunFolder, processes: Processes) -> Iterator[None]:
    """Raise what the Trainer, torch and the data loader raise as one of TwinCar's errors, or as Ctrl-C.

    Raises:
        KeyboardInterrupt: it was stopped by Ctrl-C.
        TwinCarError: memory does not suffice, the network cannot be compiled, or another process has ended.
    """
    try:
        yield
    except SystemExit:  # the Trainer raises it after Ctrl-C, when it has cleaned up
        signal.signal(signal.SIGINT, signal.default_int_handler)  # it leaves SIGINT ignored, for children too
        raise KeyboardInterrupt from None
    except torch.OutOfMemoryError:
        raise TwinCarError(
            f"The GPU's memory does not hold {config.batch_size} photos of {config.image_height}×{config.image_width} "
            "pixels and this network. Halve --batch-size, or the image size."
        ) from None
    except RuntimeError as error:
        if config.compile and isinstance(error, torch._dynamo.exc.BackendCompilerFailed):
            raise TwinCarError(
                f"torch could not compile the network: {reason(error)}. It needs a C++ compiler "
                "such as g++ at run time; install one, or train without --compile."
            ) from None
        if processes.count > 1 and is_lost_connection(error):
            raise TwinCarError(
                "Another process of this training has ended, so this one cannot continue; see its messages. "
                f"Resume after the last finished epoch with the same command and --resume {shlex.quote(str(run.path))}."
            ) from None
        if "DataLoader worker" not in str(error):
            raise
        raise TwinCarError(
            f"A process that loads photos was killed, most likely for lack of memory. Lower --workers or --batch-size, "
            f"and resume with --resume {shlex.quote(str(run.path))}."
        ) from None
