;; Says "ready", and waits until there is a file sign.txt in the first preopened directory: looks, and sleeps for 20 ms, again and again.
(module
  (import "wasi_snapshot_preview1" "path_filestat_get" (func $path_filestat_get (param i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll_oneoff (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 16) "\01\00\00\00")  ;; a subscription at 0: the monotonic clock
  (data (i32.const 128) "sign.txt")
  (data (i32.const 144) "ready\n\00\00\90\00\00\00\06\00\00\00")
  (func (export "_start")
    (i64.store (i32.const 24) (i64.const 20000000))
    (drop (call $path_filestat_get (i32.const 3) (i32.const 0) (i32.const 128) (i32.const 8) (i32.const 256)))
    (drop (call $fd_write (i32.const 1) (i32.const 152) (i32.const 1) (i32.const 512)))
    (loop $again
      (if (call $path_filestat_get (i32.const 3) (i32.const 0) (i32.const 128) (i32.const 8) (i32.const 256))
        (then
          (drop (call $poll_oneoff (i32.const 0) (i32.const 256) (i32.const 1) (i32.const 512)))
          (br $again))))))
