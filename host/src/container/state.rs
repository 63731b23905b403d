//! The states of a container and what each verb does in them. Pure: a state and a verb go in, the next state or
//! Docker's error comes out.

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    #[default]
    Created,
    Running,
    Paused,
    /// Ended, and waiting to be started again by its policy.
    Restarting,
    Removing,
    Exited,
    /// Could not be removed altogether; another `rm` may manage.
    Dead,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    Start,
    Stop,
    Kill,
    Restart,
    Pause,
    Unpause,
    Rename,
    Update,
    /// `exec`: changes nothing, and needs a running container.
    Exec,
    /// `top`: likewise.
    Top,
    Remove {
        force: bool,
    },
}

/// What a verb leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The state once the verb has done its work.
    To(Status),
    /// Nothing to do; Docker answers 304.
    Already,
}

/// How a container is called in messages.
#[derive(Clone, Copy, Debug)]
pub struct Names<'a> {
    pub id: &'a str,
    /// Without a leading slash.
    pub name: &'a str,
}

impl Status {
    /// Started and not ended for good: what `ps` shows without `-a`.
    pub fn is_live(self) -> bool {
        matches!(self, Status::Running | Status::Paused | Status::Restarting)
    }

    /// Has a task that runs, or stands still.
    pub fn has_task(self) -> bool {
        matches!(self, Status::Running | Status::Paused)
    }

    /// Docker's word.
    pub fn word(self) -> &'static str {
        match self {
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Restarting => "restarting",
            Status::Removing => "removing",
            Status::Exited => "exited",
            Status::Dead => "dead",
        }
    }
}

/// The one rule of verbs.
pub fn step(status: Status, verb: Verb, names: Names<'_>) -> Result<Step> {
    match verb {
        Verb::Start => start(status),
        Verb::Restart => restart(status),
        Verb::Stop => Ok(if status.is_live() { Step::To(Status::Exited) } else { Step::Already }),
        Verb::Kill => kill(status, names),
        Verb::Pause => pause(status, names),
        Verb::Unpause => unpause(status, names),
        Verb::Rename => unless_leaving(status, "renamed"),
        Verb::Update => unless_leaving(status, "updated"),
        Verb::Exec => exec(status, names),
        Verb::Top => needs_running(status, names),
        Verb::Remove { force } => remove(status, force, names),
    }
}

fn start(status: Status) -> Result<Step> {
    match status {
        Status::Created | Status::Exited => Ok(Step::To(Status::Running)),
        Status::Running | Status::Restarting => Ok(Step::Already),
        Status::Paused => Err(conflict("cannot start a paused container, try unpause instead".to_owned())),
        Status::Removing | Status::Dead => {
            Err(conflict("container is marked for removal and cannot be started".to_owned()))
        }
    }
}

fn restart(status: Status) -> Result<Step> {
    match status {
        Status::Removing | Status::Dead => start(status),
        _ => Ok(Step::To(Status::Running)),
    }
}

fn kill(status: Status, Names { id, name }: Names<'_>) -> Result<Step> {
    if status.is_live() {
        return Ok(Step::To(Status::Exited));
    }
    Err(conflict(format!("cannot kill container: {name}: container {id} is not running")))
}

fn pause(status: Status, Names { id, .. }: Names<'_>) -> Result<Step> {
    match status {
        Status::Running => Ok(Step::To(Status::Paused)),
        Status::Paused => Err(conflict(format!("Container {id} is already paused"))),
        Status::Restarting => Err(conflict(restarting(id))),
        _ => Err(conflict(format!("container {id} is not running"))),
    }
}

fn unpause(status: Status, Names { id, .. }: Names<'_>) -> Result<Step> {
    match status {
        Status::Paused => Ok(Step::To(Status::Running)),
        // Docker answers 500 here, not 409.
        _ => Err(Error::new(ErrorKind::Failed, format!("Container {id} is not paused"))),
    }
}

fn exec(status: Status, names: Names<'_>) -> Result<Step> {
    if status == Status::Paused {
        return Err(conflict(format!("container {} is paused, unpause the container before exec", names.id)));
    }
    needs_running(status, names)
}

fn needs_running(status: Status, Names { id, .. }: Names<'_>) -> Result<Step> {
    match status {
        Status::Running | Status::Paused => Ok(Step::To(status)),
        Status::Restarting => Err(conflict(restarting(id))),
        _ => Err(conflict(format!("container {id} is not running"))),
    }
}

