"""The transactions of a case on its page.

They are not in the template: there they took most of its time, as the rows of the queue did.
"""

from __future__ import annotations

from collections.abc import Callable

from markupsafe import Markup

from beam_fraud.review.case import Case, CaseTransaction, GivenLabel
from beam_fraud.review.http.templating import escaped, line, moment, money, name
from beam_fraud.review.http.visit import Visit

#: Type: returns a text as the person sees it.
_Reads = Callable[[str], str]


def case_rows(visit: Visit, case: Case, reads: _Reads, versioned: Markup) -> Markup:
    """Return the transactions of a case as items of a list.

    Args:
      visit: of who sees them.
      case: the case.
      reads: returns a text as the person sees it.
      versioned: fields of each form, which name the session and the version of the case.
    """
    works = visit.may("analyst")
    form = f'<form method="post" action="/case/{escaped(case.queued.case_id)}/resend">{versioned}'
    decides = works and case.queued.state == "open"
    return Markup(
        "".join(
            _row(visit, one, reads, decides=decides, resend=form if works else None)
            for one in case.transactions
        )
    )


def _row(
    visit: Visit, one: CaseTransaction, reads: _Reads, *, decides: bool, resend: str | None
) -> str:
    # All that goes in is a number, a word of the program or escaped.
    shown = escaped(visit.shown("transaction", one.transaction_id))
    named = escaped(visit.form_name("transaction", one.transaction_id))
    choice = merchant = verdict = again = ""
    if decides and not one.verdict:
        choice = (
            f'<label class="check"><input type="checkbox" form="decide" name="transaction" '
            f'value="{named}" data-row><span class="hidden">Choose {shown}</span></label>\n'
        )
    if one.merchant_id:
        merchant = (
            f"<span>at <bdi>{escaped(visit.shown('merchant', one.merchant_id))}</bdi></span>\n"
        )
    if one.verdict:
        word = escaped(one.verdict)
        verdict = (
            f'<span class="verdict {word}">{word}</span> '
            f'<span class="small">{escaped(one.reason or "")} {name(one.decided_by)}</span>\n'
        )
    if resend is not None and one.alerted:
        again = (
            f'{resend}<input type="hidden" name="transaction" value="{named}">'
            f'<button class="quiet">Send its alert again<span class="hidden"> ({shown})</span>'
            "</button></form>\n"
        )
    return f"""<li class="row{" decided" if one.verdict else ""}">
<div class="line">
{choice}<strong class="amount">{money(one.amount)}</strong>
<span>{moment(one.event_time, "seconds")}</span>
{merchant}<span class="score">score {one.score:.3f}, {escaped(one.decision)}</span>
{verdict}</div>
{_why(one, reads)}<p class="small id">transaction <bdi>{shown}</bdi>, model {name(one.model_id)}</p>
{_labels(one.labels, reads)}{again}</li>
"""


def _why(one: CaseTransaction, reads: _Reads) -> str:
    if not (one.reason_lines or one.rules):
        return ""
    reasons = "".join(f"<li>{escaped(line(reads(text)))}</li>\n" for text in one.reason_lines)
    rules = "".join(f"<li>rule {name(rule)}</li>\n" for rule in one.rules)
    return f'<ul class="why">\n{reasons}{rules}</ul>\n'


def _labels(labels: tuple[GivenLabel, ...], reads: _Reads) -> str:
    if not labels:
        return ""
    told = (
        f"{'fraud' if one.label else 'genuine'} by {name(one.labelled_by)} on "
        f"{moment(one.labelled_at)}{f' ({name(reads(one.reason))})' if one.reason else ''}"
        for one in labels
    )
    return f'<p class="small">labels: {"; ".join(told)}</p>\n'
