"""What ``netadapt check`` finds out before anything is trained: what can go, how noisy the device is, how long a run takes."""

from netadapt.check.findings import Findings as Findings
from netadapt.check.findings import check as check
