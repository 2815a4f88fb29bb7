"""Completion: the scripts for three shells, and the hidden command `tarbox __complete SHELL -- WORDS...` that they ask.

The answer is lines. The first is `words`, `files` or `directories`: what follows, or that the shell should complete
names of this host itself (after what follows). Then one candidate a line, with a tab and a description where there is
one; a candidate ending in "/" or "=" is not finished. The candidates are plain text: quoting is the shell's business,
except for bash, which inserts them as they are. Nothing here may disturb a line being typed: it answers or is silent.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

from tarbox_cli.arguments import (
    Parser,
    branch_name,
    guest_directory,
    host_directory,
    host_path,
    layer_or_path,
    layer_range,
    layer_word,
    link_target,
    tenant_name,
    tenant_path,
    token_id,
)
from tarbox_cli.commands import COMMANDS, FAMILIES, find
from tarbox_cli.output import Output

MOST: Final = 2000  # candidates


class Candidates(NamedTuple):
    """What could stand at the cursor. `kind`: words, files or directories."""

    kind: str
    words: list[tuple[str, str]]  # with a description, or ""


_NOTHING: Final = Candidates("words", [])


def answer(argv: list[str], out: Output) -> int:
    """`SHELL -- WORDS...`; the last of the words is the one being typed, up to the cursor."""
    shell, words = argv[0] if argv else "", argv[2:]
    parted = shell == "bash" and "=" in words[-2:]
    if shell == "bash":
        words = [unquoted(word) for word in _joined(words)]
    typed = words[-1] if words else ""
    there = typed.rpartition("=")[0] + "=" if parted and "=" in typed else ""  # stands on the line as words of its own
    found = candidates(words[:-1], typed)
    out.line(found.kind)
    for word, description in found.words[:MOST]:
        if "\n" in word:
            continue  # one line each
        if shell == "bash":
            out.line(quoted(word.removeprefix(there)))
        else:
            out.line(f"{word}\t{description}" if description else word)
    return 0


def candidates(before: list[str], typed: str) -> Candidates:
    """What could stand where `typed` is, after the words before it."""
    from tarbox_cli.main import begun, common_parser, parser_of

    context = _Context(before)
    line = begun(before)
    command = find(line.name)
    more = Candidates("words", [])
    if not line.rest and (not line.name or line.name in FAMILIES):
        more = _starting(_next_words(line.name), typed)
    if command is None:
        general = common_parser()
        if not line.rest and line.options and general.expects_value(line.options[-1]):
            return _values(general._option_string_actions[line.options[-1]], typed, context)
        return (_option(general, typed, context) or more) if not line.rest else _NOTHING
    parser = parser_of(command)
    words, pending = _placed(parser, line.rest)
    if pending is not None:
        return _values(pending, typed, context)
    ours = "--" not in line.rest and not (parser.passes_on and words)
    found = _option(parser, typed, context) if ours else None
    if found is not None:
        return found
    positional = _positional(parser, words)
    values = _NOTHING if positional is None else _values(positional, typed, context)
    return Candidates(values.kind, more.words + values.words)


def _next_words(family: str) -> list[tuple[str, str]]:
    """The words that can stand next in a command, behind those of its family, with summaries."""
    depth = len(family.split())
    about: dict[str, list[str]] = {}
    for command in COMMANDS:
        words = command.words.split(" ")
        if len(words) > depth and words[:depth] == family.split():
            about.setdefault(words[depth], []).append(" ".join(words[depth + 1 :]) or command.summary)
    return [(word, ", ".join(texts)) for word, texts in about.items()]


def _option(parser: Parser, typed: str, context: _Context) -> Candidates | None:
    """Where an option is being typed, what it could be; or the value behind its "="."""
    option, equals, value = typed.partition("=")
    action = parser._option_string_actions.get(option)
    if equals and action is not None:
        found = _values(action, value, context)
        return Candidates(found.kind, [(f"{option}={word}", description) for word, description in found.words])
    return _options(parser, typed) if typed.startswith("-") else None


def _placed(parser: Parser, words: list[str]) -> tuple[int, argparse.Action | None]:
    """How many positional words there are, and the option that still waits for its value."""
    count = 0
    at = 0
    while at < len(words):
        word = words[at]
        if word == "--":
            return count + len(words) - at - 1, None
        if len(word) > 1 and word.startswith("-"):
            if parser.expects_value(word):
                at += 1
                if at == len(words):
                    return count, parser._option_string_actions[word if word.startswith("--") else f"-{word[-1]}"]
        elif parser.passes_on:
            return count + len(words) - at, None
        else:
            count += 1
        at += 1
    return count, None


def _positional(parser: Parser, count: int) -> argparse.Action | None:
    """The argument that the next word is. After a list the last one may follow at any time: it counts as the list."""
    actions = [action for action in parser._actions if not action.option_strings]
    for action in actions:
        if action.nargs in ("*", "+"):
            # `put SRC... DEST`: from the second word on it may be either, so the destination is offered.
            return actions[-1] if count and action is not actions[-1] else action
        if not count:
            return action
        count -= 1
    return None


def _options(parser: Parser, typed: str) -> Candidates:
    found = []
    for action in parser._actions:
        if action.help == argparse.SUPPRESS:
            continue
        for option in action.option_strings:
            if option.startswith("--") or typed in ("-", option):
                found.append((option, action.help or ""))
    return _starting(found, typed)


def _starting(words: Iterable[tuple[str, str]], typed: str) -> Candidates:
    return Candidates("words", [(word, description) for word, description in words if word.startswith(typed)])


# --- values


class _Context(NamedTuple):
    before: list[str]

    def options(self) -> argparse.Namespace:
        """The options of every command as typed so far, whatever else is wrong with the line."""
        found: dict[str, Any] = dict.fromkeys(("tenant", "branch", "layer", "database_url", "config"))
        for at, word in enumerate(self.before):
            for name in found:
                option = "--" + name.replace("_", "-")
                if word == option and at + 1 < len(self.before):
                    found[name] = self.before[at + 1]
                elif word.startswith(option + "="):
                    found[name] = word[len(option) + 1 :]
        return argparse.Namespace(**found)


def _values(action: argparse.Action, typed: str, context: _Context) -> Candidates:
    if action.choices is not None:
        return _starting(((str(choice), "") for choice in action.choices), typed)
    kind = action.type
    if kind is host_path:
        return Candidates("files", [])
    if kind is host_directory:
        return Candidates("directories", [])
    if kind is tenant_name:
        return _asked(_tenants, typed, context)
    if kind is layer_word:
        return _asked(_layers, typed, context)
    if kind is layer_or_path:
        return _asked(_paths if typed.startswith("/") else _layers, typed, context)
    if kind is layer_range:
        first, dots, last = typed.rpartition("..")
        found = _asked(_layers, last, context)
        return Candidates(found.kind, [(first + dots + word, description) for word, description in found.words])
    if kind is token_id:
        return _asked(_tokens, typed, context)
    if kind is branch_name:
        return _asked(_branches, typed, context)
    if kind is tenant_path or kind is link_target:
        return _asked(_paths, typed, context)
    if kind is guest_directory:
        name, equals, path = typed.rpartition("=")
        found = _asked(_paths, path, context)
        return Candidates(found.kind, [(name + equals + word, description) for word, description in found.words])
    return _NOTHING


def _asked(ask: Callable[[str, _Context], Candidates], typed: str, context: _Context) -> Candidates:
    """What the database answers; nothing when it cannot, because the user is in the middle of a line."""
    try:
        return ask(typed, context)
    except Exception:
        if os.environ.get("TARBOX_DEBUG") == "1":
            raise
        return _NOTHING


def _tenants(typed: str, context: _Context) -> Candidates:
    from tarbox_cli.session import administer, running
    from tarbox_core import tenant

    if not running(context.options()):
        return _NOTHING
    with administer(context.options()) as driver:
        return _starting(((info.name, info.title) for info in driver.run(tenant.listing)), typed)


def _layers(typed: str, context: _Context) -> Candidates:
    """Names of layers, newest first; and ids where the beginning of one is typed, or a layer has no name."""
    from tarbox_cli.session import enter, running

    if not running(context.options()):
        return _NOTHING
    with enter(context.options(), changes=False) as session:
        known = [layer for layer in reversed(session.driver.run(session.fs.layers)) if layer.sealed_at is not None]
    about = {layer.short: layer.message.partition("\n")[0] for layer in known}
    named = [(layer.name, about[layer.short]) for layer in known if layer.name is not None]
    ids = [(layer.short, layer.name or about[layer.short]) for layer in known if typed or layer.name is None]
    return _starting([*named, *ids], typed)


def _tokens(typed: str, context: _Context) -> Candidates:
    """Ids of those that let in."""
    from tarbox_cli.session import administer, running
    from tarbox_core import tokens

    if not running(context.options()):
        return _NOTHING
    with administer(context.options()) as driver:
        known = driver.run(tokens.listing)
    about = ((str(token.id), f"{token.kind} for {token.tenant_name}" + (f": {token.name}" if token.name else "")) for token in known if token.state == "good")
    return _starting(about, typed)


def _branches(typed: str, context: _Context) -> Candidates:
    from tarbox_cli.session import enter, running

    found = context.options()
    if not running(found):
        return _NOTHING
    found.branch = None  # perhaps one that is not finished
    with enter(found, changes=False) as session:
        return _starting(((branch.name, "") for branch in session.driver.run(session.fs.branches)), typed)


def _paths(typed: str, context: _Context) -> Candidates:
    from tarbox_cli.output import text
    from tarbox_cli.session import enter, running

    if not running(context.options()):
        return _NOTHING
    folder, slash, start = typed.rpartition("/")
    found = []
    with enter(context.options(), changes=False, layer=context.options().layer) as session:
        path = tenant_path(folder + slash) if folder + slash else b"/"
        for entry in session.entries(session.attr(path).ino, path):
            name = text(entry.name)
            if name.startswith(start) and (start or not name.startswith(".")):
                attr = session.attributes(entry, path)
                is_folder = attr.is_dir or (attr.is_symlink and _leads_to_folder(session, path.rstrip(b"/") + b"/" + entry.name))
                found.append((f"{folder}{slash}{name}{'/' if is_folder else ''}", ""))
    return Candidates("words", sorted(found))


def _leads_to_folder(session: Any, path: bytes) -> bool:
    from tarbox_core.errors import FsError

    try:
        return bool(session.attr(path).is_dir)
    except FsError:
        return False


# --- bash's words


def _joined(words: list[str]) -> list[str]:
    """bash hands `--tenant=x` and `/work=/a` over as three words, because `=` breaks words there."""
    joined: list[str] = []
    at = 0
    while at < len(words):
        if words[at] == "=" and joined and (joined[-1].startswith("--") or joined[-2:-1] in (["--dir"], ["--env"])):
            joined[-1] += "=" + (words[at + 1] if at + 1 < len(words) else "")
            at += 2
        else:
            joined.append(words[at])
            at += 1
    return joined


def unquoted(word: str) -> str:
    """A word as typed, without its quotes, of which the last may still be open."""
    result = []
    quote = ""
    at = 0
    while at < len(word):
        ch = word[at]
        if quote:
            if ch == quote:
                quote = ""
            elif ch == "\\" and quote == '"' and word[at + 1 : at + 2] in ("\\", '"', "$", "`"):
                at += 1
                result.append(word[at])
            else:
                result.append(ch)
        elif ch in "'\"":
            quote = ch
        elif ch == "\\":
            at += 1
            result.append(word[at : at + 1])
        else:
            result.append(ch)
        at += 1
    return "".join(result)


def quoted(word: str) -> str:
    """A candidate as it can stand on a line of bash: with backslashes, so that typing can go on behind it."""
    return re.sub(r"([^\w/.,:=@%+~^-])", r"\\\1", word, flags=re.ASCII) if word.isascii() else re.sub(r"([\s'\"\\$`!&;|<>()*?\[\]#{}])", r"\\\1", word)


BASH: Final = r"""# Completion of tarbox for bash: source <(tarbox completion bash)
_tarbox() {
    local reply kind current="${COMP_WORDS[COMP_CWORD]}" line
    COMPREPLY=()
    mapfile -t reply < <("${COMP_WORDS[0]}" __complete bash -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
    kind="${reply[0]:-words}"
    case "$current" in = ) current="" ;; esac
    if [[ "$kind" == files || "$kind" == directories ]]; then
        compopt -o filenames 2>/dev/null
        local flag=-f
        [[ "$kind" == directories ]] && flag=-d
        while IFS= read -r line; do COMPREPLY+=("$line"); done < <(compgen "$flag" -- "$current")
        return
    fi
    for line in "${reply[@]:1}"; do
        COMPREPLY+=("$line")
    done
    if [[ ${#COMPREPLY[@]} -eq 1 && "${COMPREPLY[0]}" == */ ]]; then
        compopt -o nospace 2>/dev/null
    fi
}
complete -F _tarbox tarbox
"""

ZSH: Final = r"""#compdef tarbox
# Completion of tarbox for zsh: put it into a directory of $fpath as _tarbox, or source <(tarbox completion zsh)
_tarbox() {
    local -a reply words_plain words_open shown_plain shown_open
    local kind line word about
    reply=("${(@f)$("${words[1]}" __complete zsh -- "${(@Q)words[2,CURRENT]}" 2>/dev/null)}")
    kind="${reply[1]}"
    case "$kind" in
        files) _files; return ;;
        directories) _files -/; return ;;
    esac
    for line in "${(@)reply[2,-1]}"; do
        [[ -n "$line" ]] || continue
        word="${line%%$'\t'*}"
        about="$word"
        [[ "$line" == *$'\t'* ]] && about="$word -- ${line#*$'\t'}"
        if [[ "$word" == */ || "$word" == *= ]]; then
            words_open+=("$word"); shown_open+=("$about")
        else
            words_plain+=("$word"); shown_plain+=("$about")
        fi
    done
    local -i found=1
    (( $#words_plain )) && compadd -l -d shown_plain -- "${(@)words_plain}" && found=0
    (( $#words_open )) && compadd -S '' -d shown_open -- "${(@)words_open}" && found=0
    return found
}
if [[ "$funcstack[1]" == _tarbox ]]; then
    _tarbox "$@"
else
    (( $+functions[compdef] )) || { autoload -Uz compinit && compinit }
    compdef _tarbox tarbox
fi
"""

FISH: Final = r"""# Completion of tarbox for fish: tarbox completion fish > ~/.config/fish/completions/tarbox.fish
function __tarbox_complete
    set -l typed (commandline -opc)
    set -l current (commandline -ct)
    set -l reply ($typed[1] __complete fish -- $typed[2..-1] "$current" 2>/dev/null)
    switch "$reply[1]"
        case files
            __fish_complete_path "$current"
        case directories
            __fish_complete_directories "$current"
        case '*'
            printf '%s\n' $reply[2..-1]
    end
end
complete -c tarbox -f -a '(__tarbox_complete)'
"""

SCRIPTS: Final = {"bash": BASH, "zsh": ZSH, "fish": FISH}
