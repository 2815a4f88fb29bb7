"""What the function does, whoever runs it: a tenant's notes, each a text file under /notes.

    GET  /notes               the names
    GET  /notes/NAME          one note
    POST /notes/NAME          append the body to it, as a line
    GET  /changes             what differs from the last checkpoint, as a diff
    POST /checkpoints/NAME    keep everything as it is now, under that name
"""

import os
from typing import NamedTuple

import tarbox_core

# Made once for each instance of the function, and held between invocations and by all its threads. It connects when it is
# needed, and anew when the connection was lost while the instance was frozen.
tree = tarbox_core.connect(os.environ.get("DATABASE_URL"), tenant=os.environ.get("TARBOX_TENANT"), pool_size=2)


class Answer(NamedTuple):
    status: int
    text: str


def answer(method: str, path: str, body: str) -> Answer:
    parts = path.strip("/").split("/")
    try:
        match method, *parts:
            case "GET", "notes":
                return Answer(200, "".join(f"{name}\n" for name in (tree.listdir("/notes") if tree.is_dir("/notes") else ())))
            case "GET", "notes", name:
                return Answer(200, tree.read_text(f"/notes/{name}"))
            case "POST", "notes", name:
                with tree.transaction():  # the folder and the line, or neither
                    tree.makedirs("/notes", exist_ok=True)
                    with tree.open(f"/notes/{name}", "a") as note:
                        note.write(body.rstrip("\n") + "\n")
                return Answer(201, "")
            case "GET", "changes":
                return Answer(200, tree.diff(path="/notes") if tree.is_dir("/notes") else "")
            case "POST", "checkpoints", name:
                return Answer(201, f"{tree.checkpoint(name).id}\n")
            case _:
                return Answer(404, "no such resource\n")
    except FileNotFoundError:
        return Answer(404, "no such note\n")
    except OSError as error:  # a name that is too long, a file where a folder should be, ...
        return Answer(409, f"{error.strerror}\n")
    except tarbox_core.TarboxError as error:  # such a checkpoint exists; the database cannot be reached
        return Answer(503 if isinstance(error, tarbox_core.ConnectError) else 409, f"{error}\n")
