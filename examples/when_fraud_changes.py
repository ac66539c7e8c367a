"""Eighteen weeks of a bank in which fraud changes, by the commands of the program.

python examples/when_fraud_changes.py DIRECTORY --seed 1

A model is trained, decides for weeks, and then all frauds become such that it cannot see: the
monitor raises an alarm, analysts label what they were shown, a challenger learns from that, scores
in shadow, is promoted, and taken back. docs/when-fraud-changes.md tells the story.

The bank's transactions, the truth and the analysts are simulated here; the rest are commands, each
printed before it runs. With several seeds, the recall of all of them is drawn as well.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import random
import shlex
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pcsv
import pyarrow.parquet as pq
from matplotlib.dates import DateFormatter
from matplotlib.figure import Figure

from beam_fraud.cli import main as beam_fraud

#: What the bank knows of a transaction. It has no feature of known fraud, so that labels change
#: what a model learns and nothing else.
SCHEMA = """\
name = "bank"
[roles]
transaction_id = "TRANSACTION_ID"
event_time = "TX_DATETIME"
account_id = "CUSTOMER_ID"
merchant_id = "TERMINAL_ID"
amount = "TX_AMOUNT"
[[feature]]
column = "TERMINAL_TYPE"
kind = "categorical"
[[velocity]]
key = "account_id"
windows = ["1d", "7d", "28d"]
aggregates = ["count", "mean", "ratio"]
[[velocity]]
key = "merchant_id"
windows = ["1d", "7d", "28d"]
aggregates = ["count", "mean"]
"""
WEEK = timedelta(days=7)
#: All are Mondays: the first day, the first that the model learns, the first that it scores, the
#: first that the monitor judges, that of the change, and those on which people act. The four weeks
#: before the learned ones fill the windows.
START, LEARNED = date(2023, 12, 4), date(2024, 1, 1)
LIVE, JUDGED = date(2024, 1, 29), date(2024, 3, 4)
CHANGE, RETRAINED, PROMOTED = date(2024, 3, 11), date(2024, 4, 8), date(2024, 4, 15)
ROLLED_BACK, END = date(2024, 4, 29), date(2024, 5, 6)
DATABASE = "sqlite:///bank.db"
#: The three policies, with their colours.
NEVER = "never retrained"
AUDIT, NO_AUDIT = "retrained, with audit lane", "retrained, without audit lane"
COLOURS = {NEVER: "#7f7f7f", AUDIT: "#3a923a", NO_AUDIT: "#d1493f"}


@dataclass(frozen=True)
class World:
    """What differs between two runs of the story."""

    seed: int = 1
    accounts: int = 400
    fraud_rate: float = 0.02
    #: Alerts a day that the analysts have time for.
    alerts: int = 20
    audit_share: str = "5%"


@dataclass
class Story:
    """What happened, with figures that the bank itself cannot know."""

    world: World
    commands: list[list[str]] = field(default_factory=list)
    #: Week to policy to its share of all frauds that were flagged.
    recall: dict[str, dict[str, float]] = field(default_factory=dict)
    #: Week to policy to its flagged rows.
    flagged: dict[str, dict[str, int]] = field(default_factory=dict)
    alarms: list[dict[str, Any]] = field(default_factory=list)
    #: Week to the number of its frauds.
    frauds: dict[str, int] = field(default_factory=dict)
    #: What `evaluate --from-labels` says of three weeks before the retraining.
    estimated: dict[str, Any] = field(default_factory=dict)
    retrained: dict[str, dict[str, Any]] = field(default_factory=dict)
    models: dict[str, str] = field(default_factory=dict)

    def run(self, *words: str) -> Any:
        """Run a command and return its result.

        Raises:
          RuntimeError: it fails.
        """
        print("$ beam-fraud", shlex.join(words), flush=True)
        self.commands.append(list(words))
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            ended = beam_fraud([*words, "--json", "--log-level", "warning"])
        if ended:
            raise RuntimeError(f"{shlex.join(words)}: ended with {ended}")
        return json.loads(printed.getvalue())


def mondays(first: date, end: date) -> Iterator[date]:
    """Yield the first days of weeks."""
    while first < end:
        yield first
        first += WEEK


def simulate(story: Story) -> set[str]:
    """Write a file a week to `incoming/`, without the truth; return the ids of all frauds."""
    world = story.world
    story.run(
        *("simulate", "--out", "truth.parquet", "--start", str(START)),
        *("--days", str((END - START).days)),
        *("--accounts", str(world.accounts), "--merchants", str(world.accounts)),
        *("--fraud-rate", str(world.fraud_rate), "--seed", str(world.seed)),
        *("--merchant-types", "8", "--new-fraud", str(CHANGE)),
        *("--weekend", "0.7", "--pay-days", "1.4", "--growth", "0.02"),
    )
    truth = pq.read_table("truth.parquet")
    for place in ("incoming", "archive", "labels"):
        Path(place).mkdir()
    times = truth["TX_DATETIME"].to_numpy()
    known = truth.drop_columns(["TX_FRAUD", "TX_FRAUD_SCENARIO"])
    for monday in mondays(START, END):
        first, end = np.searchsorted(times, [np.datetime64(monday), np.datetime64(monday + WEEK)])
        pq.write_table(known.slice(first, end - first), f"incoming/{monday}.parquet")
    frauds = truth.filter(pc.equal(truth["TX_FRAUD"], 1))
    charge_backs(frauds.filter(pa.array(frauds["TX_DATETIME"].to_numpy() < np.datetime64(LIVE))))
    return set(frauds["TRANSACTION_ID"].cast(pa.string()).to_pylist())


def charge_backs(frauds: pa.Table) -> None:
    """Write the labels of the first weeks, all reported by the time the first model is made."""
    table = frauds.select(["TRANSACTION_ID", "TX_DATETIME", "CUSTOMER_ID", "TERMINAL_ID"])
    table = table.rename_columns(["transaction_id", "event_time", "account_id", "merchant_id"])
    reported = pc.add(table["event_time"], pa.scalar(timedelta(hours=12)))
    pcsv.write_csv(table.append_column("labelled_at", reported), "labels/chargebacks.csv")


def analyse(world: World, frauds: set[str], after: date, until: date) -> Path:
    """Write what analysts have labelled between two days.

    They see flagged and audited transactions, cannot tell them apart, and take two days for half of
    them: the delay is log-normal.
    """
    with contextlib.closing(sqlite3.connect("bank.db")) as database:
        seen = database.execute(
            "select transaction_id, event_time from flagged_transactions "
            "union select transaction_id, event_time from audited_transactions"
        ).fetchall()
    rows = ["transaction_id,label,labelled_at"]
    for name, at in seen:
        delay = random.Random(f"{world.seed} {name}").lognormvariate(np.log(2), 0.5)
        labelled = datetime.fromisoformat(at).replace(tzinfo=None) + timedelta(days=delay)
        if after <= labelled.date() < until:
            rows.append(f"{name},{int(name in frauds)},{labelled:%Y-%m-%dT%H:%M:%SZ}")
    file = Path(f"labels/{until}.csv")
    file.write_text("\n".join(rows) + "\n")
    return file


def live(story: Story, monday: date, *shadows: str) -> None:
    """Score a week, keep its transactions, and label what people have looked at."""
    world = story.world
    story.run(
        *("score", f"incoming/{monday}.parquet", "--history", "archive"),
        *("--registry", "registry", *shadows, "--out", f"scored/{monday}", "--keep-features"),
        *("--sink", DATABASE, "--audit-share", world.audit_share),
    )
    Path(f"incoming/{monday}.parquet").rename(f"archive/{monday}.parquet")


def label(story: Story, frauds: set[str], monday: date) -> None:
    """Import what analysts have labelled in the week before a day."""
    file = analyse(story.world, frauds, monday - WEEK, monday)
    story.run("label", "import", str(file), "--database", DATABASE, "--who", "analysts")


def watch(story: Story) -> None:
    """Judge all days so far; alarms of earlier days are found again."""
    found = story.run("monitor", "scored", "--model", "fraud", "--out", "drift.html")
    story.alarms = found["alarms"]


def first_model(story: Story) -> None:
    """Train the first champion on four weeks whose frauds are all known."""
    for monday in mondays(START, LIVE):
        Path(f"incoming/{monday}.parquet").rename(f"archive/{monday}.parquet")
    story.run(
        *("label", "import", "labels/chargebacks.csv", "--database", DATABASE),
        *("--label", "fraud", "--who", "chargebacks"),
    )
    story.run("label", "export", "--database", DATABASE, "--out", "labels/first.parquet")
    story.run(
        *("train", "archive", "--labels", "labels/first.parquet", "--schema", "bank.toml"),
        *("--from", str(LEARNED)),
        *("--model", "hist_gradient_boosting", "--threshold", f"budget={story.world.alerts}"),
        *("--name", "fraud", "--out", "fraud"),
    )
    story.run("registry", "add", "fraud", "--registry", "registry")
    why = "the first model"
    promoted = story.run("registry", "promote", "fraud", "--why", why, "--registry", "registry")
    story.models[NEVER] = str(promoted["champion"])


def retrain(story: Story) -> None:
    """Make two challengers: of all labels, and of those of flagged transactions alone."""
    story.run("label", "export", "--database", DATABASE, "--out", "labels/seen.parquet")
    seen = pq.read_table("labels/seen.parquet")
    audited = pc.fill_null(pc.less(seen["probability"], 1.0), False)
    pq.write_table(seen.filter(pc.invert(audited)), "labels/flagged.parquet")
    for policy, labels in ((AUDIT, "seen"), (NO_AUDIT, "flagged")):
        result = story.run(
            *("retrain", "archive", "--labels", f"labels/{labels}.parquet"),
            *("--from", str(LEARNED)),
            *("--registry", "registry", "--label-maturity", "7d", "--compare", "7d"),
            *("--threshold", f"budget={story.world.alerts}", "--out", f"retrained/{labels}"),
        )
        story.retrained[policy] = result
        # Without a known fraud since the change, there is nothing to learn, and no challenger.
        story.models[policy] = str(result.get("challenger", story.models[NEVER]))


def tell(directory: Path, world: World) -> Story:
    """Run the story in a new directory.

    Raises:
      RuntimeError: a command fails.
    """
    story = Story(world)
    directory.mkdir(parents=True)
    with contextlib.chdir(directory):
        Path("bank.toml").write_text(SCHEMA)
        frauds = simulate(story)
        first_model(story)
        for monday in mondays(LIVE, RETRAINED):
            live(story, monday)
            label(story, frauds, monday + WEEK)
            if JUDGED <= monday <= CHANGE:
                watch(story)
        story.estimated = story.run(
            *("evaluate", "--from-labels", "--database", DATABASE),
            *("--from", str(CHANGE), "--until", str(RETRAINED - WEEK)),
        )
        retrain(story)
        challengers = ("--shadow", "challengers")
        for monday in mondays(RETRAINED, PROMOTED):
            live(story, monday, *challengers)
        story.run(
            *("registry", "promote", story.models[AUDIT], "--registry", "registry"),
            *("--why", "finds the frauds at new terminals in shadow"),
        )
        for monday in mondays(PROMOTED, ROLLED_BACK):
            live(story, monday, *challengers, "--shadow", story.models[NEVER])
        story.run("registry", "rollback", "--why", "to show it", "--registry", "registry")
        for monday in mondays(ROLLED_BACK, END):
            live(story, monday, *challengers)
        measure(story, frauds)
        Path("story.json").write_text(json.dumps(asdict(story), indent=1, default=str))
    return story


def measure(story: Story, frauds: set[str]) -> None:
    """Compute what the bank cannot: the share of all frauds that each policy flagged in a week."""
    for monday in mondays(LIVE, END):
        decided = [pq.read_table(f"scored/{monday}/scores", columns=COLUMNS)]
        shadow = Path(f"scored/{monday}/shadow")
        if shadow.is_dir():
            decided.append(pq.read_table(shadow, columns=COLUMNS))
        rows = pa.concat_tables(decided)
        for policy, model in story.models.items():
            own = rows.filter(pc.equal(rows["model_id"], model))
            if not own.num_rows:
                continue
            flagged = set(own.filter(own["flagged"])["transaction_id"].to_pylist())
            of_week = frauds.intersection(own["transaction_id"].to_pylist())
            recall = len(flagged & of_week) / len(of_week)
            story.recall.setdefault(str(monday), {})[policy] = round(recall, 4)
            story.flagged.setdefault(str(monday), {})[policy] = len(flagged)
            story.frauds[str(monday)] = len(of_week)


#: What is read of scored rows.
COLUMNS = ["transaction_id", "model_id", "flagged"]


def draw(stories: Sequence[Story], file: Path) -> None:
    """Draw the recall by week of each policy: of every story thin, and their mean."""
    figure = Figure(figsize=(7.5, 3.6), layout="constrained")
    axes: Any = figure.subplots()
    for policy, colour in COLOURS.items():
        weeks = [week for week, of in stories[0].recall.items() if policy in of]
        days = [date.fromisoformat(week) + WEEK / 2 for week in weeks]
        lines = [[story.recall[week][policy] for week in weeks] for story in stories]
        if len(lines) > 1:
            axes.plot(days, np.transpose(lines), color=colour, linewidth=0.6, alpha=0.4)
        # Where two lines meet, both are seen.
        style = "--" if policy == NO_AUDIT else "-"
        mean = np.mean(lines, axis=0)
        axes.plot(days, mean, style, color=colour, marker="o", markersize=3, label=policy)
    for day, text in (
        (CHANGE, "frauds change"),
        (CHANGE + WEEK, "alarm read"),
        (RETRAINED, "retrained,\nin shadow"),
        (PROMOTED, "promoted"),
        (ROLLED_BACK, "rolled back"),
    ):
        axes.axvline(day, color="#999999", linewidth=0.7, linestyle=":")
        axes.text(day, 1.05, text, fontsize=7, rotation=30, va="bottom")
    axes.set(ylim=(-0.03, 1.03), ylabel="share of all frauds flagged", xlim=(LIVE, END))
    axes.set_xticks(list(mondays(LIVE, END)))
    axes.xaxis.set_major_formatter(DateFormatter("%d %b"))
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(axis="x", labelsize=7)
    figure.legend(frameon=False, fontsize=7.5, loc="outside lower center", ncols=3)
    figure.savefig(file, dpi=110)


def main(arguments: Sequence[str] | None = None) -> None:
    """Tell the story of one seed or several, and draw it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--seed", type=int, nargs="+", default=[1])
    parser.add_argument("--accounts", type=int, default=World.accounts)
    given = parser.parse_args(arguments)
    stories = [
        tell(given.directory / f"seed-{seed}", World(seed=seed, accounts=given.accounts))
        for seed in given.seed
    ]
    draw(stories, given.directory / "recall.png")
    for week, recall in stories[0].recall.items():
        print(week, recall)


if __name__ == "__main__":
    main()
