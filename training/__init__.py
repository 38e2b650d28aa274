"""Training of networks on posed images, evaluation, and baseline methods.

The names below are the library of this package; they are imported when first used:

    from training import TrainConfig, Trainer

    Trainer(TrainConfig(out="runs/mine"), source=MyDataset()).train()
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from training.config import DatasetConfig as DatasetConfig
    from training.config import OptimiserConfig as OptimiserConfig
    from training.config import TrainConfig as TrainConfig
    from training.config import read_config as read_config
    from training.data.types import Batch as Batch
    from training.data.types import SampleRequest as SampleRequest
    from training.data.types import Source as Source
    from training.data.types import TrainingSample as TrainingSample
    from training.evaluation.benchmark import evaluate as evaluate
    from training.evaluation.captures import EvaluateConfig as EvaluateConfig
    from training.evaluation.suite import Suite as Suite
    from training.evaluation.suite import read_suite as read_suite
    from training.losses import LOSSES as LOSSES
    from training.losses import LossConfig as LossConfig
    from training.losses import LossInputs as LossInputs
    from training.losses import LossTerm as LossTerm
    from training.losses import WeightedLoss as WeightedLoss
    from training.losses import configured_losses as configured_losses
    from training.sources import SOURCES as SOURCES
    from training.sources import Mixture as Mixture
    from training.sources import SourceContext as SourceContext
    from training.sources import build_source as build_source
    from training.trainer import Trainer as Trainer

_MODULE_OF = {
    "Batch": "training.data.types",
    "DatasetConfig": "training.config",
    "EvaluateConfig": "training.evaluation.captures",
    "LOSSES": "training.losses",
    "LossConfig": "training.losses",
    "LossInputs": "training.losses",
    "LossTerm": "training.losses",
    "Mixture": "training.sources",
    "OptimiserConfig": "training.config",
    "SOURCES": "training.sources",
    "SampleRequest": "training.data.types",
    "Source": "training.data.types",
    "SourceContext": "training.sources",
    "Suite": "training.evaluation.suite",
    "TrainConfig": "training.config",
    "Trainer": "training.trainer",
    "TrainingSample": "training.data.types",
    "WeightedLoss": "training.losses",
    "build_source": "training.sources",
    "configured_losses": "training.losses",
    "evaluate": "training.evaluation.benchmark",
    "read_config": "training.config",
    "read_suite": "training.evaluation.suite",
}
__all__ = sorted(_MODULE_OF)  # noqa: PLE0605 (a list, made from the table)


def __getattr__(name: str) -> Any:
    """Import a public name on first use: the trainer needs accelerate, the rest does not."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'training' has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULE_OF[name]), name)


def __dir__() -> list[str]:
    return __all__
