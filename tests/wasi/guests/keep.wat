;; Writes "unflushed" to the file kept.txt of the first preopened directory, leaves it open, says "ready", and loops forever.
(module
  (import "wasi_snapshot_preview1" "path_open" (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\20\00\00\00\09\00\00\00\30\00\00\00\06\00\00\00kept.txt")
  (data (i32.const 32) "unflushed")
  (data (i32.const 48) "ready\n")
  (func (export "_start")
    (drop (call $path_open (i32.const 3) (i32.const 0) (i32.const 16) (i32.const 8) (i32.const 9) (i64.const 64) (i64.const 0) (i32.const 0) (i32.const 64)))
    (drop (call $fd_write (i32.load (i32.const 64)) (i32.const 0) (i32.const 1) (i32.const 68)))
    (drop (call $fd_write (i32.const 1) (i32.const 8) (i32.const 1) (i32.const 68)))
    (loop $forever (br $forever))))
