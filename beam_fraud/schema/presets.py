"""Schemas of well-known data sets."""

from beam_fraud.schema.notation import (
    IdNotation,
    LabelNotation,
    NumberNotation,
    SourceNotation,
    TimeNotation,
)
from beam_fraud.schema.schema import FeatureColumn, Schema
from beam_fraud.schema.velocity import Velocity

_WINDOWS = ("1d", "7d", "30d")
#: Origin of sets that count from an unknown day: only differences of their times mean anything.
_ANY_DAY = "2020-01-01T00:00:00+00:00"


def _categories(*columns: str) -> tuple[FeatureColumn, ...]:
    return tuple(FeatureColumn(column, "categorical", "allow") for column in columns)


def _numbers(*columns: str) -> tuple[FeatureColumn, ...]:
    return tuple(FeatureColumn(column, missing="allow") for column in columns)


def _numbered(prefix: str, last: int) -> tuple[str, ...]:
    return tuple(f"{prefix}{number}" for number in range(1, last + 1))


#: ULB credit-card transactions of September 2013: `Time` counts seconds from the first row.
ULB = Schema(
    name="ulb",
    roles={"event_time": "Time", "amount": "Amount", "label": "Class"},
    features=tuple(FeatureColumn(name) for name in ("Time", *(f"V{i}" for i in range(1, 29)))),
    calendar=False,
    time=TimeNotation(origin="2013-09-01T00:00:00+00:00"),
)

#: The transactions of the fraud-detection handbook, and of `beam-fraud simulate`.
HANDBOOK = Schema(
    name="handbook",
    roles={
        "transaction_id": "TRANSACTION_ID",
        "event_time": "TX_DATETIME",
        "account_id": "CUSTOMER_ID",
        "merchant_id": "TERMINAL_ID",
        "amount": "TX_AMOUNT",
        "label": "TX_FRAUD",
    },
    velocity=(
        Velocity(("account_id",), _WINDOWS, ("count", "mean")),
        Velocity(("merchant_id",), _WINDOWS, ("count", "risk"), delay="7d"),
    ),
)

#: A plain ledger export.
LEDGER = Schema(
    name="ledger",
    roles={
        "transaction_id": "transaction_id",
        "event_time": "transaction_date",
        "account_id": "account_id",
        "merchant_id": "merchant",
        "amount": "transaction_amount",
        "label": "label",
    },
    velocity=(
        Velocity(("account_id",), _WINDOWS, ("count", "mean")),
        Velocity(
            ("account_id",), ("30d",), ("std", "ratio", "seconds_since_last", "distinct_merchant")
        ),
        Velocity(("merchant_id",), ("7d", "30d"), ("count", "risk"), delay="7d"),
    ),
)

#: Sparkov's simulated card payments, as published and as saved by spreadsheets.
SPARKOV = Schema(
    name="sparkov",
    roles={
        "transaction_id": "trans_num",
        "event_time": "trans_date_trans_time",
        "account_id": "cc_num",
        "merchant_id": "merchant",
        "amount": "amt",
        "label": "is_fraud",
    },
    features=(*_categories("category", "state"), *_numbers("city_pop")),
    velocity=(
        Velocity(("account_id",), _WINDOWS, ("count", "mean")),
        Velocity(("account_id",), ("30d",), ("ratio", "seconds_since_last", "distinct_merchant")),
        Velocity(("merchant_id",), ("7d", "30d"), ("count", "risk"), delay="7d"),
    ),
    time=TimeNotation(("iso8601", "%m/%d/%Y %H:%M", "%d/%m/%Y %H:%M", "%d-%m-%Y %H:%M")),
    ids={"merchant_id": IdNotation(prefix="fraud_")},
)

#: PaySim's simulated mobile money: `step` counts hours. Its balances tell the label.
PAYSIM = Schema(
    name="paysim",
    roles={
        "event_time": "step",
        "account_id": "nameOrig",
        "merchant_id": "nameDest",
        "amount": "amount",
        "label": "isFraud",
    },
    features=_categories("type"),
    calendar=False,
    velocity=(
        Velocity(("account_id",), ("7d",), ("count",)),
        Velocity(("merchant_id",), ("1d", "7d"), ("count", "sum", "mean")),
    ),
    time=TimeNotation(unit="hour", origin=_ANY_DAY),
)

#: BankSim's simulated payments: `step` counts days, and texts are in single quotes.
BANKSIM = Schema(
    name="banksim",
    roles={
        "event_time": "step",
        "account_id": "customer",
        "merchant_id": "merchant",
        "amount": "amount",
        "label": "fraud",
    },
    features=_categories("category", "age", "gender"),
    calendar=False,
    velocity=(
        Velocity(("account_id",), ("7d", "30d"), ("count", "mean")),
        Velocity(("account_id",), ("30d",), ("ratio", "distinct_merchant")),
        Velocity(("merchant_id",), ("30d",), ("count", "risk"), delay="7d"),
    ),
    time=TimeNotation(unit="day", origin=_ANY_DAY),
    source=SourceNotation(quote="'"),
)

