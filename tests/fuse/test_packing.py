"""Real programs change texts between checkpoints; the mount packs what they leave behind, and shows each layer as it was."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from tests.conftest import PgServer
from tests.fuse.helpers import Mount, run, wait_for

GIT = ("git", "-c", "user.name=n", "-c", "user.email=e@example.com", "-c", "commit.gpgsign=false")
ROUNDS = 4


def text(changed: int) -> str:
    return "".join(f"line {n}, changed {changed} times\n" if n == 7 * changed else f"line {n} of a text that stays\n" for n in range(2000))


def in_place(file: Path, changed: int) -> None:
    """As `>` of a shell and many editors do."""
    file.write_text(text(changed))


def sed(file: Path, changed: int) -> None:
    before = 7 * (changed - 1)
    expressions = (f"{before + 1}s/.*/line {before} of a text that stays/", f"{7 * changed + 1}s/.*/line {7 * changed}, changed {changed} times/")
    run("sed", "-i", "-e", expressions[0], "-e", expressions[1], file)


def renamed_over(file: Path, changed: int) -> None:
    new = file.with_suffix(".new")
    new.write_text(text(changed))
    new.rename(file)


def checked_out(file: Path, changed: int) -> None:
    run(*GIT, "checkout", "-q", f"v{changed}", cwd=file.parent)


CHANGES = {"in-place.txt": in_place, "sed.txt": sed, "renamed.txt": renamed_over, "repository/f.txt": checked_out}


def test_texts_are_packed_behind_checkpoints_however_they_are_changed(mount: Mount, database: str, pg_server: PgServer) -> None:
    connection = pg_server.connect(urlsplit(database).path[1:])

    def deltas() -> int:
        return int(connection.run("select count(*) from inode i join text_version t on t.hash = i.packed where t.base is not null")[0][0])

    files = {mount.path / name: change for name, change in CHANGES.items()}
    layers = mount.path / ".tarbox" / "layers"
    repository = mount.path / "repository"
    run("git", "init", "-q", repository)
    for n in range(ROUNDS):
        (repository / "f.txt").write_text(text(n))
        run(*GIT, "add", "f.txt", cwd=repository)
        run(*GIT, "commit", "-q", "-m", "one more", cwd=repository)
        run(*GIT, "tag", f"v{n}", cwd=repository)
    for file in files:
        if file.parent == mount.path:
            file.write_text(text(0))
    run(*GIT, "checkout", "-q", "v0", cwd=repository)
    (layers / "new").write_text("c0\n")
    for n in range(1, ROUNDS):
        for file, change in files.items():
            change(file, n)
        (layers / "new").write_text(f"c{n}\n")
    wanted = len(files) * (ROUNDS - 2)  # the last is the head's, and the first versions are all one keyframe
    wait_for(lambda: deltas() >= wanted, 20, lambda: f"{deltas()} deltas of {wanted} after 20 s; the daemon's log:\n{mount.log.read_text()}")
    for n in range(ROUNDS):
        for name in CHANGES:
            assert (layers / "tree" / f"c{n}" / name).read_text() == text(n), f"{name} in c{n}"
    (layers / "switch").write_text("c1\n")
    for file in files:
        assert file.read_text() == text(1)
        with file.open("a") as appended:
            appended.write("one more line\n")
    mount.remount()
    for file in files:
        assert file.read_text() == text(1) + "one more line\n"
    connection.close()
