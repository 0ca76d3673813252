from .distillation import Distillation as Distillation
from .feature_extraction import FeatureExtraction as FeatureExtraction
from .fine_tuning import DuplicateAndFineTune as DuplicateAndFineTune
from .fine_tuning import FineTuning as FineTuning
from .joint_training import JointTraining as JointTraining
from .learning_without_forgetting import LearningWithoutForgetting as LearningWithoutForgetting
from .losses import DistillationLoss as DistillationLoss
