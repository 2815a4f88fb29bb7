"""The table of commands: what each is called, which file runs it, and the words of its help.

A file named here holds, in its VERBS, for each of its commands the function that declares the arguments and the one
that runs. Only the file of the command at hand is ever imported.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from typing import Final, NamedTuple

from tarbox_cli.output import Output

Arguments = Callable[[ArgumentParser], None]
Run = Callable[[Namespace, Output], int | None]
Verbs = dict[str, tuple[Arguments, Run]]

GATEWAY: Final = "TARBOX_GATEWAY"  # set inside a WASI guest: the file that leads to its tenant


class Command(NamedTuple):
    words: str  # as typed: "ls", "tenant create"
    group: str
    file: str
    summary: str
    example: str

    @property
    def inside(self) -> bool:
        """Whether a WASI guest can run it: it asks for no more than a tenant's tree."""
        return (self.group in (_FILES, _HISTORY) and self.words != "audit prune") or self.words == "fsck"

    def load(self) -> tuple[Arguments, Run]:
        from importlib import import_module

        verbs: Verbs = import_module(f"tarbox_cli.{self.file}").VERBS
        return verbs[self.words]


_SETUP: Final = "Database and tenants"
_FILES: Final = "Files of a tenant"
_TRANSFER: Final = "Between this host and a tenant"
_HISTORY: Final = "Layers, history and audit"
_MOUNTS: Final = "Mounts"
_GUESTS: Final = "WebAssembly"
_BROWSER: Final = "Browser"
_CARE: Final = "Care"
_SETTINGS: Final = "Settings"

