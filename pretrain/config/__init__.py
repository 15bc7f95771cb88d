"""The config of a pretraining run: one frozen value, a section for each part."""

from pretrain.config.data import DataConfig, WeightedCorpus
from pretrain.config.model import ModelConfig
from pretrain.config.objective import ObjectiveConfig, SampleCutting
from pretrain.config.optimizer import OptimizerConfig
from pretrain.config.parallel import ParallelConfig
from pretrain.config.run import CheckpointConfig, EvaluationConfig, MonitorConfig, RunConfig
from pretrain.config.training import BatchRamp, TrainingConfig

__all__ = [
    "BatchRamp",
    "CheckpointConfig",
    "DataConfig",
    "EvaluationConfig",
    "ModelConfig",
    "MonitorConfig",
    "ObjectiveConfig",
    "OptimizerConfig",
    "ParallelConfig",
    "RunConfig",
    "SampleCutting",
    "TrainingConfig",
    "WeightedCorpus",
]
