"""Trains a network on a prepared data set; Lightning runs the loop.

A run is `config.yaml metrics.csv best.safetensors last.ckpt reports/` in one folder. Everything random is seeded anew
at the start of each epoch, from the seed and the epoch, so a run resumed after any epoch ends as if never stopped.

Several devices, also on several hosts, train by DDP: each process takes its part of every batch, all of them measure
the whole validation split, the first one writes. How many there are is no part of the configuration, because the
batches are the same.

Shapes: N photos of H×W pixels, K classes.
"""

from __future__ import annotations

import logging
import math
import os
import platform
import signal
import sys
import time
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint, RichProgressBar
from lightning.pytorch.loggers import TensorBoardLogger
from numpy.typing import NDArray
from torch import Tensor

from twincar.config import TrainConfig, read_yaml
from twincar.data.annotations import ANNOTATIONS, PreparedData
from twincar.data.loader import Part, PhotoLoader, default_workers, evaluation_loader, training_loader
from twincar.errors import DataError, TwinCarError, UsageError
from twincar.files import MONITOR, Epoch, RunFolder, best_epoch, clear_unfinished, write_csv, write_text
from twincar.machine import keep_freed_memory
from twincar.metrics import Answers, answer_metrics
from twincar.modeling.calibration import softmax
from twincar.modeling.calibration_fit import fit_calibration
from twincar.modeling.checkpoint import build_network, save_model
from twincar.modeling.cuda_graphs import Forward, record_steps
from twincar.modeling.lightning_parts import LIGHTNING_PRECISION, AtomicCheckpoints, AveragedWeights, RestoredState
from twincar.modeling.mixing import BatchMixer
from twincar.modeling.network import CarNet, load_pretrained, weight_groups
from twincar.modeling.precision import choose_precision
from twincar.modeling.processes import (
    gather_from_all,
    is_first_process,
    is_lost_connection,
    part_of_process,
    share_buffers,
)
from twincar.modeling.spec import ModelSpec
from twincar.preprocess import Preprocessing
from twincar.version import __version__

log = logging.getLogger(__name__)

_STAGES = 4  # in which the size of the training photos grows
_PLATEAU_PATIENCE = 3  # epochs without a better macro-F1 before the rate falls to a tenth


@dataclass(frozen=True)
class TrainResult:
    """What a training run came to."""

    run: RunFolder
    history: list[Epoch]

    @property
    def best(self) -> Epoch:
        """The epoch whose weights were kept."""
        return best_epoch(self.history)


def train(
    config: TrainConfig, run_path: Path, *, tensorboard: bool = False, devices: int = 1, nodes: int = 1
) -> TrainResult:
    """Train from the start in a new run folder.

    Args:
        config: what to train, how and on what.
        run_path: the run folder to be made.
        tensorboard: also log for TensorBoard.
        devices: processes on each host, one a device; the Trainer starts the others unless torchrun or SLURM did.
        nodes: hosts.

    Raises:
        UsageError: the run folder exists, or the configuration does not fit the data or the machine.
        PretrainedWeightsError: the backbone's first weights cannot be had.
        StorageError: the disk; the run can be resumed from its last whole epoch.
    """
    data = PreparedData.open(Path(config.data))
    part = _part(config, devices, nodes)
    if is_first_process():
        RunFolder.check_free(run_path)  # before the seconds that a network takes
    keep_freed_memory()
    network = _first_network(config, data)
    config = _with_precision(config, network, part)  # saved with the run: resumed, it must go on in the same
    run = RunFolder.create(run_path) if is_first_process() else RunFolder(run_path)
    loaders = _loaders(config, data, part)
    if is_first_process():
        write_text(run.config, config.to_yaml())  # not before the photos can be loaded: an empty folder is no run yet
    return _fit(config, data, run, network, loaders, devices, nodes, tensorboard=tensorboard, resume=False)


