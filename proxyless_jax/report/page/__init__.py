"""`report.html`: how a run went and what it found, in one file.

The page is made from the files of a workdir alone and needs no network. Charts
are drawn by Plotly, which is embedded where the extra `report` is installed.
"""

from proxyless_jax.report.page.contents import LEDGER, SEARCH
from proxyless_jax.report.page.document import FILE, write_report
