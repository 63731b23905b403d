//! What other builders do and this one cannot: there is no Linux userland in an image. Found before anything runs, and said
//! with what to write instead.

use super::instruction::{Form, Instruction, Step};
use crate::error::{Error, Result};
use crate::image::Reference;

/// An error of a step, with its place.
pub fn at(file: &str, step: &Step, message: &str) -> Error {
    Error::invalid(format!("{file}:{}:{}: {}: {message}", step.at.line, step.at.column, step.text))
}

/// Refuse steps that need Linux.
pub fn check(file: &str, steps: &[Step]) -> Result<()> {
    for step in steps {
        let reason = match &step.instruction {
            Instruction::Run(Form::Shell(line)) => Some(run(line)),
            Instruction::Run(Form::Exec(argv)) if !argv.first().is_some_and(|program| is_wasm(program)) => {
                Some(run(&argv.join(" ")))
            }
            Instruction::Entrypoint(Form::Shell(line)) if !line.is_empty() => Some(start("ENTRYPOINT", line)),
            Instruction::Cmd(Form::Shell(line)) if !line.is_empty() => Some(start("CMD", line)),
            Instruction::Copy(copying) if copying.unpack && copying.sources.iter().any(|source| is_url(source)) => {
                Some("ADD from a URL is not offered: download the file first, and COPY it".to_owned())
            }
            _ => None,
        };
        if let Some(reason) = reason {
            return Err(at(file, step, &reason));
        }
    }
    Ok(())
}

fn is_wasm(program: &str) -> bool {
    program.ends_with(".wasm")
}

fn is_url(source: &str) -> bool {
    ["http://", "https://", "git@", "git://"].iter().any(|start| source.starts_with(start))
}

fn run(line: &str) -> String {
    let words: Vec<&str> = line.split_whitespace().collect();
    if words.first().is_some_and(|program| is_wasm(program)) {
        return format!("there is no shell to read this line. Write the exec form: RUN {}", json(&words));
    }
    "a Wasm image has no shell and no Linux programs to run this. Build the component and prepare the files outside (for \
     example with cargo build --target wasm32-wasip2), then COPY them in; or run a tool that is a component of the image: \
     RUN [\"/tool.wasm\", \"ARGUMENT\"]"
        .to_owned()
}

fn start(keyword: &str, line: &str) -> String {
    let words: Vec<&str> = line.split_whitespace().collect();
    format!("there is no shell to read this line. Write the exec form: {keyword} {}", json(&words))
}

fn json(words: &[&str]) -> String {
    serde_json::to_string(words).unwrap_or_default()
}

/// Why a base image that is not in the store is not even looked for.
pub fn base(reference: &Reference) -> Option<String> {
    reference.is_official().then(|| {
        format!(
            "{reference} is not in the store, and Docker Hub's own images hold a Linux userland, which a Wasm host cannot run. \
             Write FROM scratch, and COPY in a component (*.wasm) and its models; or name a Wasm image of yours"
        )
    })
}