def resume(run_path: Path, *, tensorboard: bool = False, devices: int = 1, nodes: int = 1) -> TrainResult:
    """Go on with a run after its last whole epoch, with the configuration it was started with; see `train`.

    Raises:
        UsageError: there is no such run.
        DataError: its data set is not the one it was started with.
    """
    run = RunFolder.open(run_path)
    config = TrainConfig.from_values(read_yaml(run.config))
    data = PreparedData.open(Path(config.data))
    part = _part(config, devices, nodes)
    if is_first_process():
        clear_unfinished(run.path)
    if run.metrics.exists() and is_finished(config, history := run.read_history()):
        log.info("This run is finished: %d epochs. Start a new one to train longer.", len(history))
        return TrainResult(run, history)
    keep_freed_memory()
    begun = run.last.exists()
    if not begun:
        log.info("No epoch of this run was finished; it starts from the beginning.")
    network = _build(config, data) if begun else _first_network(config, data)
    config = _with_precision(config, network, part)
    loaders = _loaders(config, data, part)
    return _fit(config, data, run, network, loaders, devices, nodes, tensorboard=tensorboard, resume=begun)


def model_spec(config: TrainConfig, data: PreparedData) -> ModelSpec:
    """The model a configuration and a data set ask for."""
    preprocessing = Preprocessing(
        height=config.image_height, width=config.image_width, crop=config.crop, squash=config.squash
    )
    return ModelSpec(backbone=config.backbone, head=config.head, classes=data.classes, preprocessing=preprocessing)


def is_finished(config: TrainConfig, history: list[Epoch]) -> bool:
    """Whether a run with this history has done all its epochs, or was stopped early."""
    scores = [row[MONITOR] for row in history]
    return len(scores) >= config.epochs or len(scores) - 1 - int(np.argmax(scores)) >= config.patience


