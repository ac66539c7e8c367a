"""Reasons in plain words."""

import math

import numpy as np
import pytest

from beam_fraud.decisions.reasons.wording import Wording
from beam_fraud.features.matrix import FeatureSet
from beam_fraud.models.reference import Reference, reference_of, usual_values
from beam_fraud.schema.presets import HANDBOOK
from beam_fraud.schema.schema import FeatureColumn, Schema
from beam_fraud.schema.velocity import AGGREGATES, Velocity

WITHOUT_RISK = tuple(name for name in AGGREGATES if name != "risk")
SCHEMA = Schema(
    name="test",
    roles={"event_time": "t", "amount": "a", "account_id": "c", "merchant_id": "m"},
    features=(
        FeatureColumn("V14"),
        FeatureColumn("mcc", "categorical", "allow"),
        FeatureColumn("visits_count_1d"),
    ),
    velocity=(
        Velocity(("account_id",), ("1h", "30d"), WITHOUT_RISK),
        Velocity(("merchant_id",), ("30d",), ("count", "risk", "mean"), delay="7d"),
        Velocity(("account_id", "merchant_id"), ("2w",), ("count", "seconds_since_last")),
        Velocity(("device",), ("1d",), ("distinct_merchant",)),
    ),
)
FEATURES = FeatureSet(SCHEMA, {"mcc": ("4829", "5411")})
DAY = 86_400.0


@pytest.mark.parametrize(
    ("feature", "value", "typical", "text"),
    [
        ("account_count_1h", 7, 1, "7 transactions of the account in the last hour, usually 1"),
        ("account_count_1h", 1, 3, "1 transaction of the account in the last hour, usually 3"),
        ("account_count_1h", 1, 1, "1 transaction of the account in the last hour, as usual"),
        ("account_count_1h", 7, None, "7 transactions of the account in the last hour"),
        ("amount", 2310, 21.5, "amount 2,310.00, usually 21.50"),
        (
            "account_sum_1h",
            2310,
            21.5,
            "the account's transactions in the last hour total 2,310.00, usually 21.50",
        ),
        (
            "account_mean_30d",
            310,
            50,
            "the account's mean amount in the last 30 days is 310.00, usually 50.00",
        ),
        (
            "account_max_30d",
            310,
            50,
            "the account's largest amount in the last 30 days is 310.00, usually 50.00",
        ),
        (
            "account_min_30d",
            310,
            50,
            "the account's smallest amount in the last 30 days is 310.00, usually 50.00",
        ),
        (
            "account_std_30d",
            120,
            8,
            "the account's amounts in the last 30 days vary by 120.00, usually 8.00",
        ),
        (
            "account_std_30d",
            None,
            8,
            "fewer than two transactions of the account in the last 30 days",
        ),
        (
            "account_ratio_30d",
            6.21,
            1,
            "the amount is 6.2 times the account's mean amount in the last 30 days, "
            "usually 1.0 times",
        ),
        (
            "account_seconds_since_last",
            12 * DAY,
            DAY,
            "12 days since the account's last transaction, usually 24 hours",
        ),
        (
            "account_seconds_since_last",
            None,
            None,
            "no earlier transaction of the account in the last 30 days",
        ),
        (
            "account_distinct_merchant_1h",
            5,
            1,
            "the account used 5 merchants in the last hour, usually 1",
        ),
        (
            "merchant_count_30d_delay_7d",
            90,
            10,
            "90 transactions of the merchant between 37 and 7 days ago, usually 10",
        ),
        (
            "merchant_risk_30d_delay_7d",
            0.384,
            0,
            "38 % of the merchant's transactions between 37 and 7 days ago were fraud, usually 0 %",
        ),
        (
            "merchant_mean_30d_delay_7d",
            None,
            20,
            "no transaction of the merchant between 37 and 7 days ago",
        ),
        (
            "account_merchant_count_2w",
            1,
            4,
            "1 transaction of the account and merchant in the last 2 weeks, usually 4",
        ),
        (
            "device_distinct_merchant_1d",
            9,
            1,
            "the device used 9 merchants in the last day, usually 1",
        ),
        ("is_night", 1, 0, "at night"),
        ("is_night", 0, 0, "by day"),
        ("is_weekend", 1, 0, "at the weekend"),
        ("is_weekend", 0, 0, "on a weekday"),
        ("V14", -8.1349, 0.0213, "V14 = -8.13, usually 0.0213"),
        ("V14", 51234.5, 3, "V14 = 51,234, usually 3"),
        ("V14", None, 0.5, "V14 unknown, usually 0.5"),
        ("V14", math.inf, 0.5, "V14 = inf, usually 0.5"),
        ("visits_count_1d", 4, 1, "visits_count_1d = 4, usually 1"),
        ("mcc", 1, 0, "mcc 5411, usually 4829"),
        ("mcc", 2, 0, "a new mcc, usually 4829"),
        ("mcc", None, 0, "mcc unknown, usually 4829"),
    ],
)
def test_words(feature: str, value: float | None, typical: float | None, text: str) -> None:
    place = FEATURES.names.index(feature)
    values = np.full(len(FEATURES.names), math.nan if typical is None else float(typical))
    given = math.nan if value is None else float(value)
    assert Wording(FEATURES, values).text(place, given) == text


