;; A job that takes 64 MiB, or crashes.
(module
  (memory (export "memory") 1)
  (func (export "_start")
    (if (i32.eq (memory.grow (i32.const 1024)) (i32.const -1)) (then (unreachable)))))
