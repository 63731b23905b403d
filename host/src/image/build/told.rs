//! Steps as an image's history tells them, in Docker's words.

use std::collections::BTreeMap;

use super::instruction::{Copying, Form, Instruction};

pub fn instruction(instruction: &Instruction) -> String {
    match instruction {
        Instruction::From { image, .. } => format!("FROM {image}"),
        Instruction::Copy(copying) => copy(copying),
        Instruction::Env(pairs) => format!("ENV {}", joined(pairs)),
        Instruction::Label(pairs) => format!("LABEL {}", joined(pairs)),
        Instruction::Arg(args) => {
            let arg = |(name, value): &(String, Option<String>)| match value {
                Some(value) => format!("{name}={value}"),
                None => name.clone(),
            };
            format!("ARG {}", args.iter().map(arg).collect::<Vec<_>>().join(" "))
        }
        Instruction::Expose(ports) => format!("EXPOSE {}", ports.join(" ")),
        Instruction::Workdir(folder) => format!("WORKDIR {folder}"),
        Instruction::Entrypoint(command) => format!("ENTRYPOINT {}", form(command)),
        Instruction::Cmd(command) => format!("CMD {}", form(command)),
        Instruction::Run(command) => format!("RUN {}", form(command)),
        Instruction::Volume(volumes) => format!("VOLUME {}", list(volumes)),
        Instruction::User(user) => format!("USER {user}"),
        Instruction::StopSignal(signal) => format!("STOPSIGNAL {signal}"),
        Instruction::Healthcheck(check) => format!("HEALTHCHECK {}", list(&check.test)),
        Instruction::Shell(shell) => format!("SHELL {}", list(shell)),
        Instruction::OnBuild(trigger) => format!("ONBUILD {trigger}"),
        Instruction::Maintainer(author) => format!("MAINTAINER {author}"),
    }
}

/// A RUN, after the arguments that it could see.
pub fn run(argv: &[String], args: &BTreeMap<String, String>) -> String {
    let mut words: Vec<String> = Vec::new();
    if !args.is_empty() {
        words.push(format!("|{}", args.len()));
        words.extend(args.iter().map(|(name, value)| format!("{name}={value}")));
    }
    words.extend(argv.iter().cloned());
    format!("RUN {}", words.join(" "))
}

fn copy(copying: &Copying) -> String {
    let mut words = vec![copying.keyword().to_owned()];
    words.extend(copying.from.iter().map(|from| format!("--from={from}")));
    words.extend(copying.mode.iter().map(|mode| format!("--chmod={mode:o}")));
    words.extend(copying.sources.iter().cloned());
    words.push(copying.target.clone());
    words.join(" ")
}

fn joined(pairs: &[(String, String)]) -> String {
    pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
}

fn form(form: &Form) -> String {
    match form {
        Form::Exec(argv) => list(argv),
        Form::Shell(line) => line.clone(),
    }
}

fn list(words: &[String]) -> String {
    format!("[{}]", words.iter().map(|word| format!("{word:?}")).collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_written_as_docker_writes_them() {
        let words = ["/a.wasm".to_owned(), "say \"x\"".to_owned()];
        assert_eq!(
            instruction(&Instruction::Entrypoint(Form::Exec(words.to_vec()))),
            r#"ENTRYPOINT ["/a.wasm" "say \"x\""]"#
        );
        assert_eq!(run(&words[..1], &[("A".to_owned(), "1".to_owned())].into()), "RUN |1 A=1 /a.wasm");
        assert_eq!(run(&words[..1], &BTreeMap::new()), "RUN /a.wasm");
    }
}
