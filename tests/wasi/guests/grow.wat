;; Takes 1 MB of memory at a time, as often as it gets any, and then traps.
(module
  (memory (export "memory") 1)
  (func $take (export "_start")
    (loop $more (br_if $more (i32.ne (memory.grow (i32.const 16)) (i32.const -1))))
    unreachable))
