;; A component of WASI 0.3, by name only: hosts that run 0.2 look no further.
(component
  (instance $nothing)
  (export "wasi:http/handler@0.3.0" (instance $nothing))
)
