//! Dockerfiles that are right, and what is said of those that are not.

use super::*;

fn only(line: &str) -> Instruction {
    let mut steps = parse("Dockerfile", &format!("FROM scratch\n{line}\n")).unwrap().steps;
    steps.remove(1).instruction
}

#[test]
fn instructions_say_what_they_mean() {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let copy = |mode, from: Option<&str>| Copying {
        unpack: false,
        from: from.map(str::to_owned),
        mode,
        sources: words(&["a", "\"b c\""]),
        target: "/".into(),
        heredocs: Vec::new(),
    };
    for (line, instruction) in [
        ("copy a \"b c\" /", Instruction::Copy(copy(None, None))),
        ("COPY --from=x --chmod=0755 --link a \"b c\" /", Instruction::Copy(copy(Some(0o755), Some("x")))),
        ("ENV a=1 \\\n  b=\"2 3\"", Instruction::Env(vec![("a".into(), "1".into()), ("b".into(), "\"2 3\"".into())])),
        ("ENV a 1 2", Instruction::Env(vec![("a".into(), "1 2".into())])),
        ("ARG a b=1", Instruction::Arg(vec![("a".into(), None), ("b".into(), Some("1".into()))])),
        ("ENTRYPOINT [\"/a\", \"b\"]", Instruction::Entrypoint(Form::Exec(words(&["/a", "b"])))),
        ("CMD [not json]", Instruction::Cmd(Form::Shell("[not json]".into()))),
        ("CMD", Instruction::Cmd(Form::Shell(String::new()))),
        ("VOLUME [\"/a\"]", Instruction::Volume(words(&["/a"]))),
        ("ONBUILD COPY a /", Instruction::OnBuild("COPY a /".into())),
        ("MAINTAINER Some One", Instruction::Maintainer("Some One".into())),
    ] {
        assert_eq!(only(line), instruction, "{line}");
    }
    let from = Instruction::From { image: "x:1".into(), platform: Some("wasi/wasm".into()), name: Some("base".into()) };
    assert_eq!(only("FROM --platform=wasi/wasm x:1 AS Base"), from);
}

#[test]
fn a_healthcheck_has_its_times() {
    let line = "HEALTHCHECK --interval=1m30s --timeout=500ms --retries=2 CMD [\"/probe.wasm\"]";
    let Instruction::Healthcheck(check) = only(line) else { panic!("{line}") };
    assert_eq!((check.interval, check.timeout, check.retries), (90_000_000_000, 500_000_000, 2));
    assert_eq!(check.test, ["CMD", "/probe.wasm"]);
    let Instruction::Healthcheck(check) = only("HEALTHCHECK NONE") else { panic!("NONE") };
    assert_eq!(check.test, ["NONE"]);
}

#[test]
fn errors_say_where() {
    for (line, message) in [
        ("RUUN x", "dockerfile parse error on line 2: unknown instruction: RUUN (Dockerfile:2:1)"),
        ("COPY a", "COPY requires at least two arguments, but only 1 was provided (Dockerfile:2:6)"),
        ("COPY --shmod=1 a /", "unknown flag: --shmod (Dockerfile:2:6)"),
        ("COPY --chmod=u+x a /", "--chmod=u+x: write an octal number"),
        ("ENV a=1 \\\n  b", "can't find = in \"b\". Must be of the form: name=value (Dockerfile:3:3)"),
        ("LABEL a=\"x", "while looking for matching \" (Dockerfile:2:9)"),
        ("HEALTHCHECK --interval=1 CMD [\"a\"]", "write a duration such as 30s"),
        ("HEALTHCHECK /probe", "Unknown type \"/probe\" in HEALTHCHECK (try CMD)"),
        ("ONBUILD FROM x", "FROM isn't allowed as an ONBUILD trigger"),
        ("FROM a b c d", "FROM requires either one or three arguments"),
        ("SHELL sh", "SHELL requires the arguments to be in JSON form"),
        ("EXPOSE", "EXPOSE requires at least one argument"),
    ] {
        let error = parse("Dockerfile", &format!("FROM scratch\n{line}\n")).unwrap_err().to_string();
        assert!(error.contains(message), "{line}: {error}");
    }
}

#[test]
fn no_text_is_too_broken_to_be_read() {
    let text = "# escape=`\nARG ä=1\nFROM --platform=x scratch AS b\nCOPY --from=b <<É <<-\"F\" \"ü ö\" `\n /é\nx\nÉ\n\tF\nF\n\
         ONBUILD ADD a b\nHEALTHCHECK --interval=1m CMD [\"ß\"]\nENV a=\"b`\"\" c='d' e\\f\nRUN --mount=x [\"/a.wasm\"]\n";
    let characters: Vec<char> = text.chars().collect();
    for start in 0..characters.len() {
        for end in [characters.len(), (start * 7) % characters.len()] {
            let piece: String = characters.get(start..end).unwrap_or_default().iter().collect();
            // Only that it ends matters.
            let _ = (parse("f", &piece), parse("f", &format!("FROM scratch\n{piece}")), trigger(&piece));
        }
    }
}
