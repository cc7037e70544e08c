"""What ``netadapt check`` finds out before training: what can go, how noisy the device is, how long a run takes."""

from netadapt.check.findings import Findings as Findings
from netadapt.check.findings import check as check
