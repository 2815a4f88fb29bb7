;; Writes what standard input holds, up to 32 KiB, to the file kept.txt of the first preopened directory, reads it back from there,
;; and prints it. Exits with the errno of the first call that fails.
(module
  (import "wasi_snapshot_preview1" "path_open" (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_close" (func $fd_close (param i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (memory (export "memory") 2)
  (data (i32.const 16) "kept.txt")
  (func $must (param $errno i32)
    (if (local.get $errno) (then (call $proc_exit (local.get $errno)))))
  (func $piece (param $size i32)  ;; the iovec at 0: so many bytes at 65536
    (i32.store (i32.const 0) (i32.const 65536))
    (i32.store (i32.const 4) (local.get $size)))
  (func $open (param $oflags i32) (param $rights i64) (result i32)
    (call $must (call $path_open (i32.const 3) (i32.const 0) (i32.const 16) (i32.const 8) (local.get $oflags)
      (local.get $rights) (i64.const 0) (i32.const 0) (i32.const 12)))
    (i32.load (i32.const 12)))
  (func (export "_start") (local $fd i32)
    (call $piece (i32.const 32768))
    (call $must (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
    (local.set $fd (call $open (i32.const 9) (i64.const 64)))  ;; O_CREAT | O_TRUNC; FD_WRITE
    (call $piece (i32.load (i32.const 8)))
    (call $must (call $fd_write (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8)))
    (call $must (call $fd_close (local.get $fd)))
    (local.set $fd (call $open (i32.const 0) (i64.const 2)))  ;; FD_READ
    (call $piece (i32.const 32768))
    (call $must (call $fd_read (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8)))
    (call $piece (i32.load (i32.const 8)))
    (call $must (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))
