;; A service that sends 128 KiB to http://peer/ and answers with the status it got, or with 599 when there was none.
(module
  (import "wasi:http/types@0.2.12" "[constructor]fields" (func $fields (result i32)))
  (import "wasi:http/types@0.2.12" "[constructor]outgoing-request" (func $request (param i32) (result i32)))
  (import "wasi:http/types@0.2.12" "[method]outgoing-request.set-scheme"
    (func $set_scheme (param i32 i32 i32 i32 i32) (result i32)))
  (import "wasi:http/types@0.2.12" "[method]outgoing-request.set-authority"
    (func $set_authority (param i32 i32 i32 i32) (result i32)))
  (import "wasi:http/types@0.2.12" "[method]outgoing-request.set-path-with-query"
    (func $set_path (param i32 i32 i32 i32) (result i32)))
  (import "wasi:http/types@0.2.12" "[method]outgoing-request.body" (func $body (param i32 i32)))
  (import "wasi:http/types@0.2.12" "[method]outgoing-body.write" (func $stream (param i32 i32)))
  (import "wasi:http/types@0.2.12" "[static]outgoing-body.finish" (func $finish (param i32 i32 i32 i32)))
  (import "wasi:http/outgoing-handler@0.2.12" "handle" (func $send (param i32 i32 i32 i32)))
  (import "wasi:http/types@0.2.12" "[method]future-incoming-response.subscribe"
    (func $subscribe (param i32) (result i32)))
  (import "wasi:http/types@0.2.12" "[method]future-incoming-response.get" (func $get (param i32 i32)))
  (import "wasi:http/types@0.2.12" "[method]incoming-response.status" (func $status (param i32) (result i32)))
  (import "wasi:io/poll@0.2.12" "[method]pollable.block" (func $block (param i32)))
  (import "wasi:io/streams@0.2.12" "[method]output-stream.blocking-write-and-flush"
    (func $write (param i32 i32 i32 i32)))
  (import "wasi:io/streams@0.2.12" "[resource-drop]output-stream" (func $drop_stream (param i32)))
  (import "wasi:http/types@0.2.12" "[constructor]outgoing-response" (func $response (param i32) (result i32)))
  (import "wasi:http/types@0.2.12" "[method]outgoing-response.set-status-code"
    (func $set_status (param i32 i32) (result i32)))
  (import "wasi:http/types@0.2.12" "[static]response-outparam.set"
    (func $set (param i32 i32 i32 i32 i64 i32 i32 i32 i32)))

  ;; 0: where results come; 128: the authority and the path; 8192: what is sent
  (memory (export "memory") 1)
  (data (i32.const 128) "peer/")

  ;; Results may hold text, which goes where nothing else lies.
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 16384))

  (func (export "wasi:http/incoming-handler@0.2.12#handle") (param $in i32) (param $out i32)
    (local $request i32) (local $body i32) (local $stream i32) (local $future i32) (local $response i32)
    (local $chunks i32) (local $code i32)
    (local.set $request (call $request (call $fields)))
    (drop (call $set_scheme (local.get $request) (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 0)))
    (drop (call $set_authority (local.get $request) (i32.const 1) (i32.const 128) (i32.const 4)))
    (drop (call $set_path (local.get $request) (i32.const 1) (i32.const 132) (i32.const 1)))
    (call $body (local.get $request) (i32.const 0))
    (local.set $body (i32.load (i32.const 4)))
    (call $stream (local.get $body) (i32.const 0))
    (local.set $stream (i32.load (i32.const 4)))

    (call $send (local.get $request) (i32.const 0) (i32.const 0) (i32.const 0))
    (local.set $future (i32.load (i32.const 8)))

    ;; Each write waits until the one before it was taken.
    (loop $more
      (call $write (local.get $stream) (i32.const 8192) (i32.const 4096) (i32.const 0))
      (local.set $chunks (i32.add (local.get $chunks) (i32.const 1)))
      (br_if $more (i32.lt_u (local.get $chunks) (i32.const 32))))
    (call $drop_stream (local.get $stream))
    (call $finish (local.get $body) (i32.const 0) (i32.const 0) (i32.const 0))

    (call $block (call $subscribe (local.get $future)))
    (call $get (local.get $future) (i32.const 0))
    ;; some(ok(ok(response)))
    (local.set $code (i32.const 599))
    (if (i32.eqz (i32.load8_u (i32.const 16)))
      (then (local.set $code (call $status (i32.load (i32.const 24))))))

    (local.set $response (call $response (call $fields)))
    (drop (call $set_status (local.get $response) (local.get $code)))
    (call $set (local.get $out) (i32.const 0) (local.get $response)
      (i32.const 0) (i64.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))))