class TrainingModule(LightningModule):
    """Loss, optimiser and schedule around a network; validation only collects logits for `Recorder`."""

    def __init__(
        self, network: CarNet, config: TrainConfig, num_classes: int, steps_per_epoch: int, batch_size: int
    ) -> None:
        super().__init__()
        self.network = network
        self.config = config
        self.mixer = BatchMixer(config, num_classes)
        self.steps_per_epoch = steps_per_epoch
        self.batch_size = batch_size
        self.compiled = torch.compile(network.forward) if config.compile else None
        self.recorded: dict[torch.Size, Forward] = {}
        self.validated: list[tuple[Tensor, Tensor]] = []

    def on_fit_start(self) -> None:
        """Record the network's steps, where a GPU would wait for their launch; no loader has started yet."""
        if self.device.type == "cuda" and self.trainer.world_size == 1 and not self.compiled:
            sizes = {training_size(self.config, epoch) for epoch in range(self.config.epochs)}
            self.recorded = record_steps(
                self.network,
                sorted(sizes, reverse=True),  # the largest first, whose memory the others then share
                batch_size=self.batch_size,
                precision=self.config.precision,
            )

    def on_train_epoch_start(self) -> None:
        """Seed dropout, drop path and mixing for this epoch."""
        entropy = np.random.SeedSequence((self.config.seed, self.current_epoch)).generate_state(1)
        seed_everything(int(entropy[0]), verbose=False)  # mixing, by numpy's dice, is the same in every process
        if self.global_rank:
            torch.manual_seed(int(entropy[0]) + self.global_rank)  # dropout and drop path are not

    def training_step(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        """Loss of one batch; under mixing, a photo counts as right when its larger share is recognised."""
        images, labels = batch
        images, targets = self.mixer(self.resized(images), labels, mix=self.mixing)
        logits = self._logits(images)
        loss = F.cross_entropy(logits, targets)
        right = (logits.argmax(1) == targets.argmax(1)).float().mean()
        self.log("loss", loss, prog_bar=True, logger=False)
        scores = {"train_loss": loss, "train_acc": right}
        self.log_dict(scores, on_step=False, on_epoch=True, batch_size=len(images), sync_dist=True)
        return loss

    def _logits(self, images: Tensor) -> Tensor:
        """The quickest way there; for a short last batch the plain one, as compiling anew takes minutes."""
        if self.compiled and len(images) == self.batch_size:
            return self.compiled(images)
        return self.recorded.get(images.shape, self.network)(images)

    @property
    def mixing(self) -> bool:
        """Whether this epoch's batches are mixed."""
        return self.current_epoch < round(self.config.mixed_epochs * self.config.epochs)

    def resized(self, images: Tensor) -> Tensor:
        """Photos at this epoch's size, N×3×h×w."""
        size = training_size(self.config, self.current_epoch)
        if images.shape[2:] == size:
            return images
        return F.interpolate(images.float(), size, mode="bilinear", antialias=True)

    def on_validation_epoch_start(self) -> None:
        """Forget the epoch before."""
        self.validated = []
        share_buffers(self.network)

    def validation_step(self, batch: tuple[Tensor, Tensor]) -> None:
        """Collect labels and logits."""
        images, labels = batch
        self.validated.append((labels.cpu(), self.network(images.float()).float().cpu()))

    def validation_results(self) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Labels, N, and logits, N×K, of the whole validation split, whichever process has computed them."""
        own = tuple(torch.cat(parts).numpy() for parts in zip(*self.validated, strict=True))
        labels, logits = (np.concatenate(parts) for parts in zip(*gather_from_all(own), strict=True))
        return labels, logits

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,  # noqa: ARG002
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,  # noqa: ARG002  # by norm
    ) -> None:
        """Clip by norm; the Trainer would refuse to with a fused optimizer in bf16, whose gradients are not scaled."""
        if gradient_clip_val:
            torch.nn.utils.clip_grad_norm_(self.parameters(), gradient_clip_val)

    def configure_optimizers(self) -> Any:
        """AdamW, and the schedule that was asked for."""
        config = self.config
        groups = weight_groups(
            self.network,
            learning_rate=config.learning_rate,
            weight_decay=config.weight_decay,
            layer_decay=config.layer_decay,
        )
        # The fused step unscales fp16 gradients by itself, which the Trainer's clipping would have to do before it.
        fused = self.trainer.precision != "16-mixed"
        optimizer = torch.optim.AdamW(groups, fused=fused)
        if config.schedule == "plateau":
            plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="max", patience=_PLATEAU_PATIENCE)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": plateau, "monitor": MONITOR}}
        total = config.epochs * self.steps_per_epoch
        warmup = round(config.warmup_epochs * self.steps_per_epoch)
        cosine = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: warmup_cosine(step, warmup, total))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": cosine, "interval": "step"}}


def warmup_cosine(step: int, warmup: int, total: int) -> float:
    """Share of the peak learning rate: linear up over `warmup` steps, then half a cosine down to 0 at `total`."""
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, total - warmup)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def training_size(config: TrainConfig, epoch: int) -> tuple[int, int]:
    """Height and width of the photos in an epoch, counted from 0: it grows in stages (Tan and Le, 2021, section 4.2).

    Between `first_size` and all of the input it takes multiples of 32 pixels, by which a backbone shrinks them.
    """
    stage = min(_STAGES - 1, _STAGES * epoch // config.epochs)
    share = config.first_size + (1 - config.first_size) * stage / (_STAGES - 1)
    height, width = (
        min(full, max(32, 32 * round(share * full / 32))) if share < 1 else full
        for full in (config.image_height, config.image_width)
    )
    return height, width


class Recorder(Callback):
    """Writes `metrics.csv` and the best weights; its history is part of the checkpoint, so a resumed run rewrites
    `metrics.csv` whole and no epoch is in it twice."""

    def __init__(self, run: RunFolder, spec: ModelSpec, data_sha256: str) -> None:
        self.run = run
        self.spec = spec
        self.data_sha256 = data_sha256
        self.history: list[Epoch] = []
        self.validation: Epoch = {}
        self.started = 0.0

    def state_dict(self) -> dict[str, Any]:
        """What the checkpoint keeps."""
        return {"history": self.history, "data_sha256": self.data_sha256}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the history of the run.

        Raises:
            DataError: the data set is not the one the run was started with.
        """
        if state_dict["data_sha256"] != self.data_sha256:
            raise DataError(
                "Expected the data set this run was started with, and its annotations have changed since. "
                "Prepare it again as it was, or start a new run."
            )
        for row in state_dict["history"]:
            if not all(isinstance(value, int | float) for value in row.values()):
                raise ValueError("its history holds something other than numbers")
        self.history = list(state_dict["history"])

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Start the clock."""
        self.started = time.perf_counter()

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Score the epoch and keep its weights if it is the best, calibrated; with EMA these are the averaged ones."""
        assert isinstance(pl_module, TrainingModule)
        labels, logits = pl_module.validation_results()
        metrics = answer_metrics(Answers.read(labels, softmax(logits)))
        self.validation = {f"val_{name}": value for name, value in metrics.items()}
        for name, value in self.validation.items():
            pl_module.log(name, value, prog_bar=name == MONITOR)
        score = self.validation[MONITOR]
        if trainer.is_global_zero and all(score > row[MONITOR] for row in self.history):
            provenance = {**self.spec.provenance, "epoch": trainer.current_epoch + 1, "validation": self.validation}
            spec = replace(self.spec, provenance=provenance, calibration=fit_calibration(logits, labels))
            save_model(self.run.best, pl_module.network, spec)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Add the epoch's row."""
        training = {name: float(trainer.callback_metrics[name]) for name in ("train_loss", "train_acc")}
        if not math.isfinite(training["train_loss"]):
            raise TwinCarError(
                f"The training loss is no longer a number in epoch {trainer.current_epoch + 1}. Lower "
                "--learning-rate, or use --precision fp32; the best epoch before is kept in the run folder."
            )
        row = {"epoch": trainer.current_epoch + 1, **training, **self.validation}
        self.history = [*self.history, row]
        if trainer.is_global_zero:
            write_csv(self.run.metrics, self.history)
            self._tell(row, trainer.max_epochs or 0)

    def _tell(self, row: Epoch, epochs: int) -> None:
        best = best_epoch(self.history)
        log.info(
            "epoch %d/%d  loss %.3f  train accuracy %.3f | validation loss %.3f  accuracy %.3f  top-5 %.3f  "
            "macro-F1 %.3f%s  %.0f s",
            row["epoch"], epochs, row["train_loss"], row["train_acc"], row["val_loss"], row["val_acc"],
            row["val_top5"], row[MONITOR], " (best)" if best is row else "", time.perf_counter() - self.started,
        )  # fmt: skip


def _first_network(config: TrainConfig, data: PreparedData) -> CarNet:
    """The network a run starts from: random by the seed, its backbone pretrained where that is asked for."""
    seed_everything(config.seed, verbose=False)
    network = _build(config, data)
    load_pretrained(network, config.pretrained, config.backbone)
    return network


def _build(config: TrainConfig, data: PreparedData) -> CarNet:
    return build_network(model_spec(config, data), dropout=config.dropout, drop_path=config.drop_path)


def _part(config: TrainConfig, devices: int, nodes: int) -> Part:
    part = part_of_process(devices, nodes)
    if part.count > 1 and config.batch_size % (2 * part.count):
        raise UsageError(
            f"Expected a --batch-size that is a multiple of {2 * part.count}, twice the number of devices, and found "
            f"{config.batch_size}: each takes its part of every batch, in pairs of photos that may be mixed."
        )
    return part


def _with_precision(config: TrainConfig, network: CarNet, part: Part) -> TrainConfig:
    if part.count > 1 and config.precision == "auto" and not torch.cuda.is_available():
        return replace(config, precision="fp32")  # a trial beside others tells nothing, and all must choose the same
    precision = choose_precision(config.precision, network, config.image_height, config.image_width)
    return replace(config, precision=precision)


def _fit(
    config: TrainConfig,
    data: PreparedData,
    run: RunFolder,
    network: CarNet,
    loaders: tuple[PhotoLoader, PhotoLoader],
    devices: int,
    nodes: int,
    *,
    tensorboard: bool,
    resume: bool,
) -> TrainResult:
    spec = ModelSpec(**{**vars(model_spec(config, data)), "provenance": _provenance(config, data)})
    training, validation = loaders
    steps = min(len(training), config.limit) if config.limit else len(training)
    module = TrainingModule(network, config, len(data.classes), steps, config.batch_size // (devices * nodes))
    recorder = Recorder(run, spec, data.manifest["sha256"][ANNOTATIONS])
    trainer = _trainer(config, run, recorder, devices, nodes, tensorboard=tensorboard)
    if trainer.is_global_zero:
        where = f"{trainer.world_size} devices" if trainer.world_size > 1 else trainer.strategy.root_device
        log.info(
            "Training %s on %d photos of %d classes, %d×%d pixels, on %s in %s.",
            config.backbone, len(data.split("train")), len(data.classes), config.image_height, config.image_width,
            where, config.precision,
        )  # fmt: skip
    try:
        if resume:
            with RestoredState.watch(trainer, run.last):
                trainer.fit(module, training, validation, ckpt_path=str(run.last), weights_only=True)
        else:
            trainer.fit(module, training, validation)
    except SystemExit:  # how the Trainer ends after Ctrl-C, once it has tidied up
        signal.signal(signal.SIGINT, signal.default_int_handler)  # it leaves Ctrl-C switched off, for children too
        raise KeyboardInterrupt from None
    except torch.OutOfMemoryError:
        raise TwinCarError(
            f"The GPU's memory does not hold {config.batch_size} photos of {config.image_height}×{config.image_width} "
            "pixels and this network. Halve --batch-size, or the image size."
        ) from None
    except RuntimeError as error:
        if config.compile and isinstance(error, torch._dynamo.exc.BackendCompilerFailed):
            raise TwinCarError(
                f"torch could not compile the network: {str(error).strip().splitlines()[0]} It needs a C++ compiler "
                "such as g++ at run time; install one, or train without --compile."
            ) from None
        if devices * nodes > 1 and is_lost_connection(error):
            raise TwinCarError(
                "Another process of this training has ended, so this one cannot go on; what it said tells why. "
                f"Go on after the last whole epoch with the same command and --resume {run.path}."
            ) from None
        if "DataLoader worker" not in str(error):
            raise
        raise TwinCarError(
            f"A process that loads photos was killed, most likely for want of memory. Lower --workers or --batch-size, "
            f"and go on with --resume {run.path}."
        ) from None
    return TrainResult(run, recorder.history)


def _trainer(
    config: TrainConfig, run: RunFolder, recorder: Recorder, devices: int, nodes: int, *, tensorboard: bool
) -> Trainer:
    _quieten_lightning()
    show_progress = sys.stderr.isatty() and log.isEnabledFor(logging.INFO)
    callbacks: list[Callback] = [
        recorder,  # before the averaging: it must see the averaged weights, which are swapped back after it
        EarlyStopping(MONITOR, mode="max", patience=config.patience),
        ModelCheckpoint(run.path, filename="last", enable_version_counter=False, save_on_train_epoch_end=True),
    ]
    if config.ema:
        callbacks.insert(1, AveragedWeights(config.ema))
    if show_progress:
        callbacks.append(RichProgressBar(console_kwargs={"stderr": True}))
    limit = config.limit or 1.0
    return Trainer(
        accelerator="auto",
        devices=devices,
        num_nodes=nodes,
        strategy="ddp" if devices * nodes > 1 else "auto",
        # On CPUs each process normalises by its own part of the batch: torch synchronises on GPUs only.
        sync_batchnorm=devices * nodes > 1 and torch.cuda.is_available(),
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


def _loaders(config: TrainConfig, data: PreparedData, part: Part) -> tuple[PhotoLoader, PhotoLoader]:
    """Of the training and the validation photos."""
    preprocessing = model_spec(config, data).preprocessing
    workers = default_workers() if config.workers < 0 else config.workers
    training = training_loader(
        data,
        augment=config.augment,
        preprocessing=preprocessing,
        batch_size=config.batch_size,
        balanced=config.balanced,
        seed=config.seed,
        workers=workers,
        repeats=config.repeats,
        cache=config.cache,
        part=part,
    )
    validation = evaluation_loader(
        data, "val", preprocessing=preprocessing, batch_size=2 * config.batch_size, workers=workers, part=part
    )
    return training, validation


def _provenance(config: TrainConfig, data: PreparedData) -> dict[str, Any]:
    return {
        "recipe": config.recipe,
        "seed": config.seed,
        "data": {name: data.manifest.get(name) for name in ("source", "revision", "sha256")},
        "versions": {"twincar": __version__, "torch": torch.__version__, "python": platform.python_version()},
    }


def _quieten_lightning() -> None:
    """What the Trainer says is for its own users; ours are told in our words."""
    for name in ("lightning.pytorch", "lightning.fabric", "pytorch_lightning"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"lightning\.")
    warnings.filterwarnings("ignore", message=r".*does not have many workers.*")
    os.environ.setdefault("LIGHTNING_DISABLE_TIPS", "1")
