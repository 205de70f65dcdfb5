"""Run ids and generated names: unique, sortable, safe, and independent of the user's seeds."""

from __future__ import annotations

import random
import re
import subprocess
import sys
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracking_core.errors import SettingsError
from tracking_core.layout.run_ids import ADJECTIVES, NOUNS, check_run_id, new_run_id, readable_name


class TestRunId:
    def test_form(self):
        assert re.fullmatch(r"\d{8}-\d{6}-[0-9a-hjkmnp-tv-z]{8}", new_run_id())

    def test_is_a_run_id_itself(self):
        run_id = new_run_id()
        assert check_run_id(run_id) == run_id

    def test_begins_with_the_time_in_utc(self):
        before = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
        run_id = new_run_id()
        after = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
        assert before <= run_id[:15] <= after

    def test_many_are_distinct_in_every_character(self):
        suffixes = {new_run_id()[16:] for _ in range(20_000)}
        # 20,000 out of 2**40 collide with a probability of 0.02 %; with 32 bits it would be 4.5 %.
        assert len(suffixes) == 20_000
        for position in range(8):
            assert len({suffix[position] for suffix in suffixes}) == 32

    def test_equally_seeded_processes_get_different_ids(self):
        code = "import random; random.seed(0); from tracking_core.layout.run_ids import new_run_id as i, readable_name as n; print(i(), n())"
        answers = [
            subprocess.check_output([sys.executable, "-c", code], text=True, timeout=60).split() for _ in range(2)
        ]
        assert answers[0][0] != answers[1][0]

    def test_leaves_the_global_random_state_alone(self):
        before = random.getstate()
        new_run_id()
        readable_name()
        assert random.getstate() == before


class TestReadableName:
    def test_word_lists(self):
        for words in (ADJECTIVES, NOUNS):
            assert len(set(words)) == len(words) >= 64
            assert all(re.fullmatch(r"[a-z]{2,10}", word) for word in words)

    @settings(deadline=None)
    @given(st.integers(0, 2**32))
    def test_form(self, seed):
        adjective, noun, number = readable_name(random.Random(seed)).split("-")
        assert adjective in ADJECTIVES
        assert noun in NOUNS
        assert 10 <= int(number) <= 99

    def test_follows_its_source(self):
        assert readable_name(random.Random(3)) == readable_name(random.Random(3))
        assert len({readable_name(random.Random(seed)) for seed in range(200)}) > 190

    def test_reaches_every_word(self):
        names = [readable_name().split("-") for _ in range(20_000)]
        assert {name[0] for name in names} == set(ADJECTIVES)
        assert {name[1] for name in names} == set(NOUNS)
        assert {int(name[2]) for name in names} == set(range(10, 100))


class TestCheckRunId:
    @pytest.mark.parametrize("run_id", ["a", "0", "A.b_c-d", "x" * 64, "20261124-053012-k3x9q1zr", "a..b"])
    def test_accepted(self, run_id):
        assert check_run_id(run_id) == run_id

    @pytest.mark.parametrize(
        "run_id",
        [
            "",
            ".",
            "..",
            "a.",
            "-a",
            "_a",
            ".a",
            "a/b",
            "a\\b",
            "a b",
            "a\n",
            "\na",
            "x" * 65,
            "é",
            "٣",
            "a\0",
            "a:b",
            "../a",
        ],
    )
    def test_refused(self, run_id):
        with pytest.raises(SettingsError) as caught:
            check_run_id(run_id)
        assert repr(run_id) in str(caught.value)
        assert "1 to 64" in str(caught.value)

    def test_a_long_one_is_shown_short(self):
        with pytest.raises(SettingsError) as caught:
            check_run_id("x" * 100_000)
        assert len(str(caught.value)) < 400

    @settings(deadline=None)
    @given(st.text(max_size=70))
    def test_what_is_accepted_names_a_directory(self, run_id):
        try:
            check_run_id(run_id)
        except SettingsError:
            return
        assert run_id.isascii()
        assert not set(run_id) & set('/\\:*?"<>| \0')
        assert run_id not in {".", ".."}
