"""How the columns of a source write times, numbers, identifiers and labels."""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal, get_args

UTF_8 = "utf-8"
#: Spellings of an absent value in text, unless a schema lists others.
ABSENT = ("", "NA", "N/A", "NaN", "nan", "null", "NULL", "None")
#: Units of numbers that are times, and microseconds in each.
TimeUnit = Literal["s", "ms", "us", "hour", "day"]
MICROS = {"us": 1, "ms": 1_000, "s": 1_000_000, "hour": 3_600_000_000, "day": 86_400_000_000}
#: Zone of times without one: UTC, or the schema's `timezone`.
Naive = Literal["utc", "local"]
#: How a number below zero is marked: `-5`, `(5)` or `5-`.
Negative = Literal["minus", "brackets", "trailing"]
#: Unit of an amount: of its currency (12.34 euros), or the smallest of it (1234 cents).
AmountUnit = Literal["major", "minor"]
#: Envelope of JSON records and messages: a change of a row, or an event.
Unwrap = Literal["debezium", "cloudevents"]

#: Forms of times with a name. ISO 8601 is what a schema without a form reads; Excel counts days.
ISO_8601, RFC_2822, EXCEL = "iso8601", "rfc2822", "excel"
NAMED_FORMS = (ISO_8601, RFC_2822, EXCEL)
#: Day 0 of Excel's serial numbers from March 1900 on.
EXCEL_ORIGIN = "1899-12-30"
#: Decimal places of a currency's amounts, where not two (ISO 4217, list one).
MINOR_PLACES = {
    **dict.fromkeys(
        ("BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "UYI"), 0
    ),
    **dict.fromkeys(("VND", "VUV", "XAF", "XOF", "XPF"), 0),
    **dict.fromkeys(("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"), 3),
    **dict.fromkeys(("CLF", "UYW"), 4),
}
#: Codes of currencies to their numbers, as messages of ISO 8583 have them (ISO 4217, list one).
_NUMBERED = (
    "AED784 AFN971 ALL008 AMD051 AOA973 ARS032 AUD036 AWG533 AZN944 BAM977 BBD052 BDT050 "
    "BGN975 BHD048 BIF108 BMD060 BND096 BOB068 BOV984 BRL986 BSD044 BTN064 BWP072 BYN933 "
    "BZD084 CAD124 CDF976 CHE947 CHF756 CHW948 CLF990 CLP152 CNY156 COP170 COU970 CRC188 "
    "CUP192 CVE132 CZK203 DJF262 DKK208 DOP214 DZD012 EGP818 ERN232 ETB230 EUR978 FJD242 "
    "FKP238 GBP826 GEL981 GHS936 GIP292 GMD270 GNF324 GTQ320 GYD328 HKD344 HNL340 HRK191 "
    "HTG332 HUF348 IDR360 ILS376 INR356 IQD368 IRR364 ISK352 JMD388 JOD400 JPY392 KES404 "
    "KGS417 KHR116 KMF174 KPW408 KRW410 KWD414 KYD136 KZT398 LAK418 LBP422 LKR144 LRD430 "
    "LSL426 LYD434 MAD504 MDL498 MGA969 MKD807 MMK104 MNT496 MOP446 MRU929 MUR480 MVR462 "
    "MWK454 MXN484 MXV979 MYR458 MZN943 NAD516 NGN566 NIO558 NOK578 NPR524 NZD554 OMR512 "
    "PAB590 PEN604 PGK598 PHP608 PKR586 PLN985 PYG600 QAR634 RON946 RSD941 RUB643 RWF646 "
    "SAR682 SBD090 SCR690 SDG938 SEK752 SGD702 SHP654 SLE925 SOS706 SRD968 SSP728 STN930 "
    "SVC222 SYP760 SZL748 THB764 TJS972 TMT934 TND788 TOP776 TRY949 TTD780 TWD901 TZS834 "
    "UAH980 UGX800 USD840 USN997 UYI940 UYU858 UYW927 UZS860 VED926 VES928 VND704 VUV548 "
    "WST882 XAF950 XCD951 XCG532 XDR960 XOF952 XPF953 YER886 ZAR710 ZMW967 ZWG924 "
)
#: Number of a currency, three digits, to its code.
CODES_BY_NUMBER = {pair[3:]: pair[:3] for pair in _NUMBERED.split()}
#: A day of which no part can be taken for another: a form that reads it back says which day it is.
_PROBE = datetime(2019, 11, 28, 13, 45, 52, tzinfo=UTC)
_DIRECTIVE = re.compile(r"%(.)")
#: Directives of `strptime` that depend on no language but English.
_DIRECTIVES = frozenset("aAwdbBmyYHIpMSfzZjUW%")


@dataclass(frozen=True)
class TimeNotation:
    """How times are written.

    Raises:
      ValueError: a form is none, or does not say which day it is; an origin is no time.
    """

    #: Forms of text to try in order: `strptime` directives, or `iso8601`, `rfc2822`, `excel`; empty
    #: for ISO 8601 and numbers.
    forms: tuple[str, ...] = ()
    #: Unit of numbers; None for seconds to nanoseconds by their magnitude, seconds with an origin.
    unit: TimeUnit | None = None
    #: ISO 8601 time from which numbers count; None for 1970.
    origin: str | None = None
    #: Zone of times without one; None for UTC, with a warning if the schema has another `timezone`.
    naive: Naive | None = None
    #: Whether times that cannot be those of card payments are refused.
    plausible: bool = True

    def __post_init__(self) -> None:
        """Check forms and origin."""
        for form in self.forms:
            if form not in NAMED_FORMS:
                _check_form(form)
        if self.origin is not None:
            try:
                datetime.fromisoformat(self.origin)
            except ValueError:
                raise ValueError(f"origin {self.origin!r} is not an ISO 8601 time") from None

    @property
    def doubted(self) -> bool:
        """Return whether to check that times are plausible."""
        return self.plausible and self.unit is None and self.origin is None

    @property
    def origin_micros(self) -> int:
        """Microseconds of the epoch at the origin; a time without a zone is UTC."""
        if self.origin is None:
            return 0
        start = datetime.fromisoformat(self.origin)
        start = start if start.tzinfo else start.replace(tzinfo=UTC)
        return (start - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


@dataclass(frozen=True)
class NumberNotation:
    """How text writes numbers.

    Raises:
      ValueError: decimal and thousands separator are the same, or one of them is no single
        character or a digit.
    """

    #: Character before the fraction.
    decimal: str = "."
    #: Character between groups of three digits; empty for none.
    thousands: str = ""
    #: Texts beside the digits that mean nothing: currencies.
    symbols: tuple[str, ...] = ()
    #: How a number below zero is marked.
    negative: Negative = "minus"
    #: Unit of amounts.
    unit: AmountUnit = "major"

    def __post_init__(self) -> None:
        """Check the separators."""
        for name, mark in (("decimal", self.decimal), ("thousands", self.thousands)):
            if len(mark) != 1 and not (name == "thousands" and not mark):
                raise ValueError(f"{name} must be one character, not {mark!r}")
            if mark.isdigit() or (mark and mark in "+-()eE"):
                raise ValueError(f"{name} cannot be {mark!r}")
        if self.decimal == self.thousands:
            raise ValueError(f"decimal and thousands are both {self.decimal!r}")
        for symbol in self.symbols:
            if not symbol.strip() or any(c.isdigit() for c in symbol) or set(symbol) & set("+-()"):
                raise ValueError(f"{symbol!r} cannot be a symbol")

    @property
    def plain(self) -> bool:
        """Return whether Arrow can parse the numbers."""
        return self in (NumberNotation(), NumberNotation(unit="minor"))


@dataclass(frozen=True)
class IdNotation:
    """How identifiers are written; steps in the order of the fields.

    Raises:
      ValueError: `pad` is negative, or `strip` and `pad` undo each other.
    """

    #: Whether white space at both ends is removed.
    trim: bool = False
    #: Text removed from the start.
    prefix: str = ""
    #: Characters removed from the start, however many; the last character stays.
    strip: str = ""
    #: Length up to which zeros are put before it.
    pad: int = 0

    def __post_init__(self) -> None:
        """Check `pad`."""
        if not 0 <= self.pad <= 64:
            raise ValueError(f"pad must be 0 to 64, not {self.pad}")

    @property
    def plain(self) -> bool:
        """Return whether identifiers are used unchanged."""
        return self == IdNotation()


@dataclass(frozen=True)
class LabelNotation:
    """Spellings of labels, in any case; numbers and booleans are compared as text.

    With one of `positive` and `negative` every other value is the opposite. Without both, 1 and
    true are fraud, 0 and false genuine.

    Raises:
      ValueError: a spelling has two meanings.
    """

    #: Spellings of fraud.
    positive: tuple[str, ...] = ()
    #: Spellings of genuine.
    negative: tuple[str, ...] = ()
    #: Spellings of an unknown label.
    unknown: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check that each spelling has one meaning."""
        spellings = [s.strip().casefold() for s in (*self.positive, *self.negative, *self.unknown)]
        for spelling in spellings:
            if spellings.count(spelling) > 1:
                raise ValueError(f"{spelling!r} is listed twice")


@dataclass(frozen=True)
class SourceNotation:
    """How text, CSV and JSON lines, and messages are written.

    Raises:
      ValueError: an encoding is unknown, or a mark is no single ASCII character.
    """

    #: Encoding of the text, by Python's name.
    encoding: str = UTF_8
    #: Character between the fields of CSV; None for the one of `,`, `;`, tab and `|` that fits.
    delimiter: str | None = None
    #: Character around fields of CSV that hold others; empty for none.
    quote: str = '"'
    #: Names of the columns of CSV files without a header; empty if files have one.
    header: tuple[str, ...] = ()
    #: Envelope of records of JSON and of messages; None for none.
    unwrap: Unwrap | None = None

    def __post_init__(self) -> None:
        """Check the encoding, the marks and the header."""
        try:
            "a".encode(self.encoding)
        except LookupError:
            raise ValueError(
                f"encoding {self.encoding!r} is none, write one like latin-1, cp1252 or utf-16"
            ) from None
        for name, mark in (("delimiter", self.delimiter), ("quote", self.quote or None)):
            if mark is not None and not (len(mark) == 1 and mark.isascii() and mark not in "\r\n"):
                raise ValueError(f"{name} must be one ASCII character, not {mark!r}")
        if self.delimiter is not None and self.delimiter == self.quote:
            raise ValueError(f"delimiter and quote are both {self.quote!r}")
        for column in self.header:
            if self.header.count(column) > 1:
                raise ValueError(f"header names {column!r} twice")

    @property
    def decoder(self) -> str | None:
        """Name of the encoding that text is decoded from; None if it is UTF-8 already."""
        name = codecs.lookup(self.encoding).name
        return None if name in (UTF_8, "utf-8-sig", "ascii") else name


#: What a schema without settings says.
ANY_TIME, PLAIN, AS_WRITTEN, ZERO_OR_ONE, PLAIN_TEXT = (
    TimeNotation(),
    NumberNotation(),
    IdNotation(),
    LabelNotation(),
    SourceNotation(),
)


def _check_form(form: str) -> None:
    """Raise ValueError for a form that is no `strptime` format, or does not name a day."""
    named = ", ".join(NAMED_FORMS)
    for directive in _DIRECTIVE.findall(form):
        if directive not in _DIRECTIVES:
            raise ValueError(f"format {form!r}: %{directive} is no directive of strptime")
    try:
        read = datetime.strptime(_PROBE.strftime(form), form)
    except (ValueError, re.error):
        read = None
    if read is None or read.date() != _PROBE.date():
        raise ValueError(
            f"format {form!r} does not say year, month and day: write one as in '%d/%m/%Y %H:%M', "
            f"or one of {named}"
        )


assert set(MICROS) == set(get_args(TimeUnit))
