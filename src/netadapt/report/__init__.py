"""The page that shows what a run found, and the tables of the command line; both from the run's folder alone."""

from netadapt.report.html import write_report as write_report
from netadapt.report.table import summary as summary
from netadapt.report.table import table as table
