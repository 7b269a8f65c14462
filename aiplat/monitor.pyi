# Written from the table of verbs by `python -m tests.stubs`: do not edit.
from aiplat.release.truth import truth as truth
from aiplat.operations.monitoring.performance import performance as performance
from aiplat.release.forgetting import erase as erase
from aiplat.operations.monitoring.report import report as report
from aiplat.operations.monitoring.alerting import check as check
from aiplat.operations.monitoring.retraining import retrain as retrain

__all__ = ["check", "erase", "performance", "report", "retrain", "truth"]
