"""Addresses: which are taken, where they lead, and that no password is left in one or shown."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy.engine import make_url

from toolkit.urls import (
    check_database_url,
    check_server_url,
    hide_passwords,
    same_place,
    show_scheme,
    split_password,
)

SERVER = "postgresql+psycopg://"
SECRET = "hunter2"


@pytest.mark.parametrize(
    "url",
    [
        "memory://",
        "sqlite:///runs.db",
        "sqlite:////srv/anna:x@y/runs.db",
        "sqlite:///C:/Users/anna/runs.db",
        SERVER + "anna@db.test:5432/runs",
        SERVER + "anna@db.test/runs",
        SERVER + "db.test/runs",
        SERVER + "/runs",
        SERVER + "anna@[::1]:5432/runs",
        SERVER + "anna@/runs?host=/var/run/postgresql",
        SERVER + "an%3Ana%40home@db.test/r%2Funs?sslmode=require&application_name=a%40b",
        SERVER + "änna@db.tëst/läufe",
    ],
)
def test_an_address_of_a_store_is_taken_as_it_is(url: str) -> None:
    """What holds no password is not written anew, or one store would have two names."""
    check_database_url(url, "store_password")
    assert split_password(url) == (url, None)


@pytest.mark.parametrize(
    ("url", "without", "password"),
    [
        ("anna:hunter2@db.test:5432/runs", "anna@db.test:5432/runs", "hunter2"),
        ("anna:a%40b%2Fc%3Ad%3Fe%23f%25g@db.test/runs", "anna@db.test/runs", "a@b/c:d?e#f%g"),
        ("anna:a:b@db.test/runs", "anna@db.test/runs", "a:b"),
        ("anna:a+b%2B@db.test/runs", "anna@db.test/runs", "a+b+"),
        ("anna:[x]@[::1]/runs", "anna@[::1]/runs", "[x]"),
        ("anna:pässwörd@db.test/runs", "anna@db.test/runs", "pässwörd"),
        ("anna:p%C3%A4ss@db.test/runs", "anna@db.test/runs", "päss"),
        ("anna:%20a%20@db.test/runs", "anna@db.test/runs", " a "),
        ("an%3Ana:pw@db.test/runs?sslmode=require", "an%3Ana@db.test/runs?sslmode=require", "pw"),
        ("anna:pw@/runs?host=/run/pg", "anna@/runs?host=/run/pg", "pw"),
        (":pw@db.test/runs", "db.test/runs", "pw"),
        ("anna:@db.test/runs", "anna@db.test/runs", None),
        ("@db.test/runs", "db.test/runs", None),
    ],
)
def test_a_password_is_taken_out_decoded(url: str, without: str, password: str | None) -> None:
    """The rest stays letter by letter, and is taken as it is from then on; an empty password is none."""
    with pytest.raises(ValueError, match="must hold no password; it has a setting of its own"):
        check_database_url(SERVER + url, "store_password")
    assert split_password(SERVER + url) == (SERVER + without, password)
    check_database_url(SERVER + without, "store_password")


PARTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=12)


def escaped(text: str) -> str:
    return "".join(f"%{byte:02X}" for byte in text.encode())


@settings(deadline=None, max_examples=200)
@given(PARTS, PARTS, PARTS)
def test_the_driver_reads_an_address_as_it_is_read_here(user: str, password: str, database: str) -> None:
    """Any password survives, and what is left leads SQLAlchemy to the same place without one."""
    whole = f"{SERVER}{escaped(user)}:{escaped(password)}@db.test:77/{escaped(database)}"
    without, found = split_password(whole)
    theirs = make_url(whole)
    assert found == password == theirs.password
    assert make_url(without).set(password=password) == theirs
    assert make_url(without).password is None


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("", "is none of memory://, sqlite:///PATH and postgresql+psycopg://USER"),
        ("memory://x", "is none of memory://"),
        ("sqlite:///", "is none of memory://"),
        ("sqlite://runs.db", "is none of memory://"),
        ("postgresql://anna:hunter2@db.test/runs", "is none of memory://"),
        ("postgres://anna:hunter2@db.test/runs", "is none of memory://"),
        ("POSTGRESQL+PSYCOPG://anna:hunter2@db.test/runs", "is none of memory://"),
        (" postgresql+psycopg://anna:hunter2@db.test/runs", "is none of memory://"),
        ("anna:hunter2@db.test/runs", "is none of memory://"),
        # Letters of which one could not say whether they end the password.
        (SERVER + "anna:hun@hunter2@db.test/runs", "%40"),
        (SERVER + "anna:hun/hunter2@db.test/runs", "%2F"),
        (SERVER + "anna:hun?hunter2@db.test/runs", "%3F"),
        (SERVER + "anna:hun#hunter2@db.test/runs", "%23"),
        (SERVER + "anna:hun%hunter2@db.test/runs", "%25"),
        (SERVER + "anna:hunter2%e4@db.test/runs", "UTF-8"),
        (SERVER + "anna:hunter2%00@db.test/runs", "UTF-8"),
        (SERVER + "anna:hunter2 @db.test/runs", "%40"),
        (SERVER + "anna:hunter2\n@db.test/runs", "%40"),
        (SERVER + "anna:hunter2@db.test/runs\n", "%40"),
        # Malformed elsewhere.
        (SERVER + "anna:hunter2@db.test", "USER@HOST:PORT/DB"),
        (SERVER + "anna:hunter2@db.test/", "USER@HOST:PORT/DB"),
        (SERVER + "anna:hunter2/runs", "a port from 1 to 65535"),
        (SERVER + "anna:hunter2:5432/runs", "a port from 1 to 65535"),
        (SERVER + "anna:hunter2@db.test:/runs", "a port from 1 to 65535"),
        (SERVER + "anna:hunter2@db.test:0/runs", "a port from 1 to 65535"),
        (SERVER + "anna:hunter2@db.test:65536/runs", "a port from 1 to 65535"),
        (SERVER + "anna:hunter2@db.test:port/runs", "a port from 1 to 65535"),
        (SERVER + "anna:hunter2@db.test:٥٤٣٢/runs", "a port from 1 to 65535"),
        (SERVER + "anna:hunter2@[::1/runs", "USER@HOST:PORT/DB"),
        (SERVER + "anna:hunter2@db.test/runs#x", "USER@HOST:PORT/DB"),
        # Behind the question mark.
        (SERVER + "anna@db.test/runs?password=hunter2", "set store_password"),
        (SERVER + "anna:x@db.test/runs?sslmode=require&PASSWORD=hunter2", "set store_password"),
        (SERVER + "anna@db.test/runs?pass%77ord=hunter2", "set store_password"),
        (SERVER + "anna@db.test/runs?pasword=hunter2", "takes after '?' only application_name"),
        (SERVER + "anna@db.test/runs?sslpassword=hunter2", "takes after '?' only application_name"),
        (SERVER + "anna@db.test/runs?hunter2", "takes after '?' only application_name"),
        (SERVER + "db.test/runs?application_name=anna:hunter2@x", "%40"),
    ],
)
def test_what_is_no_address_is_refused_without_being_shown(url: str, says: str) -> None:
    """Wherever the password stands in a malformed address, it is in no message and in nothing shown of it."""
    assert split_password(url) == (url, None)
    with pytest.raises(ValueError, match=r"^(is|must|takes)") as caught:
        check_database_url(url, "store_password")
    assert says in str(caught.value)
    for text in (str(caught.value), show_scheme(url)):
        assert SECRET not in text
        assert "hun@" not in text


@pytest.mark.parametrize(
    "other",
    [
        "anna@db.test:5432/runs",
        "anna:other@db.test/runs",
        "anna@DB.TEST/runs",
        "%61nna@db.test/run%73",
        "anna@db.test/runs?sslmode=require",
    ],
)
def test_one_place_is_known_in_any_writing(other: str) -> None:
    """Port, case, escapes, parameters and the password itself make no other place of it."""
    assert same_place(SERVER + "anna:hunter2@db.test/runs", SERVER + other)
    assert same_place(SERVER + other, SERVER + "anna:hunter2@db.test/runs")


@pytest.mark.parametrize(
    "other",
    [
        SERVER + "berta@db.test/runs",
        SERVER + "db.test/runs",
        SERVER + "anna@other.test/runs",
        SERVER + "anna@db.test:5433/runs",
        SERVER + "anna@db.test/Runs",
        # The driver goes to the host that the parameter names.
        SERVER + "anna@db.test/runs?host=other.test",
        SERVER + "anna@db.test/runs?hostaddr=10.0.0.1",
        SERVER + "anna@db.test:port/runs",
        "postgresql://anna@db.test/runs",
        "memory://",
        "sqlite:///anna@db.test/runs",
        None,
        7,
    ],
)
def test_another_place_is_told_apart(other: object) -> None:
    """Each part that leads elsewhere counts: a password must not go there."""
    assert not same_place(SERVER + "anna@db.test/runs", other)
    assert not same_place(other, SERVER + "anna@db.test/runs")
    assert same_place(other, other)


@pytest.mark.parametrize(
    "text",
    ["'http://anna:hunter2@h/x'", "http://anna:a/hunter2@h", "http://anna:a@hunter2@h", "//a:\nhunter2@h"],
)
def test_passwords_before_a_host_are_hidden(text: str) -> None:
    """Also those that hold letters which an address would end at."""
    assert SECRET not in hide_passwords(text)
    assert "//***@h" in hide_passwords(text)


def test_a_scheme_says_which_address_was_meant() -> None:
    """As much as can be shown of it; of what has no scheme, nothing."""
    assert show_scheme("postgres://anna:hunter2@h/x") == "'postgres://…'"
    assert show_scheme("anna:hunter2@h/x") == show_scheme([1]) == show_scheme(7) == "…"


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://", "is no address"),
        ("http://h:port", "is no address"),
        ("http://anna:hunter2@h", "no user name and no password"),
        ("http://h/x?key=hunter2", "without '\\?'"),
        ("http://h/x#hunter2", "without '\\?'"),
    ],
)
def test_an_address_of_a_server_holds_no_secret(url: str, says: str) -> None:
    """It is shown in messages and frames, so that nothing may stand there that must not be seen."""
    check_server_url("openai_base_url", "https://h.test:8000/v1")
    with pytest.raises(ValueError, match="^openai_base_url .*" + says) as caught:
        check_server_url("openai_base_url", url)
    assert SECRET not in str(caught.value)