COMMANDS: Final = (
    Command("init", _SETUP, "maintenance", "make the database ready, or bring it up to date", "tarbox init --database-url postgresql://tarbox:secret@db/tarbox"),
    Command("tenant create", _SETUP, "tenants", "make a tenant: an isolated, empty tree", 'tarbox tenant create myagent --name "My AI Agent"'),
    Command("tenant list", _SETUP, "tenants", "list the tenants", "tarbox tenant list --json"),
    Command("tenant info", _SETUP, "tenants", "show what a tenant is and holds", "tarbox tenant info myagent"),
    Command("tenant delete", _SETUP, "tenants", "delete a tenant and everything in it", "tarbox tenant delete myagent --yes"),
    Command("ls", _FILES, "showing", "list directories", "tarbox ls -l --tenant myagent /data"),
    Command("tree", _FILES, "showing", "show directories as a tree", "tarbox tree -L 2 --tenant myagent /"),
    Command("stat", _FILES, "showing", "show everything known of a file", "tarbox stat --tenant myagent /data/a.txt"),
    Command("cat", _FILES, "files", "print files", "tarbox cat --tenant myagent /data/a.txt"),
    Command("write", _FILES, "files", "write a file, from an argument or standard input", "tarbox write --tenant myagent /data/a.txt hello"),
    Command("touch", _FILES, "files", "make files, or set their times to now", "tarbox touch --tenant myagent /data/a.txt"),
    Command("mkdir", _FILES, "files", "make directories", "tarbox mkdir -p --tenant myagent /data/logs/today"),
    Command("rmdir", _FILES, "files", "remove empty directories", "tarbox rmdir --tenant myagent /data/logs/today"),
    Command("rm", _FILES, "files", "remove files and trees", "tarbox rm -r --tenant myagent /data/logs"),
    Command("mv", _FILES, "moving", "move and rename", "tarbox mv --tenant myagent /data/a.txt /data/b.txt"),
    Command("cp", _FILES, "moving", "copy; content is shared, not doubled", "tarbox cp -r --tenant myagent /data /backup"),
    Command("ln", _FILES, "moving", "make hard and symbolic links", "tarbox ln -s --tenant myagent ../lib/v2 /bin/current"),
    Command("chmod", _FILES, "attributes", "change permissions", "tarbox chmod -R u+rwX,go-w --tenant myagent /data"),
    Command("chown", _FILES, "attributes", "change owner and group", "tarbox chown -R alice:staff --tenant myagent /data"),
    Command("put", _TRANSFER, "transfer", "copy files and directories into a tenant", "tarbox put --tenant myagent ./project /work"),
    Command("get", _TRANSFER, "transfer", "copy files and directories out of a tenant", "tarbox get --tenant myagent /work/project ./copy"),
    Command("layer create", _HISTORY, "layers", "make a checkpoint of the tree", 'tarbox layer create before-refactor -m "tests pass" --tenant myagent'),
    Command("layer list", _HISTORY, "layers", "list the layers, newest first", "tarbox layer list --tenant myagent"),
    Command("layer current", _HISTORY, "layers", "show the layer and branch that the tree stands on", "tarbox layer current --tenant myagent"),
    Command("layer switch", _HISTORY, "layers", "make the tree what it was in a layer; - goes back", "tarbox layer switch before-refactor --tenant myagent"),
    Command("layer diff", _HISTORY, "layers", "tell which paths changed between two layers", "tarbox layer diff monday friday --tenant myagent"),
    Command("layer delete", _HISTORY, "layers", "remove layers that nothing rests on", "tarbox layer delete 1f3a9c2e --yes --tenant myagent"),
    Command("layer squash", _HISTORY, "layers", "make one layer of a run of them", "tarbox layer squash monday..friday --yes --tenant myagent"),
    Command("layer stats", _HISTORY, "texts", "show what is stored as deltas, and what that saves", "tarbox layer stats --tenant myagent"),
    Command("layer branch", _HISTORY, "layers", "make a branch that goes on from a layer", "tarbox layer branch try-it before-refactor --tenant myagent"),
    Command("layer branch list", _HISTORY, "layers", "list the branches", "tarbox layer branch list --tenant myagent"),
    Command("layer branch delete", _HISTORY, "layers", "remove a branch; its layers stay", "tarbox layer branch delete try-it --tenant myagent"),
    Command("diff", _HISTORY, "comparing", "show what changed since a checkpoint, or between layers", "tarbox diff monday friday /data --tenant myagent"),
    Command("history", _HISTORY, "comparing", "show the layers in which a file changed", "tarbox history --tenant myagent /data/config.yaml"),
    Command("restore", _HISTORY, "restoring", "bring files and directories back from a layer", "tarbox restore --layer monday --tenant myagent /data/a.txt"),
    Command("audit", _HISTORY, "auditing", "show what was done, when and by whom", 'tarbox audit --tenant myagent --since "1 day ago" --path /data'),
    Command("audit report", _HISTORY, "auditing", "sums of it: by day, by operation, by path", "tarbox audit report --tenant myagent --since yesterday"),
    Command("audit verify", _HISTORY, "auditing", "prove that nothing was removed from the trail or altered", "tarbox audit verify --tenant myagent"),
    Command("audit prune", _HISTORY, "auditing", "drop the weeks that are older than the days to keep", "tarbox audit prune --retention-days 90"),
    Command("mount", _MOUNTS, "mounting", "mount a tenant on a directory", "tarbox mount /mnt/tarbox --tenant myagent"),
    Command("umount", _MOUNTS, "mounting", "take a mount away", "tarbox umount /mnt/tarbox"),
    Command("wasi run", _GUESTS, "wasi", "run a WASI program on a tenant's tree", "tarbox wasi run --tenant myagent --dir /data prog.wasm /data/a.txt"),
    Command("wasi exec", _GUESTS, "guest", "run one of these commands inside WebAssembly, without a password", "tarbox wasi exec --tenant myagent -- ls -l /"),
    Command("wasi shell", _GUESTS, "guest", "run commands from a shell inside WebAssembly", "tarbox wasi shell --tenant myagent"),
    Command("serve", _BROWSER, "serving", "serve the explorer, a page for browsers", "tarbox serve --tenant myagent --open"),
    Command("token create", _BROWSER, "serving", "make a token, which opens a tenant without a password", "tarbox token create --tenant myagent --ttl 8h"),
    Command("token list", _BROWSER, "serving", "list the tokens, and the sessions of browsers", "tarbox token list --tenant myagent"),
    Command("token revoke", _BROWSER, "serving", "end tokens, and the sessions that came from them", "tarbox token revoke 7"),
    Command("fsck", _CARE, "maintenance", "check a tenant, and repair it", "tarbox fsck --tenant myagent --repair"),
    Command("gc", _CARE, "maintenance", "remove stored blocks that nothing uses any more", "tarbox gc --tenant myagent"),
    Command("database status", _CARE, "maintenance", "tell whether the embedded PostgreSQL runs", "tarbox database status"),
    Command("database stop", _CARE, "maintenance", "stop the embedded PostgreSQL", "tarbox database stop"),
    Command("config show", _SETTINGS, "settings", "show the settings in force", "tarbox config show --config tarbox.toml"),
    Command("completion", _SETTINGS, "settings", "print the completion script of a shell", 'source <(tarbox completion bash)'),
)
_BY_WORDS: Final = {command.words: command for command in COMMANDS}
# What other commands' names begin with; it may be a command itself.
FAMILIES: Final = {command.words.rsplit(" ", 1)[0] for command in COMMANDS if " " in command.words}


def find(words: str) -> Command | None:
    return _BY_WORDS.get(words)


def family(word: str) -> list[Command]:
    """The commands that begin with a word: those of `tenant`."""
    return [command for command in COMMANDS if command.words.startswith(word + " ")]


def close_to(word: str) -> str | None:
    """The command someone may have meant; also where only the family was left out or the words run together."""
    from difflib import get_close_matches

    aliases = {"help": "--help", "unmount": "umount", "del": "rm", "delete": "rm", "copy": "cp", "move": "mv", "upload": "put", "download": "get", "dir": "ls"}
    if word in aliases:
        return aliases[word]
    shortest: dict[str, str] = {}
    for words in _BY_WORDS:
        shortest[words] = words
        shortest.setdefault(words.replace(" ", "-"), words)
    matches = get_close_matches(word, [*shortest, *FAMILIES], n=1, cutoff=0.6)
    return shortest.get(matches[0], matches[0]) if matches else None
