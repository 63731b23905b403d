;; A job that reads `greeting` in its first folder, writes it to `copy` in its second, tries the same in the first, and
;; exits with the error number of that.
(module
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  ;; 0: the vector (address, length); 8: a count; 12: a descriptor; 16 and 32: names; 64: the contents
  (memory (export "memory") 1)
  (data (i32.const 16) "greeting")
  (data (i32.const 32) "copy")
  (func $create (param $folder i32) (result i32)
    (call $open (local.get $folder) (i32.const 0) (i32.const 32) (i32.const 4) (i32.const 1)
      (i64.const 64) (i64.const 0) (i32.const 0) (i32.const 12)))
  (func (export "_start")
    (i32.store (i32.const 0) (i32.const 64))
    (i32.store (i32.const 4) (i32.const 1024))
    (if (call $open (i32.const 3) (i32.const 0) (i32.const 16) (i32.const 8) (i32.const 0)
      (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 12)) (then (unreachable)))
    (if (call $read (i32.load (i32.const 12)) (i32.const 0) (i32.const 1) (i32.const 8)) (then (unreachable)))
    (i32.store (i32.const 4) (i32.load (i32.const 8)))
    (if (call $create (i32.const 4)) (then (unreachable)))
    (if (call $write (i32.load (i32.const 12)) (i32.const 0) (i32.const 1) (i32.const 8)) (then (unreachable)))
    (call $exit (call $create (i32.const 3)))))
