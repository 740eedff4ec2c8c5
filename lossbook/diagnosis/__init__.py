"""What is wrong with a run, found in its rows: live in the follower, or afterwards on any run that can be read.

`Diagnosis` takes rows one by one, in constant memory, and says what it has found as `Finding`s. Every limit that it goes
by stands in `thresholds.py`, with the reason.
"""

from lossbook.diagnosis.diagnosis import Diagnosis, diagnose
from lossbook.diagnosis.finding import KINDS, Evidence, Finding
from lossbook.diagnosis.thresholds import Thresholds

__all__ = ["KINDS", "Diagnosis", "Evidence", "Finding", "Thresholds", "diagnose"]