_TABFORMER_TIME, _TABFORMER_CARD = ("Year", "Month", "Day", "Time"), ("User", "Card")
#: IBM's simulated card payments, published with TabFormer.
TABFORMER = Schema(
    name="tabformer",
    roles={
        "event_time": " + ".join(_TABFORMER_TIME),
        "account_id": " + ".join(_TABFORMER_CARD),
        "merchant_id": "Merchant Name",
        "amount": "Amount",
        "label": "Is Fraud?",
    },
    features=_categories("Use Chip", "MCC", "Merchant State", "Errors?"),
    allow_negative=True,
    velocity=(
        Velocity(("account_id",), _WINDOWS, ("count", "mean")),
        Velocity(("account_id",), ("30d",), ("ratio", "seconds_since_last", "distinct_merchant")),
        Velocity(("merchant_id",), ("30d",), ("count", "risk"), delay="7d"),
    ),
    time=TimeNotation(("%Y %m %d %H:%M",)),
    numbers={"Amount": NumberNotation(symbols=("$",))},
    labels=LabelNotation(positive=("Yes",), negative=("No",)),
    composites={
        " + ".join(_TABFORMER_TIME): _TABFORMER_TIME,
        " + ".join(_TABFORMER_CARD): _TABFORMER_CARD,
    },
)

_IEEE_CIS_CARD = (*_numbered("card", 6), "addr1")
#: IEEE-CIS and Vesta's online payments: `TransactionDT` counts seconds from the last day of
#: November 2017, by the holidays in the data; no column names an account.
IEEE_CIS = Schema(
    name="ieee_cis",
    roles={
        "transaction_id": "TransactionID",
        "event_time": "TransactionDT",
        "account_id": " + ".join(_IEEE_CIS_CARD),
        "amount": "TransactionAmt",
        "label": "isFraud",
    },
    features=(
        *_categories("ProductCD", "card4", "card6", "P_emaildomain", "R_emaildomain"),
        *_categories(*_numbered("M", 9)),
        *_numbers("dist1", "dist2", *_numbered("C", 14), *_numbered("D", 15)),
    ),
    calendar=False,
    velocity=(
        Velocity(("account_id",), _WINDOWS, ("count", "mean")),
        Velocity(("account_id",), ("30d",), ("ratio", "seconds_since_last")),
    ),
    time=TimeNotation(unit="s", origin="2017-11-30T00:00:00+00:00"),
    optional=("account_id",),
    composites={" + ".join(_IEEE_CIS_CARD): _IEEE_CIS_CARD},
)

_SAML_D_TIME = ("Date", "Time")
#: SAML-D's simulated transfers with money laundering.
SAML_D = Schema(
    name="saml_d",
    roles={
        "event_time": " + ".join(_SAML_D_TIME),
        "account_id": "Sender_account",
        "merchant_id": "Receiver_account",
        "amount": "Amount",
        "label": "Is_laundering",
    },
    features=_categories(
        "Payment_currency",
        "Received_currency",
        "Sender_bank_location",
        "Receiver_bank_location",
        "Payment_type",
    ),
    velocity=(
        Velocity(("account_id",), _WINDOWS, ("count", "sum")),
        Velocity(("account_id",), ("30d",), ("ratio", "seconds_since_last", "distinct_merchant")),
        Velocity(("merchant_id",), ("7d", "30d"), ("count", "sum")),
    ),
    composites={" + ".join(_SAML_D_TIME): _SAML_D_TIME},
)

#: Bank Account Fraud: applications for accounts, with a month as their only time; a month counts
#: as a day, and the credit limit serves as the amount.
BAF = Schema(
    name="baf",
    roles={"event_time": "month", "amount": "proposed_credit_limit", "label": "fraud_bool"},
    features=(
        *_categories("payment_type", "employment_status", "housing_status", "source", "device_os"),
        *_numbers(
            "income",
            "name_email_similarity",
            "prev_address_months_count",
            "current_address_months_count",
            "customer_age",
            "days_since_request",
            "intended_balcon_amount",
            "zip_count_4w",
            "velocity_6h",
            "velocity_24h",
            "velocity_4w",
            "bank_branch_count_8w",
            "date_of_birth_distinct_emails_4w",
            "credit_risk_score",
            "email_is_free",
            "phone_home_valid",
            "phone_mobile_valid",
            "bank_months_count",
            "has_other_cards",
            "foreign_request",
            "session_length_in_minutes",
            "keep_alive_session",
            "device_distinct_emails_8w",
        ),
    ),
    calendar=False,
    time=TimeNotation(unit="day", origin=_ANY_DAY),
)

PRESETS = {
    schema.name: schema
    for schema in (
        *(ULB, HANDBOOK, LEDGER),
        *(SPARKOV, PAYSIM, BANKSIM, TABFORMER, IEEE_CIS, SAML_D, BAF),
    )
}
