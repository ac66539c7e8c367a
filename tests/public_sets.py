"""Files in the exact shape of public data sets, with rows of our own."""

from __future__ import annotations

import csv
import random
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path

#: Rows of a file unless a test needs others, and the accounts that they are of.
ROWS, ACCOUNTS = 1200, 25
START = datetime(2019, 1, 1, 0, 0, 18)

SPARKOV = (
    ",trans_date_trans_time,cc_num,merchant,category,amt,first,last,gender,street,city,state,zip,"
    "lat,long,city_pop,job,dob,trans_num,unix_time,merch_lat,merch_long,is_fraud"
)
PAYSIM = (
    "step,type,amount,nameOrig,oldbalanceOrg,newbalanceOrig,nameDest,oldbalanceDest,newbalanceDest,"
    "isFraud,isFlaggedFraud"
)
BANKSIM = "step,customer,age,gender,zipcodeOri,merchant,zipMerchant,category,amount,fraud"
TABFORMER = (
    "User,Card,Year,Month,Day,Time,Amount,Use Chip,Merchant Name,Merchant City,Merchant State,Zip,"
    "MCC,Errors?,Is Fraud?"
)
IEEE_CIS = ",".join(
    (
        "TransactionID,isFraud,TransactionDT,TransactionAmt,ProductCD,card1,card2,card3,card4",
        "card5,card6,addr1,addr2,dist1,dist2,P_emaildomain,R_emaildomain",
        *(f"C{i}" for i in range(1, 15)),
        *(f"D{i}" for i in range(1, 16)),
        *(f"M{i}" for i in range(1, 10)),
        *(f"V{i}" for i in range(1, 340)),
    )
)
SAML_D = (
    "Time,Date,Sender_account,Receiver_account,Amount,Payment_currency,Received_currency,"
    "Sender_bank_location,Receiver_bank_location,Payment_type,Is_laundering,Laundering_type"
)
BAF = (
    "fraud_bool,income,name_email_similarity,prev_address_months_count,"
    "current_address_months_count,customer_age,days_since_request,intended_balcon_amount,"
    "payment_type,zip_count_4w,velocity_6h,velocity_24h,velocity_4w,bank_branch_count_8w,"
    "date_of_birth_distinct_emails_4w,employment_status,credit_risk_score,email_is_free,"
    "housing_status,phone_home_valid,phone_mobile_valid,bank_months_count,has_other_cards,"
    "proposed_credit_limit,foreign_request,source,session_length_in_minutes,device_os,"
    "keep_alive_session,device_distinct_emails_8w,device_fraud_count,month"
)

Row = tuple[object, ...]


class Chance(random.Random):
    """Random values that every set draws the same way."""

    def fraud(self) -> int:
        return int(self.random() < 0.08)

    def amount(self, fraud: int) -> float:
        return round(self.lognormvariate(3 + 2 * fraud, 1), 2)


def _moments(rows: int) -> Iterator[datetime]:
    """Yield moments over a month."""
    for row in range(rows):
        yield START + timedelta(minutes=row * 40)


def sparkov(when: Callable[[datetime], str] = str, card: Callable[[int], str] = str) -> list[Row]:
    """Rows of Sparkov; `when` and `card` dress times and card numbers."""
    chance, rows = Chance(1), []
    cards = [chance.randrange(10**15, 10**16) for _ in range(ACCOUNTS)]
    for row, moment in enumerate(_moments(ROWS)):
        fraud = chance.fraud()
        rows.append(
            (
                *(row, when(moment), card(chance.choice(cards))),
                *(f"fraud_Rippin, Kub and {chance.randrange(40)}", "misc_net"),
                *(chance.amount(fraud), "Jennifer", "Banks", "F", "561 Perry Cove"),
                *("Moravian Falls", "NC", 28654, 36.0788, -81.1781, 3495),
                *("Psychologist, counselling", "1988-03-09", f"0b242abb{row:08x}"),
                *(1325376018 + row, 36.011293, -82.048315, fraud),
            )
        )
    return rows


