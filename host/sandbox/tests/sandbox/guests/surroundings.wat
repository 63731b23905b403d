;; A job that writes its arguments to stdout and its environment to stderr, as they lie in memory: each ended by a zero.
(module
  (import "wasi_snapshot_preview1" "args_sizes_get" (func $args_sizes (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_get" (func $args (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_sizes_get" (func $environ_sizes (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_get" (func $environ (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  ;; 0: the vector (address, length); 8: a count; 12: bytes written; 64: pointers; 1024: strings
  (memory (export "memory") 1)
  (func (export "_start")
    (i32.store (i32.const 0) (i32.const 1024))
    (drop (call $args_sizes (i32.const 8) (i32.const 4)))
    (drop (call $args (i32.const 64) (i32.const 1024)))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 12)))
    (drop (call $environ_sizes (i32.const 8) (i32.const 4)))
    (drop (call $environ (i32.const 64) (i32.const 1024)))
    (drop (call $write (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 12)))))
