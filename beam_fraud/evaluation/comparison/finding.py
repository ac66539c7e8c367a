"""The finding of a comparison in one sentence, and the cautions to read before it."""

from __future__ import annotations

from beam_fraud.evaluation.charts import percent, visible
from beam_fraud.evaluation.comparison.figures import Comparison, SideFigures

#: Mean days of a month, and the number of days from which flags are counted by month.
_MONTH, _BY_MONTH = 365.25 / 12, 28
#: Share of unknown frauds from which a warning says so.
_UNKNOWN = 0.02
#: Frauds below which figures are a matter of chance.
_FEW = 30


def sentence_of(found: Comparison) -> str:
    """Return the finding against the first other side, or of the new side alone."""
    new = found.new
    name = visible(new.name)
    if not found.rows:
        return f"There are no rows that {name} and all others have scored"
    if not found.changes:
        return f"{name} would have flagged {_flags(found, new.flagged)}{_caught_alone(found)}"
    old = found.sides[1]
    return (
        f"{name} would have flagged {_more(found, new.flagged - old.flagged)}"
        f"{_caught(found, old)} than {visible(old.name)}{_ripeness(found)}"
    )


def _flags(found: Comparison, flagged: int) -> str:
    if found.days_count >= _BY_MONTH:
        return f"{round(flagged / found.days_count * _MONTH):,} a month"
    return f"{flagged:,} in {_days(found)}"


def _more(found: Comparison, difference: int) -> str:
    if not difference:
        return "just as many"
    count, _, rest = _flags(found, abs(difference)).partition(" ")
    return f"{count} {'more' if difference > 0 else 'fewer'} {rest}"


def _days(found: Comparison) -> str:
    return f"{found.days_count:,} day{'s' * (found.days_count != 1)}"


def _caught_alone(found: Comparison) -> str:
    outcome = found.new.outcome
    if not found.labelled:
        return "; there are no labels to say what it would have caught"
    if not found.frauds:
        return "; none of the labelled rows is a fraud"
    return (
        f" and caught {outcome.caught:,} of {found.frauds:,} frauds worth "
        f"{_money(outcome.amount_saved)}{_ripeness(found)}"
    )


def _caught(found: Comparison, old: SideFigures) -> str:
    new = found.new.outcome
    if not found.labelled or not found.frauds:
        return ""
    frauds = new.caught - old.outcome.caught
    amount = new.amount_saved - old.outcome.amount_saved
    money = _money(abs(amount))
    if not frauds and not amount:
        return " and caught no other number of frauds"
    if not frauds:
        return f" and caught as many frauds, worth {money} {'more' if amount > 0 else 'less'},"
    more = "more" if frauds > 0 else "fewer"
    caught = f" and caught {abs(frauds):,} {more} fraud{'s' * (abs(frauds) != 1)}"
    if (frauds > 0) == (amount >= 0):
        return f"{caught} worth {money}"
    return f"{caught}, but {money} {'more' if amount > 0 else 'less'} of their amount,"


def _ripeness(found: Comparison) -> str:
    if not found.labelled:
        return "; there are no labels to say what they would have caught"
    if not found.frauds:
        return "; none of the labelled rows is a fraud"
    waited = found.maturity.waited_days
    if waited is None:
        return ", on labels of every age"
    return f", on labels at least {waited:g} days old"


def _money(amount: float) -> str:
    return f"{amount:,.0f}" if amount >= 100 else f"{amount:,.2f}"


def warnings_of(found: Comparison) -> tuple[str, ...]:
    """Return warnings to the reader, most important first."""
    warnings = []
    maturity = found.maturity
    if not found.rows:
        return ("No transaction was scored by all sides.",)
    if not found.mature_rows:
        warnings.append(
            f"No row is {maturity.waited_days:g} days older than the newest label: no label counts."
        )
    elif not found.labelled:
        warnings.append("No row has a label: nothing says what is fraud.")
    elif not found.frauds:
        warnings.append("None of the labelled rows is a fraud: recall and cost say nothing.")
    elif found.frauds < _FEW:
        warnings.append(f"Only {found.frauds} frauds are known: figures are a matter of chance.")
    if found.frauds and maturity.delay == "unknown" and maturity.waited_days is None:
        warnings.append(
            "It is not known how late labels come: fewer than 20 frauds have a `labelled_at`. "
            "Recent frauds may have no label yet, which understates every figure of a new model; "
            "give --label-maturity, such as 30d."
        )
    unknown = maturity.unknown_share
    if found.labelled and unknown is not None and unknown >= _UNKNOWN:
        warnings.append(_immature(found, unknown))
    if found.left_out:
        warnings.append(f"{found.left_out:,} rows were scored by some sides only and are left out.")
    return tuple(warnings)


def _immature(found: Comparison, unknown: float) -> str:
    maturity = found.maturity
    advised = f"{maturity.advised_days:.0f}"
    return (
        f"An estimated {percent(unknown)} of the frauds of these rows have no label yet (half of "
        f"the labels come within {maturity.median_days:.3g} days, 95 % within {advised}). "
        "Frauds caught, precision, average precision and money saved are understated, and so is "
        "the recall of a side that finds what nobody has reported yet; the side that is in use "
        f"suffers least. Give --label-maturity {advised}d."
    )
