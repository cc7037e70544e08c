"""Why a smaller network is, or is not, as much faster as its arithmetic: time per layer before and after, and causes.

``netadapt explain`` asks `explain.py`, which takes the times (`profiling.py`, or an estimator's parts) and lets
`causes.py` judge them. `record.py` is what comes out, as shown and as stored in a run's folder.
"""

from netadapt.explain.explain import explain as explain
from netadapt.explain.files import explain_files as explain_files
from netadapt.explain.record import Explanation as Explanation
