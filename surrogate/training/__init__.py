"""One training loop for every model and optimizer."""

from surrogate.training.build import evaluation_stream, split_datasets
from surrogate.training.checkpoint import CheckpointFolder
from surrogate.training.folder import RunFolder
from surrogate.training.log import Reporter, RunLog
from surrogate.training.loop import Progressed, Trainer
from surrogate.training.optimizers import AdamSettings, SgdSettings, SlimTrainSettings
from surrogate.training.ranks import Ranks
from surrogate.training.run import train
from surrogate.training.settings import Experiment, SimulateSettings, TrainingSettings, case_sources, read_experiment
from surrogate.training.steps import Method, build_method

__all__ = [
    "AdamSettings",
    "CheckpointFolder",
    "Experiment",
    "Method",
    "Progressed",
    "Ranks",
    "Reporter",
    "RunFolder",
    "RunLog",
    "SgdSettings",
    "SimulateSettings",
    "SlimTrainSettings",
    "Trainer",
    "TrainingSettings",
    "build_method",
    "case_sources",
    "evaluation_stream",
    "read_experiment",
    "split_datasets",
    "train",
]
