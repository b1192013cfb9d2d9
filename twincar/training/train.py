"""The `train` and `resume` verbs: train a network on a prepared data set; Lightning runs the loop.

A run is one folder, see `core.runs.RunFolder`. All random generators are seeded at the start of each epoch from the
seed and the epoch, so a run that is resumed after any epoch ends exactly as if it had not stopped.

Several devices, also on several hosts, train by DDP: each process takes its shard of every batch, all of them score the
whole validation split, and the first one writes. Their number is not part of the configuration, because the batches are
the same.

Shapes: N photos of H×W pixels, K classes.
"""

from __future__ import annotations

import logging
import platform
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer, seed_everything
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger

from twincar.core.config import TrainConfig
from twincar.core.errors import UsageError
from twincar.core.files import clear_unfinished, write_text
from twincar.core.machine import describe_cpu, tune_glibc_malloc
from twincar.core.preprocess import Preprocessing
from twincar.core.runs import MONITOR, Epoch, RunFolder, best_epoch, ending, is_finished
from twincar.core.version import __version__
from twincar.data.dataset import ANNOTATIONS, PreparedData
from twincar.data.loading.loader import PhotoLoader, TrainingPhotos, default_workers, evaluation_loader, training_loader
from twincar.data.loading.shard import Shard
from twincar.data.training_record import record_seen
from twincar.models.checkpoint import build_network, load_initial
from twincar.models.network import CarNet
from twincar.models.spec import NOT_VALIDATED, ModelSpec
from twincar.training.announcement import announce
from twincar.training.callbacks import (
    LIGHTNING_PRECISION,
    AtomicCheckpoints,
    AveragedWeights,
    EpochBar,
    Heartbeat,
    RestoredState,
    quiet_lightning,
)
from twincar.training.distillation import check_same_teachers, teacher_hashes
from twincar.training.distributed import Processes, is_first_process, observe_patiently
from twincar.training.failures import explained_failures
from twincar.training.module import TrainingModule
from twincar.training.precision import choose_precision
from twincar.training.recorder import Recorder

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainResult:
    """The result of a training run."""

    run: RunFolder
    history: list[Epoch]
    config: TrainConfig

    @property
    def best(self) -> Epoch:
        """The epoch whose weights were kept."""
        return best_epoch(self.history)

    @property
    def ending(self) -> str:
        """A sentence on why it ended before its last possible epoch; empty if all epochs were done."""
        return ending(self.config, self.history)


def train(
    data: str | Path | TrainConfig,
    run_path: str | Path | None = None,
    *,
    tensorboard: bool = False,
    devices: int = 1,
    nodes: int = 1,
    **settings: Any,
) -> TrainResult:
    """Train from the start in a new run folder.

    Args:
        data: the folder of a prepared data set; or all settings, among them this folder.
        run_path: the run folder to create; by default the name of the data folder in `runs/`.
        tensorboard: also log for TensorBoard.
        devices: processes on each host, one per device; the Trainer starts them unless torchrun or SLURM did.
        nodes: number of hosts.
        settings: fields of `TrainConfig` to change, as in `train("data/mine", recipe="lite", epochs=30)`; those of the
            augmentation are `augment={"flip": 0}`.

    Returns:
        The run folder, and the history: a row of losses and validation metrics for each epoch.

    Raises:
        UsageError: there is no such setting, the run folder exists, another process trains it, or the configuration
            does not fit the data or the machine.
        PretrainedWeightsError: the backbone's initial weights are not available.
        StorageError: the disk cannot be written to; the run can be resumed after its last finished epoch.
    """
    config = _resolve(data, settings)
    run_path = Path(run_path or Path("runs") / Path(config.data).name)
    return _start(config, run_path, Processes(devices, nodes), tensorboard=tensorboard)


def _resolve(data: str | Path | TrainConfig, settings: Mapping[str, Any]) -> TrainConfig:
    if not isinstance(data, TrainConfig):
        return TrainConfig.resolve(flags={**settings, "data": str(Path(data).resolve())})
    if settings:
        raise UsageError(
            f"Expected a TrainConfig alone, which holds all settings, but found {', '.join(settings)} beside it. Name "
            "the data folder in its place, or change the configuration."
        )
    return data


