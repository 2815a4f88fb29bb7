"""The configuration: defaults, the order of sources, what is said of wrong ones, and that passwords stay hidden."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from tarbox_cli.config import Config, ConfigError, NativeMount, duration, load, redacted, size
from tarbox_core.drivers.dsn import Dsn, parse_url

# As PRODUCT.md prints it.
DOCUMENTED = """
[database]
url = "postgresql://tarbox:password@localhost/tarbox"
pool_size = 20
connection_timeout = "30s"
[filesystem]
mount_point = "/mnt/tarbox"
block_size = 65536            # bytes; fixed for a tenant when it is created
max_file_size = "10GB"
[cache]
metadata_size = "64MB"
block_size = "256MB"
policy = "lru"
[audit]
enabled = true
retention_days = 90
batch_size = 100              # for reads; mutations are never deferred past their own commit
[layer]
auto_checkpoint = false
checkpoint_interval = "1h"
[[native_mounts]]
path = "/.venv"
source = "/var/tarbox/venvs/{tenant_id}"
mode = "rw"                   # or "ro"
shared = false
priority = 20
"""


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory; `read` passes an environment that leads to no other file."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read(content: str | None = None, environ: Mapping[str, str] | None = None, overrides: Mapping[str, object] | None = None) -> Config:
    if content is not None:
        Path("tarbox.toml").write_text(content)
    return load(None, {"XDG_CONFIG_HOME": "/nonexistent", **(environ or {})}, overrides)


def problem(content: str | None = None, environ: Mapping[str, str] | None = None, overrides: Mapping[str, object] | None = None) -> str:
    with pytest.raises(ConfigError) as raised:
        read(content, environ, overrides)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_the_documented_file_holds_the_defaults(bare: Path) -> None:
    defaults = load(None, {"TARBOX_CONFIG": "/dev/null"})
    config = read(DOCUMENTED)
    assert config.database.url == "postgresql://tarbox:password@localhost/tarbox"
    assert defaults.database.url is None
    for section in ("filesystem", "cache", "audit", "layer"):
        assert getattr(config, section) == getattr(defaults, section)
    assert (config.database.pool_size, config.database.connection_timeout, config.database.durability) == (20, 30.0, "default")
    assert (defaults.database.pool_size, defaults.database.connection_timeout, defaults.database.durability) == (20, 30.0, "default")
    assert config.filesystem.max_file_size == 10_000_000_000
    assert config.layer.checkpoint_interval == 3600
    assert config.native_mounts == (NativeMount("/.venv", "/var/tarbox/venvs/{tenant_id}", "rw", False, 20),)
    assert defaults.native_mounts == () and defaults.tenant is None


def test_nothing_anywhere(bare: Path) -> None:
    config = read()
    assert config.database.url is None
    # /etc may have a file on this machine, but then it is named.
    assert config.file in (None, "/etc/tarbox/config.toml")


@pytest.mark.parametrize(("given", "expected"), [
    (65536, 65536), ("65536", 65536), ("64MB", 64_000_000), ("64 MiB", 64 << 20), ("1.5kb", 1500), ("10GB", 10**10), ("2TiB", 2 << 40), ("7B", 7),
])
def test_sizes(given: object, expected: int) -> None:
    assert size(given) == expected


@pytest.mark.parametrize(("given", "expected"), [
    ("30s", 30), ("1h", 3600), ("90 days", 90 * 86400), ("1 day", 86400), ("500ms", 0.5), ("2 Weeks", 14 * 86400), ("1.5 min", 90),
    (5, 5), (0.25, 0.25), ("45", 45),
])
def test_durations(given: object, expected: float) -> None:
    assert duration(given) == pytest.approx(expected)


@pytest.mark.parametrize("given", ["", "MB", "64XB", "-1", "0", 0, -5, True, "1e6", "12 34", None, [], "1.0001KB", float("inf"), float("nan"), "9999999999PB"])
def test_no_sizes(given: object) -> None:
    with pytest.raises(ValueError, match="expected"):
        size(given)


@pytest.mark.parametrize("given", ["", "s", "30 parsecs", "-1s", "0s", False, None, "1h30m"])
def test_no_durations(given: object) -> None:
    with pytest.raises(ValueError, match="expected"):
        duration(given)


def test_environment_over_file_and_options_over_both(bare: Path) -> None:
    content = '[database]\nurl = "postgresql://file/x"\npool_size = 3\n[audit]\nbatch_size = 7\n'
    assert read(content).database.url == "postgresql://file/x"
    assert read(content, {"DATABASE_URL": "postgresql://plain/x"}).database.url == "postgresql://plain/x"
    both = {"DATABASE_URL": "postgresql://plain/x", "TARBOX_DATABASE_URL": "postgresql://ours/x"}
    assert read(content, both).database.url == "postgresql://ours/x"
    assert read(content, both, {"database.url": "postgresql://option/x"}).database.url == "postgresql://option/x"
    assert read(content, both, {"database.url": None}).database.url == "postgresql://ours/x"
    config = read(content, {"TARBOX_DATABASE_POOL_SIZE": "4", "TARBOX_AUDIT_ENABLED": "off", "TARBOX_AUDIT_RETENTION_DAYS": "30 days",
                            "TARBOX_CACHE_METADATA_SIZE": "1MiB"}, {"database.pool_size": 5})
    assert (config.database.pool_size, config.audit.enabled, config.audit.retention_days, config.audit.batch_size) == (5, False, 30, 7)
    assert config.cache.metadata_size == 1 << 20


def test_an_empty_variable_is_none(bare: Path) -> None:
    config = read('tenant = "a"\n[audit]\nenabled = false\n', {"DATABASE_URL": "", "TARBOX_AUDIT_ENABLED": "", "TARBOX_TENANT": "", "TARBOX_CONFIG": ""})
    assert (config.database.url, config.audit.enabled, config.tenant) == (None, False, "a")


def test_an_empty_url_asks_for_the_embedded_server(bare: Path) -> None:
    assert read('[database]\nurl = "postgresql://file/x"\n', overrides={"database.url": ""}).database.url is None


def test_tenant_and_branch(bare: Path) -> None:
    assert read(None).branch == "main"
    assert read('branch = "file"\n').branch == "file"
    assert read(None, {"TARBOX_BRANCH": "variable"}).branch == "variable"
    assert read('branch = "file"\n', {}, {"branch": ""}).branch == "main"
    assert read('tenant = "file"\n').tenant == "file"
    assert read(None, {"TARBOX_TENANT": "variable"}).tenant == "variable"
    assert read(None, {"TARBOX_TENANT": "variable"}, {"tenant": "option"}).tenant == "option"


def test_where_the_file_is_looked_for(bare: Path) -> None:
    home = bare / "xdg"
    (home / "tarbox").mkdir(parents=True)
    (home / "tarbox" / "config.toml").write_text("[database]\npool_size = 1\n")
    environ = {"XDG_CONFIG_HOME": str(home)}
    assert load(None, environ).database.pool_size == 1
    (bare / "tarbox.toml").write_text("[database]\npool_size = 2\n")
    assert load(None, environ).database.pool_size == 2
    (bare / "named.toml").write_text("[database]\npool_size = 3\n")
    environ["TARBOX_CONFIG"] = str(bare / "named.toml")
    assert load(None, environ).database.pool_size == 3
    (bare / "option.toml").write_text("[database]\npool_size = 4\n")
    config = load(bytes(bare / "option.toml"), environ)
    assert config.database.pool_size == 4
    assert config.file == str(bare / "option.toml")


def test_host_port_and_the_rest_instead_of_a_url(bare: Path) -> None:
    config = read('[database]\nhost = "db.example"\nport = 6432\ndatabase = "tar box"\nuser = "u/1"\npassword = "p@:/?#ss%"\n')
    dsn = parse_url(config.database.url or "")
    assert (dsn.host, dsn.port, dsn.database, dsn.user, dsn.password) == ("db.example", 6432, "tar box", "u/1", "p@:/?#ss%")


@pytest.mark.parametrize(("content", "environ", "expected"), [
    ('host = "h"', {}, Dsn(host="h")),
    ('host = "/run/postgresql"\ndatabase = "d"', {}, Dsn(unix_sock="/run/postgresql", database="d")),
    ('host = "::1"\nport = 5433', {}, Dsn(host="::1", port=5433)),
    ('database = "d"', {}, Dsn(database="d")),
    ('user = "u"', {}, Dsn(user="u")),
    ('port = 6000', {}, Dsn(port=6000)),
    ('url = "postgresql://u@h:1/d?sslmode=require"', {"TARBOX_DATABASE_PASSWORD": "s"}, Dsn("h", 1, "d", "u", "s", sslmode="require")),
    ('url = "postgresql://u:p@h/d?host=/run"', {"TARBOX_DATABASE_HOST": "other"}, Dsn("other", 5432, "d", "u", "p")),
    ('password = "s"\nurl = "postgresql://u:p@h/d"', {}, Dsn("h", 5432, "d", "u", "s")),
    ('host = "h"\npassword = "s"', {"DATABASE_URL": "postgresql://u@x/d"}, Dsn("x", 5432, "d", "u")),
])
def test_parts_over_urls(bare: Path, content: str, environ: dict[str, str], expected: Dsn) -> None:
    assert parse_url(read(f"[database]\n{content}\n", environ).database.url or "") == expected


BROKEN = [
    ("[database]\npool_size = 20\nurl = postgres\n", "tarbox.toml, line 3: not valid TOML: Invalid value"),
    ("[database\n", "tarbox.toml, line 1: not valid TOML: "),
    ('[audit]\n\nx = "abc\n', "tarbox.toml, line 3: not valid TOML: "),
    ("[audit]\nenabled = true\nenabled = false\n", "tarbox.toml, line 3: not valid TOML: "),
    ("[audit]\nx = [1,\n2", "tarbox.toml, line 3: not valid TOML: "),
    ("# ok\n[databse]\n", "tarbox.toml, line 2: there is no section or setting 'databse'; did you mean database?"),
    ("[audit]\nenabled = true\nretain_days = 3\n", "tarbox.toml, line 3: audit.retain_days: there is no such setting; did you mean retention_days?"),
    ('[cache]\npolicy = "lru"\nblock_size = "big"\n', 'tarbox.toml, line 3: cache.block_size: expected a size such as 65536, "64MB" or "64MiB", not \'big\''),
    ("[filesystem]\nblock_size = 65535\n", "tarbox.toml, line 2: filesystem.block_size: expected a power of two from 4096 to 1048576, not 65535"),
    ('[filesystem]\nmount_point = "mnt"\n', "tarbox.toml, line 2: filesystem.mount_point: expected an absolute path, not 'mnt'"),
    ('[database]\npool_size = "20"\n', "tarbox.toml, line 2: database.pool_size: expected a whole number, 1 or more, not '20'"),
    ("[database]\npool_size = 0\n", "tarbox.toml, line 2: database.pool_size: expected a whole number, 1 or more, not 0"),
    ("[database]\npool_size = true\n", "tarbox.toml, line 2: database.pool_size: expected a whole number, 1 or more, not true"),
    ('[database]\nconnection_timeout = "soon"\n',
     "tarbox.toml, line 2: database.connection_timeout: expected a duration such as \"30s\", \"1h\" or \"90 days\", not 'soon'"),
    ('[database]\ndurability = "never"\n', 'tarbox.toml, line 2: database.durability: expected "default" or "always", not \'never\''),
    ("[database]\nhost = 5\n", "tarbox.toml, line 2: database.host: expected text in quotes, not 5"),
    ('[database]\nhost = "h"\nport = 70000\n', "tarbox.toml, line 3: database.port: expected a port from 1 to 65535"),
    ('[audit]\nenabled = "true"\n', "tarbox.toml, line 2: audit.enabled: expected true or false, not 'true'"),
    ("database = 3\n", "tarbox.toml, line 1: database: expected a section [database]"),
    ("\ndatabase.pool_size = []\n", "tarbox.toml, line 2: database.pool_size: expected a whole number, 1 or more, not an array"),
    ("[native_mounts]\npath = 1\n", "tarbox.toml, line 1: native_mounts: expected tables, each under [[native_mounts]]"),
    ('[[native_mounts]]\npath = "/a"\nsource = "/b"\n[[native_mounts]]\npath = "/c"\n', "tarbox.toml, line 4: native_mounts: source is missing"),
    ('[[native_mounts]]\npath = "/a"\nsource = "/b"\n[[native_mounts]]\npath = "/c"\nmode = "x"\n',
     'tarbox.toml, line 6: native_mounts.mode: expected "rw" or "ro", not \'x\''),
    ('[[native_mounts]]\npath = "/a"\nsource = "/b"\nshard = true\n',
     "tarbox.toml, line 4: native_mounts.shard: there is no such setting; did you mean shared?"),
]


@pytest.mark.parametrize(("content", "expected"), BROKEN, ids=range(len(BROKEN)))
def test_what_is_said_of_a_wrong_file(bare: Path, content: str, expected: str) -> None:
    assert problem(content).startswith(expected)


def test_what_is_said_of_wrong_bytes(bare: Path) -> None:
    (bare / "tarbox.toml").write_bytes(b"[audit]\n# \xff\n")
    assert problem() == "tarbox.toml, line 2: not UTF-8 text"


def test_what_is_said_of_wrong_variables_and_options(bare: Path) -> None:
    said = problem(None, {"TARBOX_DATABASE_POOL_SIZE": "many"})
    assert said == "TARBOX_DATABASE_POOL_SIZE: database.pool_size: expected a whole number, 1 or more, not 'many'"
    assert problem(None, {"TARBOX_AUDIT_ENABLE": "1"}) == "TARBOX_AUDIT_ENABLE: there is no such setting; did you mean TARBOX_AUDIT_ENABLED?"
    assert problem(None, None, {"cache.policy": "fifo"}) == "--cache-policy: cache.policy: expected \"lru\", not 'fifo'"
    assert problem(None, {"DATABASE_URL": "mysql://u:secret@h/d"}) == "DATABASE_URL: database.url: expected something like postgresql://user:password@host/database"
    assert read(None, {"TARBOX_TEST_PG": "16", "TARBOXED": "x"}).database.pool_size == 20  # not ours to judge


def test_a_named_file_must_exist(bare: Path) -> None:
    for path, environ in (("no.toml", {}), (None, {"TARBOX_CONFIG": "no.toml"})):
        with pytest.raises(ConfigError, match=r"^no\.toml: cannot read the configuration file: No such file"):
            load(path, environ)


def test_sources(bare: Path) -> None:
    config = read(DOCUMENTED, {"TARBOX_AUDIT_ENABLED": "no", "TARBOX_DATABASE_PASSWORD": "hunter2"}, {"tenant": "t", "layer.auto_checkpoint": True})
    told = {source.key: (source.value, source.origin) for source in config.sources()}
    assert told["tenant"] == ("t", "--tenant")
    assert told["database.url"] == ("postgresql://tarbox:***@localhost/tarbox", "tarbox.toml, line 3, TARBOX_DATABASE_PASSWORD")
    assert told["database.durability"] == ("default", "default")
    assert told["database.pool_size"] == (20, "tarbox.toml, line 4")
    assert told["audit.enabled"] == (False, "TARBOX_AUDIT_ENABLED")
    assert told["layer.auto_checkpoint"] == (True, "--layer-auto-checkpoint")
    assert told["native_mounts[0].source"] == ("/var/tarbox/venvs/{tenant_id}", "tarbox.toml, line 23")
    assert list(told)[:4] == ["tenant", "branch", "database.url", "database.pool_size"]


def test_passwords_are_never_shown(bare: Path) -> None:
    config = read('[database]\nurl = "postgresql://u:hunter2@h/d?password=hunter2"\n')
    assert "hunter2" not in repr(config) + repr(list(config.sources()))
    for url in ("postgresql://u:hunter2@h/d", "postgresql://u:hunt@er2@h/d", "postgresql://u:a?b@h/d", "postgresql://h/d?user=u&password=hunter2&sslmode=require"):
        shown = redacted(url)
        assert "***" in shown and not any(piece in shown for piece in ("hunt", "er2", "a?b"))
    assert redacted("postgresql://u@h:5432/d?host=/run") == "postgresql://u@h:5432/d?host=/run"
    for content in ('[database]\npassword = 17\n', '[database]\nurl = "hunter2"\n'):
        assert "17" not in problem(content) and "hunter2" not in problem(content)


def test_settings_are_frozen(bare: Path) -> None:
    with pytest.raises(AttributeError):
        read().database.pool_size = 3  # type: ignore[misc]
