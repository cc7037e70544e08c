"""The network: one trace, everything else is algebra."""

from __future__ import annotations

from netadapt.network.attributes import Change as Change
from netadapt.network.attributes import register_attribute_fixer as register_attribute_fixer
from netadapt.network.network import Network as Network
from netadapt.network.operation import Operation as Operation
from netadapt.network.operation import Parameter as Parameter
from netadapt.network.rules.registry import register_rule as register_rule
from netadapt.network.saving import load as load
from netadapt.network.saving import save as save
from netadapt.network.structure import AxisUse as AxisUse
from netadapt.network.structure import ChannelGroup as ChannelGroup
from netadapt.network.structure import Layer as Layer
from netadapt.network.structure import LinearForm as LinearForm
from netadapt.network.structure import Pinned as Pinned
from netadapt.network.trace import trace as trace