@pytest.mark.parametrize(
    ("share", "total", "text"),
    [
        (1.0, 12, "12 of the merchant's 12 transactions between 37 and 7 days ago were fraud"),
        (
            0.25,
            1200,
            "300 of the merchant's 1,200 transactions between 37 and 7 days ago were fraud",
        ),
        (0.0, 3, "none of the merchant's 3 transactions between 37 and 7 days ago were fraud"),
        (1.0, 1, "the merchant's only transaction between 37 and 7 days ago was fraud"),
    ],
)
def test_a_share_is_worded_by_its_counts_if_the_model_has_them(
    share: float, total: float, text: str
) -> None:
    wording = Wording(FEATURES, np.full(len(FEATURES.names), 0.5))
    risk = FEATURES.names.index("merchant_risk_30d_delay_7d")
    assert FEATURES.names[wording.totals[risk]] == "merchant_count_30d_delay_7d"
    assert wording.text(risk, share, float(total)) == f"{text}, usually 50 %"


def test_no_transactions_have_no_share() -> None:
    wording = Wording(FEATURES, np.full(len(FEATURES.names), 0.5))
    risk = FEATURES.names.index("merchant_risk_30d_delay_7d")
    message = "no transaction of the merchant between 37 and 7 days ago"
    assert wording.text(risk, 0.0, 0.0) == message


def test_a_delay_in_another_unit_than_its_window_says_when_it_ended() -> None:
    velocity = (Velocity(("account_id",), ("1h", "3d"), ("count",), delay="1d"),)
    features = FeatureSet(Schema(name="test", roles=SCHEMA.roles, velocity=velocity))
    wording = Wording(features, np.full(len(features.names), 1.0))
    texts = [wording.text(features.names.index(n), 2.0) for n in velocity[0].names]
    assert texts == [
        "2 transactions of the account in the hour that ended 1 day ago, usually 1",
        "2 transactions of the account between 4 and 1 day ago, usually 1",
    ]


def test_features_that_lowered_the_score_are_marked() -> None:
    wording = Wording(FEATURES, np.full(len(FEATURES.names), math.nan))
    place = FEATURES.names.index("is_night")
    assert wording.text(place, 0.0, lowers=True) == "by day (speaks against fraud)"


@pytest.mark.parametrize("value", [0.0, 1.0, -2.5, math.nan, 1e300, 1e-300])
def test_every_feature_has_words_for_every_value(value: float) -> None:
    for features in (FEATURES, FeatureSet(HANDBOOK)):
        wording = Wording(features, np.full(len(features.names), 1.0))
        for place, name in enumerate(features.names):
            assert wording.text(place, value).isprintable(), name


def test_usual_is_the_median_or_the_most_common_category() -> None:
    random = np.random.default_rng(0)
    matrix = np.zeros((101, len(FEATURES.names)))
    matrix[:, 0] = random.normal(size=101)
    matrix[:, 1] = np.arange(101) % 10 < 6
    # Most deciles are the same one: the middle edge is not the median.
    matrix[:, 2] = np.where(np.arange(101) < 60, 1, np.arange(101))
    matrix[:, 3] = np.nan
    typical = usual_values(reference_of(matrix, FEATURES, np.zeros(1)), FEATURES)
    assert typical[0] == np.median(matrix[:, 0])
    assert typical[1] == 1
    assert typical[2] == 1
    assert math.isnan(typical[3])


def test_an_imported_model_has_no_usual_values() -> None:
    assert np.isnan(usual_values(Reference(), FEATURES)).all()
