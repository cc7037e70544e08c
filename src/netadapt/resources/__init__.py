"""What networks cost: counted resources, measured ones, and the estimators that predict them from widths."""

from __future__ import annotations

from netadapt.resources.build import build_estimators as build_estimators
from netadapt.resources.counted import Counted as Counted
from netadapt.resources.designs import design as design
from netadapt.resources.estimator import Estimator as Estimator
from netadapt.resources.layer_table import LayerTable as LayerTable
from netadapt.resources.meter import Meter as Meter
from netadapt.resources.network_model import NetworkModel as NetworkModel
from netadapt.resources.verify import verify as verify