def _start(config: TrainConfig, run_path: Path, processes: Processes, *, tensorboard: bool) -> TrainResult:
    data = PreparedData.open(Path(config.data))
    shard = _shard(config, processes)
    if is_first_process():
        RunFolder.check_free(run_path)  # before building the network, which takes seconds
    tune_glibc_malloc()
    network = _first_network(config, data)
    config = _with_precision(config, network, shard)  # saved with the run, so that it resumes with the same
    run = RunFolder.create(run_path) if is_first_process() else RunFolder(run_path)
    with _only_writer(run):
        if is_first_process():
            RunFolder.check_free(run_path)  # another process may have created and finished it meanwhile
        loaders = _loaders(config, data, shard)
        if is_first_process():
            record_seen(run, data)
            write_text(run.config, config.to_yaml())  # only once photos can be loaded: it makes the folder a run
        return _fit(config, data, run, network, loaders, processes, tensorboard=tensorboard, resume=False)


def resume(run_path: str | Path, *, tensorboard: bool = False, devices: int = 1, nodes: int = 1) -> TrainResult:
    """Resume a run after its last finished epoch, with its own configuration.

    A run that is finished is opened and left as it is.

    Args:
        run_path: the run folder.
        tensorboard: also log for TensorBoard.
        devices: processes on each host, one per device.
        nodes: number of hosts.

    Returns:
        As for `train`, with the epochs before the interruption.

    Raises:
        UsageError: there is no such run, or another process trains it.
        DataError: its data set is not the one with which it was started.
    """
    run = RunFolder.open(Path(run_path))
    config = run.read_config()
    data = PreparedData.open(Path(config.data))
    processes = Processes(devices, nodes)
    shard = _shard(config, processes)
    if is_first_process():
        clear_unfinished(run.path)  # files of dead processes only
    if finished := _finished(run, config):
        return finished
    with _only_writer(run):
        if finished := _finished(run, config):  # by the process that held the lock
            return finished
        check_same_teachers(run, config.teachers)
        tune_glibc_malloc()
        begun = run.last.exists()
        if not begun:
            log.info("No epoch of this run is finished; it starts from the beginning.")
            if is_first_process():
                record_seen(run, data)
        network = _build(config, data) if begun else _first_network(config, data)
        config = _with_precision(config, network, shard)
        loaders = _loaders(config, data, shard)
        return _fit(config, data, run, network, loaders, processes, tensorboard=tensorboard, resume=begun)


def _only_writer(run: RunFolder) -> AbstractContextManager[None]:
    """The lock of the run, in the process that writes."""
    return run.locked() if is_first_process() else nullcontext()


def _finished(run: RunFolder, config: TrainConfig) -> TrainResult | None:
    if not run.metrics.exists() or not is_finished(config, history := run.read_history()):
        return None
    log.info("This run is finished. To train on, start another from it:\n%s", run.continuation(config.data))
    return TrainResult(run, history, config)


def model_spec(config: TrainConfig, data: PreparedData) -> ModelSpec:
    """The specification of the model for a configuration and a data set."""
    preprocessing = Preprocessing(
        height=config.image_height, width=config.image_width, crop=config.crop, squash=config.squash
    )
    return ModelSpec(
        backbone=config.backbone,
        head=config.head,
        classes=data.classes,
        preprocessing=preprocessing,
        framing=data.framing,
        margin=data.manifest.get("margin") or 0.0,
    )


def _first_network(config: TrainConfig, data: PreparedData) -> CarNet:
    """The initial network of a run: random weights by the seed, with a pretrained backbone if configured."""
    seed_everything(config.seed, verbose=False)
    network = _build(config, data)
    load_initial(network, model_spec(config, data), config.pretrained)
    return network


def _build(config: TrainConfig, data: PreparedData) -> CarNet:
    return build_network(model_spec(config, data), dropout=config.dropout, drop_path=config.drop_path)


def _shard(config: TrainConfig, processes: Processes) -> Shard:
    shard = processes.shard()
    if shard.count > 1 and config.batch_size % (2 * shard.count):
        raise UsageError(
            f"Expected a --batch-size that is a multiple of {2 * shard.count}, twice the number of devices, but found "
            f"{config.batch_size}: each takes its shard of every batch, in pairs of photos that may be mixed."
        )
    return shard


