//! The messages of `#[service]`, each pinned: a file in `ui/` that does not compile, and beside it what
//! the compiler says. `TRYBUILD=overwrite` writes the latter anew.

#[test]
fn messages() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
