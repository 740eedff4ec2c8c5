"""What is wrong with a run, found in its rows: live in the follower, or afterwards on any run that can be read.

`Diagnosis` takes rows one by one, in constant memory, and says what it has found as `Finding`s. Every limit that it goes
by stands in `thresholds.py`, with the reason.
"""

from lossbook.diagnosis.causes import group_findings
from lossbook.diagnosis.detector import Detector
from lossbook.diagnosis.detectors import detector_class, detector_classes
from lossbook.diagnosis.diagnosis import Diagnosis, diagnose
from lossbook.diagnosis.finding import Evidence, Finding, Take
from lossbook.diagnosis.thresholds import Thresholds

__all__ = [
    "Detector",
    "Diagnosis",
    "Evidence",
    "Finding",
    "Take",
    "Thresholds",
    "detector_class",
    "detector_classes",
    "diagnose",
    "group_findings",
]