fn remove(status: Status, force: bool, Names { id, name }: Names<'_>) -> Result<Step> {
    let refused = match status {
        Status::Removing => return Err(conflict(format!("removal of container {id} is already in progress"))),
        Status::Running => "container is running: stop the container before removing or force remove",
        Status::Paused => "container is paused and must be unpaused first",
        Status::Restarting => "container is restarting: stop the container before removing or force remove",
        Status::Created | Status::Exited | Status::Dead => return Ok(Step::To(Status::Removing)),
    };
    if force {
        return Ok(Step::To(Status::Removing));
    }
    Err(conflict(format!("cannot remove container \"/{name}\": {refused}")))
}

fn unless_leaving(status: Status, done: &str) -> Result<Step> {
    match status {
        Status::Removing | Status::Dead => {
            Err(conflict(format!("container is marked for removal and cannot be {done}")))
        }
        _ => Ok(Step::To(status)),
    }
}

fn restarting(id: &str) -> String {
    format!("Container {id} is restarting, wait until the container is running")
}

fn conflict(message: String) -> Error {
    Error::new(ErrorKind::Conflict, message)
}

#[cfg(test)]
mod tests {
    use super::Status::*;
    use super::*;

    const ALL: [Status; 7] = [Created, Running, Paused, Restarting, Removing, Exited, Dead];

    /// `=` is nothing to do, a word is the next state, anything else part of the error.
    fn outcome(status: Status, verb: Verb) -> String {
        match step(status, verb, Names { id: "ID", name: "N" }) {
            Ok(Step::Already) => "=".to_owned(),
            Ok(Step::To(next)) => next.word().to_owned(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn every_verb_in_every_state() {
        let not_running = "container ID is not running";
        let waits = "Container ID is restarting, wait until the container is running";
        let no_kill = "cannot kill container: N: container ID is not running";
        let not_paused = "Container ID is not paused";
        let leaving = |done: &str| format!("container is marked for removal and cannot be {done}");
        let (no_start, no_rename, no_update) = (leaving("started"), leaving("renamed"), leaving("updated"));
        let going = "removal of container ID is already in progress";
        let refused = |why: &str| format!("cannot remove container \"/N\": container is {why}");
        let running = refused("running: stop the container before removing or force remove");
        let paused = refused("paused and must be unpaused first");
        let restarting = refused("restarting: stop the container before removing or force remove");
        let no_exec = "container ID is paused, unpause the container before exec";
        let unpause_first = "cannot start a paused container, try unpause instead";
        let (force, gently) = (Verb::Remove { force: true }, Verb::Remove { force: false });
        #[rustfmt::skip]
        let table: [(Verb, [&str; 7]); 12] = [
            //               created      running     paused         restarting  removing     exited       dead
            (Verb::Start,   ["running",   "=",        unpause_first, "=",        &no_start,   "running",   &no_start]),
            (Verb::Restart, ["running",   "running",  "running",     "running",  &no_start,   "running",   &no_start]),
            (Verb::Stop,    ["=",         "exited",   "exited",      "exited",   "=",         "=",         "="]),
            (Verb::Kill,    [no_kill,     "exited",   "exited",      "exited",   no_kill,     no_kill,     no_kill]),
            (Verb::Pause,   [not_running, "paused",   "Container ID is already paused", waits, not_running, not_running, not_running]),
            (Verb::Unpause, [not_paused,  not_paused, "running",     not_paused, not_paused,  not_paused,  not_paused]),
            (Verb::Rename,  ["created",   "running",  "paused",      "restarting", &no_rename, "exited",   &no_rename]),
            (Verb::Update,  ["created",   "running",  "paused",      "restarting", &no_update, "exited",   &no_update]),
            (Verb::Exec,    [not_running, "running",  no_exec,       waits,      not_running, not_running, not_running]),
            (Verb::Top,     [not_running, "running",  "paused",      waits,      not_running, not_running, not_running]),
            (gently,        ["removing",  &running,   &paused,       &restarting, going,      "removing",  "removing"]),
            (force,         ["removing",  "removing", "removing",    "removing", going,       "removing",  "removing"]),
        ];
        for (verb, expected) in table {
            for (status, expected) in ALL.into_iter().zip(expected) {
                assert_eq!(outcome(status, verb), expected, "{verb:?} of a container that is {}", status.word());
            }
        }
    }

    #[test]
    fn all_refusals_are_conflicts_but_one() {
        for status in ALL {
            for verb in [Verb::Start, Verb::Kill, Verb::Pause, Verb::Exec, Verb::Remove { force: false }] {
                if let Err(error) = step(status, verb, Names { id: "ID", name: "N" }) {
                    assert_eq!(error.kind(), ErrorKind::Conflict);
                }
            }
        }
        let error = step(Running, Verb::Unpause, Names { id: "ID", name: "N" }).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Failed);
    }
}
