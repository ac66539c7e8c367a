from hypothesis import given
from hypothesis import strategies as st

from beam_fraud.alerts.grouping import Group, grouped, plan
from beam_fraud.alerts.policy import Policy

DUE = [("1", "a"), ("2", "b"), ("3", "a"), ("4", None), ("5", "a")]


def test_without_groups_alerts_fill_messages_in_order():
    assert grouped(DUE, Policy(most=3)) == [Group(None, ("1", "2", "3")), Group(None, ("4", "5"))]


def test_alerts_of_an_account_go_together_up_to_the_most_of_a_message():
    assert grouped(DUE, Policy(group=60, most=2)) == [
        Group("a", ("1", "3")),
        Group("a", ("5",)),
        Group("b", ("2",)),
        Group(None, ("4",)),
    ]


def test_groups_within_the_limit_are_messages():
    groups = grouped(DUE, Policy(group=60))
    assert plan(groups, None, more=True) == plan(groups, 3, more=False)
    assert (plan(groups, 3, more=False).groups, plan(groups, 3, more=False).digest) == (
        groups,
        False,
    )


def test_the_last_allowed_message_is_a_digest_of_the_others():
    groups = grouped(DUE, Policy(group=60))
    assert (plan(groups, 2, more=False).groups, plan(groups, 2, more=False).digest) == (
        groups[:1],
        True,
    )
    # Those that were not looked at need a message as well.
    assert plan(groups, 3, more=True).digest


def test_no_message_goes_beyond_the_limit():
    assert plan(grouped(DUE, Policy()), 0, more=False) == plan([], 0, more=False)


@given(
    st.lists(st.sampled_from([None, "a", "b", "c"])),
    st.integers(1, 5),
    st.sampled_from([None, 60.0]),
)
def test_every_alert_is_in_one_group(accounts, most, span):
    due = [(str(number), account) for number, account in enumerate(accounts)]
    groups = grouped(due, Policy(group=span, most=most))
    assert sorted(key for group in groups for key in group.alert_ids) == sorted(k for k, _ in due)
    assert all(1 <= len(group.alert_ids) <= most for group in groups)
    if span is not None:
        whose = dict(due)
        assert all({whose[k] for k in group.alert_ids} == {group.account_id} for group in groups)
