"""A tenant's tree for programs that import it: the verbs of `os`, real io objects, and layers.

`verbs`, `opening` and `layers` say what each verb does, as operations; `courses` what takes several. `tree` runs them on
threads and `async_tree` on an event loop, each with its own way to wait and nothing else. `door` is what they share.
"""
