"""The example of docs/when-fraud-changes.md ends as the page says, by the commands of the page."""

from __future__ import annotations

import json
import os
import re
import runpy
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from beam_fraud.models.registry.registry import open_registry
from beam_fraud.storage.urls import Place
from tests.one_thread import one_thread

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/when-fraud-changes.md"
NEVER = "never retrained"
AUDIT, NO_AUDIT = "retrained, with audit lane", "retrained, without audit lane"
#: Weeks before the change, from it to the challenger, and with the challenger.
BEFORE = [f"2024-{day}" for day in ("01-29", "02-05", "02-12", "02-19", "02-26", "03-04")]
UNSEEN = [f"2024-{day}" for day in ("03-11", "03-18", "03-25", "04-01")]
AFTER = [f"2024-{day}" for day in ("04-08", "04-15", "04-22", "04-29")]
pytestmark = pytest.mark.slow


def told(directory: Path, seed: int) -> dict[str, Any]:
    main = runpy.run_path(str(ROOT / "examples/when_fraud_changes.py"))["main"]
    with one_thread():
        main([str(directory), "--seed", str(seed)])
    story: dict[str, Any] = json.loads((directory / f"seed-{seed}/story.json").read_text())
    return story


def recall(story: dict[str, Any], weeks: list[str], policy: str) -> float:
    return float(np.mean([story["recall"][week][policy] for week in weeks]))


def commands_of_the_page() -> list[list[str]]:
    blocks = re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text("utf-8"), re.M | re.S)
    lines = "".join(blocks).replace("\\\n", "").splitlines()
    return [shlex.split(line)[1:] for line in lines if line.startswith("beam-fraud ")]


def test_a_bank_finds_its_frauds_again(tmp_path: Path) -> None:
    story = told(tmp_path, 1)
    # The page shows a week of each kind.
    ran = [without_names(words, story["models"]) for words in story["commands"]]
    shown = [without_names(words, {}) for words in commands_of_the_page()]
    assert len(shown) > 12
    assert [words for words in shown if words not in ran] == []
    raised = [alarm["raised"] for alarm in story["alarms"]]
    assert "2024-03-11" <= min(raised) <= "2024-03-12"
    assert recall(story, UNSEEN, NEVER) < 0.5 * recall(story, BEFORE, NEVER)
    assert recall(story, AFTER, NEVER) < 0.5 * recall(story, BEFORE, NEVER)
    assert recall(story, AFTER, AUDIT) > recall(story, BEFORE, NEVER)
    registry = open_registry(Place.at(tmp_path / "seed-1/registry"))
    actions = [entry.action for entry in registry.log.entries]
    assert actions[:2] == ["add", "promote"]
    assert actions[-2:] == ["promote", "rollback"]
    assert registry.standing.champion == story["models"][NEVER]
    assert (tmp_path / "recall.png").read_bytes().startswith(b"\x89PNG")


def without_names(words: list[str], models: dict[str, str]) -> list[str]:
    """Return a command with the names that the page gives to models."""
    names = {models[NEVER]: "CHAMPION", models[AUDIT]: "CHALLENGER"} if models else {}
    return [names.get(word, word) for word in words]


@pytest.mark.soak
def test_several_banks_find_their_frauds_again(tmp_path: Path) -> None:
    first = int(os.environ.get("BEAM_FRAUD_STORY_FIRST", "1"))
    seeds = range(first, first + int(os.environ.get("BEAM_FRAUD_STORY_SEEDS", "10")))
    stories = [told(tmp_path, seed) for seed in seeds]
    for policy in (NEVER, AUDIT, NO_AUDIT):
        for name, weeks in (("before", BEFORE), ("unseen", UNSEEN), ("after", AFTER)):
            if policy in stories[0]["recall"][weeks[0]]:
                found = [recall(story, weeks, policy) for story in stories]
                print(f"{policy}, {name}: {np.mean(found):.3f}", np.round(sorted(found), 3))
    assert all(recall(story, AFTER, AUDIT) > recall(story, AFTER, NEVER) for story in stories)
