"""Feedback by the form of a day page: what it writes, and what is refused without a change."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from tests.conftest import sql
from tests.integration.web.conftest import HOST, KEY, Visit
from tests.servers.superset import ADMIN, ANALYST, GAMMA
from utils.pipeline import refresh
from utils.settings import Settings
from utils.web.auth import Visitor
from utils.web.feedback import MAX_PER_MINUTE, TOKEN_LIFE_S, RateLimit, Tokens, TooMany

pytestmark = pytest.mark.security

PAGE = "/flights/airports/EWR/2015-02-08/"
TARGET = f"{PAGE}feedback"
HOSTILE = "<script>alert('x')</script> & \"quotes\" '; DROP TABLE flights.feedback; -- \n= 1+1"
New = Callable[[str | None], Visit]


def stored(settings: Settings) -> list[tuple[object, ...]]:
    return sql(settings.warehouse, "SELECT origin, fl_date::text, opinion, note, author FROM flights.feedback")


@pytest.mark.parametrize("cookie", [ADMIN, ANALYST])
def test_a_label_is_written_with_user_and_time_shown_escaped_and_withdrawn(
    visit: New, done: Settings, cookie: str
) -> None:
    browser, user = visit(cookie), {ADMIN: "admin", ANALYST: "ann"}[cookie]
    form = {"csrf_token": browser.token(PAGE), "opinion": "right", "note": HOSTILE}

    given = browser.post(TARGET, form)

    assert (given.status_code, given.headers["Location"]) == (303, f"{PAGE}#label")
    assert stored(done) == [("EWR", "2015-02-08", "right", HOSTILE, user)]
    assert sql(done.warehouse, "SELECT now() - given_at < interval '1 minute' FROM flights.feedback") == [(True,)]
    for page in (PAGE, "/flights/", "/flights/airports/EWR/2015/"):
        text = browser.get(page).text
        assert "&lt;script&gt;alert(" in text
        assert "<script>alert" not in text

    form["withdraw"] = "yes"
    assert browser.post(TARGET, form).status_code == 303
    assert stored(done) == []


def test_the_page_says_what_a_label_changes_before_it_is_given(admin: Visit) -> None:
    form = re.findall(r'<form method="post".*?</form>', admin.get(PAGE).text, re.DOTALL)

    assert len(form) == 1
    assert "no longer used for fitting" in form[0]


def test_the_label_expected_makes_the_verdicts_of_the_year_stale_and_the_others_do_not(
    admin: Visit, done: Settings
) -> None:
    token = admin.token(PAGE)
    stale = {}
    for opinion in ("right", "wrong", "expected"):
        admin.post(TARGET, {"csrf_token": token, "opinion": opinion, "note": ""})
        stale[opinion] = refresh.stale_years(done)

    assert stale == {"right": [], "wrong": [], "expected": [2015]}


def test_a_role_that_may_not_label_sees_no_form_and_is_refused(visit: New, done: Settings) -> None:
    token = Tokens(KEY).create(Visitor("gus", frozenset({"Gamma"})))

    answer = visit(GAMMA).post(TARGET, {"csrf_token": token, "opinion": "right", "note": ""})

    assert "csrf_token" not in visit(GAMMA).get(PAGE).text
    assert answer.status_code == 403
    assert "Location" not in answer.headers
    assert stored(done) == []


@pytest.mark.parametrize("cookie", [None, "expired"])
def test_without_a_session_a_form_changes_nothing_and_leads_to_the_login(
    visit: New, done: Settings, cookie: str | None
) -> None:
    token = Tokens(KEY).create(Visitor("admin", frozenset({"Admin"})))

    answer = visit(cookie).post(TARGET, {"csrf_token": token, "opinion": "right", "note": ""})

    assert answer.status_code == 303
    assert answer.headers["Location"] == "/login/?next=%2Fflights%2Fairports%2FEWR%2F2015-02-08%2F"
    assert stored(done) == []


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Origin": f"{HOST}.evil.example"},
        {"Origin": f"{HOST}@evil.example"},
        {"Origin": "https://evil.example/flights.example"},
        {"Origin": HOST, "Sec-Fetch-Site": "cross-site"},
        {"Origin": HOST, "Sec-Fetch-Site": "same-site"},
    ],
)
def test_a_form_of_another_site_is_refused(admin: Visit, done: Settings, headers: dict[str, str]) -> None:
    form = {"csrf_token": admin.token(PAGE), "opinion": "right", "note": ""}

    answer = admin.post(TARGET, form, **headers)

    assert answer.status_code == 403
    assert stored(done) == []


def test_a_form_without_an_origin_is_refused(admin: Visit, done: Settings) -> None:
    form = {"csrf_token": admin.token(PAGE), "opinion": "right", "note": ""}

    answer = admin.client.post(TARGET, data=form, headers={"Cookie": f"superset_session={ADMIN}"})

    assert answer.status_code == 403
    assert stored(done) == []


@pytest.mark.parametrize("kind", ["missing", "empty", "wrong", "of another user", "expired", "of another key"])
def test_a_form_without_a_valid_token_is_refused(admin: Visit, done: Settings, kind: str) -> None:
    valid = admin.token(PAGE)
    other = Visitor("ann", frozenset({"Analyst"}))
    me = Visitor("admin", frozenset({"Admin"}))
    tokens = {
        "empty": "",
        "wrong": valid[:-1] + ("0" if valid[-1] != "0" else "1"),
        "of another user": Tokens(KEY).create(other),
        "expired": Tokens(KEY, lambda: 0.0).create(me),
        "of another key": Tokens("x" * 64).create(me),
    }
    token = {} if kind == "missing" else {"csrf_token": tokens[kind]}

    answer = admin.post(TARGET, {**token, "opinion": "right", "note": ""})

    assert answer.status_code == 400
    assert "load the page again" in answer.text
    assert stored(done) == []


def test_a_token_ends_and_its_time_cannot_be_changed() -> None:
    now = [1000.0]
    tokens, me = Tokens(KEY, lambda: now[0]), Visitor("admin", frozenset())
    token = tokens.create(me)
    tokens.check(token, me)
    later = f"{int(token.partition('.')[0]) + 1}.{token.partition('.')[2]}"

    now[0] += TOKEN_LIFE_S + 1

    for refused in (token, later):
        with pytest.raises(Exception, match="expired"):
            tokens.check(refused, me)


@pytest.mark.parametrize(
    ("form", "word"),
    [
        ({"opinion": "maybe"}, "opinion"),
        ({"opinion": ""}, "opinion"),
        ({"opinion": "right", "note": "x" * 501}, "501 characters"),
        ({"opinion": "right", "note": "a\x00b"}, "control character"),
        ({"opinion": "right", "note": "a\u202eb"}, "control character"),
        ({"opinion": "right", "note": "x" * 20_000}, "larger"),
    ],
)
def test_an_unusable_form_is_refused_with_the_reason(
    admin: Visit, done: Settings, form: dict[str, str], word: str
) -> None:
    answer = admin.post(TARGET, {"csrf_token": admin.token(PAGE), **form})

    assert answer.status_code == 400
    assert word in answer.text
    assert stored(done) == []


def test_a_note_may_have_500_characters(admin: Visit, done: Settings) -> None:
    note = "é" * 500

    admin.post(TARGET, {"csrf_token": admin.token(PAGE), "opinion": "wrong", "note": note})

    assert stored(done) == [("EWR", "2015-02-08", "wrong", note, "admin")]


def test_a_day_that_does_not_exist_takes_no_feedback(admin: Visit, done: Settings) -> None:
    form = {"csrf_token": admin.token(PAGE), "opinion": "right", "note": ""}

    for path in ("airports/EWR/2014-02-08", "airports/XXX/2015-02-08"):
        assert admin.post(f"/flights/{path}/feedback", form).status_code == 404
    assert stored(done) == []


def test_a_user_may_give_a_limited_number_of_labels_a_minute(admin: Visit, visit: New, done: Settings) -> None:
    form = {"csrf_token": admin.token(PAGE), "opinion": "right", "note": "n"}

    answers = [admin.post(TARGET, {**form, "note": str(number)}).status_code for number in range(MAX_PER_MINUTE + 2)]

    assert answers == [303] * MAX_PER_MINUTE + [429] * 2
    assert stored(done)[0][3] == str(MAX_PER_MINUTE - 1)
    other = visit(ANALYST)
    assert other.post(TARGET, {**form, "csrf_token": other.token(PAGE)}).status_code == 303


def test_a_label_counts_for_a_minute() -> None:
    now, me = [0.0], Visitor("ann", frozenset())
    limit = RateLimit(1, lambda: now[0])
    limit.count(me)

    now[0] = 59
    with pytest.raises(TooMany):
        limit.count(me)
    now[0] = 61
    limit.count(me)


def test_other_methods_and_other_targets_change_nothing(admin: Visit, done: Settings) -> None:
    form = {"csrf_token": admin.token(PAGE), "opinion": "right", "note": ""}

    assert admin.get(f"{TARGET}?opinion=right&csrf_token={form['csrf_token']}").status_code in {308, 404, 405}
    assert admin.post(PAGE, form).status_code == 405
    assert admin.post("/flights/", form).status_code == 405
    assert stored(done) == []
