# Written from the table of verbs by `python -m tests.stubs`: do not edit.
from aiplat.core.workspace import init as init
from aiplat.core.cluster import up as up
from aiplat.core.cluster import down as down
from aiplat.operations.overview import status as status
from aiplat.operations.demo import demo as demo
from aiplat.training.search import train as train
from aiplat.training.runs import runs as runs
from aiplat.training.runs import show as show
from aiplat.training.runs import compare as compare
from aiplat.training.mitigate import mitigate as mitigate
from aiplat.trust.evaluate import evaluate as evaluate
from aiplat.trust.audit import audit as audit
from aiplat.frontends.explore import explore as explore
from aiplat.trust.explaining.explain import explain as explain
from aiplat.trust.reporting.cards import card as card
from aiplat.trust.reporting.reports import report as report
from aiplat.release.registry import register as register
from aiplat.release.registry import models as models
from aiplat.release.registry import gate as gate
from aiplat.release.registry import approve as approve
from aiplat.release.registry import refuse as refuse
from aiplat.release.registry import promote as promote
from aiplat.release.registry import rollback as rollback
from aiplat.release.batch import predict as predict
from aiplat.operations.schedules.backfill import backfill as backfill
from aiplat.frontends.dashboards import dashboard as dashboard
from aiplat.release.verify import ledger as ledger
from aiplat.release.verify import verify as verify
from aiplat import data as data
from aiplat import pipeline as pipeline
from aiplat import schedule as schedule
from aiplat import scheduler as scheduler
from aiplat import alerts as alerts
from aiplat.operations.secrets import secret as secret
from aiplat.operations.outputs import output as output

__version__: str

def load_ipython_extension(ip: object) -> None: ...
def unload_ipython_extension(ip: object) -> None: ...
