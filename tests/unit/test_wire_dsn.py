"""Database URLs: what libpq's own users write, and one clear line for what cannot be meant."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tarbox_core.drivers.dsn import Dsn, parse_url
from tarbox_core.errors import ConnectError


def test_the_url_of_the_documentation() -> None:
    dsn = parse_url("postgresql://tarbox:password@localhost/tarbox")
    assert dsn == Dsn(host="localhost", database="tarbox", user="tarbox", password="password")
    assert (dsn.port, dsn.sslmode, dsn.application_name, dsn.connect_timeout) == (5432, "prefer", "tarbox", 10.0)


@pytest.mark.parametrize(("url", "expected"), [
    ("postgres://h:7000/d", Dsn(host="h", port=7000, database="d")),
    ("postgresql://", Dsn()),
    ("postgresql:///d", Dsn(database="d")),
    ("postgresql://u@/d?host=/run/pg&port=6000", Dsn(unix_sock="/run/pg", port=6000, database="d", user="u")),
    ("postgresql://%2Frun%2FPG/d", Dsn(unix_sock="/run/PG", database="d")),
    ("postgresql://[::1]:5433/d", Dsn(host="::1", port=5433, database="d")),
    ("postgresql://u%40x:p%3A%2F%23%25@h/d%20e", Dsn(host="h", database="d e", user="u@x", password="p:/#%")),
    ("postgresql://h/d?password=a+b%2Bc", Dsn(host="h", database="d", password="a+b+c")),
    ("postgresql://u:@h/d", Dsn(host="h", database="d", user="u", password="")),
    ("postgresql://h/d?sslmode=verify-full&sslrootcert=/x.pem", Dsn(host="h", database="d", sslmode="verify-full", sslrootcert="/x.pem")),
    ("postgresql://h/d?connect_timeout=3&application_name=me", Dsn(host="h", database="d", connect_timeout=3.0, application_name="me")),
    ("postgresql://h/d?connect_timeout=0", Dsn(host="h", database="d", connect_timeout=86400.0)),
    ("postgresql://h/d?options=-c%20work_mem%3D1MB", Dsn(host="h", database="d", options="-c work_mem=1MB")),
    ("postgresql://h/d?user=u&dbname=e", Dsn(host="h", database="e", user="u")),
    ("postgresql://h/d?channel_binding=require&target_session_attrs=read-write", Dsn(host="h", database="d")),
])
def test_forms(url: str, expected: Dsn) -> None:
    assert parse_url(url) == expected


def test_the_environment_fills_what_the_url_leaves_out() -> None:
    env = {"PGHOST": "/sock", "PGPORT": "6000", "PGUSER": "u", "PGPASSWORD": "secret", "PGDATABASE": "d", "PGSSLMODE": "disable", "PGCONNECT_TIMEOUT": "4"}
    assert parse_url("postgresql://", env) == Dsn(
        unix_sock="/sock", port=6000, user="u", password="secret", database="d", sslmode="disable", connect_timeout=4.0)
    assert parse_url("postgresql://v:w@h:1/e?sslmode=allow", env) == Dsn(
        host="h", port=1, user="v", password="w", database="e", sslmode="allow", connect_timeout=4.0)


@pytest.mark.parametrize(("url", "word"), [
    ("localhost/tarbox", "postgresql://"),
    ("mysql://h/d", "'mysql'"),
    ("postgresql://h:port/d", "port"),
    ("postgresql://h:99999/d", "port"),
    ("postgresql://h:0/d", "port"),
    ("postgresql://h?port=x", "port 'x'"),
    ("postgresql://[::1/d", "brackets"),
    ("postgresql://u:p#w@h/d", "%23"),
    ("postgresql://h/d?sslmode=on", "sslmode='on'"),
    ("postgresql://h/d?sslmod=require", "'sslmod'"),
    ("postgresql://h/d?sslmode", "name=value"),
    ("postgresql://h/d?connect_timeout=soon", "connect_timeout"),
    ("postgresql://a,b/d", "several hosts"),
    ("postgresql://h/d?target_session_attrs=standby", "target_session_attrs"),
    ("postgresql://u%00@h/d", "NUL"),
    ("postgresql://u%ff@h/d", "UTF-8"),
])
def test_a_bad_url_is_named_in_one_line(url: str, word: str) -> None:
    with pytest.raises(ConnectError) as raised:
        parse_url(url)
    assert word in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("url", ["postgresql://u:se:cret@h:x/d", "postgresql://u:secret@[h/d", "postgresql://u:secret@h/d?x=1", "postgresql://u:secret#@h/d"])
def test_no_error_tells_the_password(url: str) -> None:
    with pytest.raises(ConnectError) as raised:
        parse_url(url)
    assert "cret" not in str(raised.value)


def test_redacted_and_repr_hide_the_password() -> None:
    dsn = parse_url("postgresql://u:secret@h:7000/d")
    assert dsn.redacted() == "postgresql://u:***@h:7000/d"
    assert "secret" not in repr(dsn)
    assert parse_url("postgresql://u@/d?host=/run/pg").redacted() == "postgresql://u@/d?host=/run/pg"
    assert parse_url("postgresql://u@[::1]/d").redacted() == "postgresql://u@[::1]/d"


@given(st.text())
def test_any_text_parses_or_is_refused(text: str) -> None:
    for url in (text, "postgresql://" + text, "postgresql://h/d?" + text):
        try:
            parse_url(url)
        except ConnectError:
            continue
