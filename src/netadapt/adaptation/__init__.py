"""One adaptation from the first measurement to the report: `netadapt.adapt`, or `Adaptation`, an iterator of steps."""

from netadapt.adaptation.adaptation import Adaptation as Adaptation
from netadapt.adaptation.adaptation import Step as Step
from netadapt.adaptation.adaptation import adapt as adapt
