"""The core inside a browser: what runs in the page's Web Worker and answers the page, over one socket to a gateway.

`channel` is the socket as a driver sees it, `door` the tenant's tree, `verbs` what the page may ask, with `trees` and
`transfers` for what takes many operations; `values` says what answers look like. `main` alone knows that this is Pyodide.
"""
