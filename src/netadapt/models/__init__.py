"""MobileNetV1 and V2, CIFAR ResNets, and `resolve_model`, which turns a MODEL text into a network."""

from netadapt.models.registry import ModelEntry as ModelEntry
from netadapt.models.registry import list_models as list_models
from netadapt.models.registry import resolve_model as resolve_model
