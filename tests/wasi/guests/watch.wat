;; Says "ready", and waits until there is a file sign.txt in the first preopened directory: looks, and sleeps for 20 ms, again and again.
;; Exits with the errno of a look that fails otherwise.
(module
  (import "wasi_snapshot_preview1" "path_filestat_get" (func $path_filestat_get (param i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll_oneoff (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 16) "\01\00\00\00")  ;; a subscription at 0: the monotonic clock
  (data (i32.const 128) "sign.txt")
  (data (i32.const 144) "ready\n\00\00\90\00\00\00\06\00\00\00")
  (func $look (result i32)
    (call $path_filestat_get (i32.const 3) (i32.const 0) (i32.const 128) (i32.const 8) (i32.const 256)))
  (func (export "_start") (local $errno i32)
    (i64.store (i32.const 24) (i64.const 20000000))
    (drop (call $look))
    (drop (call $fd_write (i32.const 1) (i32.const 152) (i32.const 1) (i32.const 512)))
    (loop $again
      (local.set $errno (call $look))
      (if (i32.eq (local.get $errno) (i32.const 44))  ;; NOENT
        (then
          (drop (call $poll_oneoff (i32.const 0) (i32.const 256) (i32.const 1) (i32.const 512)))
          (br $again))))
    (call $proc_exit (local.get $errno))))
