"""The WebAssembly door: WASI programs on a tenant's tree, in wasmtime."""
