"""One training loop for every model and optimizer."""

from surrogate.experiment.checkpoint import CheckpointFolder
from surrogate.experiment.log import Reporter, RunLog
from surrogate.experiment.optimizers import AdamSettings, SgdSettings, SlimTrainSettings
from surrogate.experiment.run_folder import RunFolder
from surrogate.experiment.settings import Experiment, SimulateSettings, TrainingSettings, case_sources, read_experiment
from surrogate.training.build import evaluation_stream, split_datasets
from surrogate.training.loop import Trainer, TrainState
from surrogate.training.methods import Method, build_method
from surrogate.training.ranks import Ranks
from surrogate.training.run import train

__all__ = [
    "AdamSettings",
    "CheckpointFolder",
    "Experiment",
    "Method",
    "Ranks",
    "Reporter",
    "RunFolder",
    "RunLog",
    "SgdSettings",
    "SimulateSettings",
    "SlimTrainSettings",
    "TrainState",
    "Trainer",
    "TrainingSettings",
    "build_method",
    "case_sources",
    "evaluation_stream",
    "read_experiment",
    "split_datasets",
    "train",
]