def _with_precision(config: TrainConfig, network: CarNet, shard: Shard) -> TrainConfig:
    if shard.count > 1 and config.precision == "auto" and not torch.cuda.is_available():
        return replace(config, precision="fp32")  # simultaneous trials are unreliable, and all must choose the same
    precision = choose_precision(config.precision, network, config.image_height, config.image_width)
    return replace(config, precision=precision)


@quiet_lightning()
def _fit(
    config: TrainConfig,
    data: PreparedData,
    run: RunFolder,
    network: CarNet,
    loaders: tuple[PhotoLoader, PhotoLoader],
    processes: Processes,
    *,
    tensorboard: bool,
    resume: bool,
) -> TrainResult:
    spec = replace(model_spec(config, data), provenance=_provenance(config, data))
    training, validation = loaders
    steps = min(len(training), config.limit_batches) if config.limit_batches else len(training)
    module = TrainingModule(network, config, data.classes, steps, config.batch_size // processes.count)
    recorder = Recorder(run, spec, data.manifest["sha256"][ANNOTATIONS])
    trainer = _trainer(config, run, recorder, processes, tensorboard=tensorboard)
    if trainer.is_global_zero:
        announce(config, data, trainer)
    with explained_failures(config, run, processes):
        if resume:
            with RestoredState.watch(trainer, run.last):
                trainer.fit(module, training, validation, ckpt_path=str(run.last), weights_only=True)
        else:
            trainer.fit(module, training, validation)
    return TrainResult(run, recorder.history, config)


def _trainer(
    config: TrainConfig, run: RunFolder, recorder: Recorder, processes: Processes, *, tensorboard: bool
) -> Trainer:
    observe_patiently()
    show_progress = sys.stderr.isatty() and log.isEnabledFor(logging.INFO)
    callbacks: list[Callback] = [
        recorder,  # before the averaging, which swaps the averaged weights back after validation
        EarlyStopping(MONITOR, mode="max", patience=config.patience),
        ModelCheckpoint(run.path, filename="last", enable_version_counter=False, save_on_train_epoch_end=True),
    ]
    if config.ema_decay:
        callbacks.insert(1, AveragedWeights(config.ema_decay))
    if show_progress:
        callbacks.append(EpochBar(console_kwargs={"stderr": True}))
    else:
        callbacks.append(Heartbeat())
    limit = config.limit_batches or 1.0
    return Trainer(
        accelerator="auto",
        devices=processes.devices,
        num_nodes=processes.nodes,
        strategy="ddp" if processes.count > 1 else "auto",
        # On CPUs each process normalises by its own shard of the batch: torch synchronises on GPUs only.
        sync_batchnorm=processes.count > 1 and torch.cuda.is_available(),
        precision=LIGHTNING_PRECISION[config.precision],
        max_epochs=config.epochs,
        gradient_clip_val=config.gradient_clip or None,
        callbacks=callbacks,
        plugins=[AtomicCheckpoints()],
        logger=TensorBoardLogger(run.path, name="tensorboard", version="") if tensorboard else False,
        log_every_n_steps=10,
        limit_train_batches=limit,
        limit_val_batches=limit,
        num_sanity_val_steps=0,
        enable_progress_bar=show_progress,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )


def _loaders(config: TrainConfig, data: PreparedData, shard: Shard) -> tuple[PhotoLoader, PhotoLoader]:
    """The loaders of the training and the validation photos."""
    preprocessing = model_spec(config, data).preprocessing
    workers = default_workers() if config.workers < 0 else config.workers
    photos = TrainingPhotos(data, config.augment, preprocessing, config.seed, cache=config.cache)
    training = training_loader(
        photos,
        batch_size=config.batch_size,
        balanced=config.balanced,
        workers=workers,
        repeats=config.epoch_repeats,
        shard=shard,
    )
    validation = evaluation_loader(
        data, "val", preprocessing=preprocessing, batch_size=2 * config.batch_size, workers=workers, shard=shard
    )
    return training, validation


def _provenance(config: TrainConfig, data: PreparedData) -> dict[str, Any]:
    return {
        "recipe": config.recipe,
        "seed": config.seed,
        NOT_VALIDATED: data.classes_without("val"),
        "data": {name: data.manifest.get(name) for name in ("source", "revision", "sha256")},
        "teachers": teacher_hashes(config.teachers),
        "versions": {"twincar": __version__, "torch": torch.__version__, "python": platform.python_version()},
        "machine": torch.cuda.get_device_name() if torch.cuda.is_available() else str(describe_cpu()),
    }
