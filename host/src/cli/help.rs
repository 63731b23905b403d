//! The help of `wharf` itself: its verbs in docker's three groups, which clap knows nothing of.

use clap::{Command, CommandFactory};

use super::Cli;

/// What people use every day, in the order they meet it.
const COMMON: &[&str] =
    &["run", "exec", "ps", "build", "compose", "pull", "push", "images", "login", "logout", "version", "info"];

/// Wharf's own, which docker has not.
pub const OWN: &[&str] = &["serve", "health", "new", "doctor", "engine", "componentize", "completion", "manual"];

/// The command line with its verbs in groups.
pub fn command() -> Command {
    // Built, so that it knows `help` too and every verb's own help.
    let mut command = Cli::command();
    command.build();
    let groups = groups(&command);
    // As docker: of a flag that is given twice, the last counts.
    Cli::command().args_override_self(true).help_template(format!("{{before-help}}{{about-with-newline}}\n{{usage-heading}} {{usage}}\n{groups}\nOptions:\n{{options}}\n\nRun 'wharf COMMAND --help' for more on a command.\n"))
}

fn groups(command: &Command) -> String {
    let verbs: Vec<&Command> = command.get_subcommands().filter(|verb| !verb.is_hide_set()).collect();
    let named = |names: &[&str]| -> Vec<&Command> {
        names.iter().filter_map(|name| verbs.iter().find(|verb| verb.get_name() == *name).copied()).collect()
    };
    let manages = |verb: &&Command| {
        verb.has_subcommands()
            && verb.get_name() != "help"
            && !COMMON.contains(&verb.get_name())
            && !OWN.contains(&verb.get_name())
    };
    let rest = |verb: &&Command| {
        !manages(verb)
            && !COMMON.contains(&verb.get_name())
            && !OWN.contains(&verb.get_name())
            && verb.get_name() != "help"
    };
    let mut others: Vec<&Command> = verbs.iter().copied().filter(rest).collect();
    others.sort_by_key(|verb| verb.get_name().to_owned());
    let width = verbs.iter().map(|verb| verb.get_name().len()).max().unwrap_or(0);
    let group = |title: &str, verbs: Vec<&Command>| {
        let line = |verb: &Command| {
            let about = verb.get_about().map(ToString::to_string).unwrap_or_default();
            format!("  {:<width$}  {about}\n", verb.get_name())
        };
        format!("\n{title}:\n{}", verbs.into_iter().map(line).collect::<String>())
    };
    group("Host Commands", named(OWN))
        + &group("Common Commands", named(COMMON))
        + &group("Management Commands", verbs.iter().copied().filter(manages).collect())
        + &group("Commands", others)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verb_is_in_one_group() {
        let text = command().render_help().to_string();
        let mut built = Cli::command();
        built.build();
        for verb in built.get_subcommands().filter(|verb| verb.get_name() != "help" && !verb.is_hide_set()) {
            let shown = text.lines().filter(|line| line.split_whitespace().next() == Some(verb.get_name())).count();
            assert_eq!(shown, 1, "{}:\n{text}", verb.get_name());
        }
    }
}
