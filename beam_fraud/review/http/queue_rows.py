"""Rows of the queue's table.

They are not in the template: a page has fifty, and there they took half of its time.
"""

from __future__ import annotations

from collections.abc import Iterable

from markupsafe import Markup, escape

from beam_fraud.review.http.templating import due_html, escaped, money, name
from beam_fraud.review.http.visit import Visit
from beam_fraud.review.queue import QueuedCase


def queue_rows(visit: Visit, cases: Iterable[QueuedCase], suffix: str) -> Markup:
    """Return the rows of cases.

    Args:
      visit: of who sees them.
      cases: the cases.
      suffix: end of the address of each case: the query of the queue.
    """
    leads, end = visit.may("lead"), escape(suffix)
    return Markup("".join(_row(visit, one, end, leads=leads) for one in cases))


def _row(visit: Visit, case: QueuedCase, suffix: Markup, *, leads: bool) -> str:
    # All that goes in is a number, a word of the program or escaped.
    case_id, shown = escaped(case.case_id), escaped(visit.shown("account", case.account_id))
    is_open = case.state == "open"
    pick = ""
    if leads:
        box = (
            f'<input type="checkbox" name="case" value="{case_id}:{case.version}" '
            f'aria-label="Choose the case of {shown}">'
        )
        pick = f'<td role="cell" class="pick">{box if is_open else ""}</td>\n'
    part = ""
    if is_open and case.undecided != case.transactions:
        part = f' <span class="small">({case.undecided} open)</span>'
    if is_open:
        state = due_html(case, visit.now)
    else:
        verdict = escaped(case.verdict or "")
        state = f'<span class="verdict {verdict}">{verdict}</span>'
    link = f'<a class="open" data-row href="/case/{case_id}{suffix}"><bdi>{shown}</bdi></a>'
    return f"""<tr role="row">
{pick}<td role="cell" class="what">{link}</td>
<td role="cell" class="number strong" data-label="Expected loss">{money(case.expected_loss)}</td>
<td role="cell" class="number" data-label="Amount">{money(case.amount)}</td>
<td role="cell" class="number" data-label="Transactions">{case.transactions}{part}</td>
<td role="cell" class="number" data-label="Score">{case.max_score:.3f}</td>
<td role="cell" data-label="{"Due" if is_open else "Verdict"}">{state}</td>
<td role="cell" data-label="Who">{_who(case)}</td>
</tr>
"""


def _who(case: QueuedCase) -> str:
    if case.claimed_by:
        return f'<span class="claimed">{name(case.claimed_by)}</span>'
    if case.assigned_to:
        return f'<span class="small">for {name(case.assigned_to)}</span>'
    return name(case.closed_by) if case.closed_by else '<span class="small">free</span>'
