"""The networks that a run found, and the choice of one of them for a budget.

`netadapt.adapt` returns a `Family`; the commands ``select`` and ``export`` and the report read one from a run folder.
"""

from netadapt.family.family import Family as Family
from netadapt.family.variant import Variant as Variant