def paysim() -> list[Row]:
    chance, rows = Chance(2), []
    for row in range(ROWS):
        fraud = chance.fraud()
        amount = chance.amount(fraud)
        kind = chance.choice(["CASH_OUT", "TRANSFER"] if fraud else ["PAYMENT", "CASH_IN", "DEBIT"])
        rows.append(
            (
                *(1 + row // 5, kind, amount, f"C{1231006815 + row}", 170136.0, 160296.36),
                *(f"{'C' if fraud else 'M'}{1979787155 + row % 30}", 0.0, 0.0, fraud, 0),
            )
        )
    return rows


def banksim() -> list[Row]:
    chance, rows = Chance(3), []
    for row in range(ROWS):
        fraud = chance.fraud()
        kind = "es_travel" if fraud else chance.choice(["es_transportation", "es_food"])
        rows.append(
            (
                *(row // 7, f"'C{1093826151 + row % ACCOUNTS}'", f"'{chance.choice('0123456U')}'"),
                *(f"'{chance.choice('MFEU')}'", "'28007'", f"'M{348934600 + row % 9}'", "'28007'"),
                *(f"'{kind}'", chance.amount(fraud), fraud),
            )
        )
    return rows


def tabformer() -> list[Row]:
    chance, rows = Chance(4), []
    for row, moment in enumerate(_moments(ROWS)):
        fraud, online = chance.fraud(), chance.random() < 0.2
        amount = -chance.amount(0) if chance.random() < 0.05 else chance.amount(fraud)
        rows.append(
            (
                *(row % 9, row % 3, moment.year, moment.month, moment.day),
                *(f"{moment:%H:%M}", f"${amount:.2f}"),
                "Online Transaction" if online else "Swipe Transaction",
                *(3527213246127876953 - row % 40, "ONLINE" if online else "La Verne"),
                *("" if online else "CA", "" if online else "91750.0", 5300),
                *("Insufficient Balance" if row % 30 == 0 else "", "Yes" if fraud else "No"),
            )
        )
    return rows


def ieee_cis() -> list[Row]:
    chance, rows = Chance(5), []
    for row in range(ROWS):
        fraud, card = chance.fraud(), chance.randrange(ACCOUNTS)
        rows.append(
            (
                *(2987000 + row, fraud, 86400 + row * 900, chance.amount(fraud), "W"),
                *(13926 + card, "" if card == 0 else f"{404.0 + card}", "150.0", "visa", "142.0"),
                *("credit", "" if card == 1 else "315.0", "87.0", "19.0", ""),
                *("" if row % 6 == 0 else "gmail.com", ""),
                *(f"{float(i)}" for i in range(14)),
                *("" if i % 4 else f"{float(i + row % 9)}" for i in range(15)),
                *("" if i % 3 else chance.choice("TF") for i in range(8)),
                "M0",
                *("" if i % 5 else "1.0" for i in range(339)),
            )
        )
    return rows


def saml_d() -> list[Row]:
    chance, rows = Chance(6), []
    for row, moment in enumerate(_moments(ROWS)):
        fraud = chance.fraud()
        rows.append(
            (
                *(f"{moment:%H:%M:%S}", f"{moment:%Y-%m-%d}"),
                *(8724731955 + row % ACCOUNTS, 2769355426 + chance.randrange(50)),
                *(chance.amount(fraud), "UK pounds", "Albanian lek" if fraud else "UK pounds"),
                *("UK", "UAE" if fraud else "UK", chance.choice(["ACH", "Cheque", "Cross-border"])),
                *(fraud, "Smurfing" if fraud else "Normal_Fan_Out"),
            )
        )
    return rows


def baf() -> list[Row]:
    chance, rows = Chance(7), []
    for row in range(ROWS):
        fraud = chance.fraud()
        rows.append(
            (
                *(fraud, 0.3, round(chance.random(), 9), -1, 25, 40, 0.0067353870811739),
                *(102.45371092469456, chance.choice(["AA", "AD"]), 1059, 13096.035, 7850.955),
                *(6742.08, 5, 5, "CB", 163 + 60 * fraud, 1, "BC", 0, 1, 9, 0),
                *(1500.0 if fraud else 200.0, 0, "INTERNET", 16.22, "linux", 1, 1, 0),
                row * 8 // ROWS,
            )
        )
    return rows


def write(path: Path, header: str, rows: Sequence[Row]) -> Path:
    """Write a CSV file as the sets have it."""
    with path.open("w", newline="") as file:
        file.write(header + "\n")
        csv.writer(file, lineterminator="\n").writerows(rows)
    return path


#: Preset to the header and the rows of its file.
SETS: dict[str, tuple[str, Callable[[], list[Row]]]] = {
    "sparkov": (SPARKOV, sparkov),
    "paysim": (PAYSIM, paysim),
    "banksim": (BANKSIM, banksim),
    "tabformer": (TABFORMER, tabformer),
    "ieee_cis": (IEEE_CIS, ieee_cis),
    "saml_d": (SAML_D, saml_d),
    "baf": (BAF, baf),
}


#: Card numbers as spreadsheets show them.
def scientific(card: int) -> str:
    mantissa, exponent = f"{card:.5E}".split("E+")
    return f"{mantissa}E+{exponent}"


def unpadded(moment: datetime) -> str:
    """`1/1/2019 0:00`, month first."""
    return f"{moment.month}/{moment.day}/{moment.year} {moment.hour}:{moment.minute:02}"


#: Times of Sparkov as spreadsheets save them.
SPREADSHEETS: dict[str, Callable[[datetime], str]] = {
    "month first": unpadded,
    "day first": lambda moment: f"{moment:%d/%m/%Y %H:%M}",
    "dashes": lambda moment: f"{moment:%d-%m-%Y %H:%M}",
}
